"""Two calls in flight: what breaks, is cancelled or overtaken between them, and who else needs their connection."""

from __future__ import annotations

import asyncio
import gc
import json
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from functools import partial
from itertools import pairwise
from typing import Any

import anyio
import pytest
import redis

from pyqueue import BulkAddError, Job, JobOptions, JobSpec, Queue, Worker
from pyqueue._redis.scripts import load
from pyqueue._store import producer as producer_module
from pyqueue._store.adding import MAX_ADDS, add_jobs
from pyqueue._store.record import encode_job
from pyqueue._store.settling import recover_stalled
from tests.support.latency import far_away
from tests.support.proxy import Mode, Proxy
from tests.support.server import RedisServer
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.needs_server]


async def test_a_cancelled_bulk_sends_nothing_that_has_not_left(proxy: Proxy, server: RedisServer, prefix: str) -> None:
    async with (
        Queue[int, None]("q", connection=proxy.url, prefix=prefix) as queue,
        Queue[int, None]("q", connection=server.url, prefix=prefix) as direct,
    ):
        await queue.add("first", 0)
        proxy.mode = Mode.LATE
        bulk = asyncio.create_task(queue.add_bulk([JobSpec("job", n) for n in range(320)]))
        await wait_until(lambda: len(queue._buffer._flights) == 2)
        bulk.cancel()
        with pytest.raises(asyncio.CancelledError):
            await bulk
        proxy.mode = Mode.PASS
        await wait_until(lambda: not queue._buffer._flights)

        assert await direct.jobs.count() == 1 + 2 * MAX_ADDS


async def test_a_bulk_that_is_given_up_in_flight_is_not_called_unsent(
    proxy: Proxy, server: RedisServer, prefix: str
) -> None:
    queue = Queue[int, None]("q", connection=proxy.url, prefix=prefix)
    async with Queue[int, None]("q", connection=server.url, prefix=prefix) as direct:
        await queue.add("first", 0)
        proxy.mode = Mode.LOSE_REPLIES
        bulk = asyncio.create_task(queue.add_bulk([JobSpec("job", n) for n in range(10)]))

        async def all_stored() -> bool:
            return await direct.jobs.count() == 11

        await wait_until(all_stored)
        with anyio.move_on_after(0.1):
            await queue.close()
        try:
            await bulk
        except BulkAddError as error:
            pytest.fail(f"all 10 jobs are in Redis, and the bulk says: {error}")
        except asyncio.CancelledError:
            pass


async def test_a_cancelled_bulk_leaves_no_error_that_nobody_retrieves(
    proxy: Proxy, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.setattr(producer_module, "ADD_DEADLINE_S", 1.0)
    monkeypatch.setattr(producer_module, "ADD_TRY_S", 0.4)
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    async with Queue[int, None]("q", connection=proxy.url, prefix=prefix) as queue:
        await queue.add("first", 0)
        proxy.mode = Mode.SILENT
        bulk = asyncio.create_task(queue.add_bulk([JobSpec("job", n) for n in range(128)]))
        await wait_until(lambda: len(queue._buffer._flights) == 2)
        bulk.cancel()
        with pytest.raises(asyncio.CancelledError):
            await bulk
        await wait_until(lambda: not queue._buffer._flights)
        del bulk
        gc.collect()
        await asyncio.sleep(0)
        proxy.mode = Mode.PASS
    assert complaints == []


@pytest.mark.timeout(60)
@pytest.mark.parametrize("fault", ["scripts flushed", "role changed"])
async def test_bulks_keep_their_order_while_scripts_are_flushed(
    server: RedisServer, client: Any, prefix: str, fault: str
) -> None:
    """Several producers; one of them loads the script between two calls of another."""
    queues = [Queue[list[int], None]("q", connection=server.url, prefix=prefix) for _ in range(4)]
    for queue in queues:
        await queue.add("first", [])

    stop = False

    async def flush() -> None:
        while not stop:
            if fault == "scripts flushed":
                await client.script_flush()
            else:
                await client.execute_command("REPLICAOF", "127.0.0.1", "1")
                await client.execute_command("REPLICAOF", "NO", "ONE")
                await asyncio.sleep(0.02)  # a server that hardly ever takes writes is given up, rightly
            await asyncio.sleep(0.003)

    async def produce(number: int) -> None:
        for n in range(4):
            await queues[number].add_bulk([JobSpec("job", [number, n, i]) for i in range(1000)])

    flushing = asyncio.create_task(flush())
    await asyncio.gather(*(produce(number) for number in range(4)))
    stop = True
    await flushing
    async with Queue[list[int], None]("q", connection=server.url, prefix=prefix) as queue:
        ids = (await client.lrange(f"{prefix}:q:wait", 0, -1))[::-1]
        pipe = client.pipeline()
        for job_id in ids:
            pipe.hget(f"{prefix}:q:{job_id}", "data")
        seen: dict[int, list[tuple[int, int]]] = {}
        for data in map(json.loads, await pipe.execute()):
            if data:
                seen.setdefault(data[0], []).append((data[1], data[2]))
    for queue in queues:
        await queue.close()
    assert {number: len(which) for number, which in seen.items()} == dict.fromkeys(range(4), 4000)
    swapped = {n: sum(a > b for a, b in pairwise(which)) for n, which in seen.items()}
    assert swapped == dict.fromkeys(range(4), 0)


async def test_the_cause_of_an_outage_is_told_when_two_exchanges_are_in_flight(
    proxy: Proxy, server: RedisServer, prefix: str
) -> None:
    """`Connection lost`, and not what we did about it."""
    errors: list[str] = []
    ended = 0

    async def process(job: Job[int, None]) -> None:
        nonlocal ended
        ended += 1
        await asyncio.sleep(0.001)

    async with Queue[int, None]("q", connection=server.url, prefix=prefix) as queue:
        await queue.add_bulk([JobSpec("job", i) for i in range(6000)])
        worker = Worker[int, None]("q", process, connection=proxy.url, prefix=prefix, concurrency=16)
        worker.on("error", lambda error: errors.append(str(error)))
        async with worker:
            await cut_between_two(worker, proxy, times=3, ended=lambda: ended)
    assert errors
    assert not [error for error in errors if "given up" in error], errors


async def test_a_job_that_runs_again_after_a_cut_has_not_lost_its_lock(
    proxy: Proxy, server: RedisServer, prefix: str
) -> None:
    """One exchange gives jobs back, the one behind it claims them again, and both replies are lost."""
    lost: list[str] = []
    ended = 0

    async def process(job: Job[int, None]) -> None:
        nonlocal ended
        ended += 1
        await asyncio.sleep(0.001)
        raise ValueError("again")

    async with Queue[int, None]("q", connection=server.url, prefix=prefix) as queue:
        await queue.add_bulk([JobSpec("job", i, JobOptions(attempts=100_000)) for i in range(20)])
        worker = Worker[int, None]("q", process, connection=proxy.url, prefix=prefix, concurrency=16)
        worker.on("error", lambda error: None)
        worker.on("failed", lambda job, error: None)
        worker.on("lock_lost", lambda job: lost.append(job.id))
        async with worker:
            await cut_between_two(worker, proxy, times=10, ended=lambda: ended)
            await worker.close(timeout=1)
    assert lost == []


async def cut_between_two(worker: Any, proxy: Proxy, *, times: int, ended: Any) -> None:
    """Lose the replies to two exchanges that Redis has applied, and break their connection."""
    dispatch = worker._parts.engine._dispatch
    launch = dispatch.launch

    def watch(flight: Any) -> Any:
        launched = launch(flight)
        if len(dispatch.flying) == 2 and armed:
            armed.clear()
            proxy.mode = Mode.LOSE_REPLIES
            asyncio.get_running_loop().call_later(0.1, restore)
        return launched

    def restore() -> None:
        proxy.cut()
        proxy.mode = Mode.PASS
        done.set()

    armed: list[bool] = []
    dispatch.launch = watch
    for _ in range(times):
        done = asyncio.Event()
        armed.append(True)
        await asyncio.wait_for(done.wait(), 5)
        await wait_until(partial(_is_more_than, ended, ended() + 50))


def _is_more_than(count: Callable[[], int], least: int) -> bool:
    return count() > least


@pytest.mark.parametrize(("one_way_s", "job_s"), [(0.01, 0.0), (0.002, 0.005), (0.0, 0.005)])
async def test_the_stalled_check_gets_its_turn_while_exchanges_follow_each_other(
    server: RedisServer, prefix: str, monkeypatch: pytest.MonkeyPatch, one_way_s: float, job_s: float
) -> None:
    """It uses the connection of the exchanges, which is never free while each follows another."""
    took: list[float] = []

    async def timed(*args: Any) -> list[str]:
        began = time.monotonic()
        try:
            return await recover_stalled(*args)
        finally:
            took.append(time.monotonic() - began)

    ended = 0

    async def process(job: Job[int, None]) -> None:
        nonlocal ended
        ended += 1
        if job_s:
            await asyncio.sleep(job_s)

    monkeypatch.setattr("pyqueue._worker.stalled.recover_stalled", timed)
    errors: list[str] = []
    async with (
        Queue[int, None]("q", connection=server.url, prefix=prefix) as queue,
        far_away(server.port, one_way_s) as url,
    ):
        await queue.add_bulk([JobSpec("job", i) for i in range(8_000)])
        worker = Worker[int, None](
            "q", process, connection=url, prefix=prefix, concurrency=200, stalled_interval=200, lock_duration=2000
        )
        worker.on("error", lambda error: errors.append(str(error)))
        async with worker:
            await wait_until(lambda: ended == 8_000)
    assert errors == []
    assert max(took) < 1, took


async def test_ids_beyond_fourteen_digits_are_answered_alike_from_the_record(
    server: RedisServer, client: Any, prefix: str
) -> None:
    async with Queue[int, None]("q", connection=server.url, prefix=prefix) as queue:
        await client.set(f"{prefix}:q:id", 10**15 + 3)
        rows = [encode_job("job", n) for n in range(3)]
        first = await add_jobs(queue._store, rows, sender="s", sequence=1)
        again = await add_jobs(queue._store, rows, sender="s", sequence=1)
    assert again.results == first.results


@pytest.fixture
async def overtaking(
    server: RedisServer, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Queue[int, None]]:
    """A queue whose next call finds no script, which another producer loads before Redis gets the call behind it."""
    launch = producer_module._AddCall.launch
    other = redis.Redis.from_url(server.url, decode_responses=True)

    def refused() -> int:
        return int(other.info("errorstats").get("errorstat_NOSCRIPT", {"count": 0})["count"])

    def late(call: Any, told: Any, behind: Any) -> bool:
        if behind is not None and not loaded:
            deadline = time.monotonic() + 5
            while refused() == before and time.monotonic() < deadline:  # the event loop stands still meanwhile
                time.sleep(0.001)
            loaded.append(other.script_load(load("add_jobs").text))
        return launch(call, told, behind)

    loaded: list[Any] = []
    async with Queue[int, None]("q", connection=server.url, prefix=prefix) as queue:
        await queue.add("first", 0)
        before = refused()
        other.script_flush()
        monkeypatch.setattr(producer_module._AddCall, "launch", late)
        yield queue
    other.close()
    assert loaded


async def test_a_call_does_not_overtake_the_one_before_it_that_found_no_script(overtaking: Queue[int, None]) -> None:
    jobs = await overtaking.add_bulk([JobSpec("job", n) for n in range(128)])

    assert [int(job.id) for job in jobs] == list(range(2, 130))


async def test_a_child_in_the_second_call_of_a_bulk_finds_its_parent_of_the_first(overtaking: Queue[int, None]) -> None:
    parent = JobSpec("parent", 0, JobOptions(job_id="the-parent"))
    child = JobSpec("child", 0, JobOptions(parent={"id": "the-parent", "queue": overtaking._store.keys.qualified}))
    others = [JobSpec("job", n) for n in range(126)]

    jobs = await overtaking.add_bulk([parent, *others[:100], child, *others[100:]])

    assert len(jobs) == 128


async def test_long_options_are_not_remembered(server: RedisServer, prefix: str) -> None:
    """Jobs that are stored leave nothing of their size behind in the process that added them."""
    size, jobs = 100_000, 300
    async with Queue[int, None]("q", connection=server.url, prefix=prefix) as queue:
        await queue.add("first", 0)
        gc.collect()
        tracemalloc.start()
        for n in range(jobs):
            await queue.add("job", n, telemetry={"metadata": f"{n} " + "x" * size})
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert held < 20 * size


async def test_sixteen_free_slots_are_filled_by_one_round_trip(server: RedisServer, prefix: str) -> None:
    one_way_s = 0.1
    began: list[float] = []
    go_on = asyncio.Event()

    async def process(job: Job[int, None]) -> None:
        if job.data >= 0:
            began.append(time.monotonic())
            await go_on.wait()

    async with (
        Queue[int, None]("q", connection=server.url, prefix=prefix) as queue,
        far_away(server.port, one_way_s) as url,
        Worker[int, None]("q", process, connection=url, prefix=prefix, concurrency=16),
    ):
        warm = await queue.add("warm up", -1)
        await warm.result(timeout=10)
        await queue.add_bulk([JobSpec("job", n) for n in range(16)])
        await wait_until(lambda: len(began) == 16)
        go_on.set()
    assert began[-1] - began[0] < one_way_s
