"""How many jobs run, in which order, and when: concurrency, priorities, rate limits, delays."""

from __future__ import annotations

import itertools
from typing import Any

import anyio
import pytest

from pyqueue import Job, JobOptions, JobSpec, JobState, RateLimit
from tests.behaviour.conftest import AnyQueue, StartWorker
from tests.support.jobs import reach, stored
from tests.support.waiting import wait_until

pytestmark = pytest.mark.anyio


class Gauge:
    """A processor that waits at a gate and knows how many of it run."""

    def __init__(self) -> None:
        self.gate = anyio.Event()
        self.running = 0
        self.most = 0
        self.order: list[Any] = []

    async def __call__(self, job: Job[Any, Any]) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        self.order.append(job.data)
        try:
            await self.gate.wait()
        finally:
            self.running -= 1


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_no_more_jobs_run_at_once_than_the_concurrency(
    queue: AnyQueue, start_worker: StartWorker, concurrency: int
) -> None:
    """E68."""
    gauge = Gauge()
    jobs = [await queue.add("x") for _ in range(10)]
    worker = await start_worker(gauge, concurrency=concurrency)
    await wait_until(lambda: gauge.running == concurrency)
    assert worker.health().running == concurrency
    gauge.gate.set()
    await reach(queue, jobs, JobState.COMPLETED)
    assert gauge.most == concurrency


async def test_the_concurrency_can_be_raised_and_lowered_at_run_time(
    queue: AnyQueue, start_worker: StartWorker
) -> None:
    """E69."""
    gauge = Gauge()
    worker = await start_worker(gauge)
    for _ in range(8):
        await queue.add("x")
    await wait_until(lambda: gauge.running == 1)
    worker.concurrency = 3
    await wait_until(lambda: gauge.running == 3)
    worker.concurrency = 1
    gauge.most = 0
    gauge.gate.set()
    await worker.wait_idle()
    assert gauge.most <= 1
    assert worker.concurrency == 1


@pytest.mark.every_backend
async def test_the_concurrency_of_the_queue_holds_across_workers(queue: AnyQueue, start_worker: StartWorker) -> None:
    """E72."""
    await queue.limits.set_concurrency(2)
    gauge = Gauge()
    jobs = [await queue.add("x") for _ in range(6)]
    for _ in range(2):
        await start_worker(gauge, concurrency=4, drain_delay=50)
    await wait_until(lambda: gauge.running == 2)
    gauge.gate.set()
    await reach(queue, jobs, JobState.COMPLETED)
    assert gauge.most == 2


async def test_prioritized_jobs_run_after_the_others_by_ascending_number(
    queue: AnyQueue, start_worker: StartWorker
) -> None:
    """E77, E78."""
    for priority, data in ((5, "5a"), (1, "1a"), (0, "none"), (5, "5b"), (1, "1b"), (2_097_151, "last")):
        await queue.add("x", data, priority=priority)
    gauge = Gauge()
    gauge.gate.set()
    worker = await start_worker(gauge)
    await wait_until(lambda: len(gauge.order) == 6)
    await worker.wait_idle()
    assert gauge.order == ["none", "1a", "1b", "5a", "5b", "last"]


async def test_a_delayed_job_runs_at_its_time_and_not_before(queue: AnyQueue, start_worker: StartWorker) -> None:
    """E84, E86: also a short delay that is added after a long one. A block ends after ten seconds here."""
    started: dict[str, int | None] = {}

    async def process(job: Job[Any, Any]) -> None:
        started[job.name] = job.processed_on

    await start_worker(process, drain_delay=30_000)
    long = await queue.add("long", delay=2000)
    short = await queue.add("short", delay=100)
    await reach(queue, [short, long], JobState.COMPLETED)
    begun = [started["short"] or 0, started["long"] or 0]
    due = [short.timestamp + 100, long.timestamp + 2000]
    assert due[0] <= begun[0] < due[1] <= begun[1]


async def test_delayed_jobs_run_in_the_order_of_their_times(queue: AnyQueue, start_worker: StartWorker) -> None:
    """E87, E88."""
    gauge = Gauge()
    gauge.gate.set()
    await start_worker(gauge)
    await queue.add_bulk([JobSpec("x", delay, JobOptions(delay=delay)) for delay in (90, 30, 60, 60, 120)])
    await wait_until(lambda: len(gauge.order) == 5)
    assert gauge.order == [30, 60, 60, 90, 120]


async def test_a_job_added_while_a_delayed_one_is_pending_starts_at_once(
    queue: AnyQueue, start_worker: StartWorker
) -> None:
    """E52."""
    worker = await start_worker(lambda job: None, drain_delay=30_000)
    await queue.add("later", delay=60_000)
    await wait_until(lambda: "nothing to claim" in worker.health().reason)
    job = await queue.add("now")
    await reach(queue, job, JobState.COMPLETED, timeout=7)  # a block takes ten seconds


async def test_lost_markers_cost_no_more_than_the_drain_delay(
    queue: AnyQueue, start_worker: StartWorker, redis_client: Any, prefix: str
) -> None:
    """E92."""
    await redis_client.lpush(f"{prefix}:q:wait", "by-hand")
    await redis_client.hset(f"{prefix}:q:by-hand", mapping={"name": "x", "data": "{}", "opts": "{}", "timestamp": "1"})
    worker = await start_worker(lambda job: None, drain_delay=100)
    await wait_until(lambda: redis_client.zscore(f"{prefix}:q:completed", "by-hand"))
    await wait_until(lambda: "nothing to claim" in worker.health().reason)
    later = await queue.add("later", delay=20)
    await redis_client.delete(f"{prefix}:q:marker")
    await reach(queue, later, JobState.COMPLETED)


async def test_a_rate_limit_holds_over_workers_from_the_first_window(
    queue: AnyQueue, start_worker: StartWorker
) -> None:
    """E153, E154, E155; D3 of the official Python port. Claims are compared, by the server's clock."""
    claims: list[int] = []
    states: set[JobState] = set()

    async def process(job: Job[Any, Any]) -> None:
        claims.append(job.processed_on or 0)
        if len(claims) == 1:
            states.add(await queue.jobs.state(jobs[-1].id))

    jobs = [await queue.add("x") for _ in range(7)]
    for _ in range(2):
        await start_worker(process, concurrency=3, limiter=RateLimit(max=2, duration=200))
    await reach(queue, jobs, JobState.COMPLETED)
    assert states == {JobState.WAITING}
    windows = sorted(claims)[::2]
    gaps = [later - earlier for earlier, later in itertools.pairwise(windows)]
    assert all(gap >= 195 for gap in gaps), gaps  # the time of a script and the expiry of a key are rounded
    assert min(gaps) < 350  # nothing is added on top of the window; of three one is not disturbed by other programs


async def test_a_limit_that_is_lifted_lets_jobs_run_after_the_maximum_delay(
    queue: AnyQueue, start_worker: StartWorker
) -> None:
    """E163."""
    worker = await start_worker(
        lambda job: None, limiter=RateLimit(max=1, duration=60_000), maximum_rate_limit_delay=100
    )
    jobs = [await queue.add("x") for _ in range(2)]
    await reach(queue, jobs[0], JobState.COMPLETED)
    await wait_until(lambda: worker.health().limited_for > 0)
    assert "rate limit" in worker.health().reason
    await queue.limits.resume()
    await reach(queue, jobs[1], JobState.COMPLETED)


async def test_a_rate_limit_of_the_queue_is_obeyed(queue: AnyQueue, start_worker: StartWorker) -> None:
    """E159."""
    await queue.limits.set_rate(max=1, duration=100)
    claims: list[int] = []

    async def process(job: Job[Any, Any]) -> None:
        claims.append(job.processed_on or 0)

    await start_worker(process, concurrency=5)
    jobs = [await queue.add("x") for _ in range(3)]
    await reach(queue, jobs, JobState.COMPLETED)
    assert claims[2] - claims[0] >= 195


async def test_only_one_job_that_stalled_before_runs_at_a_time(
    queue: AnyQueue, start_worker: StartWorker, redis_client: Any, prefix: str
) -> None:
    """A job that was active when its worker died may be the killer: its neighbours must not die with it."""
    gauge = Gauge()
    jobs = [await queue.add("x", number) for number in range(6)]
    for job in jobs[:3]:
        await redis_client.hset(f"{prefix}:q:{job.id}", "stc", "1")
    await start_worker(gauge, concurrency=6)
    await wait_until(lambda: gauge.running == 4)
    assert sorted(gauge.order) == [0, 3, 4, 5]
    gauge.gate.set()
    await reach(queue, jobs, JobState.COMPLETED)
    assert (await stored(queue, jobs[2])).stalled_count == 1
