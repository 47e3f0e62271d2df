"""What every scenario stands on: a server of its own, a queue, worker processes, a ledger, and one who keeps adding."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

from pyqueue import JobOptions, JobSpec, JobState, Queue
from tests.chaos.crew import Crew
from tests.chaos.ledger import Ledger
from tests.chaos.worker_process import PREFIX, QUEUE, Plan
from tests.support.server import RedisServer
from tests.support.waiting import wait_until

logger = logging.getLogger("chaos")

#: States of a job that still has something before it.
_UNFINISHED = (JobState.WAITING, JobState.ACTIVE, JobState.DELAYED, JobState.PRIORITIZED)


@dataclass(slots=True)
class Stage:
    """One scenario's server, queue, crew and ledger. `acknowledged`: ids of the jobs whose add has returned."""

    server: RedisServer
    queue: Queue[Any, Any]
    crew: Crew
    ledger: Ledger
    acknowledged: list[str] = field(default_factory=list)

    async def add(self, jobs: Iterable[tuple[str, float]], options: JobOptions | None = None) -> list[str]:
        """Add jobs, each a name and its duration in seconds; their ids."""
        specs = [JobSpec(name, data, options or JobOptions()) for name, data in jobs]
        added = [job.id for job in await self.queue.add_bulk(specs)]
        self.acknowledged += added
        return added

    async def until_done(self, timeout_s: float) -> bool:
        """Wait until every job has ended; False if that takes too long."""

        async def is_done() -> bool:
            counts = await self.queue.jobs.counts()
            return not any(counts[state] for state in _UNFINISHED)

        try:
            await wait_until(is_done, timeout_s)
        except TimeoutError:
            return False
        return True

    def running(self) -> dict[str, int]:
        """Jobs between their last start and its end, with the process that runs them."""
        runs: dict[str, int] = {}
        for record in self.ledger.of("started", "finished", "cancelled"):
            if record.kind == "started":
                runs[record.job] = record.pid
            elif runs.get(record.job) == record.pid:
                del runs[record.job]
        return runs


@asynccontextmanager
async def set_up(
    directory: Path,
    *,
    concurrency: int = 4,
    max_stalled_count: int = 1,
    server_options: Sequence[str] = (),
    url: str | None = None,
    max_events: int = 10_000,
    prefetch: int = 0,
) -> AsyncIterator[Stage]:
    """A stage without workers; everything ends with it. `url`: how workers reach another server than the stage's."""
    random.seed(20)
    ledger = Ledger(directory / "ledger")
    with RedisServer.started(directory, server_options) as server:
        plan = Plan(url or server.url, ledger.path, concurrency, max_stalled_count, prefetch=prefetch)
        crew = Crew(plan, ledger)
        try:
            async with Queue[Any, Any](QUEUE, connection=server.url, prefix=PREFIX, max_len_events=max_events) as queue:
                yield Stage(server, queue, crew, ledger)
        finally:
            crew.close()
            ledger.close()


class Adder:
    """Adds small jobs one after another while faults happen, and notes how each add ended."""

    def __init__(self, stage: Stage, queue: Queue[Any, Any], *, pause_s: float, job_s: tuple[float, float]) -> None:
        self.slowest_s = 0.0
        self.refused: list[str] = []
        """Ids whose add has raised."""
        self.errors: list[Exception] = []
        self._stage = stage
        self._queue = queue
        self._pause_s = pause_s
        self._job_s = job_s

    async def run(self) -> None:
        """Add until cancelled."""
        number = 0
        while True:
            number += 1
            began = time.monotonic()
            job_id = f"a{number}"
            try:
                await self._queue.add("work", random.uniform(*self._job_s), job_id=job_id)
            except Exception as error:
                self.refused.append(job_id)
                self.errors.append(error)
            else:
                self._stage.acknowledged.append(job_id)
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
            await anyio.sleep(self._pause_s)


@asynccontextmanager
async def adding(
    stage: Stage, queue: Queue[Any, Any] | None = None, *, pause_s: float = 0.01, job_s: tuple[float, float]
) -> AsyncIterator[Adder]:
    """Jobs keep coming while the block runs."""
    adder = Adder(stage, queue or stage.queue, pause_s=pause_s, job_s=job_s)
    async with anyio.create_task_group() as group:
        group.start_soon(adder.run)
        yield adder
        group.cancel_scope.cancel()


def durations(count: int, shortest: float, longest: float) -> list[tuple[str, float]]:
    """Jobs of random length in seconds."""
    return [("work", random.uniform(shortest, longest)) for _ in range(count)]
