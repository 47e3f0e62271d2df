"""Pause, resume, drain, obliterate: what happens to the jobs, step by step and with workers in between."""

from __future__ import annotations

from typing import Any

import pytest

from pyqueue import JobState, Queue, QueueHasActiveJobs
from pyqueue._redis.connection import Connection
from pyqueue._store.settling import ClaimRequest, settle_and_claim
from pyqueue.queue import ConnectionSource
from tests.support.by_hand import complete, fail, take
from tests.support.keyspace import dump

pytestmark = pytest.mark.anyio


def base(queue: Queue[Any, Any]) -> str:
    return f"{queue.options.prefix}:{queue.name}:"


async def events(redis_client: Any, queue: Queue[Any, Any]) -> list[str]:
    return [fields["event"] for _, fields in await redis_client.xrange(f"{base(queue)}events")]


async def claimed(queue: Queue[Any, Any]) -> int:
    return len((await settle_and_claim(queue._store, [], ClaimRequest(10, "t", 0))).claimed)


@pytest.mark.every_backend
async def test_a_paused_queue_hands_nothing_out_until_it_is_resumed(queue: Queue[Any, Any], redis_client: Any) -> None:
    """E130, E131"""
    await queue.add("a")
    await queue.pause()
    await queue.add("b", priority=1)

    assert await queue.is_paused()
    assert await claimed(queue) == 0
    assert (await queue.jobs.counts())[JobState.WAITING] == 1
    await queue.resume()

    assert not await queue.is_paused()
    assert await claimed(queue) == 2
    assert [name for name in await events(redis_client, queue) if name in {"paused", "resumed"}] == [
        "paused",
        "resumed",
    ]


async def test_pausing_twice_and_resuming_a_running_queue_are_no_errors(queue: Queue[Any, Any]) -> None:
    """E136"""
    await queue.resume()
    await queue.pause()
    await queue.pause()
    await queue.resume()
    await queue.resume()

    assert not await queue.is_paused()


async def test_an_active_job_of_a_paused_queue_may_finish(queue: Queue[Any, Any]) -> None:
    await queue.add("a")
    job = await take(queue)
    await queue.pause()

    await job.move_to_completed(1)

    assert await job.state() == JobState.COMPLETED


async def test_jobs_that_an_old_version_set_aside_come_back_in_slices(
    queue: Queue[Any, Any], redis_client: Any
) -> None:
    """E135"""
    await queue.add("new")
    old = [f"old-{number}" for number in range(12_000)]
    await redis_client.rpush(f"{base(queue)}paused", *old)
    assert (await queue.jobs.counts())[JobState.WAITING] == 12_001

    await queue.resume()

    assert await redis_client.lrange(f"{base(queue)}wait", 0, -1) == ["1", *old]
    assert await redis_client.exists(f"{base(queue)}paused") == 0
    assert await events(redis_client, queue) == ["added", "waiting", "resumed"]


@pytest.mark.every_backend
async def test_drain_empties_what_waits(queue: Queue[Any, Any], redis_client: Any) -> None:
    """E24, E25"""
    await queue.add_bulk([{"name": "a"}] * 250)
    await queue.add_bulk([{"name": "b", "opts": {"priority": 1}}] * 120)
    await queue.add("later", delay=60_000)
    seen: list[int] = []

    removed = await queue.drain(progress=seen.append)

    assert removed == 370
    assert seen[-1] == 370
    assert seen == sorted(seen)
    assert await queue.jobs.counts() == {**dict.fromkeys(await queue.jobs.counts(), 0), JobState.DELAYED: 1}
    assert len([key for key in await dump(redis_client, base(queue)) if key.isdigit()]) == 1


async def test_drain_removes_delayed_jobs_on_demand(queue: Queue[Any, Any]) -> None:
    """E25"""
    await queue.add("a")
    await queue.add("later", delay=60_000)

    assert await queue.drain(delayed=True) == 2
    assert await queue.jobs.count() == 0


async def test_drain_works_on_a_paused_queue_and_leaves_it_paused(queue: Queue[Any, Any]) -> None:
    """E26"""
    await queue.add("a")
    await queue.pause()

    await queue.drain()

    assert await queue.jobs.count() == 0
    assert await queue.is_paused()


async def test_drain_leaves_active_and_finished_jobs(queue: Queue[Any, Any]) -> None:
    for name in ("completed", "failed", "active", "waiting"):
        await queue.add(name)
    await complete(queue)
    await fail(queue)
    active = await take(queue)

    assert await queue.drain() == 1

    assert [await queue.jobs.state(job_id) for job_id in ("1", "2", "3", "4")] == [
        JobState.COMPLETED,
        JobState.FAILED,
        JobState.ACTIVE,
        JobState.UNKNOWN,
    ]
    await active.move_to_completed(1)


@pytest.mark.parametrize("delayed", [False, True])
async def test_drain_leaves_the_pending_run_of_a_scheduler(
    queue: Queue[Any, Any], redis_client: Any, delayed: bool
) -> None:
    """The upstream defect (wrong list entry cut) is not reproduced; differences, row S047."""
    keys = base(queue)
    pending = {"daily": 1_700_000_000_000, "hourly": 1_700_000_100_000}
    for name, due in pending.items():
        await redis_client.zadd(f"{keys}repeat", {name: due})
        await redis_client.hset(f"{keys}repeat:{name}:{due}", mapping={"name": name, "rjk": name})
    await queue.add_bulk([{"name": "a"}] * 3)
    await redis_client.rpush(f"{keys}wait", "repeat:daily:1700000000000")
    await queue.add_bulk([{"name": "a"}] * 3)
    await redis_client.zadd(f"{keys}delayed", {"repeat:hourly:1700000100000": 1_700_000_100_000 * 4096})

    assert await queue.drain(delayed=delayed) == 6

    assert await redis_client.lrange(f"{keys}wait", 0, -1) == ["repeat:daily:1700000000000"]
    assert await redis_client.zrange(f"{keys}delayed", 0, -1) == ["repeat:hourly:1700000100000"]
    assert await redis_client.exists(*[f"{keys}repeat:{name}:{due}" for name, due in pending.items()]) == 2


@pytest.mark.every_backend
async def test_obliterate_leaves_nothing(queue: Queue[Any, Any], redis_client: Any) -> None:
    """E249"""
    await queue.add_bulk([{"name": "a"}] * 150)
    await queue.add("p", priority=1)
    await queue.add("d", delay=60_000)
    await queue.add("x", deduplication={"id": "d"})
    await complete(queue)
    job = await fail(queue)
    await job.log("row")

    removed = await queue.obliterate()

    assert removed == 153
    assert await dump(redis_client, base(queue)) == {}


async def test_an_empty_queue_is_obliterated(queue: Queue[Any, Any], redis_client: Any) -> None:
    """E249"""
    assert await queue.obliterate() == 0
    assert await dump(redis_client, base(queue)) == {}


async def test_obliterate_refuses_while_jobs_run_and_leaves_the_queue_paused(queue: Queue[Any, Any]) -> None:
    """E249"""
    await queue.add("a")
    await take(queue)

    with pytest.raises(QueueHasActiveJobs):
        await queue.obliterate()

    assert await queue.is_paused()
    assert await queue.jobs.state("1") == JobState.ACTIVE


async def test_obliterate_by_force_deletes_jobs_that_run(queue: Queue[Any, Any], redis_client: Any) -> None:
    """E249"""
    await queue.add("a")
    await take(queue)

    await queue.obliterate(force=True)

    assert await dump(redis_client, base(queue)) == {}


async def test_obliterate_touches_no_other_queue(
    queue: Queue[Any, Any], source: ConnectionSource, redis_client: Any
) -> None:
    neighbours = [f"{queue.name}2", f"{queue.name[:-1]}*", "other"]
    for name in neighbours:
        async with Queue[Any, Any](name, connection=source, prefix=queue.options.prefix) as other:
            await other.add("a")
    before = await dump(redis_client, queue.options.prefix)
    await queue.add("a")

    await queue.obliterate()

    assert await dump(redis_client, queue.options.prefix) == before


async def test_a_queue_can_be_used_again_after_it_was_obliterated(queue: Queue[Any, Any]) -> None:
    await queue.add("a")
    await queue.obliterate()

    assert (await queue.add("b")).id == "1"
    assert not await queue.is_paused()
    meta = await queue.meta()
    assert (meta.max_len_events, meta.version) == (10_000, "")  # as BullMQ, whose version is told at construction alone


async def test_an_obliterated_queue_keeps_the_length_of_its_event_stream(source: ConnectionSource, prefix: str) -> None:
    async with Queue[Any, Any]("q", connection=source, prefix=prefix, max_len_events=300) as queue:
        await queue.add("a")
        await queue.obliterate()
        await queue.add("b")
        assert (await queue.meta()).max_len_events == 300


async def test_the_event_stream_can_be_cut(queue: Queue[Any, Any], redis_client: Any) -> None:
    """E234."""
    await queue.add_bulk([{"name": "a"}] * 300)

    await queue.trim_events(100)

    assert 100 <= await redis_client.xlen(f"{base(queue)}events") < 300


async def test_a_borrowed_client_and_connection_stay_open(
    source: ConnectionSource, redis_client: Any, prefix: str
) -> None:
    """E23"""
    async with Queue[Any, Any]("q", connection=redis_client, prefix=prefix) as queue:
        await queue.add("a")
    assert await redis_client.ping()

    connection = Connection.open(source)
    async with Queue[Any, Any]("q", connection=connection, prefix=prefix) as queue:
        await queue.add("a")
    assert await connection.commands.execute("PING")
    await connection.aclose()


async def test_a_queue_needs_no_context_manager_and_may_be_closed_twice(source: ConnectionSource, prefix: str) -> None:
    queue = Queue[Any, Any]("q", connection=source, prefix=prefix)
    await queue.add("a")

    await queue.close()
    await queue.close()


def test_a_queue_says_where_it_is_without_the_password() -> None:
    queue = Queue[Any, Any]("mail", connection="redis://user:s3cret@localhost:6379/2")

    assert "mail" in repr(queue)
    assert "s3cret" not in repr(queue)
