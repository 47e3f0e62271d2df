"""Exchanges that are launched from callbacks: what they bring is handed out, whatever happens around them."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from pyqueue import Job, JobState, Queue, WaitForChildren, Worker
from pyqueue._redis.connection import Connection
from pyqueue._store import settling
from tests.behaviour.conftest import AnyQueue, MakeWorker, StartWorker
from tests.support.proxy import Mode, Proxy
from tests.support.server import RedisServer
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.needs_server]

#: What a script says of one job whose key is being moved to another node of a cluster.
MOVING = "user_script:1: Script attempted to access a non local key in a cluster node"


async def test_a_job_that_is_refused_for_now_delays_the_next_exchange_and_loses_no_reply(
    server: RedisServer, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code of one job in one reply is replaced; everything else is real."""
    refused: list[str] = []
    reply_of = settling.ExchangeReply

    def refuse_one(now_ms: int, codes: list[int | str], rows: Any, *rest: Any) -> settling.ExchangeReply:
        if not refused and codes and rows and len(completed) > 50:
            refused.append(MOVING)
            codes[0] = MOVING
        return reply_of(now_ms, codes, rows, *rest)

    async def process(job: Job[int, None]) -> None:
        await anyio.sleep(0.002 * (job.data % 3))

    monkeypatch.setattr(settling, "ExchangeReply", refuse_one)
    completed: set[str] = set()
    lost: list[str] = []
    async with Queue[int, None]("q", connection=server.url, prefix=prefix) as queue:
        await queue.add_bulk([{"name": "a", "data": number} for number in range(200)])
        worker: Worker[Any, Any] = Worker("q", process, connection=server.url, prefix=prefix, concurrency=10)
        worker.on("completed", lambda job, value: completed.add(job.id))
        worker.on("lock_lost", lambda job: lost.append(job.id))
        worker.on("error", lambda error: None)
        async with worker:
            await wait_until(lambda: len(completed) + len(lost) == 200)
        # The refused job had in fact been settled, so its second settlement finds no lock.
        assert refused
        assert len(lost) == 1
        assert worker.health().unsettled == 0


async def test_a_closing_worker_whose_last_job_loses_its_lock_ends_at_once(
    queue: AnyQueue, make_worker: MakeWorker, redis_client: Any, prefix: str
) -> None:
    started, lost = asyncio.Event(), asyncio.Event()

    async def process(job: Job[Any, Any]) -> None:
        started.set()
        await anyio.sleep_forever()

    worker = make_worker(process, lock_duration=20_000, lock_renew_time=100)
    worker.on("lock_lost", lambda job: lost.set())
    worker.on("error", lambda error: None)
    async with worker:
        job = await queue.add("a")
        await started.wait()
        closing = asyncio.create_task(worker.close())
        await redis_client.delete(f"{prefix}:q:{job.id}:lock")
        await lost.wait()
        began = time.monotonic()
        await closing
        assert time.monotonic() - began < 5


async def test_a_worker_that_starts_paused_is_ready_when_it_works(queue: AnyQueue, make_worker: MakeWorker) -> None:
    ready: list[bool] = []
    done = asyncio.Event()
    async with make_worker(lambda job: None, concurrency=2) as earlier:  # the server knows the scripts
        await queue.add("a")
        await earlier.wait_idle()
    worker = make_worker(lambda job: None)
    worker.on("ready", lambda: ready.append(True))
    worker.on("completed", lambda job, value: done.set())
    worker.pause()
    async with worker:
        await queue.add("a")
        await wait_until(lambda: worker.health().is_paused)
        worker.resume()
        await done.wait()
        assert ready == [True]
        assert worker.health().is_connected


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_eager_tasks_do_not_run_more_jobs_than_the_concurrency(server: RedisServer, prefix: str) -> None:
    running, peak = 0, 0

    async def process(job: Job[int, None]) -> None:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        if job.data:
            await asyncio.sleep(0.05)
        running -= 1

    async def work() -> None:
        factory: Any = vars(asyncio)["eager_task_factory"]
        asyncio.get_running_loop().set_task_factory(factory)
        async with Queue[int, None]("q", connection=server.url, prefix=prefix) as queue:
            await queue.add_bulk([{"name": "a", "data": number} for number in range(60)])
            async with Worker("q", process, connection=server.url, prefix=prefix, concurrency=10) as worker:
                await worker.wait_idle()

    asyncio.run(work())
    assert peak <= 10


async def test_a_queue_in_use_by_another_event_loop_refuses_without_harm(queue: AnyQueue) -> None:
    errors: list[BaseException] = []

    def intrude() -> None:
        try:
            asyncio.run(_add_elsewhere(queue))
        except BaseException as error:
            errors.append(error)

    adding = asyncio.create_task(queue.add("a"))
    await asyncio.sleep(0)  # it waits for its call
    intruder = threading.Thread(target=intrude)
    intruder.start()
    intruder.join()  # this loop stands still meanwhile

    assert (await adding).name == "a"
    assert [type(error) for error in errors] == [RuntimeError]


async def _add_elsewhere(queue: AnyQueue) -> None:
    await queue.add("elsewhere")


@pytest.fixture
async def direct(server: RedisServer, prefix: str) -> AsyncIterator[AnyQueue]:
    """The queue on the real server, for tests whose worker goes through a proxy."""
    async with Queue[Any, Any]("q", connection=server.url, prefix=prefix) as queue:
        yield queue


async def test_two_exchanges_whose_replies_are_lost_are_applied_once(
    server: RedisServer, direct: AnyQueue, prefix: str
) -> None:
    """One follows the other, the connection breaks, and the worker asks for both again."""
    gate, started = asyncio.Event(), Counter[str]()

    async def process(job: Job[Any, Any]) -> int:
        started[job.id] += 1
        await gate.wait()
        return int(job.id)

    await direct.add_bulk([{"name": "a"}] * 100)
    async with Proxy.to(server.port) as proxy:
        connection = Connection.open(proxy.url, deadline_s=1.0)
        worker: Worker[Any, int] = Worker("q", process, connection=connection, prefix=prefix, concurrency=50)
        worker.on("error", lambda error: None)
        async with worker:
            await wait_until(lambda: started.total() == 50)
            proxy.mode = Mode.LOSE_REPLIES
            gate.set()
            await wait_until(lambda: _is_count(direct, "completed", 50))
            await wait_until(lambda: _is_count(direct, "active", 50))
            proxy.mode = Mode.PASS
            await wait_until(lambda: _is_count(direct, "completed", 100))
            await wait_until(lambda: worker.health().unsettled == 0)
        await connection.aclose()

    assert set(started.values()) == {1}
    jobs = await direct.jobs.list("completed", 0, -1)
    assert {job.id: job.return_value for job in jobs} == {str(n): n for n in range(1, 101)}
    assert {job.attempts_started for job in jobs} == {1}


async def test_two_exchanges_do_not_bring_more_than_one_suspect(
    queue: AnyQueue, start_worker: StartWorker, redis_client: Any, prefix: str
) -> None:
    """Each may bring one; the second goes back until the first has ended."""
    gate, running, most = asyncio.Event(), set[str](), 0

    async def process(job: Job[Any, Any]) -> None:
        nonlocal most
        if job.name == "suspect":
            running.add(job.id)
            most = max(most, len(running))
            await anyio.sleep(0.05)
            running.discard(job.id)
        await gate.wait()

    names = ["plain"] * 50 + ["suspect", *["plain"] * 24] * 2
    for job in await queue.add_bulk([{"name": name} for name in names]):
        if job.name == "suspect":
            await redis_client.hset(f"{prefix}:q:{job.id}", "stc", "1")
    await start_worker(process, concurrency=50, max_stalled_count=5)
    await wait_until(lambda: _is_count(queue, "active", 50))

    gate.set()

    await wait_until(lambda: _is_count(queue, "completed", 100))
    assert most == 1
    suspects = [job for job in await queue.jobs.list("completed", 0, -1) if job.name == "suspect"]
    assert [job.stalled_count for job in suspects] == [1, 1]


async def test_a_close_waits_for_both_exchanges_in_flight(server: RedisServer, direct: AnyQueue, prefix: str) -> None:
    gate, started = asyncio.Event(), Counter[str]()

    async def process(job: Job[Any, Any]) -> None:
        started[job.id] += 1
        await gate.wait()

    await direct.add_bulk([{"name": "a"}] * 100)
    async with (
        Proxy.to(server.port) as proxy,
        Worker[Any, None]("q", process, connection=proxy.url, prefix=prefix, concurrency=50) as worker,
    ):
        await wait_until(lambda: started.total() == 50)
        proxy.mode = Mode.DELAY
        gate.set()
        await wait_until(lambda: worker.health().unsettled == 50)
        await worker.close()
    # What they claimed was given back.
    counts = await direct.jobs.counts()
    assert (counts[JobState.COMPLETED], counts[JobState.ACTIVE], counts[JobState.WAITING]) == (50, 0, 50)
    assert started.total() == 50


async def _is_count(queue: AnyQueue, state: str, count: int) -> bool:
    return (await queue.jobs.counts())[JobState(state)] == count


@pytest.mark.parametrize("company", [0, 1, 4])
async def test_an_outcome_that_cannot_be_sent_is_let_go_and_the_worker_goes_on(
    queue: AnyQueue, start_worker: StartWorker, company: int
) -> None:
    """It ends together with others, which are stored; its lock runs out."""
    gate = asyncio.Event()
    errors: list[Exception] = []

    async def process(job: Job[Any, Any]) -> None:
        if job.name != "later":
            await gate.wait()
        if job.name == "bad":
            waits = WaitForChildren()
            waits.child_key = "\udc80"  # no text that can be encoded
            raise waits

    await queue.add("bad")
    others = [await queue.add("good") for _ in range(company)]
    worker = await start_worker(process, concurrency=1 + company)
    worker.on("error", errors.append)
    await wait_until(lambda: worker.health().running == 1 + company)
    gate.set()
    await wait_until(lambda: len(errors) > 0)
    later = [await queue.add("later") for _ in range(3)]
    for job in (*others, *later):
        await job.result(timeout=5)
    assert [type(error) for error in errors] == [UnicodeEncodeError]
    assert worker.health().unsettled == 0


async def test_a_worker_waits_for_jobs_again_after_an_outcome_that_was_let_go(
    queue: AnyQueue, start_worker: StartWorker
) -> None:
    """Nothing else has ended, and no reply brings news."""
    errors: list[Exception] = []

    async def process(job: Job[Any, Any]) -> None:
        if job.name == "bad":
            waits = WaitForChildren()
            waits.child_key = "\udc80"  # no text that can be encoded
            raise waits

    worker = await start_worker(process, concurrency=3)
    worker.on("error", errors.append)
    await wait_until(lambda: worker._parts.engine.is_blocking)
    await queue.add("bad")
    await wait_until(lambda: len(errors) > 0)

    await wait_until(lambda: worker._parts.engine.is_blocking)
    await (await queue.add("good")).result(timeout=5)
