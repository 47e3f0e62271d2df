"""The official Python port of BullMQ (`bullmq` on PyPI). See `benchmarks.task` for what it reads and prints.

`socket_timeout=None` is given, because the redis client's default would interrupt the blocking wait of a worker.
"""
# pyright: reportMissingImports=false
# (the peer is installed in an environment of its own)

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from bullmq import Queue, Worker

from benchmarks.systems.harness import Data, Item, run_async
from benchmarks.task import Task


class BullMQPort:
    """Defaults, but for the socket timeout and, where jobs are removed, `removeOnComplete`."""

    def __init__(self, task: Task) -> None:
        self.connection = {"host": "127.0.0.1", "port": task.port, "socket_timeout": None}
        self.concurrency = task.concurrency
        self.removal = {} if task.keep_results else {"removeOnComplete": True}
        self.queue = Queue("bench", {"connection": self.connection})

    async def open(self) -> None:
        await self.queue.getJobCounts("wait")

    async def add(self, data: Data) -> None:
        await self.queue.add("job", data, {})

    async def add_many(self, items: Sequence[Item]) -> None:
        await self.queue.addBulk([{"name": "job", "data": data, "opts": _options(delay)} for data, delay in items])

    async def close(self) -> None:
        await self.queue.close()

    async def work(self, handle: Callable[[Data], None], stop: asyncio.Event) -> None:
        async def process(job: Any, _token: str) -> None:
            handle(job.data)

        options = {"connection": self.connection, "concurrency": self.concurrency, **self.removal}
        worker = Worker("bench", process, options)
        await stop.wait()
        await worker.close()


def _options(delay_s: float) -> dict[str, Any]:
    return {"delay": round(delay_s * 1000)} if delay_s else {}


if __name__ == "__main__":
    run_async(BullMQPort)
