"""How soon things start, on a real server: the traps of a client whose blocking commands are cut short.

E51, D1 and D2 of the official Python port: there an idle worker went deaf, and delays of more than 5 s did not run.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
import redis.asyncio

from pyqueue import Job, JobOptions, JobSpec, Queue, Worker
from tests.support.server import RedisServer
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.needs_server, pytest.mark.alone]


@pytest.fixture
async def queue(server: RedisServer, prefix: str) -> AsyncIterator[Queue[Any, Any]]:
    async with Queue[Any, Any]("q", connection=server.url, prefix=prefix) as queue:
        yield queue


@pytest.fixture
async def client(server: RedisServer) -> AsyncIterator[Any]:
    client = redis.asyncio.Redis.from_url(server.url, decode_responses=True)
    yield client
    await client.aclose()


async def test_a_long_idle_worker_starts_a_job_at_once_and_a_long_delay_ends_in_time(
    server: RedisServer, queue: Queue[Any, Any], prefix: str, client: Any
) -> None:
    """12 s idle: started within 50 ms; a 14 s delay: within 150 ms of its time. Idle commands: at most 0.5 a second."""
    started: dict[str, float] = {}

    async def process(job: Job[Any, Any]) -> None:
        started[job.id] = time.monotonic()

    async with Worker("q", process, connection=server.url, prefix=prefix):
        late = await queue.add("late", delay=14_000)
        due = time.monotonic() + 14
        await anyio.sleep(1)  # what follows the start, such as the first stalled check
        before = await commands_of_clients(client)
        await anyio.sleep(11)  # idle is what is tested
        used = await commands_of_clients(client) - before
        added = time.monotonic()
        prompt = await queue.add("prompt")
        await wait_until(lambda: prompt.id in started)
        assert started[prompt.id] - added < 0.05
        await wait_until(lambda: late.id in started)
        assert -0.005 <= started[late.id] - due < 0.15
    assert used / 11 <= 0.5


async def test_delayed_jobs_start_within_milliseconds_of_their_time(
    server: RedisServer, queue: Queue[Any, Any], prefix: str
) -> None:
    """None early; the bar is a median of 10 ms."""
    lateness: list[float] = []

    async def process(job: Job[Any, Any]) -> None:
        lateness.append(time.time() * 1000 - job.timestamp - job.data)

    async with Worker("q", process, connection=server.url, prefix=prefix, concurrency=10):
        delays = [200 + step * 7 for step in range(100)]
        await queue.add_bulk([JobSpec("x", delay, JobOptions(delay=delay)) for delay in delays])
        await wait_until(lambda: len(lateness) == len(delays))
    assert min(lateness) >= -1
    assert statistics.median(lateness) < 10


async def test_an_idle_worker_starts_jobs_within_milliseconds(
    server: RedisServer, queue: Queue[Any, Any], prefix: str
) -> None:
    latencies: list[float] = []
    began = 0.0

    async def process(job: Job[Any, Any]) -> None:
        latencies.append(time.monotonic() - began)

    async with Worker("q", process, connection=server.url, prefix=prefix) as worker:
        for count in range(1, 31):
            await worker.wait_idle()
            began = time.monotonic()
            await queue.add("x")
            await reached(latencies, count)
    assert statistics.median(latencies) < 0.02


async def reached(latencies: list[float], count: int) -> None:
    await wait_until(lambda: len(latencies) == count)


async def commands_of_clients(client: Any) -> int:
    """Commands that clients sent so far: all, without those that scripts ran."""
    stats = await client.info("commandstats")
    sent = {"cmdstat_evalsha", "cmdstat_eval", "cmdstat_bzpopmin", "cmdstat_ping", "cmdstat_client|setname"}
    return sum(entry["calls"] for name, entry in stats.items() if name in sent)
