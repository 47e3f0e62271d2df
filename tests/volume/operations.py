"""The operations on all jobs of a state: each is stopped half-way, told what it did, and finished beside a worker."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import anyio

from benchmarks.control import Control
from pyqueue import JobState
from pyqueue.views.jobs import PAGE, Progress
from tests.volume.bed import HOUR_MS, Bed
from tests.volume.slow_log import LIMIT_US, Calls, SlowLog

#: A run in which neighbours stopped Redis says little about Redis: the best of so many counts.
_ROUNDS: Final = 3


class Row(NamedTuple):
    """One operation: what it did, what it cost, and what was wrong."""

    operation: str
    jobs: int
    seconds: float
    calls: Calls
    beside: int
    """Jobs that a worker ran meanwhile."""
    problems: list[str]


@dataclass(frozen=True, slots=True)
class Operation:
    """How to run one operation, and how to see what it did."""

    name: str
    place: str
    """Where the jobs are put down before."""
    run: Callable[[Bed, Progress], Awaitable[int]]
    check: Callable[[Bed, int, int], Awaitable[list[str]]]
    """What is wrong, given the jobs that were put down and those the operation counted."""
    works_beside: bool = True
    """Whether workers may run meanwhile: not in a paused queue."""


async def measure(bed: Bed, operation: Operation, jobs: int) -> Row:
    """The first of up to three rounds in which calls are quick and nothing else is wrong; the last, if none is."""
    for rounds_left in reversed(range(_ROUNDS)):
        bed.seed(operation.place, jobs)
        row = await _round(bed, operation, jobs)
        if row.problems or row.calls.is_quick:
            return row
        if not rounds_left:
            row.problems.append(f"{row.calls.too_slow} calls above {LIMIT_US} us, and too many in {_ROUNDS} rounds")
            return row
    raise AssertionError("no round")


async def _round(bed: Bed, operation: Operation, jobs: int) -> Row:
    log = SlowLog(bed.client)
    log.start()
    began = time.perf_counter()
    with Control(bed.client) as control:
        told, problems = await _stop_half_way(bed, operation, jobs)
        reports: list[int] = []
        if operation.works_beside:
            async with bed.worker():
                done = await operation.run(bed, reports.append)
                beside = bed.executed.total()
        else:
            done, beside = await operation.run(bed, reports.append), 0
    seconds = time.perf_counter() - began
    calls = log.read(control)
    if reports != sorted(reports) or (reports or [0])[-1] != done:
        problems.append(f"progress ended with {reports[-1:]}, {done} were done")
    problems += await operation.check(bed, jobs, told + done)
    return Row(operation.name, jobs, seconds, calls, beside, problems)


async def _stop_half_way(bed: Bed, operation: Operation, jobs: int) -> tuple[int, list[str]]:
    """Cancel the operation while nobody works. What it told is what it did, but for the call that was under way."""
    told = 0
    with anyio.CancelScope() as scope:

        def stop(total: int) -> None:
            nonlocal told
            told = total
            if total >= jobs // 2:
                scope.cancel()

        await operation.run(bed, stop)
    if not scope.cancelled_caught:
        return told, ["was not stopped"]
    left = await _left(bed, operation.place)
    done = jobs - left if operation.name != "iterate" else told
    problems = [] if told <= done <= told + PAGE else [f"told {told} when it was stopped, had done {done}"]
    return (0 if operation.name == "iterate" else done), problems


async def _left(bed: Bed, place: str) -> int:
    state = JobState.WAITING if place == "wait" else JobState(place)
    return (await bed.queue.jobs.counts())[state]


# The operations.


async def _drain(bed: Bed, progress: Progress) -> int:
    return await bed.queue.drain(progress=progress)


async def _drained(bed: Bed, jobs: int, done: int) -> list[str]:
    """What was not drained was run, once; only what was added last may be left."""
    counts = await bed.queue.jobs.counts()
    left = counts[JobState.WAITING] + counts[JobState.ACTIVE]
    expected = jobs + len(bed.added)
    ended = done + len(bed.executed) + left
    # One more add may have been under way when the worker was closed.
    found = _twice(bed) + ([] if expected <= ended <= expected + 1 else [f"{ended} of {expected} jobs ended"])
    return found + ([f"{left} are left"] if left > 2 else [])


async def _clean(bed: Bed, progress: Progress) -> int:
    return len(await bed.queue.jobs.clean(HOUR_MS // 2, state=JobState.COMPLETED, progress=progress))


async def _cleaned(bed: Bed, jobs: int, done: int) -> list[str]:
    """The old ones went; those that ended meanwhile stay."""
    found = _twice(bed) + ([] if done == jobs else [f"{done} of {jobs} removed"])
    left = await _left(bed, "completed")
    return found + ([] if left == len(bed.executed) else [f"{left} left, {len(bed.executed)} ended meanwhile"])


async def _retry_all(bed: Bed, progress: Progress) -> int:
    return await bed.queue.jobs.retry_all(progress=progress)


async def _promote_all(bed: Bed, progress: Progress) -> int:
    return await bed.queue.jobs.promote_all(progress=progress)


async def _moved(bed: Bed, jobs: int, done: int) -> list[str]:
    """All were moved, each is run at most once and none is lost."""
    counts = await bed.queue.jobs.counts()
    there = counts[JobState.WAITING] + counts[JobState.ACTIVE] + counts[JobState.COMPLETED]
    expected = jobs + len(bed.added)
    found = _twice(bed) + ([] if done == jobs else [f"{done} of {jobs} moved"])
    return found + ([] if expected <= there <= expected + 1 else [f"{there} of {expected} jobs are there"])


async def _iterate(bed: Bed, progress: Progress) -> int:
    bed.executed.pop("seen", None)
    seen: set[str] = set()
    async for job in bed.queue.jobs.iterate(JobState.FAILED):
        seen.add(job.id)
        if len(seen) % PAGE == 0:
            progress(len(seen))
            await anyio.lowlevel.checkpoint()
    progress(len(seen))
    return len(seen)


async def _iterated(bed: Bed, jobs: int, done: int) -> list[str]:
    return _twice(bed) + ([] if done == jobs else [f"{done} of {jobs} seen"])


async def _obliterate(bed: Bed, progress: Progress) -> int:
    return await bed.queue.obliterate(progress=progress)


async def _obliterated(bed: Bed, jobs: int, done: int) -> list[str]:
    left = bed.client.keys("*")
    return ([] if done == jobs else [f"{done} of {jobs} removed"]) + ([f"keys are left: {left}"] if left else [])


def _twice(bed: Bed) -> list[str]:
    twice = [job_id for job_id, runs in bed.executed.items() if runs > 1]
    return [f"run more than once: {twice[:5]}"] if twice else []


OPERATIONS: Final = (
    Operation("iterate", "failed", _iterate, _iterated),
    Operation("retry_all", "failed", _retry_all, _moved),
    Operation("promote_all", "delayed", _promote_all, _moved),
    Operation("clean", "completed", _clean, _cleaned),
    Operation("drain", "wait", _drain, _drained),
    Operation("obliterate", "wait", _obliterate, _obliterated, works_beside=False),
)
