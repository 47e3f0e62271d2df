"""Slots: long-lived tasks that run jobs, are reused, and survive the cancellation of a job."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import anyio
import pytest

from pyqueue._worker import slots as slots_module
from pyqueue._worker.held import CancelReason, Held
from pyqueue._worker.running_job import RunningJob
from pyqueue._worker.slots import Slots
from tests.support.waiting import wait_until

pytestmark = pytest.mark.anyio


def held(*, is_suspect: bool = False) -> Held:
    return Held(cast(RunningJob, object()), 0.0, is_suspect=is_suspect)


@asynccontextmanager
async def running(
    run_job: Callable[[Held], Awaitable[None]], concurrency: int = 2, prefetch: int = 0
) -> AsyncIterator[tuple[Slots, list[Held]]]:
    ended: list[Held] = []
    slots = Slots(
        run_job,
        started=lambda one: setattr(one, "value", "started"),
        finished=ended.append,
        concurrency=concurrency,
        prefetch=prefetch,
    )
    async with anyio.create_task_group() as group:
        slots.open()
        group.start_soon(slots.run)
        yield slots, ended
        group.cancel_scope.cancel()


async def test_tasks_are_made_on_demand_and_used_again() -> None:
    tasks: set[Any] = set()

    async def run_job(one: Held) -> None:
        tasks.add(one.task)
        await anyio.lowlevel.checkpoint()

    async with running(run_job, concurrency=10) as (slots, ended):
        for total in range(1, 6):
            slots.start(held())
            await slots.wait_empty()
            assert len(ended) == total
        assert len(tasks) == 1


async def test_free_running_and_suspects_are_counted() -> None:
    gate = anyio.Event()

    async def run_job(one: Held) -> None:
        await gate.wait()

    async with running(run_job) as (slots, ended):
        slots.start(held(is_suspect=True))
        slots.start(held())
        assert (slots.free, slots.running, slots.suspects) == (0, 2, 1)
        slots.concurrency = 1
        assert slots.free == -1
        gate.set()
        await slots.wait_empty()
        assert (slots.free, slots.running, slots.suspects) == (1, 0, 0)
        assert len(ended) == 2


async def test_a_cancelled_job_ends_and_its_slot_runs_the_next_one() -> None:
    reasons: list[str] = []

    async def run_job(one: Held) -> None:
        try:
            await anyio.sleep_forever()
        except asyncio.CancelledError:
            reasons.append(one.cancel_reason.value if one.cancel_reason else "?")

    async with running(run_job) as (slots, ended):
        for total in range(1, 4):
            one = held()
            slots.start(one)
            await _started(one)
            task = one.task
            slots.cancel(one, CancelReason.LOCK_LOST)
            await slots.wait_empty()
            assert len(ended) == total
            assert task is not None
            assert task.cancelling() == 0
    assert reasons == ["its lock was lost"] * 3


async def test_a_cancellation_asked_for_by_the_running_job_itself_does_not_reach_the_slot() -> None:
    """It would be delivered at the slot's next await, after the job has returned."""

    async def run_job(one: Held) -> None:
        slots.cancel(one, CancelReason.CLOSING)

    async with running(run_job) as (slots, ended):
        for total in range(1, 4):
            slots.start(held())
            await _reached(ended, total)


async def test_a_job_that_swallows_its_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots_module, "CANCEL_AGAIN_S", 0.01)
    swallowed: list[int] = []

    async def run_job(one: Held) -> None:
        while len(swallowed) < 3:
            try:
                await anyio.sleep_forever()
            except asyncio.CancelledError:
                swallowed.append(1)

    async with running(run_job) as (slots, _):
        slots.start(held())
        await anyio.lowlevel.checkpoint()
        slots.cancel_all(CancelReason.CLOSING)
        await slots.wait_empty()
    assert len(swallowed) == 3


async def test_a_job_cancelled_before_it_began_is_run_with_its_reason() -> None:
    reasons: list[CancelReason | None] = []

    async def run_job(one: Held) -> None:
        reasons.append(one.cancel_reason)

    async with running(run_job) as (slots, _):
        one = held()
        slots.start(one)
        slots.cancel(one, CancelReason.LOCK_LOST)
        await slots.wait_empty()
    assert reasons == [CancelReason.LOCK_LOST]


async def _started(one: Held) -> None:
    await wait_until(lambda: one.task is not None)


async def _reached(ended: list[Held], total: int) -> None:
    await wait_until(lambda: len(ended) == total)


async def test_jobs_beyond_the_concurrency_wait_for_their_turn() -> None:
    order: list[Held] = []
    gate = anyio.Event()

    async def run_job(one: Held) -> None:
        assert one.value == "started"
        order.append(one)
        await gate.wait()

    async with running(run_job, concurrency=1, prefetch=2) as (slots, ended):
        first, last, suspect = held(), held(), held(is_suspect=True)
        for one in (first, last, suspect):
            slots.start(one)
        jobs = [first, suspect, last]  # one that was active when a worker died does not wait behind others
        assert (slots.free, slots.running, slots.waiting, slots.suspects) == (0, 1, 2, 1)
        assert [one.value for one in jobs] == ["started", None, None]
        gate.set()
        await slots.wait_empty()
        assert order == ended == jobs
        assert (slots.free, slots.running, slots.waiting, slots.suspects) == (3, 0, 0, 0)


async def test_jobs_that_wait_can_be_withdrawn() -> None:
    gate = anyio.Event()

    async def run_job(one: Held) -> None:
        await gate.wait()

    async with running(run_job, concurrency=1, prefetch=2) as (slots, ended):
        first, second, third = held(), held(is_suspect=True), held()
        for one in (first, second, third):
            slots.start(one)
        assert slots.withdraw() == [second, third]
        assert (slots.free, slots.waiting, slots.suspects, slots.withdraw()) == (2, 0, 0, [])
        gate.set()
        await slots.wait_empty()
        assert ended == [first]


async def test_a_job_that_is_cancelled_while_it_waits_is_dropped() -> None:
    order: list[Held] = []
    gate = anyio.Event()

    async def run_job(one: Held) -> None:
        order.append(one)
        await gate.wait()

    async with running(run_job, concurrency=1, prefetch=2) as (slots, ended):
        first, dropped, last = held(), held(is_suspect=True), held()
        for one in (first, dropped, last):
            slots.start(one)
        slots.cancel(dropped, CancelReason.LOCK_LOST)
        assert (slots.waiting, slots.suspects, dropped.cancel_reason) == (1, 0, CancelReason.LOCK_LOST)
        gate.set()
        await slots.wait_empty()
        assert order == ended == [first, last]
        assert dropped.value is None, "it was not announced"


async def test_a_slot_that_is_cancelled_itself_ends_with_its_job_and_passes_the_next_one_on() -> None:
    tasks: list[asyncio.Task[Any]] = []

    async def run_job(one: Held) -> None:
        assert one.task is not None
        tasks.append(one.task)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.01 if len(tasks) > 1 else 100)

    async with running(run_job, concurrency=1, prefetch=1) as (slots, ended):
        for _ in range(2):
            slots.start(held())
        await wait_until(lambda: tasks)
        tasks[0].cancel()
        await slots.wait_empty()
        assert len(ended) == 2
        assert tasks[0].done()
        assert tasks[1] is not tasks[0]
