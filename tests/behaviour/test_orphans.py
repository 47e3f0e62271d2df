"""Orphan removal: what belongs to a job in no state goes, everything else stays."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis

from pyqueue import FlowJob, FlowProducer, Queue
from pyqueue.queue import ConnectionSource
from tests.support.by_hand import complete, take
from tests.support.keyspace import changes, dump

pytestmark = [pytest.mark.anyio, pytest.mark.every_backend]

AnyQueue = Queue[Any, Any]


async def test_orphans_go_with_all_their_keys(queue: AnyQueue, redis_client: Redis, prefix: str) -> None:
    """E248."""
    lost = await queue.add("lost", job_id="lost")
    await lost.log("row")
    await queue.add("numbered")
    await redis_client.delete(f"{prefix}:q:wait")
    await redis_client.set(f"{prefix}:q:lost:lock", "t")
    totals: list[int] = []

    assert await queue.jobs.remove_orphans(progress=totals.append) == 2

    assert totals[-1] == 2
    left = [key async for key in redis_client.scan_iter(f"{prefix}:*")]
    assert sorted(key.rpartition(":")[2] for key in left if "pyq" not in key) == ["events", "id", "marker", "meta"]


async def test_jobs_in_any_state_and_the_queues_own_keys_stay(
    queue: AnyQueue, source: ConnectionSource, redis_client: Redis, prefix: str
) -> None:
    """E248."""
    await queue.add("done")
    await complete(queue)
    await queue.add("active")
    await take(queue)
    await queue.add("waiting")
    await queue.add("prioritized", priority=3, job_id="custom")
    await queue.add("delayed", delay=60_000, deduplication={"id": "d"})
    async with FlowProducer(connection=source, prefix=prefix) as flows:
        await flows.add(FlowJob("parent", "q", children=[FlowJob("child", "q")]))
    before = await dump(redis_client, f"{prefix}:")

    assert await queue.jobs.remove_orphans() == 0

    assert not changes(before, await dump(redis_client, f"{prefix}:"))


async def test_many_orphans_are_removed_in_bounded_calls(queue: AnyQueue, redis_client: Redis, prefix: str) -> None:
    """E248."""
    for number in range(300):
        await redis_client.hset(f"{prefix}:q:orphan-{number}", "name", "x")

    some = await queue.jobs.remove_orphans(limit=100)
    rest = await queue.jobs.remove_orphans()

    assert 100 <= some <= 300
    assert some + rest == 300
