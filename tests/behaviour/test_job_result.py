"""Waiting for the end of a job: reliable, because the event and the state are both asked."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pyqueue import JobFailed, JobNotFound, JobOptions, JobSpec, Queue, Worker
from pyqueue._redis.connection import Connection
from pyqueue._redis.outage import Outage
from pyqueue._store.listening import READ_COUNT, FinishListener, publish_event
from tests.support.proxy import Mode, Proxy
from tests.support.server import RedisServer
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.every_backend]

AnyQueue = Queue[Any, Any]


async def double(job: Any) -> Any:
    return job.data * 2


async def fail(job: Any) -> None:
    raise ValueError("no")


async def test_a_result_is_awaited_while_the_job_runs(queue: AnyQueue, start_worker: Any) -> None:
    """E244."""
    job = await queue.add("double", 21)
    waiting = asyncio.create_task(job.result(timeout=15))
    await start_worker(double)

    assert await waiting == 42


async def test_a_result_is_there_when_the_job_has_ended_before(queue: AnyQueue, start_worker: Any) -> None:
    """E244."""
    job = await queue.add("double", {"a": 1}["a"])
    await start_worker(double)
    assert await job.result(timeout=15) == 2

    assert await job.result(timeout=15) == 2


async def test_a_delayed_job_is_waited_for(queue: AnyQueue, start_worker: Any) -> None:
    """E244."""
    job = await queue.add("double", 1, delay=300)
    await start_worker(double)

    assert await job.result(timeout=15) == 2


async def test_a_job_that_is_removed_at_its_end_still_gives_its_result(queue: AnyQueue, start_worker: Any) -> None:
    jobs = [await queue.add("double", number, remove_on_complete=True) for number in range(20)]
    waiting = [asyncio.create_task(job.result(timeout=15)) for job in jobs]
    await start_worker(double, concurrency=5)

    assert await asyncio.gather(*waiting) == [2 * number for number in range(20)]


async def test_many_wait_for_many_jobs(queue: AnyQueue, start_worker: Any) -> None:
    await start_worker(double, concurrency=10)

    async def ask(number: int) -> Any:
        return await (await queue.add("double", number)).result(timeout=15)

    assert await asyncio.gather(*map(ask, range(100))) == [2 * number for number in range(100)]


@pytest.mark.needs_server
async def test_those_who_wait_for_removed_jobs_share_their_look_at_the_events(tmp_path: Path, prefix: str) -> None:
    with RedisServer.started(tmp_path) as server, server.client() as client:
        async with (
            Queue[Any, Any]("q", connection=server.url, prefix=prefix) as queue,
            Worker("q", double, connection=server.url, prefix=prefix, concurrency=20),
        ):
            jobs = await queue.add_bulk(JobSpec("double", n, JobOptions(remove_on_complete=True)) for n in range(300))
            results = await asyncio.gather(*(job.result(timeout=15) for job in jobs), return_exceptions=True)

        known = [result for result in results if not isinstance(result, JobNotFound)]  # the others ended before
        assert set(known) <= {2 * number for number in range(300)}
        assert client.info("commandstats")["cmdstat_xread"]["calls"] < 100


@pytest.mark.needs_server
async def test_the_end_of_a_removed_job_is_found_behind_many_events(server: RedisServer, queue: AnyQueue) -> None:
    """The reader has not come that far: its connection is stuck."""
    async with Proxy.to(server.port) as proxy:
        proxy.mode = Mode.SILENT
        listener = FinishListener(queue._store, lambda: Connection.open(proxy.url).commands, Outage("results"))
        other = asyncio.create_task(listener.wait((await queue.add("never")).id, None))
        await wait_until(lambda: listener._reader is not None)
        for _ in range(2 * READ_COUNT):
            await publish_event(queue._store, "noise", {}, max_events=10_000)
        await publish_event(queue._store, "completed", {"jobId": "gone", "returnvalue": "5"}, max_events=10_000)

        assert await listener.wait("gone", 15) == (1, "5")

        other.cancel()
        await listener.close()


async def test_a_failed_job_raises_its_reason(queue: AnyQueue, start_worker: Any) -> None:
    """E244."""
    job = await queue.add("fail")
    await start_worker(fail)

    for _ in range(2):
        with pytest.raises(JobFailed, match="no") as caught:
            await job.result(timeout=15)
        assert caught.value.job_id == job.id


async def test_a_removed_job_raises(queue: AnyQueue) -> None:
    """E244."""
    job = await queue.add("gone")
    await job.remove()

    with pytest.raises(JobNotFound):
        await job.result(timeout=15)


async def test_waiting_ends_at_its_timeout(queue: AnyQueue) -> None:
    job = await queue.add("never")

    with pytest.raises(TimeoutError, match=f"job '{job.id}' of queue 'q' was not seen to end within 0.05 s"):
        await job.result(timeout=0.05)


@pytest.mark.needs_server
async def test_a_result_survives_broken_connections(server: RedisServer, prefix: str) -> None:
    async with Proxy.to(server.port) as proxy, Queue[Any, Any]("q", connection=proxy.url, prefix=prefix) as queue:
        job = await queue.add("double", 4)
        waiting = asyncio.create_task(job.result(timeout=15))
        await asyncio.sleep(0)
        proxy.mode = Mode.LOSE_REPLIES
        proxy.cut()
        async with Queue[Any, Any]("q", connection=server.url, prefix=prefix) as other:
            worker_job = await other.jobs.get(job.id)
            assert worker_job is not None
            async with Worker("q", double, connection=server.url, prefix=prefix):
                assert await worker_job.result(timeout=15) == 8
        proxy.mode = Mode.PASS

        assert await waiting == 8


async def test_results_are_awaited_one_after_another(queue: AnyQueue, start_worker: Any) -> None:
    """The reader of events ends between two waits; none may fall into the gap."""
    await start_worker(double)

    for number in range(100):
        assert await (await queue.add("double", number)).result(timeout=15) == 2 * number
