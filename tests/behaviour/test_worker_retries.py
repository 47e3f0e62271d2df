"""Failures: attempts, backoff, directives, stack traces."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pyqueue import (
    Backoff,
    DelayJob,
    Job,
    JobState,
    RateLimitJob,
    ReleaseJob,
    Retention,
    Unrecoverable,
    WaitForChildren,
)
from tests.behaviour.conftest import AnyQueue, StartWorker
from tests.support.jobs import reach, stored
from tests.support.waiting import wait_until

pytestmark = pytest.mark.anyio


async def test_a_failing_job_runs_as_often_as_its_attempts_say(queue: AnyQueue, start_worker: StartWorker) -> None:
    """E95, E96, E101."""
    failures: list[int] = []

    async def process(job: Job[Any, Any]) -> None:
        raise ValueError(f"run {job.attempts_made}")

    worker = await start_worker(process)
    worker.on("failed", lambda job, error: failures.append(job.attempts_made))
    job = await queue.add("x", attempts=3)
    once = await queue.add("y")
    await reach(queue, [job, once], JobState.FAILED)
    await wait_until(lambda: len(failures) == 4)
    assert sorted(failures) == [0, 0, 1, 2]
    end = await stored(queue, job)
    assert (end.attempts_made, end.attempts_started, end.failed_reason) == (3, 3, "run 2")
    assert [stack.splitlines()[0] for stack in end.stack_trace] == [f"ValueError: run {n}" for n in range(3)]


async def test_no_lock_is_said_to_be_lost_when_a_retry_comes_before_the_reply_to_the_failure(
    queue: AnyQueue, start_worker: StartWorker
) -> None:
    """The claim that stands behind the waiter's pop has a connection of its own, which may be read first."""
    complaints: list[object] = []
    failures: list[str] = []
    pauses = random.Random(7)

    async def process(job: Job[Any, Any]) -> None:
        await asyncio.sleep(pauses.choice([0, 0, 0.002, 0.01, 0.03]))
        raise ValueError("x")

    worker = await start_worker(process, concurrency=10)
    worker.on("lock_lost", complaints.append)
    worker.on("error", complaints.append)
    worker.on("failed", lambda job, error: failures.append(job.id))
    jobs = []
    for _ in range(100):
        jobs.append(await queue.add("x", attempts=4, backoff=1))
        await asyncio.sleep(pauses.choice([0, 0, 0.001, 0.004, 0.01, 0.025]))
    await reach(queue, jobs, JobState.FAILED)
    await wait_until(lambda: len(failures) == 400)
    assert complaints == []


async def test_a_job_that_succeeds_at_its_last_attempt_completes(queue: AnyQueue, start_worker: StartWorker) -> None:
    async def process(job: Job[Any, Any]) -> str:
        if job.attempts_made < 2:
            raise OSError("not yet")
        return "sent"

    await start_worker(process)
    job = await queue.add("x", attempts=3)
    await reach(queue, job, JobState.COMPLETED)
    assert (await stored(queue, job)).return_value == "sent"


@pytest.mark.parametrize("backoff", [Backoff.fixed(60), Backoff.exponential(30), 60])
@pytest.mark.every_backend
async def test_a_backoff_delays_the_retry(queue: AnyQueue, start_worker: StartWorker, backoff: Any) -> None:
    """E90, E97: the delay is visible on the job, and the retry does not come early."""
    times: list[float] = []
    delays: list[int] = []

    async def process(job: Job[Any, Any]) -> None:
        times.append(time.monotonic())
        delays.append(job.delay)
        if len(times) < 3:
            raise ValueError

    await start_worker(process)
    job = await queue.add("x", attempts=5, backoff=backoff)
    await reach(queue, job, JobState.COMPLETED)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    expected = [0.03, 0.06] if isinstance(backoff, Backoff) and backoff.type == "exponential" else [0.06, 0.06]
    for gap, least in zip(gaps, expected, strict=True):
        assert gap >= least - 0.002
    assert delays == [0, 0, 0]  # promotion resets it


async def test_custom_backoffs_may_be_async_and_may_stop_the_retries(
    queue: AnyQueue, start_worker: StartWorker
) -> None:
    """E99; D7 of the official Python port."""
    asked: list[tuple[int, str, str]] = []

    async def strategy(attempts_made: int, kind: str, error: BaseException, job: Job[Any, Any]) -> int:
        asked.append((attempts_made, kind, str(error)))
        return -1 if attempts_made == 3 else 0

    async def process(job: Job[Any, Any]) -> None:
        raise ValueError("again")

    await start_worker(process, backoffs={"mine": strategy, "timed": lambda *_: timedelta(milliseconds=1)})
    job = await queue.add("x", attempts=10, backoff=Backoff.custom("mine"))
    timed = await queue.add("y", attempts=2, backoff=Backoff.custom("timed"))
    await reach(queue, [job, timed], JobState.FAILED)
    assert asked == [(1, "mine", "again"), (2, "mine", "again"), (3, "mine", "again")]
    assert (await stored(queue, job)).attempts_made == 3
    assert (await stored(queue, timed)).attempts_made == 2


async def test_a_broken_or_unknown_backoff_fails_the_job_and_keeps_its_reason(
    queue: AnyQueue, start_worker: StartWorker
) -> None:
    def broken(*_: Any) -> int:
        raise LookupError("no table")

    async def process(job: Job[Any, Any]) -> None:
        raise ValueError("the real reason")

    await start_worker(process, backoffs={"broken": broken, "text": lambda *_: "soon"})
    jobs = [
        await queue.add("x", attempts=3, backoff=Backoff.custom(name)) for name in ("broken", "text", "never heard of")
    ]
    await reach(queue, jobs, JobState.FAILED)
    for job, problem in zip(jobs, ("no table", "soon", "Unknown backoff strategy never heard of"), strict=True):
        reason = str((await stored(queue, job)).failed_reason)
        assert reason.startswith("the real reason")
        assert problem in reason


async def test_unrecoverable_fails_at_once(queue: AnyQueue, start_worker: StartWorker) -> None:
    """E102: by class, or by the name that BullMQ uses."""

    class UnrecoverableError(Exception):
        pass

    async def process(job: Job[Any, Any]) -> None:
        raise Unrecoverable("550 no such user") if job.data else UnrecoverableError("by name")

    await start_worker(process)
    jobs = [await queue.add("x", data, attempts=5) for data in (1, 0)]
    await reach(queue, jobs, JobState.FAILED)
    ends = [await stored(queue, job) for job in jobs]
    assert [(end.failed_reason, end.attempts_made) for end in ends] == [("550 no such user", 1), ("by name", 1)]


async def test_delay_job_runs_it_again_later_without_spending_an_attempt(
    queue: AnyQueue, start_worker: StartWorker
) -> None:
    """E109, E110."""
    runs: list[float] = []

    async def process(job: Job[Any, Any]) -> str:
        runs.append(time.time())
        if len(runs) == 1:
            raise DelayJob(timedelta(milliseconds=50))
        if len(runs) == 2:
            raise DelayJob(until=datetime.now(UTC) + timedelta(milliseconds=50))
        return "done"

    await start_worker(process)
    job = await queue.add("step")
    await reach(queue, job, JobState.COMPLETED)
    end = await stored(queue, job)
    assert (end.attempts_made, end.attempts_started) == (1, 3)
    assert runs[1] - runs[0] >= 0.045
    assert runs[2] - runs[1] >= 0.045
    assert end.failed_reason is None


@pytest.mark.every_backend
async def test_release_job_puts_it_before_the_others_without_spending_an_attempt(
    queue: AnyQueue, start_worker: StartWorker
) -> None:
    """E109."""
    runs: list[str] = []

    async def process(job: Job[Any, Any]) -> None:
        runs.append(job.name)
        if len(runs) == 1:
            raise ReleaseJob

    jobs = [await queue.add(name) for name in ("a", "b")]
    await start_worker(process)
    await reach(queue, jobs, JobState.COMPLETED)
    assert runs == ["a", "a", "b"]
    assert (await stored(queue, jobs[0])).attempts_made == 1


async def test_waiting_for_children_that_do_not_exist_runs_the_job_again_at_once(
    queue: AnyQueue, start_worker: StartWorker
) -> None:
    async def process(job: Job[Any, Any]) -> str:
        if job.attempts_started == 1:
            raise WaitForChildren
        return "no children"

    await start_worker(process)
    job = await queue.add("parent")
    await reach(queue, job, JobState.COMPLETED)
    assert (await stored(queue, job)).attempts_made == 1


async def test_a_parent_waits_for_its_children(queue: AnyQueue, start_worker: StartWorker, prefix: str) -> None:
    ran: list[str] = []

    async def process(job: Job[Any, Any]) -> None:
        ran.append(job.name)
        if job.name == "parent" and job.attempts_started == 1:
            await queue.add("child", parent={"id": job.id, "queue": f"{prefix}:q"})
            raise WaitForChildren

    await start_worker(process)
    parent = await queue.add("parent")
    await reach(queue, parent, JobState.COMPLETED)
    assert ran == ["parent", "child", "parent"]


async def test_a_parent_that_completes_before_its_children_fails_like_any_attempt(
    queue: AnyQueue, start_worker: StartWorker, prefix: str
) -> None:
    """E65: -4 goes through the failure path; the retry completes once the child is done."""
    errors: list[BaseException] = []

    async def process(job: Job[Any, Any]) -> str:
        if job.name == "parent" and job.attempts_started == 1:
            await queue.add("child", parent={"id": job.id, "queue": f"{prefix}:q"})
        return job.name

    worker = await start_worker(process)
    worker.on("failed", lambda job, error: errors.append(error))
    parent = await queue.add("parent", attempts=2, backoff=100)
    await reach(queue, parent, JobState.COMPLETED)
    assert [type(error).__name__ for error in errors] == ["PendingChildren"]
    assert (await stored(queue, parent)).attempts_made == 2


async def test_a_parent_with_a_failed_child_fails_without_another_attempt(
    queue: AnyQueue, start_worker: StartWorker, prefix: str
) -> None:
    """-9 is unrecoverable."""

    async def process(job: Job[Any, Any]) -> None:
        if job.name == "child":
            raise Unrecoverable("child")
        if job.attempts_started == 1:
            child = await queue.add("child", parent={"id": job.id, "queue": f"{prefix}:q"}, fail_parent_on_failure=True)
            await wait_until(lambda: _is_failed(queue, child))

    await start_worker(process, concurrency=2)
    parent = await queue.add("parent", attempts=5)
    await reach(queue, parent, JobState.FAILED)
    assert (await stored(queue, parent)).attempts_made == 1


async def test_a_rate_limited_job_goes_back_and_the_queue_pauses(queue: AnyQueue, start_worker: StartWorker) -> None:
    """E160."""
    runs: list[tuple[str, float]] = []

    async def process(job: Job[Any, Any]) -> None:
        runs.append((job.name, time.monotonic()))
        if len(runs) == 1:
            raise RateLimitJob(timedelta(milliseconds=150))

    jobs = [await queue.add(name) for name in ("a", "b")]
    await start_worker(process)
    await reach(queue, jobs, JobState.COMPLETED)
    assert [name for name, _ in runs] == ["a", "a", "b"]
    assert runs[1][1] - runs[0][1] >= 0.14
    assert (await stored(queue, jobs[0])).attempts_made == 1


@pytest.mark.parametrize(("limit", "kept"), [(None, 4), (2, 2), (0, 0)])
async def test_stack_traces_are_kept_up_to_their_limit(
    queue: AnyQueue, start_worker: StartWorker, limit: int | None, kept: int
) -> None:
    """E107: the newest stay."""

    async def process(job: Job[Any, Any]) -> None:
        raise ValueError(f"run {job.attempts_made}")

    await start_worker(process)
    job = await queue.add("x", attempts=4, stack_trace_limit=limit)
    await reach(queue, job, JobState.FAILED)
    stacks = (await stored(queue, job)).stack_trace
    assert [stack.splitlines()[0] for stack in stacks] == [f"ValueError: run {n}" for n in range(4 - kept, 4)]


async def test_a_job_that_was_started_too_often_fails_without_running(
    queue: AnyQueue, start_worker: StartWorker
) -> None:
    """E108."""
    runs: list[int] = []

    async def process(job: Job[Any, Any]) -> None:
        runs.append(job.attempts_started)
        raise DelayJob(1)

    await start_worker(process, max_started_attempts=3)
    job = await queue.add("x", attempts=9)
    await reach(queue, job, JobState.FAILED)
    assert runs == [1, 2, 3]
    assert (await stored(queue, job)).failed_reason == "job started more than allowable limit"


async def test_retention_of_the_worker_holds_where_the_job_has_none(queue: AnyQueue, start_worker: StartWorker) -> None:
    """E56, E57, E59, E60."""

    async def process(job: Job[Any, Any]) -> None:
        if job.name == "bad":
            raise ValueError

    worker = await start_worker(process, remove_on_complete=Retention(count=2), remove_on_fail=True)
    good = [await queue.add("good") for _ in range(4)]
    bad = await queue.add("bad")
    kept = await queue.add("bad", remove_on_fail=False)
    gone = await queue.add("good", remove_on_complete=True)
    await reach(queue, kept, JobState.FAILED)
    await reach(queue, [bad, gone], JobState.UNKNOWN)
    await worker.wait_idle()
    assert [await queue.jobs.state(job.id) for job in good] == [JobState.UNKNOWN] * 2 + [JobState.COMPLETED] * 2


async def test_a_reason_that_cannot_be_encoded_is_stored_all_the_same(
    queue: AnyQueue, start_worker: StartWorker
) -> None:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    async def process(job: Job[Any, Any]) -> None:
        raise {"surrogate": ValueError("\ud800 file"), "empty": ValueError(), "broken": Unprintable()}[job.name]

    await start_worker(process, concurrency=3)
    jobs = [await queue.add(name) for name in ("surrogate", "empty", "broken")]
    await reach(queue, jobs, JobState.FAILED)
    reasons = [(await stored(queue, job)).failed_reason for job in jobs]
    assert reasons == ["\\ud800 file", "ValueError", "Unprintable"]


async def _is_failed(queue: AnyQueue, job: Job[Any, Any]) -> bool:
    return await queue.jobs.state(job.id) is JobState.FAILED
