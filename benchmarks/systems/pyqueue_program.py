"""pyqueue: the benchmark program. See `benchmarks.protocol` for what it reads and prints."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from pyqueue import Job, JobSpec, Queue, Worker

BULK = 1000


class Program:
    """One task on one queue."""

    def __init__(self, task: dict[str, Any]) -> None:
        self.jobs: int = task["jobs"]
        self.concurrency: int = task["concurrency"]
        self.data = {"payload": "x" * task["payload_bytes"]}
        self.url = f"redis://127.0.0.1:{task['port']}"
        self.queue: Queue[Any, Any] = Queue("bench", connection=self.url)

    async def run(self, workload: str) -> None:
        """Prepare, say so, wait for the start, do the work, print what it took."""
        workloads: dict[str, Callable[[], Awaitable[None]]] = {
            "process": self.process,
            "add_bulk": lambda: measured(self.fill),
            "add_concurrent": lambda: measured(self.add_concurrent),
            "add_sequential": lambda: measured(self.add_sequential),
        }
        async with self.queue:
            await self.queue.jobs.counts()  # connected, as the peers are
            await workloads[workload]()

    async def process(self) -> None:
        await self.fill()
        finished = 0
        done = asyncio.Event()

        async def process(job: Job[Any, Any]) -> None:
            return None

        def completed(*_: object) -> None:
            nonlocal finished
            finished += 1
            if finished == self.jobs:
                done.set()

        worker = Worker("bench", process, connection=self.url, concurrency=self.concurrency)
        worker.on("completed", completed)

        async def work() -> None:
            async with worker:
                await done.wait()

        await measured(work)

    async def fill(self) -> None:
        for first in range(0, self.jobs, BULK):
            size = min(BULK, self.jobs - first)
            await self.queue.add_bulk([JobSpec("job", self.data) for _ in range(size)])

    async def add_concurrent(self) -> None:
        left = iter(range(self.jobs))

        async def one() -> None:
            for _ in left:
                await self.queue.add("job", self.data)

        await asyncio.gather(*(one() for _ in range(self.concurrency)))

    async def add_sequential(self) -> None:
        for _ in range(self.jobs):
            await self.queue.add("job", self.data)


async def measured(work: Callable[[], Awaitable[None]]) -> None:
    """Announce that everything is prepared, wait for a line, work, print the time and the CPU used."""
    print(json.dumps({"ready": True}), flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    cpu, start = time.process_time(), time.perf_counter()
    await work()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds}), flush=True)


def main() -> None:
    """Run the task given as JSON on the command line, on uvloop if it says so."""
    task = json.loads(sys.argv[1])
    program = Program(task).run(task["workload"])
    if task.get("uvloop"):
        import uvloop

        uvloop.run(program)
    else:
        asyncio.run(program)


if __name__ == "__main__":
    main()
