"""What a worker does with jobs that end well or badly: order, results, failures, callbacks, kinds of processors."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import anyio
import pytest

from pyqueue import (
    ConfigurationError,
    Context,
    Job,
    JobSpec,
    JobState,
    PyqueueError,
    UnknownOption,
    Unrecoverable,
    Worker,
)
from tests.behaviour.conftest import AnyQueue, MakeWorker, StartWorker
from tests.support.waiting import wait_until

pytestmark = pytest.mark.anyio


@pytest.mark.every_backend
async def test_jobs_run_in_the_order_they_were_added(queue: AnyQueue, start_worker: StartWorker) -> None:
    """E34, E35: FIFO, with jobs added before the worker started."""
    seen: list[int] = []
    for number in range(120):  # more than one exchange claims
        await queue.add("count", number)

    async def process(job: Job[int, None]) -> None:
        seen.append(job.data)

    await start_worker(process)
    await wait_until(lambda: len(seen) == 120)
    assert seen == list(range(120))


async def test_lifo_jobs_run_in_reverse_order(queue: AnyQueue, start_worker: StartWorker) -> None:
    """E34."""
    seen: list[int] = []
    for number in range(5):
        await queue.add("count", number, lifo=True)

    async def process(job: Job[int, None]) -> None:
        seen.append(job.data)

    await start_worker(process)
    await wait_until(lambda: len(seen) == 5)
    assert seen == [4, 3, 2, 1, 0]


@pytest.mark.parametrize("value", [{"a": [1, None]}, ["x", 2], "text", 1.5, 0, True, False, None])
@pytest.mark.every_backend
async def test_a_result_is_stored_and_passed_to_the_completed_event(
    queue: AnyQueue, start_worker: StartWorker, value: Any
) -> None:
    """E36."""
    heard: list[Any] = []

    async def process(job: Job[Any, Any]) -> Any:
        return value

    worker = await start_worker(process)
    worker.on("completed", lambda job, result: heard.append((job.id, result)))
    job = await queue.add("echo")
    await wait_until(lambda: heard)
    assert heard == [(job.id, value)]
    stored = await queue.jobs.get(job.id)
    assert stored is not None
    assert stored.return_value == value
    assert stored.attempts_made == 1
    assert stored.attempts_started == 1
    assert await stored.state() is JobState.COMPLETED


async def test_a_completed_event_comes_after_the_job_is_completed_in_redis(
    queue: AnyQueue, start_worker: StartWorker
) -> None:
    states: list[JobState] = []
    worker = await start_worker(lambda job: 1)

    @worker.on("completed")
    async def look(job: Job[Any, Any], value: Any) -> None:
        states.append(await job.state())

    await queue.add("x")
    await wait_until(lambda: states)
    assert states == [JobState.COMPLETED]


@pytest.mark.every_backend
async def test_a_plain_function_runs_in_a_thread_and_may_use_the_context(
    queue: AnyQueue, start_worker: StartWorker
) -> None:
    """E37."""
    threads: list[threading.Thread] = []
    tokens: list[str] = []

    def process(job: Job[int, int], context: Context) -> int:
        threads.append(threading.current_thread())
        tokens.append(context.token)
        assert not context.is_cancelled
        return job.data * 2

    worker = await start_worker(process)
    job = await queue.add("double", 21)
    await wait_until(lambda: _is_in(queue, job.id, JobState.COMPLETED))
    stored = await queue.jobs.get(job.id)
    assert stored is not None
    assert stored.return_value == 42
    assert threads[0] is not threading.main_thread()
    assert [token.partition(":")[0] for token in tokens] == [worker.id]


async def test_plain_functions_run_side_by_side(queue: AnyQueue, start_worker: StartWorker) -> None:
    together = threading.Barrier(3)

    def process(job: Job[Any, Any]) -> None:
        together.wait(5)

    await start_worker(process, concurrency=3)
    jobs = [await queue.add("meet") for _ in range(3)]
    await wait_until(lambda: _all_in(queue, jobs, JobState.COMPLETED))


async def test_a_raised_exception_fails_the_job_with_reason_and_stack(
    queue: AnyQueue, start_worker: StartWorker
) -> None:
    """E38."""
    heard: list[tuple[str, BaseException]] = []

    def explode() -> None:
        raise ValueError("no such address")

    async def process(job: Job[Any, Any]) -> None:
        explode()

    worker = await start_worker(process)
    worker.on("failed", lambda job, error: heard.append((job.id, error)))
    job = await queue.add("mail")
    await wait_until(lambda: heard)
    assert heard[0][0] == job.id
    assert isinstance(heard[0][1], ValueError)
    stored = await queue.jobs.get(job.id)
    assert stored is not None
    assert stored.failed_reason == "no such address"
    assert await stored.state() is JobState.FAILED
    lines = stored.stack_trace[0].splitlines()
    assert lines[0] == "ValueError: no such address"
    assert lines[1].startswith("    at test_a_raised_exception")
    assert "explode" in lines[1]
    assert "process" in lines[2]
    assert len(lines) == 3  # nothing of the worker's own


@pytest.mark.parametrize("value", [float("nan"), object(), {1: "int key"}, {"x": {b"bytes"}}])
async def test_a_result_that_is_no_json_fails_the_job_without_another_run(
    queue: AnyQueue, start_worker: StartWorker, value: Any
) -> None:
    """E39: and the next job runs."""
    runs: list[str] = []

    async def process(job: Job[Any, Any]) -> Any:
        runs.append(job.id)
        return value if job.data == "bad" else None

    await start_worker(process)
    bad = await queue.add("bad", "bad", attempts=3)
    good = await queue.add("good", "good")
    await wait_until(lambda: _is_in(queue, good.id, JobState.COMPLETED))
    stored = await queue.jobs.get(bad.id)
    assert stored is not None
    assert await stored.state() is JobState.FAILED
    assert "return value" in str(stored.failed_reason)
    assert runs == [bad.id, good.id]


@pytest.mark.every_backend
async def test_progress_is_stored_and_emitted(queue: AnyQueue, start_worker: StartWorker) -> None:
    """E40."""
    heard: list[Any] = []
    values = [1, "half", True, {"done": 3}]

    async def process(job: Job[Any, Any], context: Context) -> None:
        for value in values[:2]:
            await job.update_progress(value)
        for value in values[2:]:
            await context.progress(value)
        await context.log("a row")

    worker = await start_worker(process)
    worker.on("progress", lambda job, value: heard.append(value))
    job = await queue.add("long")
    await wait_until(lambda: _is_in(queue, job.id, JobState.COMPLETED))
    stored = await queue.jobs.get(job.id)
    assert stored is not None
    assert stored.progress == {"done": 3}
    assert heard == values


async def test_a_slow_job_does_not_hold_up_others(queue: AnyQueue, start_worker: StartWorker) -> None:
    """E41."""
    gate = anyio.Event()

    async def process(job: Job[Any, Any]) -> None:
        if job.name == "slow":
            await gate.wait()

    await start_worker(process, concurrency=2)
    slow = await queue.add("slow")
    quick = [await queue.add("quick") for _ in range(5)]
    await wait_until(lambda: _all_in(queue, quick, JobState.COMPLETED))
    assert await slow.state() is JobState.ACTIVE
    gate.set()
    await wait_until(lambda: _is_in(queue, slow.id, JobState.COMPLETED))


@pytest.mark.every_backend
async def test_each_job_is_run_by_one_of_several_workers(queue: AnyQueue, start_worker: StartWorker) -> None:
    """E42."""
    runs: list[str] = []

    async def process(job: Job[Any, Any]) -> None:
        runs.append(job.id)
        await anyio.lowlevel.checkpoint()

    for _ in range(3):
        await start_worker(process, concurrency=2)
    jobs = [await queue.add("once") for _ in range(60)]
    await wait_until(lambda: _all_in(queue, jobs, JobState.COMPLETED))
    assert sorted(runs) == sorted(job.id for job in jobs)


async def test_the_name_of_the_worker_is_stored_on_its_jobs(queue: AnyQueue, start_worker: StartWorker) -> None:
    """E43."""
    await start_worker(lambda job: None, name="mailer-1")
    job = await queue.add("x")
    await wait_until(lambda: _is_in(queue, job.id, JobState.COMPLETED))
    stored = await queue.jobs.get(job.id)
    assert stored is not None
    assert stored.processed_by == "mailer-1"


async def test_cancellation_raised_by_a_processor_fails_its_job_and_not_the_worker(
    queue: AnyQueue, start_worker: StartWorker
) -> None:
    """D4 of the official Python port."""

    async def process(job: Job[Any, Any]) -> None:
        if job.name == "cancel":
            raise asyncio.CancelledError

    await start_worker(process)
    cancelled = await queue.add("cancel")
    fine = await queue.add("fine")
    await wait_until(lambda: _is_in(queue, fine.id, JobState.COMPLETED))
    stored = await queue.jobs.get(cancelled.id)
    assert stored is not None
    assert stored.failed_reason == "CancelledError"


async def test_a_processor_may_use_timeouts_and_task_groups(queue: AnyQueue, start_worker: StartWorker) -> None:
    async def process(job: Job[Any, Any]) -> str:
        with anyio.move_on_after(0.01) as scope:
            await anyio.sleep_forever()
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.lowlevel.checkpoint)
            if job.name == "unrecoverable":
                raise Unrecoverable("inside a group")
        return "timed out" if scope.cancelled_caught else "?"

    await start_worker(process)
    first = await queue.add("x")
    second = await queue.add("unrecoverable", attempts=5)
    await wait_until(lambda: _is_in(queue, second.id, JobState.FAILED))
    stored = await queue.jobs.get(first.id)
    assert stored is not None
    assert stored.return_value == "timed out"
    failed = await queue.jobs.get(second.id)
    assert failed is not None
    assert failed.failed_reason == "inside a group"
    assert failed.attempts_made == 1


async def test_a_raising_callback_harms_neither_its_job_nor_the_worker(
    queue: AnyQueue, start_worker: StartWorker
) -> None:
    """D6 of the official Python port: it becomes an error event."""
    errors: list[Exception] = []

    def fail(job: Job[Any, Any], value: Any) -> None:
        raise RuntimeError(f"listener of {job.name}")

    async def fail_later(job: Job[Any, Any], value: Any) -> None:
        raise RuntimeError(f"coroutine of {job.name}")

    worker = await start_worker(lambda job: None)
    worker.on("completed", fail)
    worker.on("completed", fail_later)
    worker.on("error", errors.append)
    jobs = [await queue.add(name) for name in ("a", "b")]
    await wait_until(lambda: len(errors) == 4)
    assert sorted(map(str, errors)) == ["coroutine of a", "coroutine of b", "listener of a", "listener of b"]
    await wait_until(lambda: _all_in(queue, jobs, JobState.COMPLETED))


async def test_events_tell_the_life_of_a_worker_in_order(queue: AnyQueue, start_worker: StartWorker) -> None:
    heard: list[str] = []

    async def process(job: Job[Any, Any]) -> None:
        heard.append("process")

    job = await queue.add("x")
    worker = await start_worker(process)
    for event in ("ready", "active", "completed", "drained", "closed"):
        worker.on(event, lambda *_, event=event: heard.append(event))
    await wait_until(lambda: _is_in(queue, job.id, JobState.COMPLETED))
    await wait_until(lambda: "drained" in heard)
    await worker.close()
    assert heard == ["ready", "active", "process", "completed", "drained", "closed"]


async def test_drained_is_emitted_once_per_idle_period(queue: AnyQueue, start_worker: StartWorker) -> None:
    """E230, E75."""
    drained: list[int] = []
    worker = await start_worker(lambda job: None, concurrency=10)
    worker.on("drained", lambda: drained.append(1))
    for period in (1, 2):
        await _completed(queue, await queue.add_bulk([JobSpec("x")] * 5))
        await _at_least(drained, period)
    await worker.wait_idle()
    assert len(drained) <= 3  # the empty queue at the start may count as an idle period


async def test_a_job_whose_data_is_no_json_fails_with_a_reason_and_the_next_one_runs(
    queue: AnyQueue, start_worker: StartWorker, redis_client: Any, prefix: str
) -> None:
    job = await queue.add("broken", attempts=3)
    options = await queue.add("broken options", attempts=3)
    fine = await queue.add("fine")
    await redis_client.hset(f"{prefix}:q:{job.id}", "data", "{not json")
    await redis_client.hset(f"{prefix}:q:{options.id}", "opts", "[1")
    await start_worker(lambda job: None)
    await wait_until(lambda: _is_in(queue, fine.id, JobState.COMPLETED))
    for broken in (job, options):
        stored = await queue.jobs.get(broken.id)
        assert stored is not None
        assert await stored.state() is JobState.FAILED
        assert "JSON" in str(stored.failed_reason)


def test_a_wrong_processor_is_refused_at_construction() -> None:
    async def generator(job: Any) -> Any:
        yield 1

    for processor, reason in (
        (5, "callable|function"),
        (lambda: 1, "cannot be called"),
        (lambda job, context, third: 1, "cannot be called"),
        (generator, "generator"),
    ):
        with pytest.raises(ConfigurationError, match=reason):
            Worker("work", processor)  # type: ignore[arg-type]  # the mistake is the point


def test_wrong_options_are_refused_at_construction() -> None:
    """E48, E67."""
    wrong: list[dict[str, Any]] = [
        {"concurrency": 0},
        {"max_stalled_count": -1},
        {"stalled_interval": 0},
        {"drain_delay": 0},
        {"lock_duration": 1000, "lock_renew_time": 1000},
        {"max_started_attempts": -1},
        {"limiter": {"max": 0, "duration": 1000}},
    ]
    for options in wrong:
        with pytest.raises(ConfigurationError):
            Worker("work", lambda job: None, **options)
    with pytest.raises(UnknownOption, match="did you mean 'concurrency'"):
        Worker("work", lambda job: None, concurency=2)  # type: ignore[call-arg]  # the mistake is the point


async def test_a_worker_without_processor_cannot_run_and_none_runs_twice(
    queue: AnyQueue, start_worker: StartWorker, make_worker: MakeWorker
) -> None:
    """E44."""
    manual = make_worker()
    with pytest.raises(ConfigurationError, match="no processor"):
        await manual.run()
    await manual.close()
    worker = await start_worker(lambda job: None)
    with pytest.raises(PyqueueError, match="started before"):
        await worker.run()


async def test_an_unknown_event_is_refused_with_the_nearest_name(make_worker: MakeWorker) -> None:
    worker = make_worker()
    with pytest.raises(ConfigurationError, match="did you mean 'completed'"):
        worker.on("complete", print)  # type: ignore[call-overload]  # the mistake is the point
    await worker.close()


async def test_health_says_what_the_worker_does(queue: AnyQueue, start_worker: StartWorker) -> None:
    gate = anyio.Event()

    async def process(job: Job[Any, Any]) -> None:
        await gate.wait()

    worker = await start_worker(process, concurrency=2)
    await wait_until(lambda: "nothing to claim" in worker.health().reason)
    assert worker.health().is_healthy
    for _ in range(2):
        await queue.add("x")
    await wait_until(lambda: worker.health().running == 2)
    assert worker.health().reason == "every slot is busy"
    worker.pause()
    assert worker.health().is_paused
    gate.set()
    await worker.wait_idle()
    await worker.close()
    assert worker.health().state == "closed"
    assert not worker.is_running


async def _is_in(queue: AnyQueue, job_id: str, state: JobState) -> bool:
    return await queue.jobs.state(job_id) is state


async def _all_in(queue: AnyQueue, jobs: list[Job[Any, Any]], state: JobState) -> bool:
    return all([await queue.jobs.state(job.id) is state for job in jobs])


async def _completed(queue: AnyQueue, jobs: list[Job[Any, Any]]) -> None:
    await wait_until(lambda: _all_in(queue, jobs, JobState.COMPLETED))


async def _at_least(heard: list[Any], count: int) -> None:
    await wait_until(lambda: len(heard) >= count)
