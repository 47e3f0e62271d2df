"""queue.jobs: finding, counting, listing, iterating, and what is done to many jobs at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pyqueue import AddStatus, ConfigurationError, JobNotFound, JobOptions, JobState, Queue
from tests.support.by_hand import complete, fail, take

pytestmark = pytest.mark.anyio


def base(queue: Queue[Any, Any]) -> str:
    return f"{queue.options.prefix}:{queue.name}:"


async def events(redis_client: Any, queue: Queue[Any, Any], name: str) -> list[dict[str, str]]:
    entries = [fields for _, fields in await redis_client.xrange(f"{base(queue)}events")]
    return [fields for fields in entries if fields["event"] == name]


async def fill(queue: Queue[Any, Any], count: int, **options: Any) -> None:
    await queue.add_bulk([{"name": "a", "data": number, "opts": options} for number in range(count)])


async def ids(queue: Queue[Any, Any], state: Any, start: int = 0, end: int = -1, *, asc: bool = False) -> str:
    return " ".join(job.id for job in await queue.jobs.list(state, start, end, asc=asc))


async def test_counts_are_a_dictionary_that_names_the_states_to_who_misspells_one(queue: Queue[Any, Any]) -> None:
    counts = await queue.jobs.counts()

    with pytest.raises(KeyError, match=r"'faild' is no state that is counted: use one of waiting, .*failed"):
        counts["faild"]
    assert counts.get("faild") is None
    assert "faild" not in counts
    assert json.loads(json.dumps(counts)) == counts == dict(counts)
    assert repr(counts) == repr(dict(counts))


async def test_a_job_is_found_by_its_id(queue: Queue[Any, Any]) -> None:
    await queue.add("send", {"x": 1}, attempts=3)

    job = await queue.jobs.get("1")

    assert job is not None
    assert (job.id, job.name, job.data, job.options.attempts) == ("1", "send", {"x": 1}, 3)


@pytest.mark.parametrize("job_id", ["missing", "", "meta", "wait", "1:logs", "metrics:completed", "repeat:s"])
async def test_what_is_no_job_is_not_found(queue: Queue[Any, Any], redis_client: Any, job_id: str) -> None:
    """E239"""
    await queue.add("a")
    await redis_client.hset(f"{base(queue)}repeat:s", "name", "a scheduler, no job")

    assert await queue.jobs.get(job_id) is None


@pytest.mark.parametrize("job_id", [5, None, b"5"])
async def test_an_id_that_is_no_text_is_refused(queue: Queue[Any, Any], job_id: Any) -> None:
    def dependencies(job_id: Any) -> Any:
        return queue.jobs.dependencies(job_id, "pending")

    for refused in (queue.jobs.get, queue.jobs.remove, queue.jobs.state, queue.jobs.logs, dependencies):
        with pytest.raises(ConfigurationError, match=f"job_id is {job_id!r}: give a text"):
            await refused(job_id)


async def test_counts_are_zero_when_empty(queue: Queue[Any, Any]) -> None:
    """E240"""
    counts = await queue.jobs.counts()

    assert counts == dict.fromkeys(set(JobState) - {JobState.UNKNOWN}, 0)
    assert await queue.jobs.count() == 0


@pytest.mark.every_backend
async def test_jobs_are_counted_and_told_by_state(queue: Queue[Any, Any]) -> None:
    """E240"""
    for name in ("completed", "failed", "active", "waiting", "waiting"):
        await queue.add(name)
    await complete(queue)
    await fail(queue)
    await take(queue)
    await queue.add("p", priority=1)
    await queue.add("d", delay=60_000)

    assert await queue.jobs.counts() == {
        JobState.WAITING: 2,
        JobState.ACTIVE: 1,
        JobState.DELAYED: 1,
        JobState.PRIORITIZED: 1,
        JobState.WAITING_CHILDREN: 0,
        JobState.COMPLETED: 1,
        JobState.FAILED: 1,
    }
    assert await queue.jobs.count() == 4
    assert [await queue.jobs.state(job_id) for job_id in "1234567x"] == [
        JobState.COMPLETED,
        JobState.FAILED,
        JobState.ACTIVE,
        JobState.WAITING,
        JobState.WAITING,
        JobState.PRIORITIZED,
        JobState.DELAYED,
        JobState.UNKNOWN,
    ]


@pytest.mark.parametrize("paused", [False, True])
async def test_jobs_are_counted_per_priority(queue: Queue[Any, Any], paused: bool) -> None:
    """E83"""
    if paused:
        await queue.pause()
    await fill(queue, 3)
    await fill(queue, 2, priority=1)
    await fill(queue, 1, priority=2_097_151)

    assert await queue.jobs.counts_per_priority([0, 1, 2, 2_097_151]) == {0: 3, 1: 2, 2: 0, 2_097_151: 1}


RANGES: list[tuple[int, int, bool, str]] = [
    (0, -1, True, "1 2 3 4 5"),
    (0, -1, False, "5 4 3 2 1"),
    (1, 2, True, "2 3"),
    (1, 2, False, "4 3"),
    (-2, -1, True, "4 5"),
    (-2, -1, False, "2 1"),
    (3, 99, True, "4 5"),
    (7, 9, True, ""),
    (3, 1, True, ""),
]


@pytest.mark.parametrize(("start", "end", "asc", "expected"), RANGES)
@pytest.mark.parametrize("state", ["waiting", "prioritized", "delayed", "completed"])
async def test_ranges_by_position(
    queue: Queue[Any, Any], state: str, start: int, end: int, asc: bool, expected: str
) -> None:
    """E236"""
    options: dict[str, Any] = {"prioritized": {"priority": 1}, "delayed": {"delay": 60_000}}.get(state, {})
    await fill(queue, 5, **options)
    if state == "completed":
        for _ in range(5):
            await complete(queue)  # within a millisecond, ids of one digit keep their order

    assert await ids(queue, state, start, end, asc=asc) == expected


async def test_several_states_follow_each_other_without_doubles(queue: Queue[Any, Any]) -> None:
    """E236"""
    await fill(queue, 3)
    await fill(queue, 2, delay=60_000)

    assert await ids(queue, [JobState.DELAYED, JobState.WAITING, "wait"], asc=True) == "4 5 1 2 3"
    assert await ids(queue, ["waiting", "delayed"], 0, 0, asc=True) == "1 4"


async def test_a_list_is_short_by_default_and_long_on_demand(queue: Queue[Any, Any]) -> None:
    await fill(queue, 250)

    assert [job.data for job in await queue.jobs.list("waiting", asc=True)] == list(range(100))
    assert [job.data for job in await queue.jobs.list("waiting", 0, -1, asc=True)] == list(range(250))
    assert [job.data for job in await queue.jobs.list("waiting", 20, 229)] == list(range(229, 19, -1))


async def test_ids_without_a_job_are_skipped_and_made_up_for(queue: Queue[Any, Any], redis_client: Any) -> None:
    """E237"""
    await fill(queue, 6)
    await redis_client.delete(f"{base(queue)}2", f"{base(queue)}3", f"{base(queue)}5")

    assert await ids(queue, "waiting", 0, 1, asc=True) == "1 4"
    assert await ids(queue, "waiting", 0, 2, asc=True) == "1 4 6"
    assert await ids(queue, "waiting", asc=True) == "1 4 6"


async def test_markers_of_old_versions_never_appear(queue: Queue[Any, Any], redis_client: Any) -> None:
    """E238"""
    await fill(queue, 2)
    await redis_client.rpush(f"{base(queue)}wait", "0:1700000000000")

    assert await ids(queue, "waiting", asc=True) == "1 2"
    assert (await queue.jobs.counts())["waiting"] == 2


@pytest.mark.parametrize("state", ["unknown", "waitin", "", "id"])
async def test_an_unknown_state_is_an_error(queue: Queue[Any, Any], state: str) -> None:
    with pytest.raises(ConfigurationError, match="state is"):
        await queue.jobs.list(state)
    with pytest.raises(ConfigurationError, match="state is"):
        await anext(queue.jobs.iterate(state))


@pytest.mark.parametrize("state", ["waiting", "prioritized", "delayed", "completed"])
@pytest.mark.every_backend
async def test_iterating_sees_every_job_once(queue: Queue[Any, Any], state: str) -> None:
    options: dict[str, Any] = {"prioritized": {"priority": 1}, "delayed": {"delay": 60_000}}.get(state, {})
    await fill(queue, 25, **options)
    if state == "completed":
        for _ in range(25):
            await complete(queue)

    seen = [job.id async for job in queue.jobs.iterate(state, page_size=4)]

    assert len(seen) == 25
    assert set(seen) == {str(number) for number in range(1, 26)}


async def test_iterating_may_be_stopped(queue: Queue[Any, Any]) -> None:
    await fill(queue, 25)

    async for job in queue.jobs.iterate("waiting", page_size=4):
        if job.id == "22":
            break

    assert await queue.jobs.count() == 25


async def test_failed_jobs_may_be_retried_while_iterating(queue: Queue[Any, Any]) -> None:
    await fill(queue, 25)
    for _ in range(25):
        await fail(queue)

    async for job in queue.jobs.iterate(JobState.FAILED, page_size=4):
        await job.retry()

    assert (await queue.jobs.counts())[JobState.WAITING] == 25


@pytest.mark.parametrize("state", ["waiting", "delayed"])
async def test_jobs_may_be_removed_while_iterating(queue: Queue[Any, Any], state: str) -> None:
    await fill(queue, 25, **({"delay": 60_000} if state == "delayed" else {}))

    async for job in queue.jobs.iterate(state, page_size=4):
        await job.remove()

    assert await queue.jobs.count() == 0


async def test_jobs_that_come_and_go_meanwhile_do_not_hide_others(queue: Queue[Any, Any]) -> None:
    await fill(queue, 40)
    seen: list[str] = []

    async for job in queue.jobs.iterate("waiting", page_size=5):
        seen.append(job.id)
        if len(seen) % 5 == 0:
            await queue.add("new")
            await take(queue)

    still_there = {job.id for job in await queue.jobs.list("waiting", 0, -1)} & {str(n) for n in range(1, 41)}
    assert still_there <= set(seen)
    assert len(seen) == len(set(seen))


@pytest.mark.every_backend
async def test_logs_are_read_from_both_ends(queue: Queue[Any, Any]) -> None:
    """E242"""
    job = await queue.add("a")
    for row in "abcde":
        await job.log(row)

    assert await queue.jobs.logs(job.id) == (list("abcde"), 5)
    assert await queue.jobs.logs(job.id, 1, 2) == (list("bc"), 5)
    assert await queue.jobs.logs(job.id, asc=False) == (list("edcba"), 5)
    assert await queue.jobs.logs(job.id, 0, 1, asc=False) == (list("ed"), 5)
    assert await queue.jobs.logs(job.id, 1, 2, asc=False) == (list("dc"), 5)
    assert await queue.jobs.logs("missing") == ([], 0)


async def test_logging_by_id_keeps_the_newest_rows(queue: Queue[Any, Any]) -> None:
    await queue.add("a")

    counts = [await queue.jobs.add_log("1", row, keep=2) for row in "abc"]

    assert counts == [1, 2, 2]
    assert await queue.jobs.logs("1") == (["b", "c"], 2)


async def test_progress_by_id_is_stored_and_announced(queue: Queue[Any, Any], redis_client: Any) -> None:
    await queue.add("a")

    await queue.jobs.update_progress("1", {"done": 3})

    job = await queue.jobs.get("1")
    assert job is not None
    assert job.progress == {"done": 3}
    assert await events(redis_client, queue, "progress") == [{"event": "progress", "jobId": "1", "data": '{"done":3}'}]


@pytest.mark.parametrize("job_id", ["missing", "meta", "metrics:completed"])
async def test_operations_on_what_is_no_job_are_errors(queue: Queue[Any, Any], job_id: str) -> None:
    await queue.add("a")

    with pytest.raises(JobNotFound):
        await queue.jobs.update_progress(job_id, 1)
    with pytest.raises(JobNotFound):
        await queue.jobs.add_log(job_id, "row")


async def test_a_job_is_removed_by_its_id(queue: Queue[Any, Any], redis_client: Any) -> None:
    """E20, E22"""
    job = await queue.add("a")
    await job.log("row")

    assert await queue.jobs.remove("1")
    assert await queue.jobs.remove("1")  # gone is gone

    assert await redis_client.keys(f"{base(queue)}1*") == []
    assert await events(redis_client, queue, "removed") == [{"event": "removed", "jobId": "1", "prev": "wait"}]


async def test_a_locked_job_is_not_removed(queue: Queue[Any, Any]) -> None:
    await queue.add("a")
    await take(queue)

    assert not await queue.jobs.remove("1")
    assert await queue.jobs.state("1") == JobState.ACTIVE


async def test_a_deduplication_id_can_be_freed(queue: Queue[Any, Any]) -> None:
    await queue.add("a", deduplication={"id": "d"})

    assert await queue.jobs.deduplication_owner("d") == "1"
    assert await queue.jobs.remove_deduplication_key("d")
    assert not await queue.jobs.remove_deduplication_key("d")
    assert await queue.jobs.deduplication_owner("d") is None
    assert (await queue.add("a", deduplication={"id": "d"})).add_status is AddStatus.CREATED


async def finish(queue: Queue[Any, Any], count: int, how: Callable[..., Any]) -> None:
    await fill(queue, count)
    for _ in range(count):
        await how(queue)


@pytest.mark.parametrize(("state", "how"), [(JobState.COMPLETED, complete), (JobState.FAILED, fail)])
async def test_clean_removes_finished_jobs_oldest_first(
    queue: Queue[Any, Any], redis_client: Any, state: JobState, how: Callable[..., Any]
) -> None:
    """E245"""
    await finish(queue, 5, how)

    assert len(await queue.jobs.clean(state=state, limit=2)) == 2
    assert len(await queue.jobs.clean(state=state)) == 3

    assert (await queue.jobs.counts())[state] == 0
    assert [event["count"] for event in await events(redis_client, queue, "cleaned")] == ["2", "3"]


@pytest.mark.parametrize("state", ["wait", "waiting", "prioritized", "delayed"])
async def test_clean_removes_jobs_that_wait(queue: Queue[Any, Any], redis_client: Any, state: str) -> None:
    """E245"""
    options: dict[str, Any] = {"prioritized": {"priority": 1}, "delayed": {"delay": 60_000}}.get(state, {})
    await fill(queue, 250, timestamp=1_700_000_000_000, **options)
    await queue.add("young", 1, JobOptions(**options))
    seen: list[int] = []

    removed = await queue.jobs.clean(timedelta(minutes=1), state=state, progress=seen.append)

    assert sorted(map(int, removed)) == list(range(1, 251))
    assert (seen[0], seen[-1]) == (25, 250)
    assert await ids(queue, state) == "251"
    assert [event["count"] for event in await events(redis_client, queue, "cleaned")] == ["250"]


async def test_clean_passes_over_young_jobs(queue: Queue[Any, Any]) -> None:
    """E245"""
    await fill(queue, 150)
    await fill(queue, 150, timestamp=1_700_000_000_000)

    removed = await queue.jobs.clean(timedelta(minutes=1), state="wait", limit=120)

    assert sorted(map(int, removed)) == list(range(151, 271))
    assert await queue.jobs.count() == 180


async def test_clean_leaves_jobs_in_grace_and_empty_queues_alone(queue: Queue[Any, Any], redis_client: Any) -> None:
    """E245"""
    assert await queue.jobs.clean() == []
    await finish(queue, 2, complete)

    assert await queue.jobs.clean(timedelta(hours=1), limit=100) == []
    assert [event["count"] for event in await events(redis_client, queue, "cleaned")] == ["0", "0"]


async def test_clean_takes_active_jobs_only_without_a_lock(queue: Queue[Any, Any], redis_client: Any) -> None:
    await fill(queue, 2)
    await take(queue)
    await take(queue)
    await redis_client.delete(f"{base(queue)}2:lock")

    assert await queue.jobs.clean(state="active") == ["2"]
    assert await queue.jobs.state("1") == JobState.ACTIVE


async def test_clean_keeps_the_schedule(queue: Queue[Any, Any], redis_client: Any) -> None:
    """E247"""
    iteration = "repeat:s:1700000000000"
    await redis_client.zadd(f"{base(queue)}repeat", {"s": 1_700_000_000_000})
    await redis_client.zadd(f"{base(queue)}delayed", {iteration: 1_700_000_000_000 * 4096})
    await redis_client.hset(f"{base(queue)}{iteration}", mapping={"rjk": "s", "timestamp": 1})

    assert await queue.jobs.clean(state="delayed") == []
    assert await redis_client.exists(f"{base(queue)}{iteration}")


@pytest.mark.parametrize("arguments", [{"grace": -1}, {"limit": -1}, {"limit": True}, {"state": "waiting-children"}])
async def test_clean_refuses_bad_arguments(queue: Queue[Any, Any], arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        await queue.jobs.clean(**arguments)


@pytest.mark.parametrize(("state", "how"), [(JobState.COMPLETED, complete), (JobState.FAILED, fail)])
async def test_retry_all_runs_finished_jobs_again_in_their_order(
    queue: Queue[Any, Any], state: JobState, how: Callable[..., Any]
) -> None:
    """E30"""
    await finish(queue, 3, how)
    seen: list[int] = []

    assert await queue.jobs.retry_all(state, progress=seen.append) == 3

    assert seen == [3]
    assert [(await take(queue)).id for _ in range(3)] == ["1", "2", "3"]


async def test_retry_all_moves_more_than_one_call_can(queue: Queue[Any, Any], redis_client: Any) -> None:
    await redis_client.zadd(f"{base(queue)}failed", {f"job-{number}": number for number in range(250)})
    seen: list[int] = []

    assert await queue.jobs.retry_all(progress=seen.append) == 250

    assert seen == [50, 100, 150, 200, 250, 250]
    assert await redis_client.lindex(f"{base(queue)}wait", -1) == "job-0"
    assert await redis_client.lindex(f"{base(queue)}wait", 0) == "job-249"


@pytest.mark.parametrize("until", [1_700_000_000_000, datetime.fromtimestamp(1_700_000_000, UTC)])
async def test_retry_all_leaves_younger_jobs(queue: Queue[Any, Any], redis_client: Any, until: Any) -> None:
    """E31"""
    times = {"old": 1_699_999_999_999, "exactly": 1_700_000_000_000, "young": 1_700_000_000_001}
    await redis_client.zadd(f"{base(queue)}failed", times)

    assert await queue.jobs.retry_all(until=until) == 2
    assert await redis_client.zrange(f"{base(queue)}failed", 0, -1) == ["young"]


async def test_retry_all_on_a_paused_queue_keeps_the_jobs_waiting(queue: Queue[Any, Any], redis_client: Any) -> None:
    """E32"""
    await finish(queue, 2, fail)
    await queue.pause()

    assert await queue.jobs.retry_all() == 2
    assert (await queue.jobs.counts())[JobState.WAITING] == 2
    assert not await redis_client.exists(f"{base(queue)}marker")


@pytest.mark.parametrize("state", ["waiting", "unknown", JobState.DELAYED])
async def test_retry_all_needs_a_state_of_finished_jobs(queue: Queue[Any, Any], state: Any) -> None:
    with pytest.raises(ConfigurationError, match="completed, failed"):
        await queue.jobs.retry_all(state)


async def test_promote_all_makes_delayed_jobs_ready(queue: Queue[Any, Any]) -> None:
    """E33"""
    await fill(queue, 300, delay=60_000)
    seen: list[int] = []

    assert await queue.jobs.promote_all(progress=seen.append) == 300

    assert seen == [50, 100, 150, 200, 250, 300, 300]
    assert (await queue.jobs.counts())[JobState.WAITING] == 300
    assert [(await take(queue)).id for _ in range(2)] == ["1", "2"]


async def test_a_long_operation_can_be_stopped_between_two_calls(queue: Queue[Any, Any]) -> None:
    await fill(queue, 250)

    class Enough(Exception):
        pass

    def stop(total: int) -> None:
        raise Enough

    with pytest.raises(Enough):
        await queue.drain(progress=stop)

    assert await queue.jobs.count() == 225
