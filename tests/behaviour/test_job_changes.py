"""What can be done to a job: each verb, the states it needs, and what its object shows afterwards."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from pyqueue import (
    AddStatus,
    ConfigurationError,
    Job,
    JobError,
    JobNotFound,
    JobNotInState,
    JobState,
    PayloadError,
    Queue,
)
from tests.support.by_hand import complete, fail, take

pytestmark = pytest.mark.anyio


async def reread(queue: Queue[Any, Any], job: Job[Any, Any]) -> Job[Any, Any]:
    found = await queue.jobs.get(job.id)
    assert found is not None
    return found


async def order(queue: Queue[Any, Any]) -> list[str]:
    """Names of the jobs in the order in which they run."""
    return [(await take(queue)).name for _ in range(await queue.jobs.count())]


@pytest.mark.parametrize("progress", [0, 42, "half", True, None, {"done": [1]}])
async def test_progress_is_any_json_value(queue: Queue[Any, Any], progress: Any) -> None:
    job = await queue.add("a")

    await job.update_progress(progress)

    assert (job.progress, (await reread(queue, job)).progress) == (progress, progress)


async def test_data_is_replaced(queue: Queue[Any, Any]) -> None:
    job = await queue.add("a", {"old": 1})

    await job.update_data({"new": 2})

    assert (job.data, (await reread(queue, job)).data) == ({"new": 2}, {"new": 2})


async def test_values_that_json_cannot_carry_change_nothing(queue: Queue[Any, Any]) -> None:
    job = await queue.add("a", {"old": 1})

    with pytest.raises(PayloadError, match="progress"):
        await job.update_progress(float("nan"))
    with pytest.raises(PayloadError, match="data"):
        await job.update_data({1})

    assert ((await reread(queue, job)).data, job.progress) == ({"old": 1}, 0)


async def test_the_log_is_appended_bounded_and_cleared(queue: Queue[Any, Any]) -> None:
    """E242"""
    job = await queue.add("a", keep_logs=3)

    assert [await job.log(row) for row in "abcd"] == [1, 2, 3, 3]
    assert await queue.jobs.logs(job.id) == (["b", "c", "d"], 3)
    await job.clear_logs(keep=1)
    assert await queue.jobs.logs(job.id) == (["d"], 1)
    await job.clear_logs()
    assert await queue.jobs.logs(job.id) == ([], 0)


async def test_a_delayed_job_is_promoted(queue: Queue[Any, Any]) -> None:
    """E94."""
    first = await queue.add("first", delay=60_000)
    second = await queue.add("second", delay=60_000, priority=1)

    await first.promote()
    await second.promote()

    assert (await first.state(), await second.state()) == (JobState.WAITING, JobState.PRIORITIZED)
    assert (first.delay, (await reread(queue, first)).delay) == (0, 0)


async def test_only_a_delayed_job_can_be_promoted_or_delayed_again(queue: Queue[Any, Any]) -> None:
    """E93, E94."""
    job = await queue.add("a")

    with pytest.raises(JobNotInState) as caught:
        await job.promote()
    assert (caught.value.expected, caught.value.job_id, caught.value.queue) == ("delayed", job.id, "q")
    with pytest.raises(JobNotInState):
        await job.change_delay(1000)


async def test_the_delay_counts_anew_from_now(queue: Queue[Any, Any]) -> None:
    """E93."""
    first = await queue.add("first", delay=60_000)
    await queue.add("second", delay=30_000)

    await first.change_delay(timedelta(seconds=10))

    assert (first.delay, (await reread(queue, first)).delay) == (10_000, 10_000)
    assert [job.name for job in await queue.jobs.list("delayed", asc=True)] == ["first", "second"]


@pytest.mark.parametrize("delay", [-1, 1.5, None, timedelta(seconds=-1)])
async def test_a_bad_delay_is_refused(queue: Queue[Any, Any], delay: Any) -> None:
    job = await queue.add("a", delay=60_000)

    with pytest.raises(ValueError, match="delay"):
        await job.change_delay(delay)


@pytest.mark.parametrize("paused", [False, True])
async def test_the_priority_decides_the_place(queue: Queue[Any, Any], paused: bool) -> None:
    """E82"""
    jobs = {name: await queue.add(name, priority=priority) for name, priority in {"a": 0, "b": 3, "c": 3}.items()}
    if paused:
        await queue.pause()

    await jobs["a"].change_priority(5)
    await jobs["c"].change_priority(3, lifo=True)
    await queue.add("d")
    await jobs["b"].change_priority(0)
    await jobs["b"].change_priority(lifo=True)

    if paused:
        await queue.resume()
    assert await order(queue) == ["b", "d", "c", "a"]
    assert (jobs["a"].priority, jobs["b"].priority) == (5, 0)


async def test_in_other_states_the_priority_is_only_noted(queue: Queue[Any, Any]) -> None:
    """E82"""
    await queue.add("a")
    active = await take(queue)
    delayed = await queue.add("b", delay=60_000)

    await active.change_priority(7)
    await delayed.change_priority(7)

    assert (await active.state(), await delayed.state()) == (JobState.ACTIVE, JobState.DELAYED)
    assert (await reread(queue, active)).priority == 7
    await delayed.promote()
    assert await delayed.state() == JobState.PRIORITIZED


@pytest.mark.parametrize("priority", [-1, 2_097_152, 1.5, True, None])
async def test_a_bad_priority_is_refused(queue: Queue[Any, Any], priority: Any) -> None:
    job = await queue.add("a", priority=3)

    with pytest.raises(ConfigurationError, match="priority"):
        await job.change_priority(priority)
    assert (await reread(queue, job)).priority == 3


async def test_a_failed_job_runs_again(queue: Queue[Any, Any]) -> None:
    """E103."""
    await queue.add("a")
    await fail(queue)
    job = await reread(queue, await queue.add("b"))
    failed = await queue.jobs.get("1")
    assert failed is not None
    assert (failed.failed_reason, failed.attempts_made) == ("boom", 1)

    await failed.retry()

    for snapshot in (failed, await reread(queue, failed)):
        assert (snapshot.failed_reason, snapshot.finished_on, snapshot.processed_on) == (None, None, None)
        assert (snapshot.attempts_made, snapshot.attempts_started) == (1, 1)
        assert len(snapshot.stack_trace) == 1
    assert await order(queue) == [job.name, "a"]


async def test_a_retry_can_forget_the_counters(queue: Queue[Any, Any]) -> None:
    """E103."""
    await queue.add("a")
    failed = await reread(queue, await fail(queue))

    await failed.retry(reset_attempts_made=True, reset_attempts_started=True)

    for snapshot in (failed, await reread(queue, failed)):
        assert (snapshot.attempts_made, snapshot.attempts_started) == (0, 0)


async def test_a_completed_job_runs_again_on_demand(queue: Queue[Any, Any]) -> None:
    """E103."""
    await queue.add("a")
    job = await reread(queue, await complete(queue, {"x": 1}))
    assert job.return_value == {"x": 1}

    with pytest.raises(JobNotInState):
        await job.retry()
    await job.retry(JobState.COMPLETED)

    assert (job.return_value, (await reread(queue, job)).return_value) == (None, None)
    assert await job.state() == JobState.WAITING


async def test_a_retry_needs_a_state_of_finished_jobs(queue: Queue[Any, Any]) -> None:
    job = await queue.add("a")

    with pytest.raises(ConfigurationError, match="completed, failed"):
        await job.retry(JobState.DELAYED)


async def test_a_job_is_removed(queue: Queue[Any, Any]) -> None:
    job = await queue.add("a", deduplication={"id": "d"})

    await job.remove()

    assert await queue.jobs.get(job.id) is None
    assert (await queue.add("a", deduplication={"id": "d"})).add_status is AddStatus.CREATED


async def test_a_locked_job_cannot_be_removed(queue: Queue[Any, Any]) -> None:
    await queue.add("a")
    job = await take(queue)

    with pytest.raises(JobError, match="locked"):
        await job.remove()

    await job.move_to_completed(1)
    await job.remove()
    assert await job.state() == JobState.UNKNOWN


async def test_a_parent_is_removed_with_or_without_its_children(queue: Queue[Any, Any]) -> None:
    parent = await queue.add("parent")
    reference = {"id": parent.id, "queue": f"{queue.options.prefix}:{queue.name}"}
    first = await queue.add("child", parent=reference)

    await parent.remove(remove_children=False)

    assert await first.state() == JobState.WAITING
    other = await queue.add("parent")
    second = await queue.add("child", parent={**reference, "id": other.id})
    await other.remove()
    assert (await second.state(), await other.state()) == (JobState.UNKNOWN, JobState.UNKNOWN)


async def test_a_job_gives_up_its_deduplication_id_only_while_it_owns_it(queue: Queue[Any, Any]) -> None:
    first = await queue.add("a", deduplication={"id": "d"})
    plain = await queue.add("b")
    owner = await reread(queue, first)

    assert not await plain.remove_deduplication_key()
    assert await owner.remove_deduplication_key()
    assert not await owner.remove_deduplication_key()


async def test_verbs_on_a_job_that_is_gone_are_errors(queue: Queue[Any, Any]) -> None:
    """E104."""
    job = await queue.add("a", delay=60_000)
    await queue.jobs.remove(job.id)

    for verb in (
        job.update_progress(1),
        job.update_data(1),
        job.log("row"),
        job.change_delay(1),
        job.change_priority(1),
        job.retry(),
    ):
        with pytest.raises(JobNotFound) as caught:
            await verb
        assert caught.value.job_id == job.id
    with pytest.raises(JobNotInState):
        await job.promote()
    assert await queue.jobs.get(job.id) is None
