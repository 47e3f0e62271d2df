"""run_worker: a program that ends gracefully at SIGTERM, and at once at the second one."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from pyqueue import ConfigurationError, Job, JobState, Queue, run_worker
from tests.support.jobs import stored
from tests.support.server import RedisServer
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

PROGRAM = """
import asyncio, sys
from pyqueue import Worker, run_worker

async def process(job):
    await job.update_progress("started")
    await asyncio.sleep(job.data)
    return "done"

url, prefix, timeout = sys.argv[1:]
asyncio.run(run_worker(Worker("q", process, connection=url, prefix=prefix, concurrency=5), timeout=float(timeout)))
print("closed")
"""


@contextmanager
def program(url: str, prefix: str, timeout_s: float) -> Iterator[subprocess.Popen[str]]:
    """A worker process; killed if the test leaves it running."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, url, prefix, str(timeout_s)], stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit code and what it printed."""
    output, _ = await asyncio.to_thread(process.communicate, None, 30)
    return process.returncode, output


@pytest.mark.needs_server
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_running_job_finishes_before_the_program_ends(server: RedisServer, prefix: str, number: int) -> None:
    async with Queue[Any, Any]("q", connection=server.url, prefix=prefix) as queue:
        job = await queue.add("short", 0.5)
        with program(server.url, prefix, 20) as process:
            await until_started(queue, [job])
            process.send_signal(number)

            assert await ended(process) == (0, "closed\n")

        assert await job.state() is JobState.COMPLETED


@pytest.mark.needs_server
async def test_a_job_over_the_deadline_is_handed_back_without_an_attempt(server: RedisServer, prefix: str) -> None:
    async with Queue[Any, Any]("q", connection=server.url, prefix=prefix) as queue:
        job = await queue.add("long", 60)
        with program(server.url, prefix, 0.3) as process:
            await until_started(queue, [job])
            process.send_signal(signal.SIGTERM)

            assert await ended(process) == (0, "closed\n")

        assert await job.state() is JobState.WAITING
        assert (await stored(queue, job)).attempts_made == 0


@pytest.mark.needs_server
async def test_a_second_signal_hands_everything_back_at_once(server: RedisServer, prefix: str) -> None:
    async with Queue[Any, Any]("q", connection=server.url, prefix=prefix) as queue:
        jobs = [await queue.add("long", 60) for _ in range(3)]
        with program(server.url, prefix, 600) as process:
            await until_started(queue, jobs)
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGINT)

            assert await ended(process) == (0, "closed\n")

        assert {await job.state() for job in jobs} == {JobState.WAITING}


async def test_it_needs_a_worker() -> None:
    with pytest.raises(ConfigurationError, match="no workers"):
        await run_worker()


async def until_started(queue: Queue[Any, Any], jobs: Sequence[Job[Any, Any]]) -> None:
    """Wait until their processors run: a job that is only active may still be handed back."""

    async def have_started() -> bool:
        return all([(await stored(queue, job)).progress == "started" for job in jobs])

    await wait_until(have_started, timeout=30)
