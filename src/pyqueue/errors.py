"""Every exception of pyqueue, and the one table of the scripts' error codes.

    PyqueueError
    |-- ConfigurationError (ValueError)       |-- UnknownOption (TypeError, too)
    |-- PayloadError (ValueError)             |-- PayloadTypeError (TypeError, too)
    |-- JobError            .queue .job_id
    |   |-- JobNotFound  -1     |-- JobNotInState  -3   .expected
    |   |-- PendingChildren -4  |-- ParentNotFound -5   |-- ParentNotReplaceable -7
    |   |-- OwnedByScheduler -8 |-- FailedChildren -9   |-- JobFailed
    |   |-- FlowCycle -21
    |   `-- LockError -- LockMissing -2, LockLost -6
    |-- SchedulerError -- SchedulerIdTaken -10, SchedulerSlotsBusy -11
    |-- AddOutcomeUnknown             |-- BulkAddError  .results
    |       .queue .may_be_stored
    |-- RedisRefused  .code     |-- QueueNotPaused, QueueHasActiveJobs
    |-- RateLimitExceeded  .key .wait_ms
    |-- ProcessCrashed
    `-- ScriptError -- StaleExchange -20, OutOfTurn -22
    Directive (Exception): Unrecoverable, DelayJob, ReleaseJob, WaitForChildren, RateLimitJob

A docstring says when its error is raised, and is the default message. Errors of the network are redis-py's and pass
through. A directive is raised *by processors* to choose an outcome; it is no fault, so `except PyqueueError` in user
code never swallows one. Imports nothing but durations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

from pyqueue.durations import milliseconds


class PyqueueError(Exception):
    """Base of everything that pyqueue raises as an error."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or _default_message(type(self)))


class ConfigurationError(PyqueueError, ValueError):
    """An option, a name or an argument is not allowed; raised before anything is written to Redis."""


class UnknownOption(ConfigurationError, TypeError):
    """An option does not exist; the message names the nearest one that does."""


class PayloadError(PyqueueError, ValueError):
    """A value cannot be stored as JSON, or is too large or too deeply nested; the message names its path."""


class PayloadTypeError(PayloadError, TypeError):
    """A value is of a type that JSON does not have, such as bytes or a set; the message names its path."""


class JobError(PyqueueError):
    """An operation on one job was refused."""

    def __init__(self, message: str = "", *, job_id: str = "", queue: str = "", command: str = "") -> None:
        """`command` is the operation that was refused, by the name of its function."""
        super().__init__((message or _default_message(type(self))) + _place(job_id, queue, command))
        self.job_id = job_id
        self.queue = queue


class JobNotFound(JobError):
    """The job does not exist: it was never added, was removed, or fell under its retention. Check the id and queue."""


class JobNotInState(JobError):
    """The job is not in the state that the operation needs. Read its state first; another client may have moved it."""

    expected: str = ""
    """The state the operation needs, where the script says it."""


class PendingChildren(JobError):
    """The job has unfinished children and cannot complete. Raise WaitForChildren until they are done."""


class ParentNotFound(JobError):
    """The parent named by the option `parent` does not exist, so nothing was added. Add the parent first."""


class ParentNotReplaceable(JobError):
    """The job exists and belongs to another parent that still exists. Use another id, or remove that parent first."""


class OwnedByScheduler(JobError):
    """The job is the pending run of a job scheduler. Remove or change the scheduler instead."""


class FailedChildren(JobError):
    """The job has failed children with the policy to fail it, and cannot complete. It fails without another attempt."""


class FlowCycle(JobError):
    """A job of the flow is an ancestor of its root, so that each would wait for the other. Give the node another id."""


class JobFailed(JobError):
    """The job that was waited for failed for good; the message is its reason."""


class LockError(JobError):
    """The lease on an active job is not ours any more, so its outcome was not applied."""


class LockMissing(LockError):
    """There is no lock: the job was settled already, or its lock ran out before the outcome arrived; then raise
    lock_duration, or keep the event loop free."""


class LockLost(LockError):
    """The lock belongs to another token: it ran out meanwhile and another worker owns the job, whose outcome counts; or
    the job was fetched with another token than this. Nothing was applied."""


class SchedulerError(PyqueueError):
    """A job scheduler could not be changed."""


class SchedulerIdTaken(SchedulerError):
    """A job with the id of the scheduler's next run exists already. Remove that job, or use another scheduler id."""


class SchedulerSlotsBusy(SchedulerError):
    """The next runs of the scheduler exist already as jobs. Remove them, or use a longer interval."""


class AddOutcomeUnknown(PyqueueError):
    """The connection broke while adding, and retries ran out: the job may or may not be stored. Add it again with the
    same job_id, which is safe; without a job_id it may then exist twice."""

    def __init__(self, message: str = "", *, queue: str = "", may_be_stored: bool = True) -> None:
        """`may_be_stored`: False only if no job was sent, because Redis was not reached in all that time."""
        super().__init__((message or _default_message(type(self))) + _place("", queue, ""))
        self.queue = queue
        self.may_be_stored = may_be_stored


class BulkAddError(PyqueueError):
    """Some of a bulk were not added, or it is unknown whether; `results` holds, in order, a job (of flows, a tree) or
    the error for each."""

    def __init__(self, message: str = "", *, results: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.results = list(results)


class RedisRefused(PyqueueError):
    """The server refused the command: out of memory, read only, no permission, loading and the like."""

    def __init__(self, message: str = "", *, code: str = "") -> None:
        """`code` is the first word of the server's answer, such as OOM or READONLY; TLS: certificates do not fit;
        DBINDEX: there is no database of that number."""
        super().__init__(message)
        self.code = code


class QueueNotPaused(PyqueueError):
    """The queue is not paused, so it cannot be obliterated. Pause it first."""


class QueueHasActiveJobs(PyqueueError):
    """The queue has active jobs, so it cannot be obliterated. Wait for them, or use force=True."""


class RateLimitExceeded(PyqueueError):
    """A `RateLimiter` has no points left for now; nothing was consumed. Try again after `wait_ms`."""

    def __init__(self, message: str = "", *, key: str = "", wait_ms: int = 0) -> None:
        """`wait_ms`: milliseconds after which as many points are free, if nobody else takes them."""
        super().__init__(message)
        self.key = key
        self.wait_ms = wait_ms


class ProcessCrashed(PyqueueError):
    """The process that ran the job died: it was killed, ran out of memory, crashed or called os._exit."""


class ScriptError(PyqueueError):
    """A script answered something that pyqueue does not understand: a bug of pyqueue, please report it."""


class StaleExchange(ScriptError):
    """An older exchange of this sender arrived after a newer one and was refused; nothing was applied."""


class OutOfTurn(ScriptError):
    """The call that this one follows was not applied, so nothing of this one was, either. Never leaves `Queue`."""


class Directive(Exception):
    """Base of what a processor raises to choose the outcome of its job; not an error."""


class Unrecoverable(Directive):
    """Fail the job now, without further attempts. The text becomes its reason."""


class DelayJob(Directive):
    """Run the job again later. No attempt is spent."""

    def __init__(self, delay: timedelta | int = 0, *, until: datetime | int | None = None) -> None:
        """Give `delay` (timedelta or milliseconds from now) or `until` (aware datetime or unix milliseconds)."""
        if until is not None and delay != 0:
            raise ValueError(f"DelayJob got both delay={delay!r} and until={until!r}: give one of them")
        super().__init__(delay)
        self.delay_ms = milliseconds(delay, "delay")
        self.until_ms = 0 if until is None else _unix_ms(until)


class ReleaseJob(Directive):
    """Give the job back to the front of its queue at once. No attempt is spent."""


class WaitForChildren(Directive):
    """Run the job again when its children are done; at once if none is pending. No attempt is spent."""

    def __init__(self, *, child: Mapping[str, str] | None = None) -> None:
        """`child` = `{"id": ..., "queue": "<prefix>:<queue>"}` waits only if that child is unfinished.

        Raises ValueError for what UTF-8 cannot encode.
        """
        super().__init__(child)
        self.child_key = "" if child is None else f"{child['queue']}:{child['id']}"
        try:
            self.child_key.encode()
        except UnicodeEncodeError:
            raise ValueError(f"child is {child!r}: a lone surrogate cannot be sent; remove it") from None


class RateLimitJob(Directive):
    """Give the job back because a limit of somebody else was hit. No attempt is spent."""

    def __init__(self, delay: timedelta | int = 0) -> None:
        """With a `delay` (timedelta or milliseconds) the whole queue pauses for that long."""
        super().__init__(delay)
        self.delay_ms = milliseconds(delay, "delay")


#: Every negative reply of a script, and the error it becomes. Nothing else knows these numbers.
CODES: Final[Mapping[int, type[PyqueueError]]] = MappingProxyType(
    {
        -1: JobNotFound,
        -2: LockMissing,
        -3: JobNotInState,
        -4: PendingChildren,
        -5: ParentNotFound,
        -6: LockLost,
        -7: ParentNotReplaceable,
        -8: OwnedByScheduler,
        -9: FailedChildren,
        -10: SchedulerIdTaken,
        -11: SchedulerSlotsBusy,
        -20: StaleExchange,
        -21: FlowCycle,
        -22: OutOfTurn,
    }
)


def error_from_code(
    code: int, *, job_id: str = "", queue: str = "", command: str = "", expected: str = ""
) -> PyqueueError:
    """The error for a negative reply of a script; an unknown code is a `ScriptError`.

    `command` is the name of the `_store` function, `expected` the state it needs (for code -3).
    """
    kind = CODES.get(code)
    if kind is None:
        return ScriptError(f"{_default_message(ScriptError)} Unknown code {code}{_place(job_id, queue, command)}")
    if not issubclass(kind, JobError):
        return kind(_default_message(kind) + _place(job_id, queue, command))
    if not issubclass(kind, JobNotInState) or not expected:
        return kind(job_id=job_id, queue=queue, command=command)
    error = kind(
        f"The job is not in the state {expected!r}. Read its state first; another client may have moved it.",
        job_id=job_id,
        queue=queue,
        command=command,
    )
    error.expected = expected
    return error


def _default_message(kind: type[Exception]) -> str:
    # Python -OO strips docstrings; the name is then all there is.
    return " ".join((kind.__doc__ or kind.__name__).split())


def _place(job_id: str, queue: str, command: str) -> str:
    parts = [
        f"job {job_id!r}" if job_id else "",
        f"queue {queue!r}" if queue else "",
        command,
    ]
    known = ", ".join(filter(None, parts))
    return f" [{known}]" if known else ""


def _unix_ms(until: datetime | int) -> int:
    if isinstance(until, datetime):
        if until.tzinfo is None:
            raise ValueError(f"until is {until!r}: it has no time zone; give an aware datetime or unix milliseconds")
        return milliseconds(round(until.timestamp() * 1000), "until")
    return milliseconds(until, "until")
