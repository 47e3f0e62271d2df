"""Processors in processes of their own: results and errors come back, crashes and timeouts fail one job."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest

from pyqueue import ConfigurationError, InProcess, JobFailed, JobState, ProcessJob, Queue, Unrecoverable

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

AnyQueue = Queue[Any, Any]


def square(job: ProcessJob) -> dict[str, Any]:
    return {"square": job.data**2, "pid": os.getpid(), "job": job.id, "attempt": job.attempts_made}


def raise_value_error(job: ProcessJob) -> None:
    raise ValueError(f"bad input {job.data}")


def give_up(job: ProcessJob) -> None:
    raise Unrecoverable("hopeless")


def die(job: ProcessJob) -> str:
    if job.data == "exit":
        os._exit(3)
    if job.data == "segv":
        os.kill(os.getpid(), signal.SIGSEGV)
    return "survived"


def sleep(job: ProcessJob) -> str:
    time.sleep(job.data)
    return "slept"


def hold_the_interpreter(job: ProcessJob) -> int:
    deadline = time.monotonic() + job.data
    rounds = 0
    while time.monotonic() < deadline:
        rounds += 1
    return rounds


async def test_the_result_of_another_process_is_the_result_of_the_job(queue: AnyQueue, start_worker: Any) -> None:
    """E254."""
    await start_worker(InProcess(square), concurrency=2)

    result = await (await queue.add("square", 12)).result(timeout=30)

    assert result["square"] == 144
    assert result["pid"] != os.getpid()


async def test_an_exception_of_another_process_fails_the_attempt(queue: AnyQueue, start_worker: Any) -> None:
    await start_worker(InProcess(raise_value_error))
    job = await queue.add("bad", 7, attempts=2)

    with pytest.raises(JobFailed, match="bad input 7"):
        await job.result(timeout=30)

    stored = await queue.jobs.get(job.id)
    assert stored is not None
    assert stored.attempts_made == 2


async def test_directives_work_from_another_process(queue: AnyQueue, start_worker: Any) -> None:
    await start_worker(InProcess(give_up))
    job = await queue.add("hopeless", attempts=5)

    with pytest.raises(JobFailed, match="hopeless"):
        await job.result(timeout=30)

    stored = await queue.jobs.get(job.id)
    assert stored is not None
    assert stored.attempts_made == 1


@pytest.mark.parametrize("how", ["exit", "segv"])
async def test_a_crash_fails_its_job_and_not_the_worker(queue: AnyQueue, start_worker: Any, how: str) -> None:
    """E255."""
    await start_worker(InProcess(die))
    crashing = await queue.add("die", how)
    healthy = await queue.add("die", "not today")

    with pytest.raises(JobFailed, match="died"):
        await crashing.result(timeout=30)
    assert await healthy.result(timeout=30) == "survived"
    assert await crashing.state() is JobState.FAILED


async def test_a_job_over_its_timeout_is_killed(queue: AnyQueue, start_worker: Any) -> None:
    await start_worker(InProcess(sleep, timeout=8))
    slow = await queue.add("sleep", 60)
    started = time.monotonic()

    with pytest.raises(JobFailed, match=r"longer than 8 s"):
        await slow.result(timeout=30)

    assert time.monotonic() - started < 40
    assert await (await queue.add("sleep", 0)).result(timeout=30) == "slept"


async def test_a_job_that_keeps_the_processor_busy_keeps_its_lock(queue: AnyQueue, start_worker: Any) -> None:
    await start_worker(InProcess(hold_the_interpreter), lock_duration=1000, stalled_interval=300)
    job = await queue.add("spin", 2.5)

    assert await job.result(timeout=30) > 0

    stored = await queue.jobs.get(job.id)
    assert stored is not None
    assert stored.attempts_started == 1


def test_a_function_that_another_process_cannot_find_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="cannot run in another process"):
        InProcess(lambda job: job.data)


def test_a_bound_below_one_process_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="max_processes is 0"):
        InProcess(square, max_processes=0)
