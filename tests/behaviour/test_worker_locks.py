"""Locks: kept while a job runs, whatever its processor does; lost ones stop it; dead workers' jobs run elsewhere."""

from __future__ import annotations

import logging
import time
from typing import Any

import anyio
import pytest

from pyqueue import Context, Job, JobState, LockError, Worker
from pyqueue._redis.connection import Connection
from pyqueue.queue import ConnectionSource
from tests.behaviour.conftest import AnyQueue, MakeWorker, StartWorker
from tests.support.jobs import reach, stored
from tests.support.waiting import wait_until

pytestmark = pytest.mark.anyio


@pytest.mark.every_backend
async def test_locks_are_renewed_while_jobs_run(
    queue: AnyQueue, start_worker: StartWorker, redis_client: Any, prefix: str
) -> None:
    """E111, E122: also by a second worker's stalled checks."""
    gate = anyio.Event()
    deadlines: list[float] = []

    async def process(job: Job[Any, Any], context: Context) -> None:
        deadlines.append(context.deadline)
        await gate.wait()
        deadlines.append(context.deadline)

    await start_worker(process, concurrency=2, lock_duration=1500)
    jobs = [await queue.add("long") for _ in range(2)]
    await reach(queue, jobs, JobState.ACTIVE)
    await start_worker(lambda job: None, stalled_interval=50)
    began = time.monotonic()
    while time.monotonic() - began < 2:
        for job in jobs:
            assert await redis_client.pttl(f"{prefix}:q:{job.id}:lock") > 0
        await anyio.sleep(0.02)  # a lock that is not renewed may run out at any moment
    gate.set()
    await reach(queue, jobs, JobState.COMPLETED)
    assert [(await stored(queue, job)).attempts_started for job in jobs] == [1, 1]
    assert min(deadlines[2:]) > max(deadlines[:2])


async def test_a_connection_that_cannot_be_derived_renews_in_the_loop_and_says_so(
    queue: AnyQueue, source: ConnectionSource, prefix: str, redis_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    connection = Connection.open(source)
    connection.can_derive = False
    gate = anyio.Event()

    async def process(job: Job[Any, Any]) -> None:
        await gate.wait()

    async with Worker("q", process, connection=connection, prefix=prefix, lock_duration=1500):
        job = await queue.add("long")
        await reach(queue, job, JobState.ACTIVE)
        await anyio.sleep(1.7)  # longer than the lock
        assert await redis_client.pttl(f"{prefix}:q:{job.id}:lock") > 0
        gate.set()
        await reach(queue, job, JobState.COMPLETED)
    await connection.aclose()
    assert sum("renewed in the event loop" in record.message for record in caplog.records) == 1


async def test_a_processor_that_blocks_the_loop_keeps_its_lock_and_is_named_in_the_log(
    queue: AnyQueue, start_worker: StartWorker, redis_client: Any, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The lock lasts 1.5 s, the loop stands still for 2.2 s."""

    async def process(job: Job[Any, Any]) -> None:
        time.sleep(2.2)  # noqa: ASYNC251  # the mistake is the point

    caplog.set_level(logging.WARNING, logger="pyqueue.worker")
    worker = await start_worker(process, lock_duration=1500)
    lost: list[Any] = []
    worker.on("lock_lost", lost.append)
    job = await queue.add("sleeper")
    await reach(queue, job, JobState.COMPLETED)
    assert (await stored(queue, job)).attempts_started == 1
    assert not lost
    warning = next(record for record in caplog.records if "is blocked by" in record.message)
    assert f"job {job.id} (sleeper)" in warning.message
    assert "time.sleep(2.2)" in warning.message
    assert sum("is blocked by" in record.message for record in caplog.records) == 1


async def test_a_loop_that_stays_blocked_gives_its_jobs_back(
    queue: AnyQueue, start_worker: StartWorker, redis_client: Any, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """After max_loop_block the lock is left to run out."""

    async def process(job: Job[Any, Any]) -> None:
        time.sleep(1.5)  # noqa: ASYNC251  # the mistake is the point

    worker = await start_worker(process, lock_duration=400, max_loop_block=300)
    lost: list[str] = []
    worker.on("lock_lost", lambda job: lost.append(job.id))
    worker.on("error", lambda error: None)
    job = await queue.add("hung")
    await wait_until(lambda: lost == [job.id])
    assert await job.state() is JobState.ACTIVE  # for the stalled check of any worker
    assert "max_loop_block" in caplog.text


@pytest.mark.parametrize("thief", [None, "another"])
@pytest.mark.every_backend
async def test_a_job_whose_lock_is_lost_is_cancelled_and_not_completed(
    queue: AnyQueue, start_worker: StartWorker, redis_client: Any, prefix: str, thief: str | None
) -> None:
    """E113, E114, E64."""
    began: list[str] = []
    ends: list[str] = []
    errors: list[Exception] = []
    lost: list[str] = []

    async def process(job: Job[Any, Any], context: Context) -> str:
        began.append(job.id)
        try:
            await anyio.sleep(10)
        except BaseException:
            ends.append("lock lost" if context.is_lock_lost else "cancelled")
            raise
        return "never"

    worker = await start_worker(process, lock_duration=1000)
    worker.on("error", errors.append)
    worker.on("lock_lost", lambda job: lost.append(job.id))
    job = await queue.add("x", attempts=3)
    await wait_until(lambda: began)
    if thief:
        await redis_client.set(f"{prefix}:q:{job.id}:lock", thief)
    else:
        await redis_client.delete(f"{prefix}:q:{job.id}:lock")
    await wait_until(lambda: ends == ["lock lost"])
    assert lost == [job.id]
    assert isinstance(errors[0], LockError)
    await worker.close()
    end = await stored(queue, job)
    assert (await end.state(), end.attempts_made) == (JobState.ACTIVE, 0)


async def test_a_job_whose_lock_was_stolen_before_its_end_is_not_completed(
    queue: AnyQueue, start_worker: StartWorker, redis_client: Any, prefix: str
) -> None:
    """E64: found out by the code of the settlement."""
    errors: list[Exception] = []
    lost: list[str] = []
    completed: list[str] = []

    async def process(job: Job[Any, Any]) -> str:
        await redis_client.set(f"{prefix}:q:{job.id}:lock", "another")
        return "too late"

    worker = await start_worker(process)
    worker.on("error", errors.append)
    worker.on("lock_lost", lambda job: lost.append(job.id))
    worker.on("completed", lambda job, value: completed.append(job.id))
    job = await queue.add("x")
    await wait_until(lambda: lost == [job.id])
    assert isinstance(errors[0], LockError)
    assert completed == []
    assert await job.state() is JobState.ACTIVE


async def test_a_job_that_was_removed_while_it_ran_is_reported_and_forgotten(
    queue: AnyQueue, start_worker: StartWorker, redis_client: Any, prefix: str
) -> None:
    """E66: no stray hash is left."""
    errors: list[Exception] = []

    async def process(job: Job[Any, Any]) -> None:
        await redis_client.delete(f"{prefix}:q:{job.id}")
        raise ValueError("too late")

    worker = await start_worker(process)
    worker.on("error", errors.append)
    job = await queue.add("x")
    await wait_until(lambda: errors)
    assert "JobNotFound" in type(errors[0]).__name__
    assert not await redis_client.exists(f"{prefix}:q:{job.id}")
    await worker.wait_idle()


@pytest.mark.every_backend
async def test_jobs_of_a_dead_worker_are_run_by_another(
    queue: AnyQueue, start_worker: StartWorker, make_worker: MakeWorker, redis_client: Any, prefix: str
) -> None:
    """E117, E121: found by the second check after the lock ran out, and announced."""
    dead = await queue.add("x")
    claimed = await _die_with_a_job(make_worker, redis_client, prefix)
    assert claimed == dead.id
    stalled: list[str] = []
    worker = await start_worker(lambda job: "recovered", stalled_interval=100)
    worker.on("stalled", stalled.append)
    await reach(queue, dead, JobState.COMPLETED)
    await wait_until(lambda: stalled)
    end = await stored(queue, dead)
    assert (end.return_value, end.stalled_count, end.attempts_started) == ("recovered", 1, 2)
    assert stalled == [dead.id]
    assert not await redis_client.sismember(f"{prefix}:q:stalled", dead.id)


async def test_a_job_that_stalls_more_often_than_allowed_fails(
    queue: AnyQueue, start_worker: StartWorker, make_worker: MakeWorker, redis_client: Any, prefix: str
) -> None:
    """E119, E123: without being run."""
    job = await queue.add("poison", attempts=5)
    fine = await queue.add("fine")
    await _die_with_a_job(make_worker, redis_client, prefix)
    ran: list[str] = []
    await start_worker(lambda job: ran.append(job.id), stalled_interval=100, max_stalled_count=0)
    await reach(queue, job, JobState.FAILED)
    await reach(queue, fine, JobState.COMPLETED)
    end = await stored(queue, job)
    assert end.failed_reason == "job stalled more than allowable limit"
    assert ran == [fine.id]


async def test_a_worker_may_leave_stalled_jobs_to_others(
    queue: AnyQueue, start_worker: StartWorker, make_worker: MakeWorker, redis_client: Any, prefix: str
) -> None:
    """E118."""
    job = await queue.add("x")
    await _die_with_a_job(make_worker, redis_client, prefix)
    await start_worker(lambda job: None, stalled_interval=20, skip_stalled_check=True)
    await anyio.sleep(0.3)  # that nothing happens cannot be awaited
    assert await job.state() is JobState.ACTIVE
    assert not await redis_client.exists(f"{prefix}:q:stalled-check")


async def _die_with_a_job(make_worker: MakeWorker, redis_client: Any, prefix: str) -> str:
    """Claim a job by hand and let its lock run out, as a worker that was killed does."""
    worker = make_worker()
    job = await worker.get_next_job("dead", block=False)
    assert job is not None
    await worker.close()
    await redis_client.delete(f"{prefix}:q:{job.id}:lock")
    return job.id
