"""Which job is next, when priorities, delays, limits and dead workers meet."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from pyqueue import Job, JobNotFound, JobState, RateLimit, RateLimitJob, Unrecoverable
from tests.behaviour.conftest import AnyQueue, StartWorker
from tests.support.by_hand import take
from tests.support.flow_bed import FlowBed, node
from tests.support.jobs import reach, stored
from tests.support.waiting import wait_until

pytestmark = pytest.mark.anyio


class Names:
    """A processor that notes the names it runs, and the most it ran at once."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.most = 0
        self._running = 0

    async def __call__(self, job: Job[Any, Any]) -> None:
        self.ran.append(job.name)
        self._running += 1
        self.most = max(self.most, self._running)
        await anyio.sleep(0.005)
        self._running -= 1


async def test_a_delay_of_nothing_is_none(queue: AnyQueue) -> None:
    """E85."""
    assert await (await queue.add("x", delay=0)).state() is JobState.WAITING
    assert await (await queue.add("x", delay=0, priority=3)).state() is JobState.PRIORITIZED


async def test_priorities_hold_for_jobs_with_ids_of_their_own(queue: AnyQueue, start_worker: StartWorker) -> None:
    """E80."""
    jobs = [
        await queue.add(name, job_id=f"own-{name}", priority=priority)
        for name, priority in (("b", 2), ("a", 1), ("c", 2))
    ]
    names = Names()
    await start_worker(names)
    await reach(queue, jobs, JobState.COMPLETED)
    assert names.ran == ["a", "b", "c"]


async def test_a_prioritized_job_added_while_the_last_one_runs_starts_at_once(
    queue: AnyQueue, start_worker: StartWorker
) -> None:
    """E79: not when a block ends (ten seconds)."""
    release = anyio.Event()

    async def process(job: Job[Any, Any]) -> None:
        if job.name == "first":
            await release.wait()

    await start_worker(process, drain_delay=30_000)
    first = await queue.add("first")
    await reach(queue, first, JobState.ACTIVE)
    second = await queue.add("second", priority=5)
    release.set()
    await reach(queue, [first, second], JobState.COMPLETED, timeout=7)


async def test_a_retried_job_of_better_priority_goes_before_due_jobs(queue: AnyQueue) -> None:
    """E100."""
    await queue.add("retried", priority=1, attempts=2)
    await queue.add("due", priority=5, delay=1)
    job = await take(queue)
    await anyio.sleep(0.005)  # the delay
    await job.move_to_failed("once")
    assert [(await take(queue)).name for _ in range(2)] == ["retried", "due"]


async def test_a_job_that_delays_itself_may_fetch_the_next(queue: AnyQueue) -> None:
    """E106."""
    await queue.add_bulk([{"name": name} for name in ("a", "b", "c")])
    job = await take(queue)
    following = (await job.move_to_delayed(60_000, fetch_next=True)).job
    assert following is not None
    assert (following.name, following.token) == ("b", job.token)
    assert (await following.move_to_delayed(60_000)).job is None
    last = await take(queue)
    fetched = await last.move_to_delayed(30_000, fetch_next=True)
    assert (fetched.job, fetched.next_delayed_ms > last.timestamp) == (None, True)


async def test_a_removed_job_gives_its_place_under_the_concurrency_of_the_queue_back(
    queue: AnyQueue, start_worker: StartWorker, redis_client: Any, prefix: str
) -> None:
    """E73: its worker is dead and its lock has run out."""
    await queue.limits.set_concurrency(1)
    await queue.add("dead")
    dead = await take(queue)
    await redis_client.delete(f"{prefix}:q:{dead.id}:lock")
    assert await queue.is_maxed()
    await dead.remove()
    names = Names()
    await start_worker(names, concurrency=3)
    await reach(queue, await queue.add_bulk([{"name": "x"}] * 3), JobState.COMPLETED)
    assert names.most == 1


async def test_stalled_jobs_run_in_order_under_the_concurrency_of_the_queue(
    queue: AnyQueue, start_worker: StartWorker, redis_client: Any, prefix: str
) -> None:
    """E74."""
    await queue.limits.set_concurrency(1)
    jobs = await queue.add_bulk([{"name": name} for name in ("a", "b", "c")])
    dead = await take(queue)
    await redis_client.delete(f"{prefix}:q:{dead.id}:lock")
    names = Names()
    for _ in range(2):
        await start_worker(names, concurrency=3, stalled_interval=30)
    await reach(queue, jobs, JobState.COMPLETED)
    assert (names.ran, names.most) == (["a", "b", "c"], 1)


async def test_a_job_without_end_does_not_hold_the_rate_limit_up(queue: AnyQueue, start_worker: StartWorker) -> None:
    """E156."""

    async def process(job: Job[Any, Any]) -> None:
        if job.name == "endless":
            await anyio.sleep(60)

    await queue.add("endless")
    jobs = await queue.add_bulk([{"name": "x"}] * 3)
    await start_worker(process, concurrency=2, limiter=RateLimit(max=1, duration=50))
    await reach(queue, jobs, JobState.COMPLETED)


async def test_pausing_within_a_window_leaves_jobs_waiting(queue: AnyQueue, start_worker: StartWorker) -> None:
    """E157."""
    jobs = await queue.add_bulk([{"name": "x"}] * 4)
    names = Names()
    await start_worker(names, limiter=RateLimit(max=2, duration=1000), maximum_rate_limit_delay=100)
    await reach(queue, jobs[:2], JobState.COMPLETED)
    await queue.pause()
    await wait_until(lambda: _has_no_window(queue))
    assert [await job.state() for job in jobs[2:]] == [JobState.WAITING] * 2
    await queue.resume()
    await reach(queue, jobs, JobState.COMPLETED)


async def _has_no_window(queue: AnyQueue) -> bool:
    return await queue.limits.ttl() <= 0


async def test_every_queue_of_a_flow_has_its_own_limit(bed: FlowBed) -> None:
    """E158."""
    claims: list[int] = []

    async def child(job: Job[Any, Any]) -> None:
        claims.append(job.processed_on or 0)

    await bed.work(child, "c", limiter=RateLimit(max=1, duration=100), concurrency=5)
    await bed.work(Names(), "q")
    await bed.producer.add(node("P", *(node(f"A{n}", queue="c") for n in range(4))))
    await bed.reach("P", JobState.COMPLETED)
    assert claims[-1] - claims[0] >= 290  # the first and the last of four windows


async def test_a_job_that_is_gone_cannot_be_rate_limited(queue: AnyQueue, start_worker: StartWorker) -> None:
    """E161: by hand that raises; in a worker it is an error event."""
    gone = await queue.add("gone")
    errors: list[Exception] = []

    async def process(job: Job[Any, Any]) -> None:
        await queue._store.commands.execute("DEL", queue._store.keys.job(job.id), queue._store.keys.lock(job.id))
        raise RateLimitJob(10)

    worker = await start_worker(process)
    worker.on("error", errors.append)
    await wait_until(lambda: errors)
    assert isinstance(errors[0], JobNotFound)
    assert errors[0].job_id == gone.id


async def test_a_rate_limited_job_may_give_up(queue: AnyQueue, start_worker: StartWorker) -> None:
    """E161: rate limiting spends no attempt, so its processor counts the starts."""

    async def process(job: Job[Any, Any]) -> None:
        if job.attempts_started >= 3:
            raise Unrecoverable("limited too often")
        raise RateLimitJob(20)

    job = await queue.add("x", attempts=1)
    await start_worker(process, limiter=RateLimit(max=10, duration=50))
    await reach(queue, job, JobState.FAILED)
    end = await stored(queue, job)
    assert (end.failed_reason, end.attempts_started, end.attempts_made) == ("limited too often", 3, 1)


async def test_priorities_hold_under_a_limit(queue: AnyQueue, start_worker: StartWorker) -> None:
    """E165."""
    jobs = [await queue.add(str(priority), priority=priority) for priority in (4, 2, 3, 1)]
    names = Names()
    await start_worker(names, concurrency=4, limiter=RateLimit(max=1, duration=30))
    await reach(queue, jobs, JobState.COMPLETED)
    assert names.ran == ["1", "2", "3", "4"]
