"""What a worker does between its construction and its end, besides running jobs: when it asks, and what it survives."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import anyio
import pytest

from pyqueue import ConfigurationError, Job, JobState, PyqueueError, Queue, Worker
from pyqueue._redis.connection import Connection
from pyqueue._redis.scripts import load
from pyqueue._worker.marker import pop_marker
from tests.behaviour.conftest import AnyQueue, MakeWorker, StartWorker
from tests.support.jobs import reach, stored
from tests.support.server import RedisServer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.anyio


async def test_nothing_runs_before_the_worker_is_started(queue: AnyQueue, make_worker: MakeWorker) -> None:
    """E45, E91: there is no autorun to switch off. Delayed jobs that became due meanwhile run then, too."""
    worker = make_worker(lambda job: None)
    jobs = [await queue.add("x"), await queue.add("later", delay=1)]
    assert not worker.is_running
    assert await queue.workers() == []
    assert [await job.state() for job in jobs] == [JobState.WAITING, JobState.DELAYED]
    async with worker:
        await reach(queue, jobs, JobState.COMPLETED)


async def test_a_worker_is_shown_with_its_queue_and_what_it_does(queue: AnyQueue, make_worker: MakeWorker) -> None:
    go_on = anyio.Event()
    worker = make_worker(lambda job: go_on.wait(), concurrency=3)
    assert repr(worker).endswith(": new, 0 of 3 jobs>")
    async with worker:
        jobs = [await queue.add("x"), await queue.add("x")]
        await wait_until(lambda: repr(worker).endswith(": running, 2 of 3 jobs>"))
        worker.pause()
        assert repr(worker).endswith(": paused, 2 of 3 jobs>")
        worker.resume()
        go_on.set()
        await reach(queue, jobs, JobState.COMPLETED)
    assert repr(worker).startswith(f"<Worker '{queue.name}' at ")
    assert repr(worker).endswith(": closed, 0 of 3 jobs>")


def test_a_worker_is_shown_without_its_password() -> None:
    worker = Worker[Any, Any]("email", connection="redis://user:open-sesame@redis.internal:6380/2")

    assert repr(worker) == "<Worker 'email' at redis://redis.internal:6380/2: new, 0 of 1 jobs>"


async def test_a_closed_worker_stays_closed(make_worker: MakeWorker) -> None:
    """E115: closing again is harmless, starting again is refused, and so is a renewal without a pause."""
    worker = make_worker(lambda job: None)
    for _ in range(3):
        await worker.close()
    with pytest.raises(PyqueueError, match="construct another one"):
        await worker.run()
    with pytest.raises(ConfigurationError, match="lock_renew_time"):
        make_worker(lambda job: None, lock_renew_time=0)


async def test_an_error_of_a_claim_is_emitted_and_waited_out(
    queue: AnyQueue, start_worker: StartWorker, redis_client: Any, prefix: str
) -> None:
    """E46, E145: other errors than those of the network are paced, too."""
    await redis_client.set(f"{prefix}:q:wait", "overwritten by somebody else")
    worker = await start_worker(lambda job: None)
    errors: list[tuple[float, Exception]] = []
    worker.on("error", lambda error: errors.append((time.monotonic(), error)))

    await wait_until(lambda: errors)
    await redis_client.delete(f"{prefix}:q:wait")

    await reach(queue, await queue.add("x"), JobState.COMPLETED)
    assert "WRONGTYPE" in (worker.health().last_error or "")
    assert len(errors) < 20


async def test_a_worker_works_on_after_a_job_of_its_own_has_stalled(
    queue: AnyQueue, start_worker: StartWorker, redis_client: Any, prefix: str
) -> None:
    """E47."""
    began: list[str] = []
    stalled: list[str] = []

    async def process(job: Job[Any, Any]) -> None:
        began.append(job.id)
        if began.count(job.id) == 1 and job.name == "stalls":
            await anyio.sleep(10)

    worker = await start_worker(process, stalled_interval=50, lock_duration=2000)
    worker.on("stalled", stalled.append)
    worker.on("error", lambda error: None)
    job = await queue.add("stalls")
    await wait_until(lambda: began)
    await redis_client.delete(f"{prefix}:q:{job.id}:lock")

    await reach(queue, job, JobState.COMPLETED)
    await reach(queue, await queue.add_bulk([{"name": "x"}] * 3), JobState.COMPLETED)
    assert (stalled, began.count(job.id)) == ([job.id], 2)


async def test_a_failing_renewal_is_emitted_and_goes_on(
    queue: AnyQueue, start_worker: StartWorker, redis_client: Any, prefix: str
) -> None:
    """E116: the script fails for a while, and the lock is kept afterwards."""
    errors: list[Exception] = []
    end = anyio.Event()

    async def process(job: Job[Any, Any]) -> str:
        await end.wait()
        return "kept"

    worker = await start_worker(process, lock_duration=1500, lock_renew_time=30, skip_stalled_check=True)
    worker.on("error", errors.append)
    job = await queue.add("x")
    await reach(queue, job, JobState.ACTIVE)
    lock = f"{prefix}:q:{job.id}:lock"
    await redis_client.set(f"{prefix}:q:stalled", "overwritten by somebody else")
    await wait_until(lambda: errors)
    await redis_client.delete(f"{prefix}:q:stalled")

    await redis_client.pexpire(lock, 700)
    await wait_until(lambda: _longer_than(redis_client, lock, 1000))
    end.set()
    await reach(queue, job, JobState.COMPLETED)
    assert (await stored(queue, job)).return_value == "kept"


async def _longer_than(client: Any, key: str, ms: int) -> bool:
    return int(await client.pttl(key)) > ms


@pytest.mark.needs_server
async def test_a_worker_asks_no_more_often_than_it_must(server: RedisServer, prefix: str) -> None:
    """E49, E115: one claim while idle, and as many exchanges as jobs plus two when busy; no renewal without a job."""
    claim, renew = load("settle_and_claim").sha, load("extend_locks").sha
    with server.client() as client:
        client.config_set("slowlog-max-len", 10_000)
        client.config_set("slowlog-log-slower-than", 0)
        client.slowlog_reset()

        def count(sha: str) -> int:
            entries: Any = client.slowlog_get(10_000)
            return sum(sha.encode() in entry["command"] for entry in entries)

        async with Queue[Any, Any]("q", connection=server.url, prefix=prefix) as queue:
            where: dict[str, Any] = {"connection": server.url, "prefix": prefix}
            async with Worker("q", _nothing, **where, concurrency=10, lock_duration=60, stalled_interval=60):
                recover = load("recover_stalled").sha
                await wait_until(lambda: count(recover) >= 4)  # several times as long as a renewal would have taken
                assert count(claim) <= 11
                assert count(renew) == 0
            async with Worker("q", _nothing, **where) as worker:
                await wait_until(lambda: "nothing to claim" in worker.health().reason)
                before = count(claim)
                await reach(queue, await queue.add_bulk([{"name": "x"}] * 20), JobState.COMPLETED)
                assert count(claim) - before <= 22
        client.config_set("slowlog-log-slower-than", 10_000)


async def _nothing(job: Job[Any, Any]) -> None:
    pass


async def test_very_short_waits_end(queue: AnyQueue, start_worker: StartWorker) -> None:
    """E50: a block of less than a millisecond must not become one without end."""
    await start_worker(lambda job: None, drain_delay=30_000)
    for delay in (1, 2, 3, 5):
        await reach(queue, await queue.add("x", delay=delay), JobState.COMPLETED, timeout=7)


@pytest.mark.parametrize("block_s", [0.0, 0.00006, 0.0004])
async def test_a_block_shorter_than_redis_counts_is_not_endless(connection: Connection, block_s: float) -> None:
    """E50: rounded to milliseconds it would be 0, which BZPOPMIN takes for ever."""
    assert await pop_marker(connection.lane(blocking=True), "marker", block_s) is None


async def test_a_pop_cancelled_as_its_reply_comes_leaves_the_connection_to_the_next(connection: Connection) -> None:
    lane = connection.lane(blocking=True)
    await lane.execute("EXISTS", "marker")

    def cancel() -> None:
        first.cancel()

    first = asyncio.create_task(pop_marker(lane, "marker", 5, cancel))
    await asyncio.sleep(0)
    second = asyncio.create_task(pop_marker(lane, "marker", 5))

    async with asyncio.timeout(10):
        await connection.commands.execute("ZADD", "marker", 0, "0")
        with pytest.raises(asyncio.CancelledError):
            await first
        await connection.commands.execute("ZADD", "marker", 0, "0")
        assert await second == 0.0


@pytest.mark.needs_server
async def test_a_paused_worker_leaves_markers_to_others(server: RedisServer, client: Any, prefix: str) -> None:
    async def blocks() -> bool:
        return any(one["cmd"] == "bzpopmin" for one in await client.client_list())

    async def blocks_no_more() -> bool:
        return not await blocks()

    async with Worker[Any, Any](
        "q", lambda job: None, connection=server.url, prefix=prefix, drain_delay=30_000
    ) as worker:
        await wait_until(blocks)
        worker.pause()
        await wait_until(blocks_no_more, 5)
        worker.resume()
        await wait_until(blocks)


async def test_a_marker_that_means_nothing_ends_no_worker(
    queue: AnyQueue, start_worker: StartWorker, redis_client: Any, prefix: str
) -> None:
    await start_worker(lambda job: None)
    await reach(queue, await queue.add("x"), JobState.COMPLETED)
    await redis_client.zadd(f"{prefix}:q:marker", {"strange": "inf"})

    async def is_popped() -> bool:
        return not await redis_client.exists(f"{prefix}:q:marker")

    await wait_until(is_popped)
    await reach(queue, await queue.add("x"), JobState.COMPLETED)


async def test_queues_and_workers_may_share_a_connection(connection: Connection, prefix: str) -> None:
    """E54."""
    async with (
        Queue[Any, Any]("one", connection=connection, prefix=prefix) as one,
        Queue[Any, Any]("two", connection=connection, prefix=prefix) as two,
        Worker[Any, Any]("one", lambda job: None, connection=connection, prefix=prefix),
        Worker[Any, Any]("two", lambda job: None, connection=connection, prefix=prefix),
        Worker[Any, Any]("two", lambda job: None, connection=connection, prefix=prefix),
    ):
        for queue in (one, two, one):
            await reach(queue, await queue.add_bulk([{"name": "x"}] * 10), JobState.COMPLETED)
    assert await connection.commands.execute("PING")


async def test_a_fetch_by_hand_announces_the_start(
    queue: AnyQueue, make_worker: MakeWorker, redis_client: Any, prefix: str
) -> None:
    """E126."""
    worker = make_worker()
    added = await queue.add("x")
    assert await worker.get_next_job("t") is not None
    events = [fields for _, fields in await redis_client.xrange(f"{prefix}:q:events")]
    assert events[-1] == {"event": "active", "jobId": added.id, "prev": "waiting"}
    await worker.close()


async def test_a_cancelled_run_passes_the_cancellation_on_at_once_although_redis_is_away(
    make_worker: MakeWorker,
) -> None:
    """E145."""
    worker = make_worker(lambda job: None, connection="redis://127.0.0.1:1")
    run = asyncio.create_task(worker.run())
    await wait_until(lambda: worker.health().last_error)
    began = time.monotonic()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert time.monotonic() - began < 8


async def test_pauses_between_attempts_to_reach_redis_are_as_short_as_asked(make_worker: MakeWorker) -> None:
    attempts: list[float] = []

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        attempts.append(time.monotonic())
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as door:
        port = door.sockets[0].getsockname()[1]
        async with make_worker(lambda job: None, connection=f"redis://127.0.0.1:{port}", run_retry_delay=50) as worker:
            await wait_until(lambda: len(attempts) > 60, 6)  # growing to 1.5 s they would be some 20
            await worker.close(force=True)
