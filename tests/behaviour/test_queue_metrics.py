"""queue.metrics and queue.workers: what happened per minute, and who is there."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from pyqueue import Job, Queue, Worker
from pyqueue._redis.connection import Connection
from pyqueue._worker import waiter
from pyqueue.queue import ConnectionSource
from tests.support.waiting import wait_until

pytestmark = pytest.mark.anyio


async def test_nothing_was_counted_yet(queue: Queue[Any, Any]) -> None:
    """E243"""
    for series in (await queue.metrics.completed(), await queue.metrics.failed()):
        assert (series.count, series.previous_ms, series.points, series.size) == (0, 0, [], 0)


async def test_counts_and_points_are_read(queue: Queue[Any, Any], redis_client: Any) -> None:
    """E243"""
    key = f"{queue.options.prefix}:{queue.name}:metrics:failed"
    await redis_client.hset(key, mapping={"count": 9, "prevTS": 1_700_000_000_000, "prevCount": 7})
    await redis_client.rpush(f"{key}:data", 3, 0, 4)

    series = await queue.metrics.failed()
    part = await queue.metrics.failed(1, 1)

    assert (series.count, series.previous_ms, series.previous_count) == (9, 1_700_000_000_000, 7)
    assert (series.points, series.size) == ([3, 0, 4], 3)
    assert (part.points, part.size) == ([0], 3)
    assert (await queue.metrics.completed()).count == 0


@pytest.mark.not_on("fake", reason="it has no CLIENT LIST")
@pytest.mark.every_backend
async def test_workers_of_this_queue_are_listed_by_their_names(
    source: ConnectionSource, connection: Connection, prefix: str
) -> None:
    """E152, E241: on a cluster they are found on the node where they wait."""
    encoded, other = (base64.b64encode(name.encode()).decode() for name in ("q", "other"))
    names = [f"{prefix}:{encoded}", f"{prefix}:{encoded}:w:one", f"{prefix}:{encoded}:qe", f"{prefix}:{other}"]
    lanes = [connection.lane(client_name=name) for name in names]
    for lane in lanes:
        await lane.execute("ZCARD", f"{prefix}:q:marker")

    async with Queue[Any, Any]("q", connection=source, prefix=prefix) as queue:
        workers = await queue.workers()

    assert {worker["name"] for worker in workers} == set(names[:2])
    assert all(worker["addr"] for worker in workers)


@pytest.mark.needs_server
async def test_a_worker_that_is_busy_from_its_start_is_listed_also_after_its_connection_was_cut(
    server: Any, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E241. It never waits for work, which is what its named connection is for."""
    monkeypatch.setattr(waiter, "_LISTED_S", 0.05)
    async with Queue[Any, Any]("q", connection=server.url, prefix=prefix) as queue:

        async def names() -> list[str]:
            return [worker["name"].partition(":w:")[2] for worker in await queue.workers()]

        async def work(job: Job[Any, Any]) -> None:
            await anyio.sleep_forever()

        await queue.add("x")
        async with Worker("q", work, connection=server.url, prefix=prefix, name="busy") as worker:
            await wait_until(lambda: worker.health().running == 1)
            await wait_until(lambda: listed(names, ["busy"]))
            with server.client() as client:
                client.client_kill_filter(_id=(await queue.workers())[0]["id"])
            await wait_until(lambda: listed(names, ["busy"]))
            await worker.close(force=True)
        await wait_until(lambda: listed(names, []))


async def listed(names: Callable[[], Awaitable[list[str]]], expected: list[str]) -> bool:
    return await names() == expected
