"""Running one processor: how it is called, and that nothing it raises escapes."""

from __future__ import annotations

import asyncio
import functools
import time
from typing import Any

import pytest

from pyqueue._redis.connection import Connection
from pyqueue._redis.keys import QueueKeys
from pyqueue._store.store import Store
from pyqueue._worker.context import Context
from pyqueue._worker.executor import Executor, inspect_processor
from pyqueue._worker.held import CancelReason, Held
from pyqueue._worker.running_job import RunningJob
from pyqueue.errors import ConfigurationError, PayloadError
from pyqueue.outcomes import Completed, Failed, Released, Retried, Returned
from pyqueue.verdict import Verdicts

pytestmark = pytest.mark.anyio


def held(**fields: str) -> Held:
    """A claimed job without Redis behind it."""
    store = Store(Connection.open("memory://executor").commands, QueueKeys("bull", "q"))
    stored: Any = {"name": "x", "data": "1", "opts": "{}", **fields}
    return Held(RunningJob(store, "7", stored, "t"), time.monotonic() + 60)


async def run(processor: Any, one: Held) -> list[BaseException]:
    """Run a job; what the executor wants to end the program with."""
    stopped: list[BaseException] = []
    executor = Executor(inspect_processor(processor), Verdicts(), stopped.append, worker_name="w", threads=1)
    await executor.run(one)
    return stopped


class Service:
    async def handle(self, job: Any) -> int:
        return int(job.data) + 1

    def __call__(self, job: Any, context: Context) -> str:
        return context.token


async def _with_context(prefix: str, job: Any, context: Context) -> str:
    return prefix + context.worker_name


def _with_option(job: Any, retries: int = 3) -> int:
    return retries


@pytest.mark.parametrize(
    ("processor", "value"),
    [
        (lambda job: job.data, 1),
        (Service().handle, 2),
        (Service(), "t"),
        (functools.partial(_with_context, "worker "), "worker w"),
        (_with_option, 3),
        (lambda job, context=None: context is not None, True),
        (lambda job: Service().handle(job), 2),  # a plain function that returns a coroutine
        (str.__str__, None),
    ],
)
async def test_every_kind_of_callable_is_called_as_it_wants(processor: Any, value: Any) -> None:
    if value is None:
        inspect_processor(processor)
        return
    one = held()
    await run(processor, one)
    assert isinstance(one.outcome, Completed)
    assert one.value == value


@pytest.mark.parametrize("processor", [None, "name", lambda: 1, lambda job, context, more: 1, lambda *, job: 1])
def test_what_cannot_be_called_with_a_job_is_refused(processor: Any) -> None:
    with pytest.raises(ConfigurationError):
        inspect_processor(processor)


async def test_an_exception_is_judged() -> None:
    async def process(job: Any) -> None:
        raise ValueError("no")

    one = held(opts='{"attempts":2}')
    await run(process, one)
    assert isinstance(one.outcome, Retried)
    assert isinstance(one.error, ValueError)


async def test_a_value_that_cannot_be_stored_is_an_error_of_the_job() -> None:
    one = held(opts='{"attempts":2}')
    await run(lambda job: object(), one)
    assert isinstance(one.outcome, Failed)
    assert isinstance(one.error, PayloadError)


async def test_cancellation_of_the_processors_own_making_fails_the_job() -> None:
    async def process(job: Any) -> None:
        raise asyncio.CancelledError

    one = held()
    await run(process, one)
    assert isinstance(one.outcome, Failed)


async def test_whatever_a_cancelled_processor_raises_the_job_is_released() -> None:
    async def process(job: Any) -> None:
        one.cancel_reason = CancelReason.CLOSING
        raise OSError("the clean-up failed")

    one = held()
    await run(process, one)
    assert one.outcome == Released()


@pytest.mark.parametrize("error", [SystemExit(2), KeyboardInterrupt()])
async def test_an_exit_releases_the_job_and_asks_to_stop(error: BaseException) -> None:
    async def process(job: Any) -> None:
        raise error

    one = held()
    assert await run(process, one) == [error]
    assert one.outcome == Released()


async def test_a_job_does_not_start_on_a_lease_that_may_have_run_out_or_after_its_cancellation() -> None:
    ran: list[Any] = []
    late, cancelled = held(), held()
    late.lease_until = time.monotonic() - 0.001
    cancelled.cancel_reason = CancelReason.LOCK_LOST
    for one in (late, cancelled):
        await run(ran.append, one)
        assert one.outcome == Returned()
    assert not ran


@pytest.mark.parametrize("fields", [{"data": "{broken"}, {"opts": "[]1"}, {"opts": "3"}])
async def test_an_unreadable_job_fails_for_good_without_running(fields: dict[str, str]) -> None:
    ran: list[Any] = []
    one = held(**fields)
    await run(ran.append, one)
    assert isinstance(one.outcome, Failed)
    assert "JSON" in one.outcome.reason
    assert not ran
