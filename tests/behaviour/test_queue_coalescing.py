"""Concurrent adds travel together; a broken connection neither loses nor doubles one of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pyqueue import (
    AddOutcomeUnknown,
    AddStatus,
    Job,
    JobOptions,
    JobSpec,
    JobState,
    ParentNotFound,
    PyqueueError,
    Queue,
    RedisRefused,
)
from pyqueue._redis.connection import Connection
from pyqueue._store import producer as producer_module
from pyqueue._store.sender import MAX_IN_FLIGHT
from pyqueue.queue import ConnectionSource
from tests.support.proxy import Mode, Proxy
from tests.support.server import RedisServer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.anyio

#: Seconds after which the connection of a fault test gives a command up.
DEADLINE_S = 1.0


async def script_calls(client: Any) -> int:
    """Scripts that clients have run since the server's statistics were reset."""
    stats = await client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval"))


@pytest.mark.needs_server
async def test_64_concurrent_adds_are_one_script_call(server: RedisServer, client: Any, prefix: str) -> None:
    async with Queue[int, None]("q", connection=server.url, prefix=prefix) as queue:
        await queue.add("warm up", -1)
        await client.config_resetstat()

        jobs = await asyncio.gather(*(queue.add("a", number) for number in range(64)))

        assert await script_calls(client) == 1
    assert [job.id for job in jobs] == [str(number + 2) for number in range(64)]
    assert [job.data for job in jobs] == list(range(64))


@pytest.mark.needs_server
async def test_what_arrives_during_a_call_travels_with_the_next(server: RedisServer, client: Any, prefix: str) -> None:
    async with Queue[int, None]("q", connection=server.url, prefix=prefix) as queue:
        await queue.add("warm up", -1)
        await client.config_resetstat()
        async with anyio.create_task_group() as group:
            group.start_soon(queue.add, "a", 0)
            await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()  # the first call is on its way now
            for number in range(1, 50):
                group.start_soon(queue.add, "a", number)

        assert await script_calls(client) == 2
        assert await queue.jobs.count() == 51


@pytest.mark.needs_server
async def test_a_call_carries_at_most_64_jobs(server: RedisServer, client: Any, prefix: str) -> None:
    async with Queue[int, None]("q", connection=server.url, prefix=prefix) as queue:
        await queue.add("warm up", -1)
        await client.config_resetstat()

        await asyncio.gather(*(queue.add("a", number) for number in range(250)))

        assert await script_calls(client) == 4
        assert await queue.jobs.count() == 251


@pytest.mark.needs_server
async def test_delayed_jobs_and_those_of_a_bulk_weigh_twice(server: RedisServer, client: Any, prefix: str) -> None:
    async with Queue[int, None]("q", connection=server.url, prefix=prefix) as queue:
        await queue.add("warm up", -1)
        await client.config_resetstat()

        await asyncio.gather(*(queue.add("a", number, delay=60_000) for number in range(64)))
        assert await script_calls(client) == 2
        await queue.add_bulk(
            [JobSpec("a", number, JobOptions(delay=60_000)) for number in range(40)]
            + [JobSpec("b", number) for number in range(60)]
        )

        assert await script_calls(client) == 6  # 32 | 8 and 24 | 32 | 4
        counts = await queue.jobs.counts()
        assert (counts[JobState.DELAYED], counts[JobState.WAITING]) == (104, 61)


@pytest.mark.needs_server
async def test_callers_that_add_again_and_again_take_turns(server: RedisServer, client: Any, prefix: str) -> None:
    async def add_ten() -> list[str]:
        return [(await queue.add("a", number)).id for number in range(10)]

    async with Queue[int, None]("q", connection=server.url, prefix=prefix) as queue:
        await queue.add("warm up", -1)
        await client.config_resetstat()

        job_ids = await asyncio.gather(*(add_ten() for _ in range(64)))

        # All in lockstep would be 10 calls; half of them while the others run, 1 + 9 * 2 + 1.
        assert 15 <= await script_calls(client) <= 25
        assert sorted(int(one) for ids in job_ids for one in ids) == list(range(2, 642))
        assert all(ids == sorted(ids, key=int) for ids in job_ids)


@pytest.mark.needs_server
async def test_after_adds_that_came_one_by_one_a_burst_takes_one_call_more_and_only_once(
    server: RedisServer, client: Any, prefix: str
) -> None:
    async with Queue[int, None]("q", connection=server.url, prefix=prefix) as queue:
        for _ in range(30):
            await queue.add("alone", -1)
        await client.config_resetstat()

        jobs = await asyncio.gather(*(queue.add("a", number) for number in range(10)))

        assert await script_calls(client) == 2
        assert [int(job.id) for job in jobs] == list(range(31, 41))
        await asyncio.gather(*(queue.add("a", number) for number in range(64)))
        assert await script_calls(client) == 3
        assert await queue.jobs.count() == 104


@pytest.mark.needs_server
async def test_what_joins_a_call_that_left_at_once_need_not_wait_for_its_reply(
    proxy: Proxy, unsteady: Queue[Any, Any], client: Any
) -> None:
    for _ in range(30):
        await unsteady.add("alone", -1)
    await client.config_resetstat()
    proxy.mode = Mode.LOSE_REPLIES
    adding = [asyncio.create_task(unsteady.add("a", number)) for number in range(3)]

    async def are_two_sent() -> bool:
        return await script_calls(client) == MAX_IN_FLIGHT == 2

    await wait_until(are_two_sent, producer_module.ADD_TRY_S / 2)  # before the first would be sent again
    proxy.mode = Mode.PASS

    assert [job.id for job in await asyncio.gather(*adding)] == ["32", "33", "34"]
    assert await unsteady.jobs.count() == 34


def test_an_event_loop_that_stops_before_an_add_is_sent_leaves_the_queue_usable(prefix: str) -> None:
    queue = Queue[str, None]("q", connection="memory://stopped", prefix=prefix)
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)  # it would say that a task was left pending
    loop.run_until_complete(queue.add("first"))
    late = loop.create_task(queue.add("late"))
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    assert not late.done()

    async def add() -> str:
        async with queue, asyncio.timeout(5):
            return (await queue.add("second")).id

    assert asyncio.run(add()) == "2"


@pytest.mark.needs_server
async def test_a_call_follows_another_before_that_is_answered(
    proxy: Proxy, unsteady: Queue[Any, Any], client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    await client.config_resetstat()
    proxy.mode = Mode.LOSE_REPLIES
    adding = [asyncio.create_task(unsteady.add("a", number)) for number in range(250)]

    async def are_two_sent() -> bool:
        return await script_calls(client) >= 2

    await wait_until(are_two_sent)
    assert await script_calls(client) == MAX_IN_FLIGHT == 2
    proxy.mode = Mode.PASS

    assert [job.id for job in await asyncio.gather(*adding)] == [str(number + 2) for number in range(250)]
    assert [job.data for job in await unsteady.jobs.list("waiting", 1, -1, asc=True)] == list(range(250))
    assert len([record for record in caplog.records if "no connection" in record.message]) == 1


async def test_one_bad_job_and_one_cancelled_caller_leave_the_others_added(queue: Queue[Any, Any]) -> None:
    tasks = [asyncio.create_task(queue.add("a", number)) for number in range(62)]
    bad = asyncio.create_task(queue.add("bad", parent={"id": "missing", "queue": "some:queue"}))
    cancelled = asyncio.create_task(queue.add("cancelled"))
    await asyncio.sleep(0)  # all of them wait for the same call
    cancelled.cancel()

    done = await asyncio.gather(*tasks, bad, cancelled, return_exceptions=True)

    assert all(isinstance(job, Job) for job in done[:62])
    assert isinstance(done[62], ParentNotFound)
    assert isinstance(done[63], asyncio.CancelledError)
    # The caller left before the call did, so its job was not sent.
    assert sorted(job.name for job in await queue.jobs.list("waiting", 0, -1)) == ["a"] * 62


async def test_a_caller_that_leaves_during_the_call_does_not_disturb_it(queue: Queue[Any, Any]) -> None:
    await queue.add("warm up")
    staying, leaving = asyncio.create_task(queue.add("stays")), asyncio.create_task(queue.add("leaves"))
    for _ in range(3):
        await asyncio.sleep(0)
    leaving.cancel()

    job = await staying

    assert job.name == "stays"
    assert leaving.cancelled() or (await asyncio.wait([leaving]))
    assert await queue.jobs.count() == 3


async def test_a_job_that_cannot_be_encoded_is_refused_alone(queue: Queue[Any, Any]) -> None:
    results = await asyncio.gather(queue.add("a", 1), queue.add("a", {1: 2}), return_exceptions=True)

    assert isinstance(results[0], Job)
    assert isinstance(results[1], ValueError)
    assert await queue.jobs.count() == 1


async def test_close_waits_for_adds_and_refuses_further_ones(source: ConnectionSource, prefix: str) -> None:
    queue = Queue[Any, Any]("q", connection=source, prefix=prefix)
    adding = asyncio.create_task(queue.add("a"))
    await asyncio.sleep(0)

    await queue.close()

    assert (await adding).id == "1"
    with pytest.raises(PyqueueError, match="closed"):
        await queue.add("b")


async def test_a_refusal_of_the_server_reaches_every_caller_of_the_call(
    queue: Queue[Any, Any], redis_client: Any
) -> None:
    wait = f"{queue.options.prefix}:{queue.name}:wait"
    await redis_client.set(wait, "not a list")

    errors = await asyncio.gather(queue.add("a"), queue.add("b"), return_exceptions=True)

    assert [type(error) for error in errors] == [RedisRefused, RedisRefused]
    await redis_client.delete(wait)
    assert (await queue.add("c")).add_status is AddStatus.CREATED


@pytest.fixture
async def unsteady(proxy: Proxy, prefix: str) -> AsyncIterator[Queue[Any, Any]]:
    """A queue behind the proxy, with its settings written and its scripts loaded."""
    connection = Connection.open(proxy.url, deadline_s=DEADLINE_S)
    async with Queue[Any, Any]("q", connection=connection, prefix=prefix) as queue:
        await queue.add("warm up")
        yield queue
    await connection.aclose()


@pytest.mark.needs_server
@pytest.mark.parametrize("mode", [Mode.LOSE_REPLIES, Mode.SILENT])
async def test_jobs_whose_reply_or_request_was_lost_are_stored_once(
    proxy: Proxy, unsteady: Queue[Any, Any], mode: Mode
) -> None:
    proxy.mode = mode
    adding = [asyncio.create_task(unsteady.add("a", number)) for number in range(5)]
    await wait_until(lambda: unsteady._producer.sender._outage.is_down)
    proxy.mode = Mode.PASS

    jobs = await asyncio.gather(*adding)

    assert [job.id for job in jobs] == ["2", "3", "4", "5", "6"]
    assert all(job.add_status is AddStatus.CREATED for job in jobs)
    assert await unsteady.jobs.count() == 6


@pytest.mark.needs_server
async def test_a_close_that_is_cancelled_gives_up_a_call_that_was_launched(
    proxy: Proxy, unsteady: Queue[Any, Any]
) -> None:
    proxy.mode = Mode.SILENT
    adding = asyncio.create_task(unsteady.add("a"))
    await asyncio.sleep(0)
    closing = asyncio.create_task(unsteady.close())
    await asyncio.sleep(0.1)  # the call is on its way
    closing.cancel()

    done = await asyncio.gather(adding, closing, return_exceptions=True)

    assert [type(error) for error in done] == [asyncio.CancelledError, asyncio.CancelledError]


@pytest.mark.needs_server
async def test_a_lost_reply_does_not_turn_an_own_id_into_a_duplicate(proxy: Proxy, unsteady: Queue[Any, Any]) -> None:
    proxy.mode = Mode.LOSE_REPLIES
    adding = asyncio.create_task(unsteady.add("a", job_id="x"))
    await wait_until(lambda: unsteady._producer.sender._outage.is_down)
    proxy.mode = Mode.PASS

    assert (await adding).add_status is AddStatus.CREATED


@pytest.mark.needs_server
async def test_a_connection_that_stays_broken_ends_in_an_unknown_outcome(
    proxy: Proxy, unsteady: Queue[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producer_module, "ADD_DEADLINE_S", 2 * DEADLINE_S)
    proxy.mode = Mode.SILENT

    with pytest.raises(AddOutcomeUnknown) as caught:
        await unsteady.add("a")

    assert isinstance(caught.value.__cause__, (RedisConnectionError, RedisTimeoutError))
    assert caught.value.queue == unsteady.name
    assert f"[queue {unsteady.name!r}]" in str(caught.value)
    proxy.mode = Mode.PASS
    assert (await unsteady.add("b")).name == "b"


@pytest.mark.needs_server
async def test_a_bulk_behind_a_broken_connection_is_stored_once(proxy: Proxy, unsteady: Queue[Any, Any]) -> None:
    proxy.mode = Mode.LOSE_REPLIES
    adding = asyncio.create_task(unsteady.add_bulk([JobSpec("a", number) for number in range(250)]))
    await wait_until(lambda: unsteady._producer.sender._outage.is_down)
    proxy.mode = Mode.PASS

    jobs = await adding

    assert [job.data for job in jobs] == list(range(250))
    assert await unsteady.jobs.count() == 251


@pytest.mark.needs_server
async def test_a_server_without_memory_refuses_and_is_not_asked_again(
    server: RedisServer, client: Any, prefix: str
) -> None:
    async with Queue[Any, Any]("q", connection=server.url, prefix=prefix) as queue:
        await queue.add("a")
        await client.config_set("maxmemory", 1)
        try:
            with pytest.raises(RedisRefused) as caught:
                await queue.add("b")
        finally:
            await client.config_set("maxmemory", 0)

        assert caught.value.code == "OOM"
        assert (await queue.add("c")).id == "2"


async def test_a_close_that_is_cancelled_gives_up_what_redis_does_not_take(free_tcp_port: int) -> None:
    queue = Queue[int, None]("q", connection=f"redis://127.0.0.1:{free_tcp_port}")
    adding = asyncio.create_task(queue.add("a", 1))
    await asyncio.sleep(0)

    with anyio.move_on_after(0.1):
        await queue.close()

    with pytest.raises(asyncio.CancelledError):
        await adding


@pytest.mark.needs_server
async def test_everybody_who_waits_in_an_outage_is_told_in_time(
    proxy: Proxy, unsteady: Queue[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producer_module, "ADD_DEADLINE_S", 2 * DEADLINE_S)
    proxy.mode = Mode.SILENT
    started = time.monotonic()

    results = await asyncio.gather(*(unsteady.add("a") for _ in range(500)), return_exceptions=True)

    assert {type(result) for result in results} == {AddOutcomeUnknown}
    assert time.monotonic() - started < 8 * DEADLINE_S
    proxy.mode = Mode.PASS
    assert (await unsteady.add("b")).name == "b"
