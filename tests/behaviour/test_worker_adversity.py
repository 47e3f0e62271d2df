"""Workers in adversity that has several parts: signals in an outage, wrong clocks, restarts shorter than a lock."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from typing import Any

import anyio
import pytest
from redis.asyncio import Redis

from pyqueue import Job, JobSpec, JobState, Queue, RateLimitJob, Worker
from pyqueue._store.settling import ClaimRequest, settle_and_claim
from tests.behaviour.conftest import AnyQueue, StartWorker
from tests.behaviour.test_runner import ended, program, until_started
from tests.support.jobs import reach, stored
from tests.support.server import RedisServer
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

_APPEND: tuple[str, ...] = ("--appendonly", "yes", "--appendfsync", "always")
HOUR_S = 3600


@pytest.mark.needs_server
@pytest.mark.parametrize("signals", [1, 2])
async def test_a_program_ends_in_an_outage_and_its_job_runs_again(tmp_path: Path, prefix: str, signals: int) -> None:
    """SIGTERM with Redis down: the close is bounded, the exit orderly, and nothing is lost."""
    with RedisServer.started(tmp_path, _APPEND) as server:
        async with Queue[Any, Any]("q", connection=server.url, prefix=prefix) as queue:
            job = await queue.add("long", 60)
            with program(server.url, prefix, 0.5) as process:
                await until_started(queue, [job])
                server.kill()
                began = time.monotonic()
                for _ in range(signals):
                    process.send_signal(signal.SIGTERM)
                    await anyio.sleep(0.1)  # two signals at once are one
                assert await ended(process) == (0, "closed\n")
                assert time.monotonic() - began < 20
            server.start()
            assert await job.state() is JobState.ACTIVE  # until its lock has run out


@pytest.mark.needs_server
async def test_a_restart_of_redis_shorter_than_the_lock_costs_no_run(tmp_path: Path, prefix: str) -> None:
    """Its renewal meets the outage again and again, and comes in time."""
    starts = 0

    async def process(job: Job[Any, Any]) -> None:
        nonlocal starts
        starts += 1
        await anyio.sleep(5)

    with RedisServer.started(tmp_path, _APPEND) as server:
        async with Queue[Any, Any]("q", connection=server.url, prefix=prefix) as queue:
            job = await queue.add("x")
            options: dict[str, Any] = {"lock_duration": 4000, "stalled_interval": 500}
            async with Worker("q", process, connection=server.url, prefix=prefix, **options):
                await reach(queue, job, JobState.ACTIVE)
                for _ in range(2):
                    await anyio.sleep(1)
                    await asyncio.to_thread(server.kill)
                    await asyncio.to_thread(server.start)
                await reach(queue, job, JobState.COMPLETED, timeout=20)
    assert starts == 1


@pytest.mark.needs_server
@pytest.mark.not_on("fake", reason="its clock is the host's")
@pytest.mark.parametrize("ahead_s", [HOUR_S, -HOUR_S])
async def test_a_wrong_clock_of_the_host_runs_nothing_early_late_or_twice(
    queue: AnyQueue, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch, ahead_s: int
) -> None:
    """Locks, delays, backoff and limits go by the server's clock."""
    real = time.time
    starts: list[tuple[str, float]] = []

    async def process(job: Job[Any, Any]) -> None:
        starts.append((job.name, real()))
        if job.name == "retried" and job.attempts_made == 0:
            raise ValueError
        await anyio.sleep(job.data)

    added = real()
    delayed = await queue.add("delayed", 0, delay=400)
    retried = await queue.add("retried", 0, attempts=2, backoff=400)
    long = await queue.add("long", 3)
    monkeypatch.setattr(time, "time", lambda: real() + ahead_s)
    await start_worker(process, concurrency=3, lock_duration=2500, stalled_interval=200)

    await reach(queue, [delayed, retried, long], JobState.COMPLETED, timeout=20)

    assert sorted(name for name, _ in starts) == ["delayed", "long", "retried", "retried"]
    assert dict(starts)["delayed"] - added >= 0.399
    first, second = (at for name, at in starts if name == "retried")
    assert second - first >= 0.399


@pytest.mark.needs_server
async def test_broken_connections_are_replaced_and_not_piled_up(server: RedisServer, prefix: str) -> None:
    async with Queue[Any, Any]("q", connection=server.url, prefix=prefix) as queue:
        async with Worker("q", _nap, connection=server.url, prefix=prefix, concurrency=4, lock_duration=4000):
            with server.client() as admin:
                for _ in range(15):
                    admin.client_kill_filter(_type="normal", skipme=True)
                    await queue.add("x")
                    await anyio.sleep(0.05)

                async def is_done() -> bool:
                    return (await queue.jobs.counts())[JobState.COMPLETED] == 15

                await wait_until(is_done, timeout=20)
                # Exchanges, blocking, leases and verbs of the worker; those of the queue; the admin's.
                assert len(admin.client_list()) <= 4 + 4 + 4
        jobs = await queue.jobs.list("completed")
    assert {job.attempts_started for job in jobs} == {1}


@pytest.mark.needs_server
async def test_a_lock_that_goes_while_the_outcome_is_on_its_way_leaves_the_job_to_its_new_owner(
    server: RedisServer, prefix: str
) -> None:
    """The outcome is refused, whatever it was."""
    finish = anyio.Event()

    async def process(job: Job[Any, Any]) -> str:
        await finish.wait()
        with server.client() as admin:
            admin.set(f"{prefix}:q:{job.id}:lock", "another")
        return "too late"

    lost: list[str] = []
    async with Queue[Any, Any]("q", connection=server.url, prefix=prefix) as queue:
        job = await queue.add("x")
        worker: Worker[Any, Any] = Worker("q", process, connection=server.url, prefix=prefix)
        worker.on("lock_lost", lambda job: lost.append(job.id))
        async with worker:
            await reach(queue, job, JobState.ACTIVE)
            finish.set()
            await wait_until(lambda: lost == [job.id])
            assert await job.state() is JobState.ACTIVE
            assert (await stored(queue, job)).return_value is None


async def test_a_field_whose_name_holds_the_separator_of_names_spoils_nothing(
    queue: AnyQueue, redis_client: Redis, start_worker: StartWorker
) -> None:
    jobs = [await queue.add("x", number) for number in range(3)]
    await redis_client.hset(f"{queue.options.prefix}:{queue.name}:{jobs[1].id}", "a\0b", "1")
    seen: list[int] = []
    await start_worker(lambda job: seen.append(job.data))
    await reach(queue, jobs, JobState.COMPLETED)
    assert seen == [0, 1, 2]


async def test_a_claimed_job_that_is_gone_when_its_exchange_is_sent_again_has_no_fields(
    queue: AnyQueue, redis_client: Redis
) -> None:
    jobs = [await queue.add("x", number) for number in range(3)]
    request = ClaimRequest(3, "t", 0)
    first = await settle_and_claim(queue._store, [], request, sender="s", sequence=1)
    await redis_client.delete(f"{queue.options.prefix}:{queue.name}:{jobs[1].id}")
    again = await settle_and_claim(queue._store, [], request, sender="s", sequence=1)
    assert (first.claims, again.claims) == (3, 3)
    assert [one.job_id for one in again.claimed] == [job.id for job in jobs]
    assert [bool(one.fields) for one in again.claimed] == [True, False, True]


async def test_no_job_is_taken_behind_one_that_hits_the_rate_limit(queue: AnyQueue, start_worker: StartWorker) -> None:
    """Among more outcomes than one exchange settles, and with claims on their way; what slots have got starts."""
    begun: list[float] = []
    limited_at = 0.0

    async def process(job: Job[Any, Any]) -> None:
        nonlocal limited_at
        begun.append(time.monotonic())
        if job.name == "limits" and job.attempts_started == 1:
            limited_at = time.monotonic()
            raise RateLimitJob(1000)

    jobs = [await queue.add("x") for _ in range(59)]
    jobs.append(await queue.add("limits"))
    jobs += await queue.add_bulk([JobSpec("x") for _ in range(120)])
    worker = await start_worker(process, concurrency=60)
    await wait_until(lambda: worker.health().limited_for > 0)
    await reach(queue, jobs, JobState.COMPLETED)
    assert sum(limited_at < at < limited_at + 0.9 for at in begun) < 60, "more than slots could have"
    assert len(begun) == len(jobs) + 1


async def _nap(job: Job[Any, Any]) -> None:
    await anyio.sleep(0.1)
