"""The claim that stands behind the pop of an idle worker: it starts jobs without a round trip and loses none.

What a worker does without such a claim (fakeredis, a cluster, short locks) is what the other tests see on `fake`.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import pytest

from pyqueue import DelayJob, Job, JobOptions, JobSpec, JobState, Queue, RateLimitJob, Worker
from pyqueue._worker.engine import Engine
from tests.support.proxy import Mode, Proxy
from tests.support.server import RedisServer
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.needs_server]

#: Longer than any of these tests may take: no job is found because a pop has come to its end.
DRAIN_MS: Final = 10_000


class Bed:
    """A worker behind a proxy, and a queue that is not."""

    def __init__(self, queue: Queue[Any, Any], proxy: Proxy, prefix: str) -> None:
        self.queue = queue
        self.runs: list[str] = []
        self.process: Callable[[Job[Any, Any]], Any] = lambda job: None
        self._proxy = proxy
        self._prefix = prefix

    @asynccontextmanager
    async def worker(self, **options: Any) -> AsyncIterator[Worker[Any, Any]]:
        """An idle worker, whose claim stands (or whose pop does, where no claim can)."""

        async def process(job: Job[Any, Any]) -> None:
            self.runs.append(job.id)
            value = self.process(job)
            if asyncio.iscoroutine(value):
                await value

        defaults: dict[str, Any] = {"connection": self._proxy.url, "prefix": self._prefix, "drain_delay": DRAIN_MS}
        async with Worker("q", process, **defaults | options) as worker:
            await self.is_idle(worker)
            yield worker

    async def is_idle(self, worker: Worker[Any, Any]) -> None:
        """Wait until the worker waits for jobs, and the server knows."""
        engine = worker._parts.engine
        await wait_until(lambda: engine.is_blocking and not engine._dispatch.flying)

        async def is_blocked() -> bool:
            info = await self.queue._store.commands.execute("INFO", "clients")
            return b"blocked_clients:0" not in info

        await wait_until(is_blocked)

    async def has(self, state: str, *job_ids: str) -> None:
        """Wait until these are the jobs in a state."""

        async def is_so() -> bool:
            return sorted([job.id for job in await self.queue.jobs.list(state)]) == sorted(job_ids)

        await wait_until(is_so)

    async def events(self) -> Counter[str]:
        """How often each event was written."""
        rows = await self.queue._store.commands.execute("XRANGE", self.queue._store.keys.events, "-", "+")
        return Counter(fields[fields.index(b"event") + 1].decode() for _, fields in rows)

    async def calls(self) -> int:
        """Scripts and pops so far."""
        info = (await self.queue._store.commands.execute("INFO", "commandstats")).decode()
        return sum(int(calls) for calls in re.findall(r"cmdstat_(?:evalsha|bzpopmin):calls=(\d+)", info))


def stands(engine: Engine, number: int) -> bool:
    """Whether another claim stands, or stood, since this one."""
    return engine._standing.sender.last_number > number


@pytest.fixture
async def bed(server: RedisServer, proxy: Proxy, prefix: str) -> AsyncIterator[Bed]:
    async with Queue[Any, Any]("q", connection=server.url, prefix=prefix) as queue:
        yield Bed(queue, proxy, prefix)


@pytest.mark.parametrize("concurrency", [1, 10])
async def test_a_job_is_claimed_for_an_idle_worker_that_says_nothing(bed: Bed, proxy: Proxy, concurrency: int) -> None:
    async with bed.worker(concurrency=concurrency):
        proxy.mode = Mode.LATE  # whatever the worker sends stays with the proxy
        job = await bed.queue.add("job")
        assert await job.state() is JobState.ACTIVE
        proxy.mode = Mode.PASS
        await bed.has("completed", job.id)
    assert bed.runs == [job.id]


async def test_a_job_starts_before_its_worker_waits_for_the_next(bed: Bed, proxy: Proxy) -> None:
    waited: list[bool] = []
    jobs: list[str] = []
    async with bed.worker(concurrency=10) as worker:
        bed.process = lambda job: waited.append(worker._parts.engine.is_blocking)
        for _ in range(2):
            proxy.mode = Mode.LATE
            job = await bed.queue.add("job")
            assert await job.state() is JobState.ACTIVE, "no claim stood"
            proxy.mode = Mode.PASS
            jobs.append(job.id)
            await bed.has("completed", *jobs)
            await bed.is_idle(worker)
    assert waited == [False, False]


async def test_a_worker_does_not_wait_while_an_outcome_is_under_way(bed: Bed, proxy: Proxy) -> None:
    async with bed.worker(concurrency=10) as worker:
        engine = worker._parts.engine
        proxy.mode = Mode.LATE
        job = await bed.queue.add("job")
        await wait_until(lambda: engine.unsettled > 0)
        for _ in range(10):  # turns of the event loop: time enough for what may be sent
            await asyncio.sleep(0)
        assert not engine.is_blocking
        proxy.mode = Mode.PASS
        await bed.has("completed", job.id)
        await bed.is_idle(worker)


async def test_a_worker_with_short_locks_asks_for_itself(bed: Bed, proxy: Proxy) -> None:
    async with bed.worker(lock_duration=15_000):
        proxy.mode = Mode.LATE
        job = await bed.queue.add("job")
        assert await job.state() is JobState.WAITING
        proxy.mode = Mode.PASS
        await bed.has("completed", job.id)


async def test_a_job_whose_claim_was_answered_into_the_void_is_run_once(bed: Bed, proxy: Proxy) -> None:
    async with bed.worker():
        proxy.mode = Mode.CUT_ONE_REPLY
        job = await bed.queue.add("job")
        await bed.has("completed", job.id)
    assert bed.runs == [job.id]
    [done] = await bed.queue.jobs.list("completed")
    assert (done.attempts_started, done.attempts_made, done.stalled_count) == (1, 1, 0)


async def test_a_broken_connection_takes_its_claim_with_it(bed: Bed, proxy: Proxy) -> None:
    async with bed.worker() as worker:
        proxy.cut()
        await bed.is_idle(worker)
        jobs = [await bed.queue.add("job") for _ in range(5)]
        await bed.has("completed", *(job.id for job in jobs))
    assert Counter(bed.runs) == Counter({job.id: 1 for job in jobs})


@pytest.mark.parametrize("is_closed", [False, True], ids=["paused", "closed"])
async def test_a_job_that_a_leaving_worker_has_not_heard_of_goes_back(bed: Bed, proxy: Proxy, is_closed: bool) -> None:
    async with bed.worker(concurrency=3) as worker:
        proxy.mode = Mode.LOSE_REPLIES
        jobs = [await bed.queue.add("job") for _ in range(2)]
        await bed.has("active", *(job.id for job in jobs[:1]))
        proxy.mode = Mode.PASS
        if is_closed:
            await worker.close()
        else:
            worker.pause()
        await bed.has("active")
        waiting = await bed.queue.jobs.list("waiting", asc=True)
        assert [job.id for job in waiting] == [job.id for job in jobs]
        assert bed.runs == []
        async with bed.worker():
            await bed.has("completed", *(job.id for job in jobs))
    assert bed.runs == [job.id for job in jobs]
    assert [job.attempts_made for job in await bed.queue.jobs.list("completed")] == [1, 1]


@pytest.mark.parametrize("is_closed", [False, True], ids=["paused", "closed"])
@pytest.mark.parametrize("delay", [0, 300])
async def test_what_a_leaving_worker_has_popped_is_left_to_another(
    bed: Bed, proxy: Proxy, server: RedisServer, is_closed: bool, delay: int
) -> None:
    async with bed.worker() as leaving, bed.worker(connection=server.url):
        proxy.mode = Mode.ONE_REPLY  # the claim's comes later
        job = await bed.queue.add("job", delay=delay)
        await wait_until(lambda: not leaving._parts.engine.is_blocking)
        async with anyio.create_task_group() as group:
            if is_closed:
                group.start_soon(leaving.close)
                await wait_until(lambda: leaving._parts.engine.agenda.is_closing)
            else:
                leaving.pause()
            proxy.mode = Mode.PASS
        with anyio.fail_after(DRAIN_MS / 2000):
            await bed.has("completed", job.id)
    assert bed.runs == [job.id]


@pytest.mark.parametrize("what", ["concurrency", "prefetch"])
async def test_slots_that_are_taken_away_are_not_filled(bed: Bed, what: str) -> None:
    may_end = asyncio.Event()
    bed.process = lambda job: may_end.wait()
    async with bed.worker(**{what: 5}) as worker:
        setattr(worker, what, 1)
        await bed.is_idle(worker)
        jobs = [job.id for job in await bed.queue.add_bulk([JobSpec("job")] * 4)]
        try:
            await bed.has("active", *jobs[: worker.concurrency + worker.prefetch])
        finally:
            may_end.set()
        await bed.has("completed", *jobs)


async def test_no_claim_stands_for_the_slot_of_a_job_whose_end_is_on_its_way(bed: Bed, proxy: Proxy) -> None:
    may_end = {"a": asyncio.Event(), "b": asyncio.Event()}
    bed.process = lambda job: may_end[job.name].wait()
    async with bed.worker(concurrency=3, drain_delay=500) as worker:
        engine = worker._parts.engine
        for name in may_end:
            await bed.queue.add(name)
        await wait_until(lambda: len(bed.runs) == 2)
        await wait_until(lambda: engine._standing.jobs == 1)
        proxy.mode = Mode.LATE
        for event in may_end.values():
            event.set()
            await wait_until(lambda: engine.unsettled > 0)
        stood = engine._standing.sender.last_number
        await wait_until(lambda: not engine.is_blocking)  # the pop has come to its end
        assert not stands(engine, stood), "two jobs are active in Redis, and two slots are reserved"
        proxy.mode = Mode.PASS
        await wait_until(lambda: stands(engine, stood))
        assert (engine.unsettled, engine._standing.jobs) == (0, 3)


async def test_a_job_claimed_for_a_blocked_event_loop_keeps_its_lock(bed: Bed, server: RedisServer) -> None:
    async def add_and_watch() -> tuple[str, int]:
        """Add a job, and tell what is left of its lock (ms) when it would have run out."""
        async with Queue[Any, Any]("q", connection=server.url, prefix=bed.queue._store.keys.prefix) as queue:
            job = await queue.add("second")
            assert await job.state() is JobState.ACTIVE
            await anyio.sleep(1.5 * lock_ms / 1000)
            return job.id, await queue._store.commands.execute("PTTL", f"{queue._store.keys.base}{job.id}:lock")

    async def process(job: Job[Any, Any]) -> None:
        if job.name == "block":
            await may_block.wait()
            with ThreadPoolExecutor() as pool:
                seen.append(pool.submit(asyncio.run, add_and_watch()).result())

    lock_ms = 1500
    may_block = asyncio.Event()
    seen: list[tuple[str, int]] = []
    bed.process = process
    options = {"lock_duration": lock_ms, "drain_delay": lock_ms // 2, "connection": server.url}
    async with bed.worker(concurrency=2, **options) as worker:
        await bed.queue.add("block")
        await wait_until(lambda: worker._parts.slots.running)
        await bed.is_idle(worker)
        may_block.set()
        await wait_until(lambda: len(bed.runs) == 2)
    [(job_id, left_ms)] = seen
    assert left_ms > 0
    [done] = [job for job in await bed.queue.jobs.list("completed") if job.id == job_id]
    assert (done.attempts_started, done.stalled_count) == (1, 0)


async def test_a_paused_worker_starts_nothing_and_a_resumed_one_does(bed: Bed) -> None:
    async with bed.worker() as worker:
        for _ in range(5):
            worker.pause()
            job = await bed.queue.add("job")
            await wait_until(lambda: not worker._parts.engine.is_blocking)
            await bed.has("waiting", job.id)  # at once, or when it was given back
            assert job.id not in bed.runs
            worker.resume()
            await bed.has("completed", *bed.runs, job.id)
            await bed.is_idle(worker)
    assert len(set(bed.runs)) == 5


async def test_a_script_that_the_server_has_forgotten_meanwhile_is_sent(bed: Bed, client: Any) -> None:
    async with bed.worker():
        await client.script_flush()
        job = await bed.queue.add("job")
        await bed.has("completed", job.id)


async def test_a_job_that_becomes_due_while_all_slots_are_reserved_ends_the_pop(bed: Bed) -> None:
    may_end = asyncio.Event()

    async def process(job: Job[Any, Any]) -> None:
        if not may_end.is_set():
            await may_end.wait()
            raise DelayJob(200)

    bed.process = process
    async with bed.worker(concurrency=2) as worker:
        job = await bed.queue.add("job")
        await wait_until(lambda: bed.runs == [job.id])
        await bed.is_idle(worker)
        worker.concurrency = 1  # what the claim may bring is all there is
        may_end.set()
        with anyio.fail_after(DRAIN_MS / 2000):
            await bed.has("completed", job.id)
    assert bed.runs == [job.id, job.id]


async def test_delayed_jobs_that_are_due_soon_cost_no_more_calls(bed: Bed) -> None:
    async with bed.worker() as worker:
        await bed.queue.add_bulk([JobSpec("job", options=JobOptions(delay=200 + 30 * n)) for n in range(20)])
        await bed.is_idle(worker)
        before = await bed.calls()
        await wait_until(lambda: len(bed.runs) == 20)
        assert await bed.calls() - before <= 20 * 4, "claim, end, pop, and the other pop now and then"


@pytest.mark.parametrize("is_claimed_before", [False, True])
async def test_no_job_starts_under_a_rate_limit_that_a_job_has_hit(
    bed: Bed, proxy: Proxy, is_claimed_before: bool
) -> None:
    is_hit = asyncio.Event()
    is_lifted = False

    async def process(job: Job[Any, Any]) -> None:
        assert is_lifted or job.name == "first", "started under the limit"
        if not is_hit.is_set():
            await is_hit.wait()
            raise RateLimitJob(1000)

    bed.process = process
    async with bed.worker(concurrency=2) as worker:
        first = await bed.queue.add("first")
        await wait_until(lambda: bed.runs == [first.id])
        await bed.is_idle(worker)  # the other slot is reserved
        if is_claimed_before:
            proxy.mode = Mode.DELAY  # the worker hears of it after its other job has hit the limit
            second = await bed.queue.add("second")
            assert await second.state() is JobState.ACTIVE
            is_hit.set()
        else:
            is_hit.set()
            await bed.has("active")
            second = await bed.queue.add("second")
        await bed.has("active")
        assert bed.runs == [first.id]
        is_lifted = True
        proxy.mode = Mode.PASS
        await bed.has("completed", first.id, second.id)
    assert Counter(bed.runs) == {first.id: 2, second.id: 1}


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_a_worker_never_holds_more_jobs_than_it_has_slots(bed: Bed, concurrency: int) -> None:
    """Under adds, delays and retries in all moments, told from the order of events; and none is given back."""
    chance = random.Random(concurrency)

    async def process(job: Job[Any, Any]) -> None:
        await anyio.sleep(chance.choice([0, 0, 0.001, 0.01]))

    async def add() -> None:
        for _ in range(60):
            await bed.queue.add("job", delay=chance.choice([0, 0, 1, 5, 30]))
            await anyio.sleep(chance.choice([0, 0.002, 0.02]))

    bed.process = process
    async with bed.worker(concurrency=concurrency), anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(add)
        await wait_until(lambda: len(bed.runs) == 120)

    rows = await bed.queue._store.commands.execute("XRANGE", bed.queue._store.keys.events, "-", "+")
    held = most = 0
    for _, fields in rows:
        event = fields[fields.index(b"event") + 1]
        held += {b"active": 1, b"completed": -1}.get(event, 0)
        most = max(most, held)
    assert most == concurrency
    assert (await bed.events())["active"] == 120
    assert len(set(bed.runs)) == 120
