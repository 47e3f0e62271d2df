"""What a worker process of the chaos suite runs: one worker, processors by job name, every step in the ledger.

Knows nothing of the faults. Started by `crew` through multiprocessing's fork server, which has imported this module
already, so that a new process costs milliseconds.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pyqueue import Context, Job, Worker, run_worker
from tests.chaos.ledger import Ledger

LOCK_MS: Final = 2000
STALLED_MS: Final = 1000
#: Half a lock: short enough for idle workers to have a claim stand behind their pop.
DRAIN_MS: Final = 1000
QUEUE: Final = "work"
PREFIX: Final = "chaos"

AnyJob = Job[Any, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """How a worker process is set up. `close_s` bounds the close after SIGTERM."""

    url: str
    ledger: Path
    concurrency: int = 4
    max_stalled_count: int = 1
    close_s: float = 30.0
    prefetch: int = 0


def main(plan: Plan) -> None:
    """The process. Exit code 0 after a graceful close."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # SIGSEGV is part of the play
    asyncio.run(_serve(plan))


async def _serve(plan: Plan) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:  # nobody would end an orphan
        asyncio.get_running_loop().add_reader(parent.sentinel, os._exit, 3)
    ledger = Ledger(plan.ledger)
    _log_to(ledger)

    async def process(job: AnyJob, context: Context) -> int:
        ledger.write("started", job.id)
        try:
            await PROCESSORS[job.name](job)
        except asyncio.CancelledError:
            ledger.write("cancelled", job.id, "lock lost" if context.is_lock_lost else "")
            raise
        ledger.write("finished", job.id)
        return os.getpid()

    worker = Worker(
        QUEUE,
        process,
        connection=plan.url,
        prefix=PREFIX,
        concurrency=plan.concurrency,
        prefetch=plan.prefetch,
        lock_duration=LOCK_MS,
        stalled_interval=STALLED_MS,
        drain_delay=DRAIN_MS,
        max_stalled_count=plan.max_stalled_count,
    )
    worker.on("ready", lambda: ledger.write("ready", "", worker.id))
    worker.on("lock_lost", lambda job: ledger.write("lock_lost", job.id))
    worker.on("error", lambda error: ledger.write("error", "", repr(error)))
    await run_worker(worker, timeout=plan.close_s)


def _log_to(ledger: Ledger) -> None:
    """Warnings and errors of the library become records."""

    class ToLedger(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            ledger.write("log", "", self.format(record))

    logger = logging.getLogger("pyqueue")
    logger.addHandler(ToLedger(level=logging.WARNING))
    logger.propagate = False


async def _work(job: AnyJob) -> None:
    """Take `data` seconds, as a job that awaits something does."""
    await asyncio.sleep(job.data)


async def _block_sleeping(job: AnyJob) -> None:
    time.sleep(job.data)  # noqa: ASYNC251  # the mistake is the point


async def _block_spinning(job: AnyJob) -> None:
    until = time.monotonic() + job.data
    while time.monotonic() < until:
        pass


async def _exit(job: AnyJob) -> None:
    os._exit(1)


async def _segfault(job: AnyJob) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


PROCESSORS: Final[dict[str, Callable[[AnyJob], Awaitable[None]]]] = {
    "work": _work,
    "block_sleeping": _block_sleeping,
    "block_spinning": _block_spinning,
    "exit": _exit,
    "segfault": _segfault,
}
