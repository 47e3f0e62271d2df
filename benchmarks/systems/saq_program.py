"""saq: the benchmark program. See `benchmarks.task` for what it reads and prints."""
# pyright: reportMissingImports=false
# (the peer is installed in an environment of its own)

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from saq import Queue, Worker

from benchmarks.systems.harness import Data, Item, run_async
from benchmarks.task import Task

#: saq's words: seconds for which a finished job is kept; -1 is not at all.
KEPT_S, NOT_KEPT = 600, -1


class Saq:
    """Defaults; delays are whole seconds, rounded up, because saq's schedule knows no fractions."""

    def __init__(self, task: Task) -> None:
        self.queue = Queue.from_url(f"redis://127.0.0.1:{task.port}", name="bench")
        self.concurrency = task.concurrency
        self.ttl = KEPT_S if task.keep_results else NOT_KEPT

    async def open(self) -> None:
        await self.queue.connect()

    async def add(self, data: Data) -> None:
        await self.queue.enqueue("job", data=data, ttl=self.ttl)

    async def add_many(self, items: Sequence[Item]) -> None:
        await asyncio.gather(*(self._add(data, delay_s) for data, delay_s in items))

    async def _add(self, data: Data, delay_s: float) -> None:
        scheduled = math.ceil(time.time() + delay_s) if delay_s else 0
        await self.queue.enqueue("job", data=data, ttl=self.ttl, scheduled=scheduled)

    async def close(self) -> None:
        await self.queue.disconnect()

    async def work(self, handle: Callable[[Data], None], stop: asyncio.Event) -> None:
        async def job(_context: Any, *, data: Data) -> None:
            handle(data)

        worker = Worker(self.queue, functions=[("job", job)], concurrency=self.concurrency)
        running = asyncio.ensure_future(worker.start())
        await stop.wait()
        await worker.stop()
        await asyncio.gather(running, return_exceptions=True)


if __name__ == "__main__":
    run_async(Saq)
