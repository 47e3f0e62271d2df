"""Deduplication in all its modes, with workers."""

from __future__ import annotations

from typing import Any

import pytest

from pyqueue import AddStatus, Job, JobState
from tests.behaviour.conftest import AnyQueue, StartWorker
from tests.support.by_hand import complete, take
from tests.support.jobs import reach, stored
from tests.support.waiting import wait_until

pytestmark = pytest.mark.anyio


async def keys_of(redis_client: Any, prefix: str) -> list[str]:
    return [key async for key in redis_client.scan_iter(f"{prefix}:q:d[en]:*")]


async def test_the_same_id_is_added_once_while_its_job_is_unfinished(
    queue: AnyQueue, redis_client: Any, prefix: str
) -> None:
    """E220, E221, E224."""
    first = await queue.add("a", 1, deduplication={"id": "d"})
    second = await queue.add("a", 2, deduplication={"id": "d"})
    other = await queue.add("a", 3, deduplication={"id": "other"})

    assert (first.add_status, second.add_status, other.add_status) == (
        AddStatus.CREATED,
        AddStatus.DEDUPLICATED,
        AddStatus.CREATED,
    )
    assert (second.id, other.id != first.id) == (first.id, True)
    events = [fields for _, fields in await redis_client.xrange(f"{prefix}:q:events")]
    assert [e["jobId"] for e in events if e["event"] == "deduplicated"] == [first.id]
    await complete(queue)
    third = await queue.add("a", 4, deduplication={"id": "d"})
    assert third.add_status is AddStatus.CREATED


async def test_a_window_of_time_absorbs_what_is_added_in_it(queue: AnyQueue) -> None:
    """E222: also after the job has finished."""
    options: Any = {"id": "d", "ttl": 1500}
    first = await queue.add("a", deduplication=options)
    await complete(queue)
    assert (await queue.add("a", deduplication=options)).add_status is AddStatus.DEDUPLICATED

    async def is_free() -> bool:
        return await queue.jobs.deduplication_owner("d") is None

    await wait_until(is_free)
    later = await queue.add("a", deduplication=options)
    assert (later.add_status, later.id != first.id) == (AddStatus.CREATED, True)


async def test_a_burst_leaves_its_last_job(queue: AnyQueue, redis_client: Any, prefix: str) -> None:
    """E223: extend and replace together debounce."""
    options: Any = {"id": "d", "ttl": 60_000, "extend": True, "replace": True}
    jobs = []
    for number in range(4):
        await redis_client.pexpire(f"{prefix}:q:de:d", 5000)
        jobs.append(await queue.add("a", number, delay=60_000, deduplication=options))

    assert [job.add_status for job in jobs] == [AddStatus.CREATED] + [AddStatus.REPLACED] * 3
    delayed = await queue.jobs.list("delayed")
    assert [(job.id, job.data) for job in delayed] == [(jobs[-1].id, 3)]
    assert await redis_client.pttl(f"{prefix}:q:de:d") > 50_000


async def test_a_finished_job_that_is_removed_frees_no_newer_owner(queue: AnyQueue) -> None:
    """E225."""
    first = await queue.add("a", deduplication={"id": "d"})
    await complete(queue)
    second = await queue.add("a", deduplication={"id": "d"})
    await first.remove()
    assert await queue.jobs.deduplication_owner("d") == second.id
    await second.remove()
    assert await queue.jobs.deduplication_owner("d") is None


KEEP_LAST: list[dict[str, Any]] = [
    {},
    {"ttl": 60_000},
    {"ttl": 20},
    {"delay": 30},
    {"job_id": "own"},
]


@pytest.mark.parametrize("more", KEEP_LAST, ids=str)
async def test_the_newest_data_runs_after_the_active_job(
    queue: AnyQueue, start_worker: StartWorker, redis_client: Any, prefix: str, more: dict[str, Any]
) -> None:
    """E227: one active and one next at most; nothing is left at the end, whatever expires meanwhile."""
    options = {"id": "d", "keep_last_if_active": True} | {name: more[name] for name in ("ttl",) if name in more}
    own_ids = "job_id" in more

    async def add(number: int) -> Job[Any, Any]:
        job_id = f"own-{number}" if own_ids else None
        return await queue.add("a", number, deduplication=options, delay=more.get("delay", 0), job_id=job_id)

    first = await add(0)
    if "delay" in more:
        await first.promote()
    active = await take(queue)
    for number in (1, 2, 3):
        assert (await add(number)).add_status is AddStatus.DEDUPLICATED
        assert (await queue.jobs.count(), (await queue.jobs.counts())[JobState.ACTIVE]) == (0, 1)
    if more.get("ttl") == 20:
        await redis_client.persist(f"{prefix}:q:de:d")  # a kept job has no time limit of its own
    await active.move_to_completed(None)
    following = [job for state in ("waiting", "delayed") for job in await queue.jobs.list(state)]
    assert [job.data for job in following] == [3]
    if own_ids:
        assert following[0].id == "own-3"

    ran: list[Any] = []

    async def process(job: Job[Any, Any]) -> None:
        ran.append(job.data)

    await start_worker(process)
    await reach(queue, following[0], JobState.COMPLETED)
    assert ran == [3]
    if "ttl" not in more:
        assert await keys_of(redis_client, prefix) == []


async def test_the_newest_data_runs_only_when_the_active_job_has_no_attempt_left(
    queue: AnyQueue, redis_client: Any, prefix: str
) -> None:
    """E227: with retries, in a paused queue, after a failure."""
    options: Any = {"id": "d", "keep_last_if_active": True}
    first = await queue.add("a", 0, attempts=2, deduplication=options)
    active = await take(queue)
    await queue.add("a", 1, deduplication=options)

    await active.move_to_failed("once")

    assert [job.id for job in await queue.jobs.list("waiting")] == [first.id]
    assert (await queue.add("a", 2, deduplication=options)).id == first.id
    again = await take(queue)
    await queue.add("a", 3, deduplication=options)
    await queue.pause()
    await again.move_to_failed("twice")

    assert (await stored(queue, first)).failed_reason == "twice"
    assert [job.data for job in await queue.jobs.list("waiting")] == [3]
    await queue.resume()
    await complete(queue)
    assert await keys_of(redis_client, prefix) == []


async def test_keep_last_is_plain_while_its_job_waits(queue: AnyQueue) -> None:
    """E228."""
    options: Any = {"id": "d", "keep_last_if_active": True}
    first = await queue.add("a", 0, deduplication=options)
    assert (await queue.add("a", 1, deduplication=options)).id == first.id
    assert (await complete(queue)).data == 0
    assert await queue.jobs.count() == 0


async def test_an_id_is_freed_by_hand(queue: AnyQueue) -> None:
    """E226: by the queue whoever owns it, by a job only if that owns it."""
    first = await queue.add("a", deduplication={"id": "d"})
    assert await queue.jobs.remove_deduplication_key("d")
    second = await queue.add("a", deduplication={"id": "d"})
    assert second.add_status is AddStatus.CREATED
    assert not await (await stored(queue, first)).remove_deduplication_key()
    assert await queue.jobs.deduplication_owner("d") == second.id
    assert await (await stored(queue, second)).remove_deduplication_key()
    assert await queue.jobs.deduplication_owner("d") is None
