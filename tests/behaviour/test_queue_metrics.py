"""queue.metrics and queue.workers: what happened per minute, and who is there."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from pyqueue import Queue
from pyqueue._redis.connection import Connection

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


@pytest.mark.needs_server
async def test_workers_of_this_queue_are_listed_by_their_names(server: Any, prefix: str) -> None:
    """E241"""
    encoded, other = (base64.b64encode(name.encode()).decode() for name in ("q", "other"))
    names = [f"{prefix}:{encoded}", f"{prefix}:{encoded}:w:one", f"{prefix}:{encoded}:qe", f"{prefix}:{other}"]
    connection = Connection.open(server.url)
    lanes = [connection.lane(client_name=name) for name in names]
    for lane in lanes:
        await lane.execute("PING")

    async with Queue[Any, Any]("q", connection=server.url, prefix=prefix) as queue:
        workers = await queue.workers()

    assert {worker["name"] for worker in workers} == set(names[:2])
    assert all(worker["addr"] for worker in workers)
    await connection.aclose()
