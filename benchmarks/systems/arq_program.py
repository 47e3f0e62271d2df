"""arq: the benchmark program. See `benchmarks.task` for what it reads and prints."""
# pyright: reportMissingImports=false
# (the peer is installed in an environment of its own)

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from arq import create_pool, func
from arq.connections import RedisSettings
from arq.worker import Worker

from benchmarks.systems.harness import Data, Item, run_async
from benchmarks.task import Task

#: arq fetches jobs by polling; its default of 0.5 s would bound both latency and throughput.
POLL_DELAY_S = 0.01


class Arq:
    """Defaults but for the polling; results for an hour, or not at all."""

    def __init__(self, task: Task) -> None:
        self.settings = RedisSettings(host="127.0.0.1", port=task.port)
        self.concurrency = task.concurrency
        self.keep_result_s = 3600 if task.keep_results else 0

    async def open(self) -> None:
        self.pool = await create_pool(self.settings)

    async def add(self, data: Data) -> None:
        await self.pool.enqueue_job("job", data)

    async def add_many(self, items: Sequence[Item]) -> None:
        await asyncio.gather(*(self.pool.enqueue_job("job", data, _defer_by=delay or None) for data, delay in items))

    async def close(self) -> None:
        await self.pool.aclose()

    async def work(self, handle: Callable[[Data], None], stop: asyncio.Event) -> None:
        async def job(_context: Any, data: Data) -> None:
            handle(data)

        worker = Worker(
            functions=[func(job, name="job")],
            redis_settings=self.settings,
            max_jobs=self.concurrency,
            keep_result=self.keep_result_s,
            poll_delay=POLL_DELAY_S,
            handle_signals=False,
        )
        running = asyncio.ensure_future(worker.async_run())
        await stop.wait()
        with suppress(asyncio.CancelledError):  # arq cancels what still runs, and lets that out
            await worker.close()
        await asyncio.gather(running, return_exceptions=True)


if __name__ == "__main__":
    run_async(Arq)
