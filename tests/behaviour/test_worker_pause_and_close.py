"""Pausing one worker, and ending it: nothing is lost, nothing is run twice, nothing hangs."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import anyio
import pytest

from pyqueue import Context, DelayJob, Job, JobState, PyqueueError
from pyqueue._worker import closing, slots
from tests.behaviour.conftest import AnyQueue, AnyWorker, MakeWorker, StartWorker
from tests.support.jobs import reach, stored
from tests.support.server import RedisServer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.anyio

#: A worker that was not woken asks again when its block ends: after its drain delay, or ten seconds.
_BEFORE_A_BLOCK_ENDS_S: Final = 7.0


class Endless:
    """A processor that goes on until it is cancelled, and knows which jobs have come so far.

    A job that is active in Redis has not: a worker that closes before it hears of its claim hands the job back.
    """

    def __init__(self) -> None:
        self.begun: list[str] = []

    async def __call__(self, job: Job[Any, Any]) -> None:
        self.begun.append(job.id)
        await anyio.sleep_forever()

    async def has(self, *jobs: Job[Any, Any]) -> None:
        """Wait until these have come."""
        await wait_until(lambda: sorted(self.begun) == sorted(job.id for job in jobs))


class SlowToEnd(Endless):
    """One whose clean-up takes as long as the test wants."""

    def __init__(self) -> None:
        super().__init__()
        self._cleaning_up, self._may_end = asyncio.Event(), asyncio.Event()

    async def __call__(self, job: Job[Any, Any]) -> None:
        try:
            await super().__call__(job)
        finally:
            self._cleaning_up.set()
            await self._may_end.wait()

    async def cancelled_again_and_again(self, job: Job[Any, Any], task: asyncio.Task[None]) -> None:
        """Cancel a task when the job has come, and three times more while that cleans up."""
        await self.has(job)
        task.cancel()
        await self._cleaning_up.wait()
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        self._may_end.set()


async def test_a_paused_worker_finishes_what_runs_and_starts_nothing(
    queue: AnyQueue, start_worker: StartWorker
) -> None:
    """E70, E71, E132, E133."""
    started, gate = anyio.Event(), anyio.Event()

    async def process(job: Job[Any, Any]) -> None:
        started.set()
        await gate.wait()

    worker = await start_worker(process)
    first, second = [await queue.add("x") for _ in range(2)]
    await started.wait()
    worker.pause()
    gate.set()
    await worker.wait_idle()
    assert worker.is_paused
    assert await first.state() is JobState.COMPLETED
    assert await second.state() is JobState.WAITING
    worker.resume()
    await reach(queue, second, JobState.COMPLETED)


async def test_pausing_one_worker_leaves_the_others_at_work(queue: AnyQueue, start_worker: StartWorker) -> None:
    """E132: the marker that the paused worker may have taken is put back."""
    ran: list[str] = []

    def by(name: str) -> Callable[[Job[Any, Any]], None]:
        return lambda job: ran.append(name)

    paused = await start_worker(by("paused"), drain_delay=30_000)
    await wait_until(lambda: "nothing to claim" in paused.health().reason)
    paused.pause()
    await start_worker(by("working"), drain_delay=30_000)
    jobs = [await queue.add("x") for _ in range(5)]
    await reach(queue, jobs, JobState.COMPLETED, timeout=_BEFORE_A_BLOCK_ENDS_S)
    assert set(ran) == {"working"}


async def test_an_idle_worker_can_be_paused_and_resumed_in_between(queue: AnyQueue, start_worker: StartWorker) -> None:
    """E133, E136."""
    worker = await start_worker(lambda job: None, drain_delay=30_000)
    for _ in range(3):
        await wait_until(lambda: "nothing to claim" in worker.health().reason)
        worker.pause()
        job = await queue.add("x")
        worker.resume()
        await reach(queue, job, JobState.COMPLETED, timeout=_BEFORE_A_BLOCK_ENDS_S)


async def test_jobs_of_a_paused_queue_wait_and_run_after_resume(queue: AnyQueue, start_worker: StartWorker) -> None:
    """E130, E134."""
    await queue.pause()
    await start_worker(lambda job: None, drain_delay=30_000)
    job = await queue.add("x")
    delayed = await queue.add("x", delay=20)
    await anyio.sleep(0.1)  # that nothing happens cannot be awaited
    assert await job.state() is JobState.WAITING
    await queue.resume()
    await reach(queue, [job, delayed], JobState.COMPLETED, timeout=_BEFORE_A_BLOCK_ENDS_S)


async def test_close_waits_for_running_jobs_and_stores_their_ends(queue: AnyQueue, start_worker: StartWorker) -> None:
    """E137, E112."""
    started: list[str] = []

    async def process(job: Job[Any, Any]) -> None:
        started.append(job.id)
        await anyio.sleep(1.2)
        if job.name == "bad":
            raise ValueError
        if job.name == "later":
            raise DelayJob(60_000)

    worker = await start_worker(process, concurrency=3, lock_duration=1000)
    jobs = [await queue.add(name) for name in ("good", "bad", "later")]
    waiting = [await queue.add("not started") for _ in range(3)]
    await wait_until(lambda: len(started) == 3)
    await worker.close()
    states = [await job.state() for job in jobs]
    assert states == [JobState.COMPLETED, JobState.FAILED, JobState.DELAYED]
    assert [await job.state() for job in waiting] == [JobState.WAITING] * 3
    await worker.close()  # again


async def test_jobs_over_the_deadline_are_cancelled_and_handed_back(queue: AnyQueue, start_worker: StartWorker) -> None:
    """No attempt is spent, and they are the first to run again."""
    started: list[str] = []
    cleaned_up: list[str] = []

    async def process(job: Job[Any, Any]) -> None:
        started.append(job.id)
        try:
            await anyio.sleep_forever()
        finally:
            await asyncio.sleep(0.01)  # a clean-up that takes its time
            cleaned_up.append(job.id)

    worker = await start_worker(process, concurrency=2)
    jobs = [await queue.add("endless", attempts=1) for _ in range(2)]
    other = await queue.add("other")
    await wait_until(lambda: len(started) == 2)
    began = time.monotonic()
    await worker.close(timeout=0.2)
    assert 0.15 <= time.monotonic() - began <= 4.5  # without the grace for those that do not end
    assert sorted(cleaned_up) == [job.id for job in jobs]
    for job in jobs:
        end = await stored(queue, job)
        assert (await end.state(), end.attempts_made, end.failed_reason) == (JobState.WAITING, 0, None)
    await start_worker(lambda job: None)
    await reach(queue, [*jobs, other], JobState.COMPLETED)


async def test_running_jobs_that_are_handed_back_stand_in_line_as_they_did(
    queue: AnyQueue, start_worker: StartWorker
) -> None:
    endless = Endless()
    worker = await start_worker(endless, concurrency=8)
    jobs = await queue.add_bulk([{"name": "x"}] * 12)
    await endless.has(*jobs[:8])
    await worker.close(timeout=0.1)
    waiting = await queue.jobs.list(JobState.WAITING, asc=True)
    assert [job.id for job in waiting] == [job.id for job in jobs]


async def test_a_forced_close_hands_back_at_once_and_a_plain_function_learns_it(
    queue: AnyQueue, start_worker: StartWorker
) -> None:
    started, saw_it = list[str](), list[str]()

    def process(job: Job[Any, Any], context: Context) -> None:
        started.append(job.id)
        while not context.is_cancelled:
            time.sleep(0.005)
        saw_it.append(job.id)

    worker = await start_worker(process)
    job = await queue.add("x")
    await wait_until(lambda: started)
    await worker.close(force=True)
    assert await job.state() is JobState.WAITING
    await wait_until(lambda: saw_it == [job.id])


async def test_a_second_close_can_only_shorten_the_wait(queue: AnyQueue, start_worker: StartWorker) -> None:
    """As a second SIGTERM does."""
    endless = Endless()
    worker = await start_worker(endless)
    job = await queue.add("x")
    await endless.has(job)
    async with anyio.create_task_group() as group:
        group.start_soon(worker.close)
        await wait_until(lambda: worker.health().state == "closing")
        with anyio.fail_after(10):
            await worker.close(timeout=0.05)
    assert await job.state() is JobState.WAITING


async def test_a_processor_that_swallows_its_cancellation_completes(queue: AnyQueue, start_worker: StartWorker) -> None:
    endless = Endless()

    async def process(job: Job[Any, Any]) -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await endless(job)
        return "finished in time"

    worker = await start_worker(process)
    job = await queue.add("x")
    await endless.has(job)
    await worker.close(force=True)
    assert (await stored(queue, job)).return_value == "finished in time"


async def test_a_processor_that_swallows_every_cancellation_is_left_behind(
    queue: AnyQueue, make_worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    """The close is bounded, says which job it left running, and hands back what can be handed back."""
    started: list[str] = []
    released = asyncio.Event()

    async def process(job: Job[Any, Any]) -> None:
        started.append(job.id)
        while job.name == "stubborn" and not released.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await released.wait()
        await released.wait()

    stubborn, tame = await queue.add("stubborn"), await queue.add("tame")
    worker = make_worker(process, concurrency=2)
    running = asyncio.create_task(worker.run())
    await wait_until(lambda: len(started) == 2)

    with anyio.fail_after(15):
        await worker.close(timeout=0.1)
        await running
        await worker.wait_idle()  # it has no job in its hands any more

    assert f"job {stubborn.id} (stubborn) of queue q swallows its cancellation" in caplog.text
    assert await tame.state() is JobState.WAITING
    released.set()


async def test_a_slot_works_on_after_its_job_was_cancelled(
    queue: AnyQueue, start_worker: StartWorker, redis_client: Any, prefix: str
) -> None:
    """Its own task must not stay cancelled: here the lock is lost, and the worker goes on."""
    endless = Endless()

    async def process(job: Job[Any, Any]) -> None:
        if job.name == "endless":
            await endless(job)

    worker = await start_worker(process, lock_duration=1500)
    lost = anyio.Event()
    worker.on("lock_lost", lambda job: lost.set())
    worker.on("error", lambda error: None)
    job = await queue.add("endless")
    await endless.has(job)
    await redis_client.delete(f"{prefix}:q:{job.id}:lock")
    with anyio.fail_after(15):
        await lost.wait()
    fine = await queue.add("fine")
    await reach(queue, fine, JobState.COMPLETED)


async def test_run_returns_when_closed_and_a_cancelled_run_hands_its_jobs_back(
    queue: AnyQueue, make_worker: MakeWorker
) -> None:
    endless = Endless()
    worker = make_worker(endless)
    job = await queue.add("x")
    async with anyio.create_task_group() as group:
        group.start_soon(worker.run)
        await endless.has(job)
        group.cancel_scope.cancel()
    assert await job.state() is JobState.WAITING
    assert worker.health().state == "closed"


async def test_a_run_whose_task_is_cancelled_hands_its_jobs_back(queue: AnyQueue, make_worker: MakeWorker) -> None:
    """What asyncio.run does at Ctrl-C."""
    endless = Endless()
    worker = make_worker(endless)
    job = await queue.add("x")
    task = asyncio.create_task(worker.run())
    await endless.has(job)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await job.state() is JobState.WAITING


async def test_a_run_whose_task_is_cancelled_twice_lets_processors_clean_up(
    queue: AnyQueue, make_worker: MakeWorker
) -> None:
    slow = SlowToEnd()
    job = await queue.add("x")
    task = asyncio.create_task(make_worker(slow).run())
    await slow.cancelled_again_and_again(job, task)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await job.state() is JobState.WAITING


async def test_a_processor_that_exits_the_program_ends_the_worker_in_order(
    queue: AnyQueue, make_worker: MakeWorker
) -> None:
    async def process(job: Job[Any, Any]) -> None:
        if job.name == "exit":
            raise SystemExit(3)
        await anyio.sleep_forever()

    worker = make_worker(process, concurrency=2)
    jobs = [await queue.add(name) for name in ("endless", "exit")]
    with pytest.raises(SystemExit):
        await worker.run()
    assert [await job.state() for job in jobs] == [JobState.WAITING] * 2
    assert [(await stored(queue, job)).attempts_made for job in jobs] == [0, 0]


async def test_closing_in_a_processor_is_refused(queue: AnyQueue, start_worker: StartWorker) -> None:
    async def process(job: Job[Any, Any]) -> None:
        await worker.close()

    worker = await start_worker(process)
    heard: list[BaseException] = []
    worker.on("failed", lambda job, error: heard.append(error))
    await queue.add("x")
    await wait_until(lambda: heard)
    assert isinstance(heard[0], PyqueueError)


async def test_a_callback_may_close_its_worker(queue: AnyQueue, make_worker: MakeWorker) -> None:
    worker = make_worker(lambda job: None)

    @worker.on("drained")
    async def end() -> None:
        await worker.close()

    job = await queue.add("x")
    with anyio.fail_after(15):
        await worker.run()
    assert await job.state() is JobState.COMPLETED


@pytest.mark.parametrize("leaves", ["pauses", "closes"])
async def test_a_delayed_job_runs_in_time_though_the_worker_that_waited_for_it_leaves(
    queue: AnyQueue, start_worker: StartWorker, leaves: str
) -> None:
    """One worker pops the marker of a delayed job; the others do not know of it."""
    ran: list[float] = []
    workers = []
    for _ in range(2):
        worker = await start_worker(lambda job: ran.append(time.monotonic()), drain_delay=30_000)
        await _idle(worker)
        workers.append(worker)
    await anyio.sleep(0.1)  # until both block, in this order
    due = time.monotonic() + 1
    await queue.add("x", delay=1000)
    await anyio.sleep(0.1)  # until the first one has the marker
    if leaves == "closes":
        await workers[0].close()
    else:
        workers[0].pause()
    await wait_until(lambda: ran)
    assert ran[0] - due < 6  # their blocks end two seconds later


async def test_an_idle_worker_closes_quickly(queue: AnyQueue, start_worker: StartWorker) -> None:
    worker = await start_worker(lambda job: None, drain_delay=30_000)
    await wait_until(lambda: "nothing to claim" in worker.health().reason)
    with anyio.fail_after(5):
        await worker.close()


async def test_a_rate_limited_worker_closes_quickly(queue: AnyQueue, start_worker: StartWorker) -> None:
    """E139."""
    worker = await start_worker(lambda job: None, limiter={"max": 1, "duration": 60_000})
    jobs = [await queue.add("x") for _ in range(2)]
    await reach(queue, jobs[0], JobState.COMPLETED)
    await wait_until(lambda: worker.health().limited_for > 0)
    with anyio.fail_after(5):
        await worker.close()
    assert await jobs[1].state() is JobState.WAITING


async def test_a_worker_can_be_left_as_soon_as_it_was_entered(queue: AnyQueue, make_worker: MakeWorker) -> None:
    job = await queue.add("x")
    with anyio.fail_after(_BEFORE_A_BLOCK_ENDS_S):
        async with make_worker(lambda job: None, drain_delay=30_000) as worker:
            pass
    assert worker.health().state == "closed"
    assert await job.state() in {JobState.WAITING, JobState.COMPLETED}


async def test_a_cancelled_block_hands_running_jobs_back(queue: AnyQueue, make_worker: MakeWorker) -> None:
    endless = Endless()
    job = await queue.add("x")
    with anyio.CancelScope() as scope:
        async with make_worker(endless):
            await endless.has(job)
            scope.cancel()
            await anyio.sleep_forever()
    assert await job.state() is JobState.WAITING


async def test_a_timeout_while_the_block_is_left_hands_running_jobs_back(
    queue: AnyQueue, make_worker: MakeWorker
) -> None:
    endless = Endless()
    worker = make_worker(endless)
    job = await queue.add("x")

    async def leave() -> None:
        async with asyncio.timeout(None) as limit, worker:
            await endless.has(job)
            limit.reschedule(asyncio.get_running_loop().time() + 0.1)

    with pytest.raises(TimeoutError):
        await leave()
    assert worker.health().state == "closed"
    assert await job.state() is JobState.WAITING


async def test_a_scope_that_is_cancelled_while_the_block_is_left_hands_running_jobs_back(
    queue: AnyQueue, make_worker: MakeWorker
) -> None:
    endless = Endless()
    worker = make_worker(endless)
    job = await queue.add("x")
    with anyio.CancelScope() as scope:
        async with worker:
            await endless.has(job)
            scope.deadline = anyio.current_time() + 0.1
    assert scope.cancelled_caught
    assert worker.health().state == "closed"
    assert await job.state() is JobState.WAITING


async def test_a_worker_whose_task_is_cancelled_before_its_first_step_can_be_left(make_worker: MakeWorker) -> None:
    """What asyncio.run does to all tasks at Ctrl-C, in the turn in which the block was entered."""
    worker = make_worker(lambda job: None)
    ended: list[bool] = []
    worker.on("closed", lambda: ended.append(True))
    before = asyncio.all_tasks()
    await worker.__aenter__()
    (background,) = asyncio.all_tasks() - before
    background.cancel()
    with anyio.fail_after(5):
        await worker.__aexit__(None, None, None)
        await worker.close()
    assert (worker.health().state, worker.is_running, ended) == ("closed", False, [True])


async def test_a_block_that_is_cancelled_twice_is_left_in_order(queue: AnyQueue, make_worker: MakeWorker) -> None:
    """A timeout in a timeout, for example."""
    slow = SlowToEnd()
    worker = make_worker(slow)

    async def enter() -> None:
        async with worker:
            await anyio.sleep_forever()

    job = await queue.add("x")
    task = asyncio.create_task(enter())
    await slow.cancelled_again_and_again(job, task)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert worker.health().state == "closed"
    assert await job.state() is JobState.WAITING


async def test_a_processor_that_heeds_its_second_cancellation_hands_its_job_back(
    queue: AnyQueue, make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes as the grace ends, and a clean-up may take a turn of the event loop."""
    begun: list[str] = []

    async def process(job: Job[Any, Any]) -> None:
        begun.append(job.id)
        with contextlib.suppress(asyncio.CancelledError):
            await anyio.sleep_forever()
        try:
            await anyio.sleep_forever()
        finally:
            await asyncio.sleep(0)

    monkeypatch.setattr(slots, "CANCEL_AGAIN_S", 0.3)
    monkeypatch.setattr(closing, "GRACE_S", 0.3)
    job = await queue.add("x")
    worker = make_worker(process)
    async with worker:
        await wait_until(lambda: begun)
        await worker.close(force=True)
    assert await job.state() is JobState.WAITING


@pytest.mark.needs_server
@pytest.mark.timeout(60)
@pytest.mark.parametrize("ending", ["return", "raise RuntimeError('no more')"])
@pytest.mark.parametrize("start", ["asyncio.create_task(worker.run())", "await worker.__aenter__()"])
@pytest.mark.parametrize("wait", ["await started.wait()", ""])
def test_a_program_ends_though_a_worker_is_left_running(
    server: RedisServer, prefix: str, start: str, ending: str, wait: str
) -> None:
    """asyncio.run cancels all tasks at once; nobody is left then to hand jobs back, whose locks run out."""
    program = f"""
import asyncio
from pyqueue import Queue, Worker

async def main():
    started = asyncio.Event()
    async def process(job):
        started.set()
        await asyncio.sleep(1000)
    where = dict(connection={server.url!r}, prefix={prefix!r})
    async with Queue("q", **where) as queue:
        await queue.add("x")
    worker = Worker("q", process, **where, concurrency=3)
    task = {start}
    {wait}
    {ending}

asyncio.run(main())
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == ("raise" in ending), ended.stderr


async def test_a_worker_that_never_ran_can_be_closed(make_worker: MakeWorker) -> None:
    """E138."""
    worker = make_worker(lambda job: None)
    await worker.close()
    with pytest.raises(PyqueueError):
        await worker.run()


@pytest.mark.parametrize("timeout", [None, 0.1])
async def test_close_works_without_redis(make_worker: MakeWorker, timeout: float | None) -> None:
    """E138, E141: Redis was never there."""
    errors: list[Exception] = []
    worker = make_worker(lambda job: None, connection="redis://127.0.0.1:1")
    worker.on("error", errors.append)
    async with worker:
        await wait_until(lambda: errors and worker.health().reason == "Redis does not answer")
        assert not worker.health().is_healthy
        began = time.monotonic()
        await worker.close(timeout)
    assert time.monotonic() - began < 8  # a command that waits for a reply would take 10 s


async def _idle(worker: AnyWorker) -> None:
    await wait_until(lambda: "nothing to claim" in worker.health().reason)
