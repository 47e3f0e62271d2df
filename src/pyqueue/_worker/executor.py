"""Run one processor once and turn its end into an outcome. No Redis.

    refuse (deferred failure, too many starts, lease run out) -> call (coroutine, thread, with or without context)
    -> verdict (result, exception or directive -> outcome)

A slot calls `Executor.run` for each job; it raises nothing, whatever the processor raises.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

import anyio
import anyio.to_thread

from pyqueue._worker.context import Context
from pyqueue._worker.held import Held
from pyqueue.errors import ConfigurationError, Directive, PayloadError
from pyqueue.outcomes import Failed, Released, Returned
from pyqueue.verdict import Verdicts

#: A second parameter with a default is the processor's own business, unless it bears one of these names.
_CONTEXT_NAMES: Final = frozenset({"context", "ctx"})


class Call(NamedTuple):
    """How a processor wants to be called."""

    function: Callable[..., Any]
    is_async: bool
    takes_context: bool


def inspect_processor(processor: object) -> Call:
    """How to call the processor; ConfigurationError if it cannot be called with (job) or (job, context)."""
    if not callable(processor):
        raise ConfigurationError(f"processor is {processor!r}: give a function, plain or async, that takes the job")
    target = processor if inspect.isroutine(processor) or inspect.isclass(processor) else processor.__call__
    if inspect.isgeneratorfunction(target) or inspect.isasyncgenfunction(target):
        raise ConfigurationError(f"processor {processor!r} is a generator: return the result instead of yielding")
    is_async = inspect.iscoroutinefunction(processor) or inspect.iscoroutinefunction(target)
    return Call(processor, is_async, _takes_context(processor))


def _takes_context(processor: Callable[..., Any]) -> bool:
    try:
        signature = inspect.signature(processor)
    except ValueError:  # some functions written in C do not say
        return False
    positional = [p for p in signature.parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    takes = len(positional) > 1 and (
        positional[1].default is inspect.Parameter.empty or positional[1].name in _CONTEXT_NAMES
    )
    try:
        signature.bind(*([None] * (2 if takes else 1)))
    except TypeError as error:
        raise ConfigurationError(
            f"processor {processor!r} cannot be called with (job) or (job, context): {error}"
        ) from None
    return takes


class Executor:
    """Runs jobs by one processor. `stop` is called when a processor wants to end the program (SystemExit)."""

    def __init__(
        self,
        call: Call | None,
        verdicts: Verdicts,
        stop: Callable[[BaseException], None],
        *,
        worker_name: str,
        threads: int,
    ) -> None:
        self._call = call
        self._verdicts = verdicts
        self._stop = stop
        self._worker_name = worker_name
        self._threads = threads
        self._limiter: anyio.CapacityLimiter | None = None  # needs a running event loop

    def resize(self, threads: int) -> None:
        """How many plain functions may run at once."""
        self._threads = threads
        if self._limiter is not None:
            self._limiter.total_tokens = threads

    async def run(self, held: Held) -> None:
        """Run the job to its end and leave `outcome`, `value` and `error` in `held`."""
        if held.cancel_reason is not None or time.monotonic() >= held.lease_until:
            held.outcome = Returned()
            return
        try:
            refusal = held.job.unreadable() or self._verdicts.refusal(held.job)
            if refusal is not None:
                raise refusal
            held.value = await self._start(held)
            held.outcome = self._verdicts.completed(held.job, held.value)
            if isinstance(held.outcome, Failed):  # the value cannot be stored
                held.error = PayloadError(held.outcome.reason)
        except Exception as error:
            await self._failed(held, error)
        except asyncio.CancelledError as error:
            await self._failed(held, error)
        except BaseException as error:
            # SystemExit and KeyboardInterrupt would tear the event loop down with every job still running.
            held.error = error
            held.outcome = Released()
            self._stop(error)

    def _start(self, held: Held) -> Awaitable[Any]:
        assert self._call is not None, "a worker without a processor runs no jobs"
        function, is_async, takes_context = self._call
        arguments = (held.job, Context(held, self._worker_name)) if takes_context else (held.job,)
        awaitable: Awaitable[Any] = function(*arguments) if is_async else self._run_in_thread(function, arguments)
        return awaitable

    async def _run_in_thread(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(self._threads)
        # A thread cannot be stopped: a cancelled job is given up, and its function runs on to its end.
        value = await anyio.to_thread.run_sync(function, *arguments, limiter=self._limiter, abandon_on_cancel=True)
        # A plain function that returns a coroutine, such as a lambda around an async one.
        return await value if isinstance(value, Awaitable) else value

    async def _failed(self, held: Held, error: BaseException) -> None:
        held.error = error
        if held.cancel_reason is not None and not isinstance(error, Directive):
            # Cancelled by us: whatever the clean-up raised, the job did not fail.
            held.outcome = Released()
            return
        try:
            held.outcome = await self._verdicts.failed(held.job, error)
        except asyncio.CancelledError:  # while a custom backoff was thinking
            held.outcome = Released()
