"""pyqueue: the benchmark program. See `benchmarks.task` for what it reads and prints."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.systems.harness import Data, Item, run_async
from benchmarks.task import Task
from pyqueue import Job, JobSpec, Queue, Worker
from pyqueue.options import JobOptions


class PyQueue:
    """Defaults throughout: events, exchange records, leases and retention as every user gets them."""

    def __init__(self, task: Task) -> None:
        self.url = f"redis://127.0.0.1:{task.port}"
        self.concurrency = task.concurrency
        self.prefetch = task.prefetch
        self.remove_on_complete = None if task.keep_results else True
        self.queue: Queue[Any, Any] = Queue("bench", connection=self.url)

    async def open(self) -> None:
        await self.queue.jobs.counts()

    async def add(self, data: Data) -> None:
        await self.queue.add("job", data)

    async def add_many(self, items: Sequence[Item]) -> None:
        await self.queue.add_bulk([_spec(data, delay_s) for data, delay_s in items])

    async def close(self) -> None:
        await self.queue.close()

    async def work(self, handle: Callable[[Data], None], stop: asyncio.Event) -> None:
        async def process(job: Job[Any, Any]) -> None:
            handle(job.data)

        worker = Worker(
            "bench",
            process,
            connection=self.url,
            concurrency=self.concurrency,
            prefetch=self.prefetch,
            remove_on_complete=self.remove_on_complete,
        )
        async with worker:
            await stop.wait()


def _spec(data: Data, delay_s: float) -> JobSpec[Any]:
    return JobSpec("job", data, JobOptions(delay=round(delay_s * 1000))) if delay_s else JobSpec("job", data)


if __name__ == "__main__":
    run_async(PyQueue)
