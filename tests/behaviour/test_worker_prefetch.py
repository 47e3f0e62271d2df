"""Jobs that a worker claims ahead: they wait in its hands, start in order, and go back when it will not run them."""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio
import pytest
from redis.asyncio import Redis

from pyqueue import ConfigurationError, Job, JobSpec, JobState, RateLimitJob, Worker
from tests.behaviour.conftest import AnyQueue, StartWorker
from tests.support.jobs import reach, stored
from tests.support.waiting import wait_until

pytestmark = pytest.mark.anyio


class Gated:
    """A processor that notes what it begins and waits until it is let go on."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.gate = anyio.Event()

    async def __call__(self, job: Job[Any, Any]) -> None:
        self.begun.append(job.id)
        await self.gate.wait()


async def active(queue: AnyQueue) -> int:
    return (await queue.jobs.counts())[JobState.ACTIVE]


async def holds(queue: AnyQueue, jobs: int) -> None:
    """Wait until so many are active."""

    async def are_active() -> bool:
        return await active(queue) == jobs

    await wait_until(are_active)


async def test_jobs_claimed_ahead_are_active_and_start_in_order(queue: AnyQueue, start_worker: StartWorker) -> None:
    processor = Gated()
    jobs = [await queue.add("x") for _ in range(8)]
    worker = await start_worker(processor, concurrency=2, prefetch=3)
    announced: list[str] = []
    worker.on("active", lambda job: announced.append(job.id))
    await holds(queue, 5)
    await wait_until(lambda: worker.health().prefetched == 3)
    health = worker.health()
    assert (health.running, health.concurrency, health.reason) == (2, 2, "every slot is busy")
    assert announced == processor.begun == [job.id for job in jobs[:2]]
    processor.gate.set()
    await reach(queue, jobs, JobState.COMPLETED)
    assert announced == processor.begun == [job.id for job in jobs]
    assert [(await stored(queue, job)).attempts_started for job in jobs] == [1] * 8


async def test_without_prefetch_a_worker_holds_what_it_runs(queue: AnyQueue, start_worker: StartWorker) -> None:
    processor = Gated()
    jobs = [await queue.add("x") for _ in range(4)]
    worker = await start_worker(processor, concurrency=2)
    await wait_until(lambda: len(processor.begun) == 2)
    assert (await active(queue), worker.health().prefetched) == (2, 0)
    processor.gate.set()
    await reach(queue, jobs, JobState.COMPLETED)


@pytest.mark.parametrize("how", ["pause", "close"])
async def test_jobs_that_have_not_started_go_back_in_their_order(
    queue: AnyQueue, start_worker: StartWorker, how: str
) -> None:
    processor = Gated()
    jobs = [await queue.add("x") for _ in range(5)]
    worker = await start_worker(processor, prefetch=3)
    await wait_until(lambda: worker.health().prefetched == 3)
    async with anyio.create_task_group() as group:
        if how == "pause":
            worker.pause()
        else:
            group.start_soon(worker.close)
        await holds(queue, 1)
        assert [job.id for job in await queue.jobs.list(JobState.WAITING, asc=True)] == [job.id for job in jobs[1:]]
        assert [(await stored(queue, job)).attempts_started for job in jobs[1:]] == [0] * 4
        processor.gate.set()
    await reach(queue, jobs[0], JobState.COMPLETED)
    assert processor.begun == [jobs[0].id]
    await start_worker(processor)
    await reach(queue, jobs, JobState.COMPLETED)
    assert processor.begun == [job.id for job in jobs]


async def test_a_forced_close_gives_everything_back(queue: AnyQueue, start_worker: StartWorker) -> None:
    processor = Gated()
    jobs = [await queue.add("x") for _ in range(4)]
    worker = await start_worker(processor, prefetch=10)
    await wait_until(lambda: worker.health().prefetched == 3)
    await worker.close(force=True)
    counts = await queue.jobs.counts()
    assert (counts[JobState.ACTIVE], counts[JobState.WAITING]) == (0, len(jobs))


async def test_a_rate_limit_noticed_by_a_job_gives_those_behind_it_back(
    queue: AnyQueue, start_worker: StartWorker
) -> None:
    begun: list[str] = []

    async def process(job: Job[Any, Any]) -> None:
        begun.append(job.id)
        if len(begun) == 1:
            raise RateLimitJob(300)

    jobs = [await queue.add("x") for _ in range(4)]
    await queue.pause()
    worker = await start_worker(process, prefetch=3)
    await queue.resume()
    await reach(queue, jobs, JobState.COMPLETED)
    assert begun == [jobs[0].id, *(job.id for job in jobs)]
    assert worker.health().prefetched == 0


async def test_locks_of_jobs_that_wait_are_kept(queue: AnyQueue, start_worker: StartWorker) -> None:
    """Another worker looks for stalled jobs all the time, and finds none."""
    begun: list[str] = []

    async def process(job: Job[Any, Any]) -> None:
        begun.append(job.id)
        await anyio.sleep(0.5)

    jobs = [await queue.add("x") for _ in range(3)]
    await start_worker(process, prefetch=2, lock_duration=200, stalled_interval=50)
    await holds(queue, 3)
    await start_worker(process, lock_duration=200, stalled_interval=50)
    await reach(queue, jobs, JobState.COMPLETED)
    assert begun == [job.id for job in jobs]
    assert [(await stored(queue, job)).stalled_count for job in jobs] == [0, 0, 0]


async def test_a_job_whose_lock_is_lost_while_it_waits_does_not_start(
    queue: AnyQueue, redis_client: Redis, start_worker: StartWorker
) -> None:
    processor = Gated()
    jobs = [await queue.add("x") for _ in range(3)]
    worker = await start_worker(processor, prefetch=2, lock_duration=300)
    lost: list[str] = []
    worker.on("lock_lost", lambda job: lost.append(job.id))
    worker.on("error", lambda error: None)
    await wait_until(lambda: worker.health().prefetched == 2)
    await redis_client.set(f"{queue.options.prefix}:{queue.name}:{jobs[1].id}:lock", "another")
    await wait_until(lambda: lost == [jobs[1].id])
    processor.gate.set()
    await reach(queue, [jobs[0], jobs[2]], JobState.COMPLETED)
    assert processor.begun == [jobs[0].id, jobs[2].id]


async def test_what_waits_starts_when_the_concurrency_is_raised(queue: AnyQueue, start_worker: StartWorker) -> None:
    processor = Gated()
    jobs = [await queue.add("x") for _ in range(3)]
    worker = await start_worker(processor, prefetch=2)
    await wait_until(lambda: worker.health().prefetched == 2)
    worker.concurrency = 3
    await wait_until(lambda: len(processor.begun) == 3)
    processor.gate.set()
    await reach(queue, jobs, JobState.COMPLETED)


async def test_a_claim_on_its_way_does_not_start_behind_a_rate_limit(
    queue: AnyQueue, start_worker: StartWorker
) -> None:
    """With more jobs in hand than one exchange settles, so that the limit is not told by the first."""
    begun: list[tuple[str, bool]] = []
    limited = False

    async def process(job: Job[Any, Any]) -> None:
        nonlocal limited
        begun.append((job.id, limited))
        if job.name == "limits" and job.attempts_started == 1:
            limited = True
            raise RateLimitJob(300)

    jobs = [await queue.add("x") for _ in range(3)]
    jobs.append(await queue.add("limits"))
    jobs += await queue.add_bulk([JobSpec("x") for _ in range(120)])
    worker = await start_worker(process, prefetch=60)

    async def is_limited() -> bool:
        return worker.health().limited_for > 0

    await wait_until(is_limited)
    started_within = [job_id for job_id, late in begun if late]
    await reach(queue, jobs, JobState.COMPLETED)
    assert started_within == []
    assert sorted(job_id for job_id, _ in begun) == sorted([jobs[3].id, *(job.id for job in jobs)])


async def test_prioritized_jobs_go_back_in_their_order(queue: AnyQueue, start_worker: StartWorker) -> None:
    processor = Gated()
    jobs = [await queue.add("x", priority=5) for _ in range(14)]
    worker = await start_worker(processor, prefetch=12)
    await wait_until(lambda: worker.health().prefetched == 12)
    worker.pause()
    await holds(queue, 1)
    worker.resume()
    await wait_until(lambda: worker.health().prefetched == 12)
    worker.pause()
    await holds(queue, 1)
    worker.resume()
    processor.gate.set()
    await reach(queue, jobs, JobState.COMPLETED)
    assert processor.begun == [job.id for job in jobs]


async def test_a_claim_on_its_way_goes_back_behind_those_that_wait(queue: AnyQueue, start_worker: StartWorker) -> None:
    """Paused again and again while exchanges are in flight, short jobs keep their order."""
    begun: list[int] = []

    async def process(job: Job[Any, Any]) -> None:
        begun.append(int(job.id))
        await anyio.sleep(0.001)

    def has_begun(number: int) -> bool:
        return len(begun) >= number

    jobs = await queue.add_bulk([JobSpec("x") for _ in range(150)])
    worker = await start_worker(process, prefetch=20)
    for number in range(1, 31):
        await wait_until(partial(has_begun, number))
        worker.pause()
        await worker.wait_idle()
        worker.resume()
    await reach(queue, jobs, JobState.COMPLETED)
    assert begun == sorted(begun)


async def test_the_number_may_be_changed_while_it_runs(queue: AnyQueue, start_worker: StartWorker) -> None:
    processor = Gated()
    jobs = [await queue.add("x") for _ in range(6)]
    worker = await start_worker(processor)
    await wait_until(lambda: len(processor.begun) == 1)
    assert (worker.prefetch, worker.health().prefetched) == (0, 0)
    worker.prefetch = 3
    await wait_until(lambda: worker.health().prefetched == 3)
    with pytest.raises(ConfigurationError, match="prefetch"):
        worker.prefetch = -1
    assert worker.prefetch == 3
    processor.gate.set()
    await reach(queue, jobs, JobState.COMPLETED)


def test_jobs_ahead_and_a_rate_limit_exclude_each_other() -> None:
    limiter = {"max": 10, "duration": 1000}
    with pytest.raises(ConfigurationError, match=r"limiter is given and prefetch is 5: .* leave one of them out"):
        Worker("q", lambda job: None, prefetch=5, limiter=limiter)
    worker: Worker[Any, Any] = Worker("q", lambda job: None, limiter=limiter)
    with pytest.raises(ConfigurationError, match="prefetch is 5"):
        worker.prefetch = 5


@pytest.mark.parametrize("value", [-1, 1.5, "2", True])
def test_a_wrong_number_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="prefetch"):
        Worker("q", lambda job: None, prefetch=value)
