"""On uvloop, which `pyqueue.runner` uses where it is installed: its transports are its own."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from pyqueue import Job, JobSpec, JobState, Queue, Worker
from pyqueue._redis.connection import Connection
from pyqueue._redis.links import Links
from pyqueue._redis.streams import ReplyStream
from tests.support.proxy import Mode, Proxy
from tests.support.server import RedisServer
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.needs_server]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return ("asyncio", {"use_uvloop": True})


@pytest.fixture
async def queue(server: RedisServer, prefix: str) -> AsyncIterator[Queue[int, int]]:
    async with Queue[int, int]("q", connection=server.url, prefix=prefix) as queue:
        yield queue


async def test_replies_are_read_off_the_transport(queue: Queue[int, int]) -> None:
    await queue.add("a", 1)

    carrier: Any = queue._connection.commands
    links = carrier._carrier
    assert isinstance(links, Links)
    assert type(asyncio.get_running_loop()).__module__ == "uvloop"
    assert {type(link._stream) for link in links._all if link._stream is not None} == {ReplyStream}


async def test_a_deadline_that_is_near_costs_no_connection(server: RedisServer) -> None:
    """A timer that rings at once is a handle of another kind on uvloop, which does not know when."""
    connection = Connection.open(server.url)
    lane = connection.lane()
    await lane.execute("PING")
    link = lane.idle("key")
    assert link is not None
    replies: list[Any] = []

    lane.start_command(link, ("ECHO", "late"), bytes, replies.append, timeout_s=0.0)
    lane.start_command(link, ("ECHO", "behind"), bytes, replies.append, timeout_s=5.0)
    await wait_until(lambda: len(replies) == 2)

    assert await lane.execute("ECHO", "next", timeout_s=5.0) == b"next"
    await connection.aclose()


async def test_a_worker_does_each_job_once_though_connections_break(
    server: RedisServer, queue: Queue[int, int], prefix: str
) -> None:
    runs = Counter[str]()

    async def process(job: Job[int, int]) -> int:
        runs[job.id] += 1
        await asyncio.sleep(0.001)
        return job.data

    async def is_done() -> bool:
        return (await queue.jobs.counts())[JobState.COMPLETED] == 2000

    jobs = await queue.add_bulk([JobSpec("a", n) for n in range(2000)])
    async with Proxy.to(server.port) as proxy:
        connection = Connection.open(proxy.url, deadline_s=1.0)
        worker = Worker[int, int]("q", process, connection=connection, prefix=prefix, concurrency=100)
        worker.on("error", lambda error: None)
        async with worker:
            for share in (400, 800, 1200):
                await wait_until(partial(_has_run, runs, share))
                proxy.mode = Mode.LOSE_REPLIES
                await wait_until(lambda: worker.health().unsettled > 0)
                proxy.cut()
                proxy.mode = Mode.PASS
            await wait_until(is_done)
        await connection.aclose()

    assert [job.id for job in jobs] == [str(n + 1) for n in range(2000)]
    assert set(runs.values()) == {1}


def _has_run(runs: Counter[str], least: int) -> bool:
    return runs.total() >= least
