"""streaQ: the benchmark program. See `benchmarks.task` for what it reads and prints."""
# pyright: reportMissingImports=false
# (the peer is installed in an environment of its own)

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta

from streaq import Worker

from benchmarks.systems.harness import Data, Item, run_async
from benchmarks.task import Task


class StreaQ:
    """Defaults; results for five minutes, or not at all."""

    def __init__(self, task: Task) -> None:
        self.worker = Worker(
            redis_url=f"redis://127.0.0.1:{task.port}", concurrency=task.concurrency, handle_signals=False
        )
        self.handle: Callable[[Data], None] = lambda _: None

        async def job(data: Data) -> None:
            self.handle(data)

        ttl = timedelta(minutes=5) if task.keep_results else timedelta(0)
        self.job = self.worker.task(ttl=ttl, silent=True)(job)

    async def open(self) -> None:
        await self.worker.__aenter__()

    async def add(self, data: Data) -> None:
        await self.job.enqueue(data)

    async def add_many(self, items: Sequence[Item]) -> None:
        tasks = [self.job.enqueue(data) for data, _ in items]
        for task, (_, delay_s) in zip(tasks, items, strict=True):
            if delay_s:
                task.start(delay=timedelta(seconds=delay_s))
        await self.worker.enqueue_many(tasks)

    async def close(self) -> None:
        await self.worker.__aexit__(None, None, None)

    async def work(self, handle: Callable[[Data], None], stop: asyncio.Event) -> None:
        self.handle = handle
        running = asyncio.ensure_future(self.worker.run_async())
        await stop.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


if __name__ == "__main__":
    run_async(StreaQ)
