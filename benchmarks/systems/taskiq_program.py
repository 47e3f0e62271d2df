"""taskiq with its Redis brokers: the benchmark program. See `benchmarks.task` for what it reads and prints.

Environment variable BENCHMARK_BROKER: `list` (no acknowledgements) or `stream` (with them).
"""
# pyright: reportMissingImports=false
# (the peer is installed in an environment of its own)

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from taskiq.receiver import Receiver
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend, RedisStreamBroker

from benchmarks.systems.harness import Data, Item, run_async
from benchmarks.task import Task


class TaskIQ:
    """Defaults, but for the list broker's socket timeout; a Redis result backend where results are kept.

    The receiver is the one of `taskiq worker`.
    """

    def __init__(self, task: Task) -> None:
        url = f"redis://127.0.0.1:{task.port}"
        if os.environ["BENCHMARK_BROKER"] == "stream":
            # "0": the group also gets what was added before it was made.
            self.broker = RedisStreamBroker(url, consumer_id="0")
        else:
            # Its BRPOP waits without end; the redis client's default of 5 s would end an idle worker.
            self.broker = ListQueueBroker(url, socket_timeout=None)
        if task.keep_results:
            self.broker = self.broker.with_result_backend(RedisAsyncResultBackend(url))
        self.concurrency = task.concurrency
        self.handle: Callable[[Data], None] = lambda _: None

        async def job(data: Data) -> None:
            self.handle(data)

        self.job = self.broker.register_task(job, task_name="job")

    async def open(self) -> None:
        await self.broker.startup()

    async def add(self, data: Data) -> None:
        await self.job.kiq(data)

    async def add_many(self, items: Sequence[Item]) -> None:
        await asyncio.gather(*(self.job.kiq(data) for data, _ in items))

    async def close(self) -> None:
        await self.broker.shutdown()

    async def work(self, handle: Callable[[Data], None], stop: asyncio.Event) -> None:
        self.handle = handle
        self.broker.is_worker_process = True
        with ThreadPoolExecutor(1) as executor:
            receiver = Receiver(self.broker, executor, max_async_tasks=self.concurrency, run_startup=True)
            await receiver.listen(stop)
        await self.broker.shutdown()


if __name__ == "__main__":
    run_async(TaskIQ)
