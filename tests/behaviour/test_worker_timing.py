"""How soon things start, on a real server: the traps of a client whose blocking commands are cut short.

E51, D1 and D2 of the official Python port: there an idle worker went deaf, and delays of more than 5 s did not run.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, Final

import anyio
import pytest

from pyqueue import Job, JobOptions, JobSpec, Queue, Worker
from tests.support.server import RedisServer
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.needs_server, pytest.mark.alone, pytest.mark.timeout(60)]

_ROUNDS: Final = 3


@pytest.fixture
async def queue(server: RedisServer, prefix: str) -> AsyncIterator[Queue[Any, Any]]:
    async with Queue[Any, Any]("q", connection=server.url, prefix=prefix) as queue:
        yield queue


async def test_long_idle_workers_start_a_job_at_once_and_a_long_delay_ends_in_time(
    server: RedisServer, prefix: str, client: Any
) -> None:
    """12 s idle: started within 50 ms; a 14 s delay: within 150 ms of its time. Idle commands: at most 0.5 a second.

    Three workers, each with a queue: the machine may be busy when one of them is asked, but none may be deaf.
    """
    started: dict[str, float] = {}
    due: dict[str, float] = {}
    latencies: list[float] = []

    async def process(job: Job[Any, Any]) -> None:
        started[job.id] = time.monotonic()

    async with AsyncExitStack() as stack:
        where: dict[str, Any] = {"connection": server.url, "prefix": prefix}
        queues = [await stack.enter_async_context(Queue[Any, Any](f"q{n}", **where)) for n in range(3)]
        for queue in queues:
            await stack.enter_async_context(Worker(queue.name, process, **where))
        for queue in queues:
            due[f"late-{queue.name}"] = time.monotonic() + 14  # before the add: the machine may be late after it
            await queue.add("late", job_id=f"late-{queue.name}", delay=14_000)
        await anyio.sleep(1)  # what follows the start, such as the first stalled check
        before = await commands_of_clients(client)
        await anyio.sleep(11)  # idle is what is tested
        used = await commands_of_clients(client) - before
        for queue in queues:
            added = time.monotonic()
            prompt = await queue.add("prompt", job_id=f"prompt-{queue.name}")
            await has_started(started, prompt.id)
            latencies.append(started[prompt.id] - added)
        for job_id in due:
            await has_started(started, job_id)
    lateness = [started[job_id] - at for job_id, at in due.items()]
    assert min(latencies) < 0.05, latencies
    assert max(latencies) < 2, latencies
    assert -0.005 <= min(lateness) < 0.15, lateness
    assert max(lateness) < 2, lateness
    assert used / len(queues) / 11 <= 0.5


async def test_delayed_jobs_start_within_milliseconds_of_their_time(
    server: RedisServer, queue: Queue[Any, Any], prefix: str
) -> None:
    """None early; the bar is a median of 10 ms. One of three rounds must keep it: the machine has other work, too."""
    medians: list[float] = []
    lateness: list[float] = []

    async def process(job: Job[Any, Any]) -> None:
        lateness.append(time.time() * 1000 - job.timestamp - job.data)

    async with Worker("q", process, connection=server.url, prefix=prefix, concurrency=10):
        while len(medians) < _ROUNDS and min(medians, default=10) >= 10:
            lateness.clear()
            delays = [200 + step * 7 for step in range(100)]
            await queue.add_bulk([JobSpec("x", delay, JobOptions(delay=delay)) for delay in delays])
            await wait_until(lambda: len(lateness) == 100)
            assert min(lateness) >= -1
            medians.append(statistics.median(lateness))
    assert min(medians) < 10, medians


async def test_an_idle_worker_starts_jobs_within_milliseconds(
    server: RedisServer, queue: Queue[Any, Any], prefix: str
) -> None:
    """A median of 20 ms in one of three rounds."""
    medians: list[float] = []
    latencies: list[float] = []
    began = 0.0

    async def process(job: Job[Any, Any]) -> None:
        latencies.append(time.monotonic() - began)

    async with Worker("q", process, connection=server.url, prefix=prefix) as worker:
        while len(medians) < _ROUNDS and min(medians, default=1) >= 0.02:
            latencies.clear()
            for count in range(1, 31):
                await worker.wait_idle()
                began = time.monotonic()
                await queue.add("x")
                await reached(latencies, count)
            medians.append(statistics.median(latencies))
    assert min(medians) < 0.02, medians


async def has_started(started: dict[str, float], job_id: str) -> None:
    await wait_until(lambda: job_id in started)


async def reached(latencies: list[float], count: int) -> None:
    await wait_until(lambda: len(latencies) == count)


async def commands_of_clients(client: Any) -> int:
    """Commands that clients sent so far: all, without those that scripts ran."""
    stats = await client.info("commandstats")
    sent = {"cmdstat_evalsha", "cmdstat_eval", "cmdstat_bzpopmin", "cmdstat_ping", "cmdstat_client|setname"}
    return sum(entry["calls"] for name, entry in stats.items() if name in sent)
