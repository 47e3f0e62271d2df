"""Workers over broken connections: no outcome is applied twice, no claim is lost, and work goes on by itself.

E142; D5 of the official Python port: there one broken connection fails a job that succeeded.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
import redis.asyncio

from pyqueue import DelayJob, Job, JobState, Queue, RateLimitJob, ReleaseJob, Worker
from tests.support.jobs import reach, stored
from tests.support.proxy import Mode, Proxy
from tests.support.server import RedisServer
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.needs_server]


#: The longest command of a worker with a lock of 3 s.
_DEADLINE_S: Final = 6.0


@pytest.fixture
async def queue(server: RedisServer, prefix: str) -> AsyncIterator[Queue[Any, Any]]:
    """Connected directly: only the worker suffers."""
    async with Queue[Any, Any]("q", connection=server.url, prefix=prefix) as queue:
        yield queue


@pytest.mark.parametrize(
    ("end", "state", "runs", "attempts"),
    [
        (None, JobState.COMPLETED, 1, 1),
        (ValueError("final"), JobState.FAILED, 1, 1),
        (ValueError("retry"), JobState.COMPLETED, 2, 2),
        (ValueError("backoff"), JobState.COMPLETED, 2, 2),
        (DelayJob(1), JobState.COMPLETED, 2, 1),
        (ReleaseJob(), JobState.COMPLETED, 2, 1),
        (RateLimitJob(1), JobState.COMPLETED, 2, 1),
    ],
)
async def test_an_exchange_whose_reply_is_lost_is_applied_once(
    queue: Queue[Any, Any],
    proxy: Proxy,
    prefix: str,
    end: Exception | None,
    state: JobState,
    runs: int,
    attempts: int,
) -> None:
    """It settles one job and claims another; the script has run, the reply never comes."""
    started: Counter[str] = Counter()
    finish = anyio.Event()

    async def process(job: Job[Any, Any]) -> str:
        started[job.name] += 1
        if job.name == "first" and started["first"] == 1:
            await finish.wait()
            proxy.mode = Mode.LOSE_REPLIES
            if end is not None:
                raise end
        return job.name

    options: dict[str, Any] = {"attempts": 2} if str(end) in {"retry", "backoff"} else {}
    if str(end) == "backoff":
        options["backoff"] = 1
    first = await queue.add("first", **options)
    async with Worker("q", process, connection=proxy.url, prefix=prefix):
        await reach(queue, first, JobState.ACTIVE)
        second = await queue.add("second")
        finish.set()
        await wait_until(lambda: _was_settled(queue, first))
        proxy.mode = Mode.PASS
        proxy.cut()
        await reach(queue, first, state)
        await reach(queue, second, JobState.COMPLETED)
    assert started == {"first": runs, "second": 1}
    ended = await stored(queue, first)
    assert (ended.attempts_made, ended.attempts_started) == (attempts, runs)
    assert (await stored(queue, second)).attempts_started == 1


async def test_every_job_runs_once_over_connections_that_break_all_the_time(
    queue: Queue[Any, Any], proxy: Proxy, prefix: str
) -> None:
    started: Counter[str] = Counter()
    completed: Counter[str] = Counter()

    async def process(job: Job[Any, Any]) -> None:
        started[job.id] += 1
        await anyio.lowlevel.checkpoint()

    jobs = [await queue.add("x") for _ in range(300)]
    worker: Worker[Any, Any] = Worker("q", process, connection=proxy.url, prefix=prefix, concurrency=5)
    worker.on("completed", lambda job, value: completed.update([job.id]))
    async with worker:
        while len(completed) < len(jobs):
            await anyio.sleep(0.02)  # time for some exchanges between the cuts
            proxy.cut()
    assert set(started.values()) == {1}
    assert set(completed.values()) == {1}
    assert (await queue.jobs.counts())[JobState.COMPLETED] == 300


async def test_an_outage_is_logged_once_and_waited_out(
    tmp_path: Path, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The server is killed with a job running; its outcome is stored when the server is back."""
    caplog.set_level(logging.INFO, logger="pyqueue")
    errors: list[Exception] = []
    with RedisServer.started(tmp_path, ("--appendonly", "yes", "--appendfsync", "always")) as server:
        started, finish = anyio.Event(), anyio.Event()

        async def process(job: Job[Any, Any]) -> str:
            started.set()
            await finish.wait()
            return "kept"

        async with Queue[Any, Any]("q", connection=server.url, prefix=prefix) as queue:
            job = await queue.add("before")
            worker: Worker[Any, Any] = Worker("q", process, connection=server.url, prefix=prefix, concurrency=2)
            worker.on("error", errors.append)
            async with worker:
                await started.wait()
                server.kill()
                finish.set()
                await wait_until(lambda: worker.health().reason == "Redis does not answer")
                assert worker.health().unsettled == 1
                await anyio.sleep(1)  # several attempts fail
                server.start()
                await reach(queue, job, JobState.COMPLETED)
                after = await queue.add("after")
                await reach(queue, after, JobState.COMPLETED)
                assert worker.health().is_healthy
                assert (await stored(queue, job)).return_value == "kept"
    lines = [record.message for record in caplog.records]
    assert len(errors) == 1
    assert sum("no connection" in line for line in lines) == 1
    assert sum("connected again" in line for line in lines) == 1


@pytest.mark.timeout(60)
async def test_a_worker_on_a_silent_network_works_again_after_its_return(
    queue: Queue[Any, Any], proxy: Proxy, prefix: str
) -> None:
    """E143: Half-open connections: nothing is refused, nothing answers."""
    async with Worker("q", lambda job: None, connection=proxy.url, prefix=prefix, drain_delay=200) as worker:
        await wait_until(lambda: "nothing to claim" in worker.health().reason)
        proxy.mode = Mode.SILENT
        job = await queue.add("x")
        await wait_until(lambda: not worker.health().is_connected, timeout=20)
        proxy.mode = Mode.PASS
        await reach(queue, job, JobState.COMPLETED, timeout=20)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("silent_s", [1.5, 4])
async def test_an_outage_has_one_line_at_its_beginning_and_one_at_its_end(
    queue: Queue[Any, Any], proxy: Proxy, prefix: str, caplog: pytest.LogCaptureFixture, silent_s: float
) -> None:
    """Each of the worker's connections notices at another time; what one notices after another's return is no news."""
    caplog.set_level(logging.INFO, logger="pyqueue")
    options: dict[str, Any] = {"lock_duration": 3000, "stalled_interval": 1000, "drain_delay": 500, "concurrency": 2}
    running = await queue.add("runs all the time")
    worker: Worker[Any, Any] = Worker("q", _endless, connection=proxy.url, prefix=prefix, **options)
    async with closing(worker):
        await reach(queue, running, JobState.ACTIVE)
        await anyio.sleep(0.5)
        proxy.mode = Mode.SILENT
        await anyio.sleep(silent_s)
        proxy.mode = Mode.PASS
        after = await queue.add("after")
        await reach(queue, after, JobState.ACTIVE, timeout=20)
        await anyio.sleep(_DEADLINE_S)  # until the last command that was sent in the outage is over
    lines = [record for record in caplog.records if record.name == "pyqueue.connection"]
    assert [line.levelname for line in lines] == ["WARNING", "INFO"], [line.message for line in lines]
    assert "no connection" in lines[0].message
    assert "connected again" in lines[1].message
    assert not [record for record in caplog.records if "no reply" in record.message and record.exc_info]


async def test_close_hands_nothing_to_a_dead_server_and_does_not_hang(tmp_path: Path, prefix: str) -> None:
    """E140, E138: the server dies with a job running; the close is bounded by its deadline and a grace."""
    with RedisServer.started(tmp_path) as server:
        async with (
            Queue[Any, Any]("q", connection=server.url, prefix=prefix) as queue,
            Worker("q", _endless, connection=server.url, prefix=prefix) as worker,
        ):
            job = await queue.add("x")
            await reach(queue, job, JobState.ACTIVE)
            server.kill()
            with anyio.fail_after(14):
                await worker.close(timeout=0.1)
            assert worker.health().state == "closed"


async def test_a_script_flush_goes_unnoticed(server: RedisServer, queue: Queue[Any, Any], prefix: str) -> None:
    errors: list[Exception] = []
    client = redis.asyncio.Redis.from_url(server.url)
    worker: Worker[Any, Any] = Worker("q", lambda job: None, connection=server.url, prefix=prefix)
    worker.on("error", errors.append)
    async with worker:
        for _ in range(5):
            await client.script_flush()
            job = await queue.add("x")
            await reach(queue, job, JobState.COMPLETED)
    assert not errors
    await client.aclose()


async def test_a_full_server_delays_outcomes_and_loses_none(tmp_path: Path, prefix: str) -> None:
    """OOM: retried ends are kept until there is memory again."""
    with RedisServer.started(tmp_path) as server:
        client = redis.asyncio.Redis.from_url(server.url)
        finish = anyio.Event()

        async def process(job: Job[Any, Any]) -> str:
            await finish.wait()
            return "x" * 1000

        async with Queue[Any, Any]("q", connection=server.url, prefix=prefix) as queue:
            jobs = [await queue.add("x") for _ in range(3)]
            async with Worker("q", process, connection=server.url, prefix=prefix, concurrency=3) as worker:
                await wait_until(lambda: worker.health().running == 3)
                await client.config_set("maxmemory", "1mb")
                finish.set()
                await wait_until(lambda: worker.health().running == 0)
                await client.config_set("maxmemory", "0")
                await reach(queue, jobs, JobState.COMPLETED)
                assert [(await stored(queue, job)).attempts_started for job in jobs] == [1, 1, 1]
        await client.aclose()


async def test_force_shortens_a_close_that_waits_for_redis(
    server: RedisServer, proxy: Proxy, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    finish = asyncio.Event()

    async def process(job: Job[Any, Any]) -> None:
        await finish.wait()

    async with Queue[Any, Any]("q", connection=server.url, prefix=prefix) as queue:
        await queue.add("x")
        worker = Worker("q", process, connection=proxy.url, prefix=prefix)
        run = asyncio.create_task(worker.run())
        await wait_until(lambda: worker.health().running == 1)
        proxy.mode = Mode.SILENT
        finish.set()
        await wait_until(lambda: worker.health().unsettled == 1)
        patient = asyncio.create_task(worker.close())
        await wait_until(lambda: worker.health().state == "closing")
        with anyio.fail_after(10):  # without a deadline it waits for 30 s
            await worker.close(force=True)
            await asyncio.gather(patient, run)
    assert "closes with 1 outcomes that Redis did not take" in caplog.text


async def _was_settled(queue: Queue[Any, Any], job: Job[Any, Any]) -> bool:
    now = await stored(queue, job)
    return await now.state() is not JobState.ACTIVE or now.attempts_started > 1


@asynccontextmanager
async def closing(worker: Worker[Any, Any]) -> AsyncIterator[None]:
    """Run it meanwhile, and hand its jobs back at the end, whatever happens."""
    async with worker:
        try:
            yield
        finally:
            await worker.close(force=True)


async def _endless(job: Job[Any, Any]) -> None:
    await anyio.sleep_forever()
