"""Fetching jobs by hand: without a processor, under the caller's own token."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import anyio
import pytest

from pyqueue import JobState, LockError, RateLimit
from tests.behaviour.conftest import AnyQueue, MakeWorker
from tests.support.jobs import stored
from tests.support.waiting import wait_until

pytestmark = pytest.mark.anyio


async def test_progress_of_every_job_that_was_fetched_is_an_event_of_the_worker(
    queue: AnyQueue, make_worker: MakeWorker
) -> None:
    """Also of one that came with the end of another."""
    worker = make_worker()
    heard: list[tuple[str, Any]] = []
    worker.on("progress", lambda job, progress: heard.append((job.id, progress)))
    first, second = [await queue.add("x", number) for number in range(2)]
    job = await worker.get_next_job("token")
    assert job is not None
    await job.update_progress(1)
    following = (await job.move_to_completed(None, fetch_next=True)).job
    assert following is not None
    await following.update_progress(2)
    assert heard == [(first.id, 1), (second.id, 2)]
    await first.update_progress(3)  # not fetched here
    assert len(heard) == 2
    await worker.close()


async def test_a_job_can_be_fetched_and_settled_by_hand(queue: AnyQueue, make_worker: MakeWorker) -> None:
    """E125."""
    worker = make_worker()
    first, second = [await queue.add("x", number, attempts=2) for number in range(2)]
    job = await worker.get_next_job("token")
    assert job is not None
    assert (job.id, job.data, job.token) == (first.id, 0, "token")
    assert await job.state() is JobState.ACTIVE
    await job.move_to_completed("by hand")
    assert (await stored(queue, first)).return_value == "by hand"
    job = await worker.get_next_job("token")
    assert job is not None
    await job.move_to_failed(ValueError("by hand"))
    assert (await stored(queue, second)).failed_reason == "by hand"
    assert await second.state() is JobState.WAITING
    await worker.close()


async def test_without_a_job_a_fetch_returns_at_once_or_waits(queue: AnyQueue, make_worker: MakeWorker) -> None:
    """E127."""
    worker = make_worker(drain_delay=10_000)
    with anyio.fail_after(5):
        assert await worker.get_next_job("t", block=False) is None
    fetched: list[Any] = []

    async def fetch() -> None:
        fetched.append(await worker.get_next_job("t"))

    async with anyio.create_task_group() as group:
        group.start_soon(fetch)
        await queue.add("x", delay=150, job_id="later")
    assert [one.id for one in fetched] == ["later"]
    await worker.close()


async def test_a_paused_or_limited_queue_gives_no_job(queue: AnyQueue, make_worker: MakeWorker) -> None:
    """E127."""
    worker = make_worker(limiter=RateLimit(max=1, duration=1500))
    await queue.add("x")
    await queue.add("x")
    await queue.pause()
    assert await worker.get_next_job("t", block=False) is None
    await queue.resume()
    assert await worker.get_next_job("t1", block=False) is not None
    assert await worker.get_next_job("t2", block=False) is None
    assert await worker.get_next_job("t2") is not None
    await worker.close()


async def test_closing_ends_a_waiting_fetch(queue: AnyQueue, make_worker: MakeWorker) -> None:
    worker = make_worker()
    fetched: list[Any] = []

    async def fetch() -> None:
        fetched.append(await worker.get_next_job("t"))

    async with anyio.create_task_group() as group:
        group.start_soon(fetch)
        await anyio.sleep(0.05)  # lets it block; closing before that works as well
        await worker.close()
    assert fetched == [None]


async def test_a_close_that_is_cancelled_leaves_nobody_waiting(queue: AnyQueue, make_worker: MakeWorker) -> None:
    """At whatever step of the end."""
    for turns in range(12):
        worker = make_worker()
        fetch = asyncio.create_task(worker.get_next_job("t"))
        await wait_until(partial(bool, worker._parts.manual._waits))
        closing = asyncio.create_task(worker.close())
        for _ in range(turns):
            await asyncio.sleep(0)
        closing.cancel()
        with anyio.fail_after(5):
            await asyncio.wait([closing])
            await worker.close()
            assert await fetch is None


async def test_a_cancelled_fetch_takes_no_job_with_it(queue: AnyQueue, make_worker: MakeWorker) -> None:
    worker = make_worker(drain_delay=30_000)
    with anyio.move_on_after(0.1):
        await worker.get_next_job("t")
    await queue.add("x")
    with anyio.fail_after(7):  # a block takes ten seconds
        assert await worker.get_next_job("t") is not None
    await worker.close()


async def test_a_fetch_that_is_cancelled_in_flight_gives_its_job_back(queue: AnyQueue, make_worker: MakeWorker) -> None:
    """At whatever moment: before it is sent, while Redis has claimed the job already, after its reply."""
    worker = make_worker()
    job = await queue.add("x")
    fetched = 0
    for tenths_of_ms in range(60):
        fetch = asyncio.create_task(worker.get_next_job("t"))
        await asyncio.sleep(tenths_of_ms / 10_000)
        fetch.cancel()
        try:
            if (found := await fetch) is not None:
                fetched += 1
                await found.move_to_wait()
        except asyncio.CancelledError:
            pass
        assert await job.state() is JobState.WAITING, f"cancelled after {tenths_of_ms} tenths of a millisecond"
    assert fetched < 60
    assert (await stored(queue, job)).attempts_started == fetched  # what nobody heard of does not count as a start
    await worker.close()


async def test_a_job_that_stalled_too_often_is_failed_and_the_next_one_returned(
    queue: AnyQueue, make_worker: MakeWorker, redis_client: Any, prefix: str
) -> None:
    """E123, in manual mode."""
    worker = make_worker()
    doomed, fine = [await queue.add("x", attempts=3) for _ in range(2)]
    await redis_client.hset(f"{prefix}:q:{doomed.id}", "defa", "job stalled more than allowable limit")
    job = await worker.get_next_job("t")
    assert job is not None
    assert job.id == fine.id
    assert await doomed.state() is JobState.FAILED
    await worker.close()


async def test_another_token_cannot_settle_the_job(queue: AnyQueue, make_worker: MakeWorker) -> None:
    """E64."""
    worker = make_worker()
    await queue.add("x")
    job = await worker.get_next_job("mine")
    assert job is not None
    with pytest.raises(LockError):
        await job.move_to_completed(1, "other")
    assert await job.extend_lock(10_000)
    await job.move_to_wait()
    assert await job.state() is JobState.WAITING
    await worker.close()
