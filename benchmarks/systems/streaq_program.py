"""streaQ: the benchmark program. See `benchmarks.task` for what it reads and prints."""
# pyright: reportMissingImports=false
# (the peer is installed in an environment of its own)

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

from streaq import Worker

from benchmarks.systems.harness import Data, Item, run_async
from benchmarks.task import Task

#: streaQ's words: how long a result is kept. No results are the number 0, which it compares with: `timedelta(0)` counts
#: as a time, is sent to Redis as an expiry of 0, is refused there, and ends the worker.
KEPT: Final = timedelta(minutes=5)
NOT_KEPT: Final = 0


class StreaQ:
    """Defaults; results for five minutes, or not at all."""

    def __init__(self, task: Task) -> None:
        self.worker = Worker(
            redis_url=f"redis://127.0.0.1:{task.port}", concurrency=task.concurrency, handle_signals=False
        )
        self.handle: Callable[[Data], None] = lambda _: None

        async def job(data: Data) -> None:
            self.handle(data)

        ttl = KEPT if task.keep_results else NOT_KEPT
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
        running.add_done_callback(lambda _: stop.set())
        await stop.wait()
        if running.done():
            running.result()  # a worker that ended by itself failed: say so, instead of measuring what it did before
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


if __name__ == "__main__":
    run_async(StreaQ)
