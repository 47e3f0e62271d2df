"""Jobs that are settled by hand, under the token they were fetched with."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest

from pyqueue import FailedChildren, JobNotFound, JobNotInState, JobState, LockLost, LockMissing, PendingChildren, Queue
from tests.support.by_hand import take

pytestmark = pytest.mark.anyio


async def test_a_job_is_completed_with_its_value(queue: Queue[Any, Any]) -> None:
    """E125"""
    await queue.add("a")
    job = await take(queue)

    fetched = await job.move_to_completed({"x": 1})

    assert fetched == (None, 0, 0)
    found = await queue.jobs.get(job.id)
    assert found is not None
    assert (found.return_value, found.attempts_made, await found.state()) == ({"x": 1}, 1, JobState.COMPLETED)
    assert found.finished_on is not None


async def test_a_job_fails_for_good_without_attempts_left(queue: Queue[Any, Any]) -> None:
    """E125"""
    await queue.add("a")
    job = await take(queue)

    await job.move_to_failed(ValueError("bad address"))

    found = await queue.jobs.get(job.id)
    assert found is not None
    assert (found.failed_reason, await found.state()) == ("bad address", JobState.FAILED)
    assert found.stack_trace[0].startswith("ValueError: bad address")


@pytest.mark.parametrize(("backoff", "state"), [(None, JobState.WAITING), (60_000, JobState.DELAYED)])
async def test_a_failed_job_is_retried_as_its_options_say(
    queue: Queue[Any, Any], backoff: Any, state: JobState
) -> None:
    await queue.add("a", attempts=2, backoff=backoff)
    job = await take(queue)

    await job.move_to_failed("boom")

    assert await job.state() == state


async def test_the_next_job_can_be_fetched_in_the_same_call(queue: Queue[Any, Any]) -> None:
    await queue.add_bulk([{"name": "a"}, {"name": "b"}, {"name": "c"}])
    job = await take(queue)

    following = (await job.move_to_completed(1, fetch_next=True)).job
    assert following is not None
    assert (following.name, following.token, await following.state()) == ("b", job.token, JobState.ACTIVE)
    last = (await following.move_to_failed("boom", fetch_next=True)).job
    assert last is not None
    assert (await last.move_to_completed(1, fetch_next=True)).job is None


async def test_a_fetch_that_finds_only_delayed_jobs_says_when_they_are_due(queue: Queue[Any, Any]) -> None:
    await queue.add("a")
    later = await queue.add("later", delay=60_000)
    job = await take(queue)

    fetched = await job.move_to_completed(1, fetch_next=True)

    assert fetched.job is None
    assert fetched.next_delayed_ms == later.timestamp + 60_000


async def test_a_job_goes_back_to_the_front_without_spending_an_attempt(queue: Queue[Any, Any]) -> None:
    """E128"""
    await queue.add_bulk([{"name": "a"}, {"name": "b"}])
    job = await take(queue)

    assert await job.move_to_wait() == 0

    again = await take(queue)
    assert (again.name, again.attempts_made, again.attempts_started) == ("a", 0, 2)


async def test_a_returned_job_is_told_for_how_long_the_limit_is_closed(queue: Queue[Any, Any]) -> None:
    await queue.add("a")
    job = await take(queue)
    await queue.limits.pause_for(60_000)

    assert 50_000 < await job.move_to_wait() <= 60_000


async def test_a_job_is_delayed_without_spending_an_attempt(queue: Queue[Any, Any]) -> None:
    await queue.add_bulk([{"name": "relative"}, {"name": "absolute"}])
    relative, absolute = await take(queue), await take(queue)
    tomorrow = datetime.fromtimestamp(int(time.time()) + 86_400, UTC)

    await relative.move_to_delayed(60_000)
    await absolute.move_to_delayed(until=tomorrow)

    assert [job.name for job in await queue.jobs.list("delayed", asc=True)] == ["relative", "absolute"]
    found = await queue.jobs.get(relative.id)
    assert found is not None
    assert (found.attempts_made, found.delay) == (0, 60_000)


async def test_only_an_active_parent_can_wait_for_children(queue: Queue[Any, Any]) -> None:
    """E129"""
    await queue.add("parent")
    parent = await take(queue)
    queue_key = f"{queue.options.prefix}:{queue.name}"
    assert not await parent.move_to_waiting_children()  # there are none
    child = await queue.add("child", parent={"id": parent.id, "queue": queue_key})
    assert not await parent.move_to_waiting_children(child={"id": "other", "queue": queue_key})

    assert await parent.move_to_waiting_children(child={"id": child.id, "queue": queue_key})

    assert await parent.state() == JobState.WAITING_CHILDREN
    with pytest.raises((JobNotInState, LockMissing)):
        await parent.move_to_waiting_children()


async def test_a_parent_with_pending_children_cannot_complete(queue: Queue[Any, Any]) -> None:
    await queue.add("parent")
    parent = await take(queue)
    await queue.add("child", parent={"id": parent.id, "queue": f"{queue.options.prefix}:{queue.name}"})

    with pytest.raises(PendingChildren):
        await parent.move_to_completed(1)

    assert await parent.state() == JobState.ACTIVE


async def test_a_parent_with_failed_children_cannot_complete(queue: Queue[Any, Any]) -> None:
    await queue.add("parent")
    parent = await take(queue)
    reference = {"id": parent.id, "queue": f"{queue.options.prefix}:{queue.name}"}
    await queue.add("child", parent=reference, fail_parent_on_failure=True)
    await (await take(queue)).move_to_failed("boom")

    with pytest.raises(FailedChildren):
        await parent.move_to_completed(1)


async def test_another_token_is_refused(queue: Queue[Any, Any]) -> None:
    await queue.add("a")
    job = await take(queue)

    with pytest.raises(LockLost):
        await job.move_to_completed(1, "another")

    assert await job.state() == JobState.ACTIVE


async def test_a_job_without_a_lock_is_refused(queue: Queue[Any, Any], redis_client: Any) -> None:
    await queue.add("a")
    job = await take(queue)
    await redis_client.delete(f"{queue.options.prefix}:{queue.name}:{job.id}:lock")

    with pytest.raises(LockMissing) as caught:
        await job.move_to_completed(1)

    assert (caught.value.job_id, caught.value.queue) == (job.id, "q")


async def test_a_job_that_is_gone_is_refused(queue: Queue[Any, Any], redis_client: Any) -> None:
    await queue.add("a")
    job = await take(queue)
    await redis_client.delete(f"{queue.options.prefix}:{queue.name}:{job.id}")

    with pytest.raises(JobNotFound):
        await job.move_to_completed(1)


async def test_the_token_0_needs_no_lock_but_an_active_job(queue: Queue[Any, Any]) -> None:
    await queue.add("a")
    job = await take(queue, "0")

    await job.move_to_completed(1)

    with pytest.raises(JobNotInState) as caught:
        await job.move_to_completed(1)
    assert caught.value.expected == "active"


async def test_a_lock_is_extended_only_by_its_token(queue: Queue[Any, Any], redis_client: Any) -> None:
    await queue.add("a")
    job = await take(queue, lock_ms=1000)

    assert await job.extend_lock(60_000)
    assert not await job.extend_lock(60_000, "another")

    assert 50_000 < await redis_client.pttl(f"{queue.options.prefix}:{queue.name}:{job.id}:lock") <= 60_000
    with pytest.raises(ValueError, match="duration"):
        await job.extend_lock(0)


async def test_a_value_that_json_cannot_carry_fails_the_job(queue: Queue[Any, Any]) -> None:
    await queue.add("a", attempts=3)
    job = await take(queue)

    await job.move_to_completed(object())

    found = await queue.jobs.get(job.id)
    assert found is not None
    assert await found.state() == JobState.FAILED
    assert "return value" in (found.failed_reason or "")
