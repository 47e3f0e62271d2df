"""What the Python programs share: talking to the runner, the work, the measuring. Standard library only.

A system's program implements `AsyncSystem` or `SyncSystem`, a handful of short methods in that system's own idiom, and
calls `run_async` or `run_sync`; so every system does the same work, measured by the same code.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Protocol

from benchmarks.task import BULK, Task

#: How often a worker says how far it is.
TICK_S = 0.05
#: Delayed jobs per call: few, so that the time a call takes hardly counts as lateness.
DELAYED_BULK = 20
#: What the runner says. Not `sys.stdin`: a thread that waits in it holds its lock, and a process that `multiprocessing`
#: forks meanwhile (the scheduler of rq) closes its `sys.stdin` first and waits for that lock for ever.
COMMANDS: Final = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115 - open as long as the process

Data = dict[str, Any]
#: A job's data, and the seconds by which it is delayed (0 = not at all).
Item = tuple[Data, float]


class Unsupported(Exception):
    """The system has no such feature; the message says which."""


class Recorder:
    """Called by every job with its data: counts, and notes when the measured jobs began and ended."""

    def __init__(self, task: Task, done: Callable[[], None]) -> None:
        self.count = 0
        self.first = self.last = 0.0
        self.offsets: list[float] = []
        self._lock = threading.Lock()  # some systems run their jobs in threads
        self._skip = task.skip
        self._jobs = task.jobs
        self._timings = task.timings
        self._done = done

    def __call__(self, data: Data) -> None:
        """A job has started."""
        now = time.monotonic()
        with self._lock:
            self.count = number = self.count + 1
            if number == self._skip + 1:
                self.first = now
            if self._timings and number > self._skip:
                self.offsets.append(now - data["at"])
            self.last = now
        if number == self._jobs:
            self._done()


class AsyncSystem(Protocol):
    """A system with an asyncio interface."""

    async def open(self) -> None:
        """Connect a producer."""

    async def add(self, data: Data) -> None:
        """Add one job."""

    async def add_many(self, items: Sequence[Item]) -> None:
        """Add many in the fastest way the system documents; honours delays."""

    async def close(self) -> None:
        """Disconnect the producer."""

    async def work(self, handle: Callable[[Data], None], stop: asyncio.Event) -> None:
        """Run a worker whose jobs call `handle(data)`, until `stop` is set; then end it properly."""


class SyncSystem(Protocol):
    """A system with a blocking interface; the same methods."""

    def open(self) -> None:
        """Connect a producer."""

    def add(self, data: Data) -> None:
        """Add one job."""

    def add_many(self, items: Sequence[Item]) -> None:
        """Add many in the fastest way the system documents; honours delays."""

    def close(self) -> None:
        """Disconnect the producer."""

    def work(self, handle: Callable[[Data], None], stop: threading.Event) -> None:
        """Run a worker in this thread, until `stop` is set; then end it properly."""


def run_async(make: Callable[[Task], AsyncSystem]) -> None:
    """Do the task of the command line with an asyncio system."""
    task = Task.from_json(sys.argv[1])
    program = _produce(task, make(task)) if task.role == "produce" else _work(task, make(task))
    if task.uvloop:
        import uvloop

        uvloop.run(program)
    else:
        asyncio.run(program)


def run_sync(make: Callable[[Task], SyncSystem]) -> None:
    """Do the task of the command line with a blocking system."""
    task = Task.from_json(sys.argv[1])
    if task.role == "produce":
        _produce_blocking(task, make(task))
    else:
        _work_blocking(task, make(task))


def say(**line: Any) -> None:
    """One line to the runner."""
    print(json.dumps(line), flush=True)


def payload(task: Task) -> Data:
    """The data of a job."""
    return {"payload": "x" * task.payload_bytes}


def chunks(items: Sequence[Item]) -> list[Sequence[Item]]:
    """BULK at a time."""
    return [items[first : first + BULK] for first in range(0, len(items), BULK)]


def due_items(task: Task) -> Iterator[Sequence[Item]]:
    """A few delayed jobs at a time; they fall due evenly over `span_s`, beginning `lead_s` from now.

    A delay counts from the call that adds the job, so it is computed just before; `at` is when the job is due.
    """
    start = time.monotonic() + task.lead_s
    for first in range(0, task.jobs, DELAYED_BULK):
        numbers = range(first, min(first + DELAYED_BULK, task.jobs))
        now = time.monotonic()
        delays = [max(0.001, round(start + task.span_s * i / task.jobs - now, 3)) for i in numbers]
        yield [({**payload(task), "at": now + delay_s}, delay_s) for delay_s in delays]


class _Window:
    """CPU and time of the measured part of a producer."""

    def __init__(self) -> None:
        say(ready=True)
        COMMANDS.readline()
        self._cpu = time.process_time()
        self._first = time.monotonic()

    def report(self, count: int) -> None:
        last = time.monotonic()
        cpu_s = time.process_time() - self._cpu
        say(count=count, first=self._first, last=last, cpu_s=cpu_s, offsets=[], end=True)


# Producers


async def _produce(task: Task, system: AsyncSystem) -> None:
    await system.open()
    await _add_async(task, system, task.skip)
    window = await asyncio.to_thread(_Window)
    await _add_async(task, system, task.jobs)
    window.report(task.jobs)
    await system.close()


async def _add_async(task: Task, system: AsyncSystem, jobs: int) -> None:
    data = payload(task)
    if task.mode == "bulk":
        for chunk in chunks([(data, 0.0)] * jobs):
            await system.add_many(chunk)
    elif task.mode == "sequential":
        for _ in range(jobs):
            await system.add(data)
    elif task.mode == "concurrent":
        await _in_flight(system, data, iter(range(jobs)), task.in_flight)
    elif task.mode == "paced":
        await _paced(task, system, jobs)
    elif jobs:
        for items in due_items(task):
            await system.add_many(items)


async def _in_flight(system: AsyncSystem, data: Data, left: Any, in_flight: int) -> None:
    async def one() -> None:
        for _ in left:
            await system.add(data)

    await asyncio.gather(*(one() for _ in range(in_flight)))


async def _paced(task: Task, system: AsyncSystem, jobs: int) -> None:
    """Open loop: a job leaves at its time, whether or not the ones before it have arrived."""
    data, start, adds = payload(task), time.monotonic(), set()
    for i in range(jobs):
        pause = start + i / task.rate - time.monotonic()
        if pause > 0:
            await asyncio.sleep(pause)
        add = asyncio.ensure_future(system.add({**data, "at": time.monotonic()}))
        adds.add(add)
        add.add_done_callback(adds.discard)
    await asyncio.gather(*adds)


def _produce_blocking(task: Task, system: SyncSystem) -> None:
    system.open()
    _add_blocking(task, system, task.skip)
    window = _Window()
    _add_blocking(task, system, task.jobs)
    window.report(task.jobs)
    system.close()


def _add_blocking(task: Task, system: SyncSystem, jobs: int) -> None:
    data = payload(task)
    if task.mode == "bulk":
        for chunk in chunks([(data, 0.0)] * jobs):
            system.add_many(chunk)
    elif task.mode == "sequential":
        for _ in range(jobs):
            system.add(data)
    elif task.mode == "concurrent":
        with ThreadPoolExecutor(task.in_flight) as threads:
            list(threads.map(lambda _: system.add(data), range(jobs)))
    elif task.mode == "paced":
        start = time.monotonic()
        for i in range(jobs):
            time.sleep(max(0.0, start + i / task.rate - time.monotonic()))
            system.add({**data, "at": time.monotonic()})
    elif jobs:
        for items in due_items(task):
            system.add_many(items)


# Workers


class _Reporter:
    """Answers the runner while a worker works, from threads of its own."""

    def __init__(self, recorder: Recorder, stop: Callable[[], None]) -> None:
        self._recorder = recorder
        self._stop = stop
        self._ended = threading.Event()
        say(ready=True)
        COMMANDS.readline()
        self._cpu = time.process_time()
        self._ticker = threading.Thread(target=self._tick, daemon=True)
        self._ticker.start()
        threading.Thread(target=self._listen, daemon=True).start()

    def _tick(self) -> None:
        said = 0
        while not self._ended.wait(TICK_S):
            if self._recorder.count != said:
                said = self._recorder.count
                say(count=said)

    def _listen(self) -> None:
        for line in COMMANDS:
            if line.strip() == b"mark":
                say(mark=time.process_time() - self._cpu)
            else:
                self._stop()

    def report(self) -> None:
        """The result."""
        self._ended.set()
        self._ticker.join()
        record = self._recorder
        cpu_s = time.process_time() - self._cpu
        say(count=record.count, first=record.first, last=record.last, cpu_s=cpu_s, offsets=record.offsets, end=True)


async def _work(task: Task, system: AsyncSystem) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def end() -> None:
        loop.call_soon_threadsafe(stop.set)

    recorder = Recorder(task, end)
    reporter = await asyncio.to_thread(_Reporter, recorder, end)
    await system.work(recorder, stop)
    reporter.report()
    _leave()


def _work_blocking(task: Task, system: SyncSystem) -> None:
    stop = threading.Event()
    recorder = Recorder(task, stop.set)
    reporter = _Reporter(recorder, stop.set)
    system.work(recorder, stop)
    reporter.report()
    _leave()


def _leave() -> None:
    """End at once: everything is reported, and the thread that reads standard input would wait for its next line."""
    os._exit(0)
