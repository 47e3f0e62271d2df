"""Exchanges that are launched from callbacks: what they bring is handed out, whatever happens around them."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import Any

import anyio
import pytest

from pyqueue import Job, Queue, Worker
from pyqueue._store import settling
from tests.behaviour.conftest import AnyQueue, MakeWorker
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
