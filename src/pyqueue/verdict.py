"""The verdict on a run: what the processor's result or exception means for the job, as an outcome.

    result -> Completed              directive -> Delayed, Released, WaitingForChildren, RateLimited, or final failure
    exception with attempts left -> Retried, after a backoff; otherwise -> Failed

Decides and reads no clock, no Redis. The worker's executor asks after each run, `Job` for jobs handled by hand.
"""

from __future__ import annotations

import inspect
import json
import logging
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol

from pyqueue._store.stored_options import keep_of
from pyqueue.backoff import delay_ms
from pyqueue.durations import milliseconds
from pyqueue.errors import (
    DelayJob,
    Directive,
    FailedChildren,
    PayloadError,
    RateLimitJob,
    Unrecoverable,
    WaitForChildren,
)
from pyqueue.options import BUILT_IN_BACKOFFS, Backoff, JobOptions, RetentionRule
from pyqueue.outcomes import (
    Completed,
    Delayed,
    Failed,
    Outcome,
    RateLimited,
    Released,
    Retried,
    WaitingForChildren,
)
from pyqueue.payload import encode
from pyqueue.types import BackoffStrategy

logger = logging.getLogger("pyqueue.worker")

#: Frames of one stored stack: enough for any framework, and a bound for runaway recursion.
MAX_FRAMES: Final = 50
#: Exceptions of one stored chain (`raise ... from ...`).
_MAX_CAUSES: Final = 5
#: Our own frames around the processor say nothing about its failure.
_WORKER_FILES: Final = str(Path(__file__).parent / "_worker")
#: What a strategy returns to say that the job shall not run again.
_GIVE_UP: Final = -1


class Judged(Protocol):
    """What a verdict reads of a job."""

    @property
    def id(self) -> str: ...
    @property
    def options(self) -> JobOptions: ...
    @property
    def attempts_made(self) -> int: ...
    @property
    def attempts_started(self) -> int: ...
    @property
    def deferred_failure(self) -> str: ...
    @property
    def stack_trace(self) -> list[str]: ...


class Verdicts:
    """How one worker judges: its retention, its backoff strategies, its limit of starts."""

    def __init__(
        self,
        remove_on_complete: RetentionRule | None = None,
        remove_on_fail: RetentionRule | None = None,
        backoffs: Mapping[str, BackoffStrategy] | None = None,
        max_started_attempts: int | None = None,
        random_: Callable[[], float] = random.random,
    ) -> None:
        self._remove_on_complete = remove_on_complete
        self._remove_on_fail = remove_on_fail
        self._backoffs = backoffs or {}
        self._max_started_attempts = max_started_attempts
        self._random = random_

    def refusal(self, job: Judged) -> Exception | None:
        """Why the job must fail without being run, or None."""
        if job.deferred_failure:
            return Unrecoverable(job.deferred_failure)
        if self._max_started_attempts is not None and job.attempts_started > self._max_started_attempts:
            return Unrecoverable("job started more than allowable limit")
        return None

    def completed(self, job: Judged, value: object) -> Outcome:
        """The outcome of a run that returned `value`; one that cannot be stored fails the job for good.

        Not retried: the work is done, and doing it again would end the same way.
        """
        try:
            text = encode(value, what="return value")
        except PayloadError as error:
            return self._failed(job, error, reason_of(error))
        return Completed(text, keep_of(job.options.remove_on_complete, self._remove_on_complete))

    async def failed(self, job: Judged, error: BaseException) -> Outcome:
        """The outcome of a run that raised `error`; awaits custom backoff strategies and never raises."""
        error = _only_member(error)
        if isinstance(error, Directive) and not isinstance(error, Unrecoverable):
            return _obey(error)
        reason = reason_of(error)
        if not self._may_retry(job, error):
            return self._failed(job, error, reason)
        try:
            delay = await self._delay_ms(job, error)
        except Exception as problem:
            logger.warning("job %s is not retried, its backoff failed: %s", job.id, problem)
            return self._failed(job, error, f"{reason} (not retried, its backoff failed: {problem})")
        if delay == _GIVE_UP:
            return self._failed(job, error, reason)
        return Retried(reason, _stacks(job, error), delay)

    def _may_retry(self, job: Judged, error: BaseException) -> bool:
        # BullMQ for Python and user code may raise classes of the name that Node knows.
        if isinstance(error, (Unrecoverable, FailedChildren)) or type(error).__name__ == "UnrecoverableError":
            return False
        if self._max_started_attempts is not None and job.attempts_started >= self._max_started_attempts:
            return False
        return job.attempts_made + 1 < job.options.attempts

    async def _delay_ms(self, job: Judged, error: BaseException) -> int:
        backoff = job.options.backoff
        if backoff is None:
            return 0
        if backoff.type in BUILT_IN_BACKOFFS:
            return delay_ms(backoff, job.attempts_made + 1, self._random)
        return await self._custom_delay_ms(backoff, job, error)

    async def _custom_delay_ms(self, backoff: Backoff, job: Judged, error: BaseException) -> int:
        strategy = self._backoffs.get(backoff.type)
        if strategy is None:
            raise LookupError(f"Unknown backoff strategy {backoff.type}: give it to the worker in backoffs=")
        delay: object = strategy(job.attempts_made + 1, backoff.type, error, job)
        if inspect.isawaitable(delay):
            delay = await delay
        if delay is None:
            return 0
        if isinstance(delay, float) and delay.is_integer():
            delay = int(delay)
        return milliseconds(delay, f"the delay of backoff {backoff.type}", minimum=_GIVE_UP)

    def _failed(self, job: Judged, error: BaseException, reason: str) -> Failed:
        options = job.options
        keep = keep_of(options.remove_on_fail, self._remove_on_fail)
        return Failed(reason, _stacks(job, error), options.attempts, keep)


def _obey(directive: Directive) -> Outcome:
    match directive:
        case DelayJob():
            return Delayed(directive.delay_ms, directive.until_ms)
        case WaitForChildren():
            return WaitingForChildren(directive.child_key)
        case RateLimitJob():
            return RateLimited(directive.delay_ms)
        case _:
            return Released()


def _only_member(error: BaseException) -> BaseException:
    """The one exception inside a group of one, as a task group in the processor raises it."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def reason_of(error: BaseException) -> str:
    """The message as Node's `error.message`; the name where there is none. Always storable."""
    try:
        text = str(error)
    except Exception:
        text = ""
    return _storable(text) or type(error).__name__


def _storable(text: str) -> str:
    # Lone surrogates (undecodable file names, for instance) cannot be sent to Redis.
    return text.encode("utf-8", "backslashreplace").decode()


def _stacks(job: Judged, error: BaseException) -> str:
    """The stored stacks with the new one, as JSON; the newest `stack_trace_limit` of them."""
    limit = job.options.stack_trace_limit
    stacks = [*job.stack_trace, describe_error(error)]
    return json.dumps(stacks if limit is None else stacks[-limit:] if limit else [], ensure_ascii=False)


def describe_error(error: BaseException) -> str:
    """The stack as Node writes it, innermost frame first, with causes; without source lines and local variables."""
    parts: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(parts) < _MAX_CAUSES:
        head = f"{type(cause).__name__}: {reason_of(cause)}"
        parts.append("\n".join([head, *_frames(cause.__traceback__)]))
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return _storable("\ncaused by: ".join(parts))


def _frames(trace: TracebackType | None) -> list[str]:
    frames: list[str] = []
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_WORKER_FILES):
        trace = trace.tb_next
    while trace is not None:
        code = trace.tb_frame.f_code
        frames.append(f"    at {code.co_qualname} ({code.co_filename}:{trace.tb_lineno})")
        trace = trace.tb_next
    frames.reverse()
    return frames[:MAX_FRAMES]
