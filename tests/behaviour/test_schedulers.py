"""Job schedulers: what is made when, what changes and removals do, and that nothing stops a schedule."""

from __future__ import annotations

import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from pyqueue import (
    Backoff,
    ConfigurationError,
    Job,
    JobOptions,
    JobState,
    OwnedByScheduler,
    Queue,
    SchedulerIdTaken,
    SchedulerSlotsBusy,
    Worker,
)
from pyqueue._store import scheduling
from pyqueue._store.scheduling import repair
from pyqueue._worker import iterations
from pyqueue.queue import ConnectionSource
from tests.behaviour.conftest import AnyQueue, AnyWorker, StartWorker
from tests.support.waiting import wait_until

pytestmark = pytest.mark.anyio

#: A Tuesday, 22:13:20 UTC.
START_MS = 1_700_000_000_000
HOUR_MS = 3_600_000


class SetClock:
    """Time that the test moves."""

    def __init__(self) -> None:
        self.now = START_MS

    def now_ms(self) -> int:
        return self.now


class Schedule:
    """A queue and a worker that fetches by hand, under the test's clock."""

    def __init__(self, queue: AnyQueue, worker: AnyWorker, clock: SetClock) -> None:
        self.queue = queue
        self.worker = worker
        self.clock = clock
        self._tokens = itertools.count()

    def ms(self, job: Job[Any, Any] | None) -> int:
        """The slot of an iteration, after the start."""
        assert job is not None
        return int(job.id.rpartition(":")[2]) - START_MS

    async def take(self, at_ms: int | None = None) -> Job[Any, Any] | None:
        """Fetch a job, at that many ms after the start."""
        if at_ms is not None:
            self.clock.now = START_MS + at_ms
        return await self.worker.get_next_job(f"t{next(self._tokens)}", block=False)

    async def run(self, at_ms: int | None = None) -> int:
        """Fetch an iteration and complete it; its slot."""
        job = await self.take(at_ms)
        assert job is not None
        await job.move_to_completed(None)
        return self.ms(job)

    async def next(self, scheduler_id: str = "s") -> int:
        """When the scheduler's pending job is due, after the start."""
        found = await self.queue.schedulers.get(scheduler_id)
        assert found is not None
        return found.next - START_MS

    async def pending(self) -> list[str]:
        """Ids of all jobs that no worker has taken."""
        states = [JobState.WAITING, JobState.PRIORITIZED, JobState.DELAYED]
        return [job.id for job in await self.queue.jobs.list(states, 0, -1)]


@pytest.fixture
async def schedule(source: ConnectionSource, prefix: str) -> AsyncIterator[Schedule]:
    clock = SetClock()
    async with Queue[Any, Any]("q", connection=source, prefix=prefix, clock=clock) as queue:
        worker = Worker[Any, Any]("q", connection=source, prefix=prefix, clock=clock)
        yield Schedule(queue, worker, clock)
        await worker.close()


# ------------------------------------------------------------------------------------------------------------- slots


@pytest.mark.every_backend
async def test_an_upsert_makes_one_scheduler_and_one_pending_job(schedule: Schedule) -> None:
    """E196, E213."""
    upsert = schedule.queue.schedulers.upsert
    job = await upsert("s", every=timedelta(seconds=10), name="tick", data={"a": 1}, options=JobOptions(attempts=2))
    assert (job.id, job.name, job.data, job.delay, job.scheduler_id) == (
        f"repeat:s:{START_MS}",
        "tick",
        {"a": 1},
        0,
        "s",
    )
    schedule.clock.now += 3
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(lambda: upsert("s", every=10_000, name="tick", data={"a": 1}))
    assert await schedule.pending() == [job.id]
    assert await schedule.queue.schedulers.count() == 1
    found = await schedule.queue.jobs.get(job.id)
    assert found is not None
    assert found.options.model_extra is not None
    assert found.options.model_extra["repeat"] == {"every": 10_000, "count": 1}


async def test_an_interval_fires_at_once_and_then_in_its_slots(schedule: Schedule) -> None:
    """E197, E219."""
    await schedule.queue.schedulers.upsert("s", every=1000)
    assert await schedule.run() == 0
    assert await schedule.take(999) is None
    assert await schedule.run(1000) == 1000
    assert await schedule.run(2001) == 2000
    assert await schedule.run(5700) == 3000  # late: what was missed is not made up for
    assert await schedule.next() == 6000
    assert await schedule.run(6000) == 6000


async def test_an_offset_or_a_start_date_moves_the_first_slot(schedule: Schedule) -> None:
    """E198."""
    upsert = schedule.queue.schedulers.upsert
    assert schedule.ms(await upsert("offset", every=10_000, offset=3000)) == 3000
    assert schedule.ms(await upsert("passed", every=HOUR_MS, offset=1000)) == 2_801_000  # 23:00:01
    later = datetime.fromtimestamp((START_MS + 500) / 1000, UTC)
    assert schedule.ms(await upsert("future", every=10_000, start_date=later)) == 500
    assert schedule.ms(await upsert("past", every=10_000, start_date=START_MS - 70_000)) == 0
    assert schedule.ms(await upsert("equal", every=10_000, start_date=START_MS)) == 0


async def test_a_pattern_fires_in_its_time_zone(schedule: Schedule) -> None:
    """E199."""
    upsert = schedule.queue.schedulers.upsert
    daily = await upsert("daily", pattern="0 9 * * *", tz="Europe/Berlin")
    monthly = await upsert("monthly", pattern="0 0 1 * *", tz="America/New_York")
    assert daily.delay == schedule.ms(daily)
    moments = {schedule.ms(daily): "2023-11-15T08:00:00+00:00", schedule.ms(monthly): "2023-12-01T05:00:00+00:00"}
    for ms, moment in moments.items():
        assert datetime.fromtimestamp((START_MS + ms) / 1000, UTC).isoformat() == moment
    assert await schedule.run(schedule.ms(daily)) == schedule.ms(daily)
    assert await schedule.next("daily") == schedule.ms(daily) + 24 * HOUR_MS


async def test_an_end_date_and_a_limit_stop_a_schedule(schedule: Schedule) -> None:
    """E199."""
    upsert = schedule.queue.schedulers.upsert
    await upsert("limit", every=1000, limit=2)
    assert [await schedule.run(0), await schedule.run(1000)] == [0, 1000]
    assert await schedule.take(10_000) is None
    await upsert("end", pattern="*/10 * * * * *", end_date=START_MS + 25_000)
    assert await schedule.run(20_000) == 20_000
    assert await schedule.take(40_000) is None
    schedule.clock.now = START_MS + 50_000
    await upsert("late", every=1000, end_date=START_MS + 51_000)
    assert [await schedule.run(50_000), await schedule.run(51_000)] == [50_000, 51_000]
    assert await schedule.run(52_000) == 52_000  # made before the end, as the next of the one before
    assert await schedule.take(60_000) is None


async def test_the_first_job_of_a_pattern_may_run_at_once(schedule: Schedule) -> None:
    await schedule.queue.schedulers.upsert("s", pattern="0 0 1 1 *", tz="UTC", immediately=True)
    assert await schedule.run() == 0
    found = await schedule.queue.schedulers.get("s")
    assert found is not None
    assert datetime.fromtimestamp(found.next / 1000, UTC).isoformat() == "2024-01-01T00:00:00+00:00"


# ----------------------------------------------------------------------------------------------------- what is refused


BAD_RULES: list[tuple[dict[str, Any], str]] = [
    ({}, "either every= or pattern="),
    ({"every": 1000, "pattern": "* * * * *"}, "either every= or pattern="),
    ({"every": 0}, "every is 0"),
    ({"every": -1}, "every is -1"),
    ({"every": 1.5}, "every is 1.5"),
    ({"pattern": "0 0 30 2 *"}, "never comes true"),
    ({"pattern": "99 * * * *"}, "minute is '99'"),
    ({"pattern": "H * * * *"}, "not supported"),
    ({"pattern": "* * * * *", "tz": "Mars/Olympus"}, "no such time zone"),
    ({"pattern": "* * * * *", "immediately": True, "start_date": START_MS}, "contradict"),
    ({"every": 1000, "immediately": True}, "immediately goes with a pattern"),
    ({"every": 1000, "tz": "UTC"}, "tz goes with a pattern"),
    ({"pattern": "* * * * *", "offset": 5}, "offset goes with every="),
    ({"every": 1000, "end_date": START_MS}, "end_date is"),
    ({"pattern": "0 0 1 1 *", "end_date": START_MS + HOUR_MS}, "never comes true before end_date"),
    ({"every": 1000, "limit": 0}, "limit is 0"),
    ({"every": 1000, "start_date": datetime(2026, 1, 1)}, "no time zone"),
    ({"evry": 1000}, "did you mean 'every'"),
    ({"cron": "* * * * *"}, "use 'pattern'"),
    ({"every": 1000, "options": {"job_id": "x"}}, "job_id is decided by the scheduler"),
    ({"every": 1000, "options": {"delay": 5}}, "delay is decided by the scheduler"),
    ({"every": 1000, "options": {"deduplication": {"id": "x"}}}, "deduplication is decided by the scheduler"),
]


@pytest.mark.parametrize(("options", "part"), BAD_RULES)
async def test_a_bad_rule_is_refused_before_anything_is_written(
    schedule: Schedule, redis_client: Redis, options: dict[str, Any], part: str
) -> None:
    """E200, E201, E218."""
    with pytest.raises(ConfigurationError, match=part.replace("(", r"\(")):
        await schedule.queue.schedulers.upsert("s", **options)
    assert await redis_client.keys("*") == []


@pytest.mark.parametrize("scheduler_id", ["", 5, "a:1700000000000"])
async def test_a_bad_scheduler_id_is_refused(schedule: Schedule, scheduler_id: Any) -> None:
    with pytest.raises(ConfigurationError, match="scheduler id is"):
        await schedule.queue.schedulers.upsert(scheduler_id, every=1000)


# ------------------------------------------------------------------------------------------------------------- changes


async def test_a_changed_rule_counts_from_now_on(schedule: Schedule) -> None:
    """E202."""
    upsert = schedule.queue.schedulers.upsert
    await upsert("s", every=10_000, start_date=START_MS + 5000)
    schedule.clock.now += 100
    same = await upsert("s", every=10_000, data={"v": 2}, options=JobOptions(priority=3))
    assert (schedule.ms(same), same.data, same.priority) == (5000, {"v": 2}, 3)
    assert schedule.ms(await upsert("s", every=20_000)) == 100
    assert schedule.ms(await upsert("s", pattern="0 * * * *", tz="UTC")) == 2_800_000
    assert schedule.ms(await upsert("s", pattern="30 * * * *", tz="UTC")) == 1_000_000
    assert len(await schedule.pending()) == 1


@pytest.mark.parametrize("state", ["delayed", "waiting", "prioritized", "paused"])
async def test_an_upsert_replaces_the_pending_job_wherever_it_is(schedule: Schedule, state: str) -> None:
    """E203."""
    upsert = schedule.queue.schedulers.upsert
    options = JobOptions(priority=2) if state == "prioritized" else None
    await upsert("s", every=10_000, start_date=START_MS + 5000 if state == "delayed" else None, options=options)
    if state == "paused":
        await schedule.queue.pause()
    job = await upsert("s", every=10_000, data="new", options=options)
    assert await schedule.pending() == [job.id]
    await schedule.queue.resume()
    taken = await schedule.take(5000)
    assert taken is not None
    assert taken.data == "new"


async def test_an_upsert_while_a_job_runs_changes_what_comes_after_it(schedule: Schedule) -> None:
    """E204, E205."""
    upsert = schedule.queue.schedulers.upsert
    await upsert("s", every=10_000)
    running = await schedule.take()
    assert running is not None
    job = await upsert("s", every=10_000, data="new")
    assert schedule.ms(job) == 10_000
    await running.move_to_completed(None)
    assert await schedule.run(10_000) == 10_000
    assert len(await schedule.pending()) == 1


async def test_slots_that_have_jobs_are_passed_over_or_refused(
    schedule: Schedule, redis_client: Redis, prefix: str
) -> None:
    """E204."""
    upsert = schedule.queue.schedulers.upsert
    for second in range(3):
        await redis_client.hset(f"{prefix}:q:repeat:s:{START_MS + second * 1000}", "name", "other")
    assert schedule.ms(await upsert("s", every=1000)) == 3000
    for second in range(40):
        await redis_client.hset(f"{prefix}:q:repeat:busy:{START_MS + second * 1000}", "name", "other")
    with pytest.raises(SchedulerSlotsBusy):
        await upsert("busy", every=1000)
    await redis_client.hset(f"{prefix}:q:repeat:p:{START_MS + 40_000}", "name", "other")
    with pytest.raises(SchedulerIdTaken):
        await upsert("p", pattern="0 * * * * *", tz="UTC")
    assert await schedule.queue.schedulers.get("p") is None


async def test_an_upsert_after_a_promotion_keeps_the_schedule(schedule: Schedule) -> None:
    """E209."""
    upsert = schedule.queue.schedulers.upsert
    for rule in ({"every": 10_000, "start_date": START_MS + 5000}, {"pattern": "0 * * * *", "tz": "UTC"}):
        options: Any = rule
        job = await upsert("s", **options)
        await job.promote()
        taken = await schedule.take()
        assert taken is not None
        assert taken.id == job.id
        await taken.move_to_completed(None)
        following = await schedule.pending()
        assert len(following) == 1
        assert (await upsert("s", **options)).id == following[0]
        assert await schedule.queue.schedulers.remove("s")


# ------------------------------------------------------------------------------------------------- what stops nothing


async def test_failed_retried_and_stalled_jobs_schedule_nothing_twice(schedule: Schedule) -> None:
    """E208."""
    await schedule.queue.schedulers.upsert("s", every=10_000, options=JobOptions(attempts=2, backoff=Backoff.fixed(0)))
    for _ in range(2):
        job = await schedule.take()
        assert job is not None
        await job.move_to_failed(ValueError("no"))
    assert await schedule.pending() == [f"repeat:s:{START_MS + 10_000}"]
    failed = (await schedule.queue.jobs.list([JobState.FAILED]))[0]
    await failed.retry()
    assert await schedule.run() == 0
    assert await schedule.pending() == [f"repeat:s:{START_MS + 10_000}"]


async def test_the_pending_job_cannot_be_removed_drained_or_cleaned(schedule: Schedule) -> None:
    """E210."""
    job = await schedule.queue.schedulers.upsert("s", every=10_000)
    later = await schedule.queue.schedulers.upsert("d", every=10_000, start_date=START_MS + 5000)
    with pytest.raises(OwnedByScheduler):
        await job.remove()
    await schedule.queue.drain(delayed=True)
    for state in (JobState.WAITING, JobState.DELAYED):
        assert await schedule.queue.jobs.clean(state=state) == []
    assert set(await schedule.pending()) == {job.id, later.id}
    assert await schedule.run() == 0


async def test_a_removed_scheduler_makes_no_more_jobs_and_can_be_made_again(schedule: Schedule) -> None:
    """E205, E211."""
    schedulers = schedule.queue.schedulers
    assert not await schedulers.remove("s")
    await schedulers.upsert("s", every=1000, start_date=START_MS + 500)
    assert await schedulers.remove("s")
    assert (await schedule.pending(), await schedulers.get("s"), await schedulers.count()) == ([], None, 0)
    await schedulers.upsert("s", every=1000)
    running = await schedule.take()
    assert await schedulers.remove("s")
    assert schedule.ms(await schedulers.upsert("s", every=1000)) == 1000
    assert running is not None
    await running.move_to_completed(None)
    await schedulers.remove("s")
    assert await schedule.take(5000) is None


async def test_getters_tell_rule_and_template(schedule: Schedule) -> None:
    """E212."""
    schedulers = schedule.queue.schedulers
    await schedulers.upsert("b", every=2000, offset=5, limit=7, end_date=START_MS + HOUR_MS, data=[1], name="x")
    await schedulers.upsert("a", pattern="0 0 1 1 *", tz="UTC", options={"attempts": 3, "removeOnComplete": True})
    found = await schedulers.get("b")
    assert found is not None
    assert (found.name, found.every, found.offset, found.limit, found.end_date) == ("x", 2000, 5, 7, START_MS + HOUR_MS)
    assert (found.iteration_count, found.data, found.pattern) == (1, [1], None)
    assert [one.id for one in await schedulers.list()] == ["a", "b"]
    assert [one.id for one in await schedulers.list(asc=True)] == ["b", "a"]
    assert [one.id for one in await schedulers.list(1, 1)] == ["b"]
    first = (await schedulers.list(0, 0))[0]
    assert (first.pattern, first.tz, first.data) == ("0 0 1 1 *", "UTC", None)
    assert (first.options.attempts, first.options.remove_on_complete) == (3, True)


async def test_ids_without_a_record_are_dropped_when_listing(
    schedule: Schedule, redis_client: Redis, prefix: str
) -> None:
    """E214, E215."""
    legacy = "mail:x::UTC:0 9 * * *"
    await schedule.queue.schedulers.upsert("a:b:c:d:e:f", every=1000)
    await redis_client.zadd(f"{prefix}:q:repeat", {"ghost": 5, legacy: 6})
    assert [one.id for one in await schedule.queue.schedulers.list()] == ["a:b:c:d:e:f"]
    assert set(await redis_client.zrange(f"{prefix}:q:repeat", 0, -1)) == {"a:b:c:d:e:f", legacy}
    assert await schedule.run() == 0
    assert await schedule.run(1000) == 1000


async def test_a_job_of_an_old_repeatable_runs_and_says_what_to_do(
    schedule: Schedule, redis_client: Redis, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """E214."""
    legacy = "mail:x::UTC:1000"
    await redis_client.zadd(f"{prefix}:q:repeat", {legacy: START_MS})
    job = await schedule.queue.add("mail")
    await redis_client.hset(
        f"{prefix}:q:{job.id}", mapping={"rjk": legacy, "opts": '{"repeat":{"every":1000,"count":1}}'}
    )
    with caplog.at_level(logging.WARNING):
        taken = await schedule.take()
    assert taken is not None
    assert taken.id == job.id
    assert "create a job scheduler in its place" in caplog.text


async def test_hosts_with_wrong_clocks_agree(source: ConnectionSource, prefix: str) -> None:
    """E206: the server's time decides."""
    async with Queue[Any, Any]("q", connection=source, prefix=prefix) as one:
        job = await one.schedulers.upsert("s", every=60_000)
        async with Queue[Any, Any]("q", connection=source, prefix=prefix) as other:
            assert (await other.schedulers.upsert("s", every=60_000)).id == job.id
        assert (await one.jobs.counts())[JobState.WAITING] == 1


# ---------------------------------------------------------------------------------------------------- running workers


@pytest.mark.every_backend
async def test_a_worker_keeps_several_schedules(queue: AnyQueue, start_worker: StartWorker) -> None:
    """E219."""
    slots: dict[str, list[int]] = {"a": [], "b": []}

    async def process(job: Job[Any, Any]) -> None:
        slots[str(job.scheduler_id)].append(int(job.id.rpartition(":")[2]))

    for scheduler_id in slots:
        await queue.schedulers.upsert(scheduler_id, every=40)
    await start_worker(process, concurrency=4)
    await wait_until(lambda: min(map(len, slots.values())) >= 5)
    for found in slots.values():
        assert found == sorted(set(found))
        assert {(later - found[0]) % 40 for later in found} == {0}


async def test_a_failing_update_is_retried_and_the_job_runs(
    queue: AnyQueue, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E216, E217."""
    errors: list[Exception] = []
    ran: list[str] = []
    create_next: Callable[..., Awaitable[list[Exception]]] = scheduling.create_next
    failures = itertools.count()

    async def broken(*args: Any) -> list[Exception]:
        if next(failures) < 2:
            raise RedisConnectionError("cut")
        return await create_next(*args)

    monkeypatch.setattr(iterations, "create_next", broken)

    async def process(job: Job[Any, Any]) -> None:
        ran.append(job.id)

    await queue.schedulers.upsert("s", every=100)
    worker = await start_worker(process)
    worker.on("error", errors.append)
    await wait_until(lambda: len(ran) >= 3)
    assert ran == sorted(set(ran))
    assert "cut" in str(errors[0])


async def test_a_scheduler_whose_rule_is_broken_is_reported_and_its_job_runs(
    queue: AnyQueue, start_worker: StartWorker, redis_client: Redis, prefix: str
) -> None:
    """E217."""
    errors: list[Exception] = []
    ran: list[str] = []

    async def process(job: Job[Any, Any]) -> None:
        ran.append(job.id)

    job = await queue.schedulers.upsert("s", every=1000)
    await redis_client.hset(f"{prefix}:q:{job.id}", "opts", '{"repeat":{"pattern":"bad"}}')
    worker = await start_worker(process)
    worker.on("error", errors.append)
    await wait_until(lambda: ran == [job.id] and errors)
    assert "scheduler 's' of queue 'q' cannot go on" in str(errors[0])


async def test_a_scheduler_without_a_pending_job_heals_itself(
    queue: AnyQueue, start_worker: StartWorker, redis_client: Redis, prefix: str
) -> None:
    ran: list[str] = []

    async def process(job: Job[Any, Any]) -> None:
        ran.append(job.id)

    job = await queue.schedulers.upsert("s", every=50, data={"a": 1}, name="n")
    await redis_client.delete(f"{prefix}:q:wait", f"{prefix}:q:{job.id}")
    await start_worker(process)
    await wait_until(lambda: len(ran) >= 2)
    found = await queue.jobs.get(ran[-1])
    assert found is not None
    assert (found.name, found.data) == ("n", {"a": 1})


async def test_a_job_lost_before_its_time_is_made_again(schedule: Schedule, redis_client: Redis, prefix: str) -> None:
    job = await schedule.queue.schedulers.upsert("s", pattern="0 0 1 1 *", tz="UTC", options=JobOptions(priority=4))
    sound = await schedule.queue.schedulers.upsert("sound", every=1000)
    await redis_client.delete(f"{prefix}:q:delayed", f"{prefix}:q:{job.id}")
    assert await repair(schedule.queue._store) == []
    assert set(await schedule.pending()) == {job.id, sound.id}
    found, again = await schedule.queue.schedulers.get("s"), await schedule.queue.jobs.get(job.id)
    assert found is not None
    assert again is not None
    assert (found.iteration_count, again.priority, again.options.model_extra) == (
        1,
        4,
        {
            "repeat": {"pattern": "0 0 1 1 *", "tz": "UTC", "count": 1},
            "repeatJobKey": "s",
            "prevMillis": int(job.id.rpartition(":")[2]),
        },
    )


async def test_a_scheduler_that_is_over_is_not_healed(schedule: Schedule) -> None:
    await schedule.queue.schedulers.upsert("s", every=1000, limit=1)
    assert await schedule.run() == 0
    schedule.clock.now += 60_000
    assert await repair(schedule.queue._store) == []
    assert await schedule.pending() == []
