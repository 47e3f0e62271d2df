"""What the reply's code means for a settled job: announce its end, settle it differently, or let it go.

The engine passes the codes of each exchange here; the leases say whose locks are lost. Codes:
0 done -> callbacks;  1 no child to wait for -> released, so it runs again at once;  -4 and -9 (children) -> the failure
path, as if the processor had raised it;  -2, -3, -6 -> the lock is lost and the job another's;  a text -> this one job
could not be handled: settled again if Redis refused for now, else left to the stalled check.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from anyio.abc import TaskGroup
from redis.exceptions import ResponseError

from pyqueue._redis.outage import Outage, is_outage
from pyqueue._redis.refusals import refusal_of
from pyqueue._worker.events import Callbacks
from pyqueue._worker.held import CancelReason, Held
from pyqueue._worker.leases import Leases
from pyqueue._worker.slots import Slots
from pyqueue.errors import (
    FailedChildren,
    JobFailed,
    JobNotInState,
    LockError,
    PendingChildren,
    ScriptError,
    error_from_code,
)
from pyqueue.outcomes import Completed, Failed, Released, Retried
from pyqueue.verdict import Verdicts

#: Reply of a parent that has nothing to wait for.
_NOTHING_PENDING: Final = 1


class Confirmations:
    """The ends of one worker's jobs."""

    def __init__(
        self, queue: str, *, slots: Slots, leases: Leases, callbacks: Callbacks, verdicts: Verdicts, outage: Outage
    ) -> None:
        self.judging = 0
        """Jobs that get a new outcome at the moment."""
        self._queue = queue
        self._slots = slots
        self._leases = leases
        self._callbacks = callbacks
        self._verdicts = verdicts
        self._outage = outage
        self._group: TaskGroup | None = None
        self._judged: Callable[[Held], None] = lambda held: None

    def bind(self, group: TaskGroup, judged: Callable[[Held], None]) -> None:
        """Where a new judgement runs (a custom backoff may take its time), and who hears of it."""
        self._group = group
        self._judged = judged

    def apply(self, batch: Sequence[Held], codes: Sequence[int | str]) -> tuple[list[Held], float]:
        """Take the codes of one exchange; returns the jobs to settle again and how long to wait before that (s)."""
        again: list[Held] = []
        pause_s = 0.0
        for held, code in zip(batch, codes, strict=True):
            if code == 0:
                self._leases.drop(held)
                self._announce(held)
            elif code == _NOTHING_PENDING:
                held.outcome = Released()
                again.append(held)
            elif isinstance(code, int):
                self._refused(held, code)
            elif (refusal := refusal_of(ResponseError(code))) is not None and is_outage(refusal):
                again.append(held)
                pause_s = pause_s or self._outage.failed(refusal)
            else:
                self.let_go(held, ScriptError(f"job {held.job.id!r} of queue {self._queue!r} was not settled: {code}"))
        return again, pause_s

    def lost(self, held: Held, error: Exception) -> None:
        """The job is not ours any more: stop its processor and forget it."""
        held.is_lost = True
        self._leases.drop(held)
        self._slots.cancel(held, CancelReason.LOCK_LOST)
        self._callbacks.emit("lock_lost", held.job)
        self._callbacks.emit("error", error)

    def locks_lost(self, gone: Sequence[Held]) -> None:
        """Locks could not be extended. A job that has ended meanwhile learns from its code whether that matters."""
        for held in gone:
            if held.outcome is None and not held.is_lost:
                self.lost(held, self._error(-2, held, "extend_locks"))

    def superseded(self, held: Held) -> None:
        """The same job was claimed again by this very worker. While it runs, its first lock must have run out.

        After its end it may have been settled and retried, and the reply to that is still to come: the code tells.
        """
        if held.outcome is None and not held.is_lost:
            self.lost(held, self._error(-6, held, "settle_and_claim"))

    def let_go(self, held: Held, error: Exception) -> None:
        """The outcome cannot be stored: its lock runs out and the stalled check returns the job."""
        self._leases.drop(held)
        self._callbacks.emit("error", error)

    def _announce(self, held: Held) -> None:
        outcome = held.outcome
        if type(outcome) is Completed:
            self._callbacks.emit("completed", held.job, held.value)
        elif isinstance(outcome, (Failed, Retried)):
            self._callbacks.emit("failed", held.job, held.error or JobFailed(outcome.reason, job_id=held.job.id))

    def _refused(self, held: Held, code: int) -> None:
        if held.is_lost:
            return  # known already
        error = self._error(code, held, "settle_and_claim")
        if isinstance(error, (PendingChildren, FailedChildren)) and self._group is not None:
            self.judging += 1
            self._group.start_soon(self._judge, held, error)
        elif isinstance(error, (LockError, JobNotInState)):
            self.lost(held, error)
        else:
            self.let_go(held, error)

    async def _judge(self, held: Held, error: Exception) -> None:
        held.error = error
        held.outcome = await self._verdicts.failed(held.job, error)
        self.judging -= 1
        self._judged(held)

    def _error(self, code: int, held: Held, command: str) -> Exception:
        return error_from_code(code, job_id=held.job.id, queue=self._queue, command=command, expected="active")
