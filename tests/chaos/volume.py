"""Many jobs that leave nothing behind."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

import anyio

from pyqueue import JobOptions
from tests.chaos.crew import Crew
from tests.chaos.report import Bar, Report, audit, nothing_lost
from tests.chaos.stage import Stage, logger, set_up

#: Events kept; few, so that the stream has reached its size before the first measurement.
_EVENTS: Final = 500
#: The stream is trimmed by whole nodes of 100 entries, so that its size goes up and down by this share.
_NODE_SHARE: Final = 0.25


class _Left(NamedTuple):
    keys: int
    bytes: int
    worker_kib: int


async def leave_nothing(directory: Path, full: bool) -> Report:
    """Jobs with remove_on_complete; keys, bytes and the worker's memory after some of them and after all."""
    jobs = 100_000 if full else 5_000
    async with set_up(directory, concurrency=50, max_events=_EVENTS) as stage:
        await stage.crew.assemble(1)
        first = jobs // 5
        await _run(stage, first)
        early = await _measure(stage)
        logger.info("after %d jobs: %s", first, early)
        await _run(stage, jobs - first)
        late = await _measure(stage)
        logger.info("after %d jobs: %s", jobs, late)
        found = audit(stage, kept=False)
        growth = late.worker_kib / early.worker_kib - 1
        bars = [
            *nothing_lost(found),
            Bar("0 duplicates", not found.duplicates),
            Bar(f"keys stay ({early.keys} / {late.keys})", late.keys == early.keys),
            Bar(
                f"bytes stay ({early.bytes} / {late.bytes})", abs(late.bytes - early.bytes) <= early.bytes * _NODE_SHARE
            ),
            Bar(f"worker memory flat ({growth:+.1%})", growth <= 0.05),
        ]
        return Report("remove_on_complete", jobs, 0, found, bars)


async def _run(stage: Stage, jobs: int) -> None:
    """Add in steps, each when the one before is done, so that the queue is drained as often in a short run."""
    step = 1000
    for done in range(0, jobs, step):
        await stage.add([("work", 0)] * min(step, jobs - done), JobOptions(remove_on_complete=True))
        await stage.until_done(60)
        if done % 20_000 == 0:
            logger.info("%d jobs done", len(stage.acknowledged))


async def _measure(stage: Stage) -> _Left:
    await anyio.sleep(0.2)  # the reply to the last exchange
    with stage.server.client() as client:
        keys = list(client.scan_iter(count=1000))
        size = sum(int(client.memory_usage(key, samples=0) or 0) for key in keys)
    return _Left(len(keys), size, _resident_kib(stage.crew))


def _resident_kib(crew: Crew) -> int:
    """Resident memory of the first worker."""
    status = Path(f"/proc/{crew.members[0].pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
