"""A job: a snapshot of its hash, and what can be done with it.

Attributes are what was read (or added) and decode lazily; they do not follow the job, except where a verb of this very
object changes them. Verbs are one call of `_store` each. Made by `Queue`, its views and the worker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, cast

from pyqueue import payload
from pyqueue._flows.children import ChildVerbs
from pyqueue._store import changing, inspecting
from pyqueue._store.inspecting import JOB_COMPLETED
from pyqueue._store.record import Field
from pyqueue._store.scheduling import follow
from pyqueue._store.settling import Claimed, ClaimRequest, ExchangeReply, Settlement, extend_locks, settle_and_claim
from pyqueue._store.snapshot import UNDECODED, DataT, ResultT
from pyqueue._store.store import Store
from pyqueue.durations import milliseconds, seconds
from pyqueue.errors import DelayJob, JobError, JobFailed, ScriptError, WaitForChildren, error_from_code
from pyqueue.lazy_modules import LazyModule
from pyqueue.options import JobOptions
from pyqueue.outcomes import Delayed, Outcome, Released, WaitingForChildren
from pyqueue.states import JobState
from pyqueue.types import Raw
from pyqueue.verdict import Verdicts

if TYPE_CHECKING:
    from pyqueue._store import removing
else:
    removing = LazyModule("pyqueue._store.removing")


class Terms(NamedTuple):
    """How jobs that were fetched under a token end: what all jobs of one worker have in common."""

    verdicts: Verdicts = Verdicts()
    """What their ends mean."""
    claim: ClaimRequest = ClaimRequest(0, "")
    """How the worker takes the next job, token and count aside."""
    progressed: Callable[[Job[Any, Any], Any], None] = lambda job, progress: None
    """Hears of progress that a job has stored."""


_BY_HAND: Final = Terms()


class Fetched(NamedTuple, Generic[DataT, ResultT]):
    """What settling a job by hand found next; all empty unless `fetch_next` was asked for."""

    job: Job[DataT, ResultT] | None
    """The next job, locked under the same token."""
    limit_ms: int
    """For how long the rate limit forbids to take another; 0 if it does not."""
    next_delayed_ms: int
    """When the next delayed job is due, unix milliseconds; 0 if none is."""


class Job(ChildVerbs[DataT, ResultT]):
    """One job of a queue. Read attributes; await verbs. Verbs raise the `JobError` that names why they were refused."""

    __slots__ = ("_terms",)

    def __init__(
        self, store: Store, job_id: str, fields: dict[str, Raw], token: str = "", terms: Terms = _BY_HAND
    ) -> None:
        """Made by the library. `terms` are those of the worker that fetched the job."""
        super().__init__(store, job_id, fields, token)
        self._terms = terms

    async def state(self) -> JobState:
        """Where it is now. One round trip, O(log n); O(n) in the wait list for a job waiting there."""
        return await inspecting.get_state(self._store, self.id)

    async def result(self, timeout: float | timedelta | None = None) -> ResultT:
        """Wait until it has ended, and return its value. `timeout` in seconds; None waits for ever.

        Raises JobFailed with the reason when it failed, JobNotFound when it does not exist (any more), TimeoutError
        when it has not ended in time, which changes nothing about the job.
        Works for jobs of a `Queue`. Two round trips, and one connection for all who wait on one queue. The job's own
        `return_value` stays as it was read.
        """
        if self._store.finishes is None:
            raise JobError("its end can be waited for only with a job from a Queue", job_id=self.id, queue=self.queue)
        code, value = await self._store.finishes.wait(self.id, seconds(timeout))
        if code < 0:
            raise error_from_code(code, job_id=self.id, queue=self.queue, command="result")
        if code != JOB_COMPLETED:
            raise JobFailed(value, job_id=self.id, queue=self.queue)
        return cast(ResultT, payload.decode(value, what="return value"))

    async def update_progress(self, progress: Any) -> None:
        """Store and announce progress, any JSON value. One round trip."""
        encoded = payload.encode(progress, what="progress")
        await changing.update_progress(self._store, self.id, encoded)
        self._fields[Field.PROGRESS] = encoded
        self._terms.progressed(self, progress)

    async def update_data(self, data: DataT) -> None:
        """Replace its data, any JSON value. One round trip."""
        encoded = payload.encode(data, what="data")
        await changing.update_data(self._store, self.id, encoded)
        self._fields[Field.DATA] = encoded
        self._data = UNDECODED

    async def log(self, row: str) -> int:
        """Append a row to its log, which its option `keep_logs` bounds; returns how many there are. One round trip."""
        return await changing.add_log(self._store, self.id, row, self.options.keep_logs or 0)

    async def clear_logs(self, keep: int = 0) -> None:
        """Forget its log, except the newest `keep` rows. One round trip."""
        await changing.clear_logs(self._store, self.id, keep)

    async def promote(self) -> None:
        """Make it ready now, if it is delayed. One round trip."""
        await changing.promote_job(self._store, self.id)
        self._fields[Field.DELAY] = "0"

    async def change_delay(self, delay: timedelta | int) -> None:
        """Let it wait for so long from now (timedelta or milliseconds), if it is delayed. One round trip."""
        delay_ms = milliseconds(delay, "delay")
        await changing.change_delay(self._store, self.id, delay_ms)
        self._fields[Field.DELAY] = str(delay_ms)

    async def change_priority(self, priority: int = 0, *, lifo: bool = False) -> None:
        """Change its priority, and its place if it is ready to run: behind those of equal priority, or before (lifo).

        One round trip; O(n) in the wait list for a job waiting there.
        """
        checked = JobOptions(priority=priority).priority
        await changing.change_priority(self._store, self.id, checked, lifo=lifo)
        self._fields[Field.PRIORITY] = str(checked)

    async def retry(
        self,
        state: JobState = JobState.FAILED,
        *,
        reset_attempts_made: bool = False,
        reset_attempts_started: bool = False,
    ) -> None:
        """Run it again, if it is failed (or completed, with `state`). One round trip."""
        inspecting.place_of(state, inspecting.FINISHED)
        await changing.retry_job(
            self._store,
            self.id,
            state,
            reset_attempts_made=reset_attempts_made,
            reset_attempts_started=reset_attempts_started,
        )
        for field in (Field.FINISHED_ON, Field.PROCESSED_ON, Field.RETURN_VALUE, Field.FAILED_REASON):
            self._fields.pop(field, None)
        if reset_attempts_made:
            self._fields.pop(Field.ATTEMPTS_MADE, None)
        if reset_attempts_started:
            self._fields.pop(Field.ATTEMPTS_STARTED, None)

    async def remove(self, *, remove_children: bool = True) -> None:
        """Remove it and, by default, its children. Raises JobError if a worker has locked one; nothing is removed then.

        One round trip; many, and not one atomic change, for a family of more than 50 jobs.
        """
        if not await removing.remove_job(self._store, self.id, with_children=remove_children):
            raise JobError(
                "The job could not be removed: it or a child of it is locked by a worker. Wait until it has finished.",
                job_id=self.id,
                queue=self.queue,
                command="remove_job",
            )

    async def remove_deduplication_key(self) -> bool:
        """Give up its deduplication id; False if it has none or another job owns it. One round trip."""
        if self.deduplication_id is None:
            return False
        return await changing.remove_deduplication_key(self._store, self.deduplication_id, self.id)

    # Processing by hand: for a job that was fetched under a token, outside of a worker's processor.

    async def move_to_completed(
        self, value: ResultT, token: str | None = None, *, fetch_next: bool = False
    ) -> Fetched[DataT, ResultT]:
        """Complete it with a return value. Raises LockError, PendingChildren, FailedChildren. One round trip."""
        return await self._settle(self._terms.verdicts.completed(self, value), token, "move_to_completed", fetch_next)

    async def move_to_failed(
        self, error: BaseException | str, token: str | None = None, *, fetch_next: bool = False
    ) -> Fetched[DataT, ResultT]:
        """Fail this run: it is retried as its options say, or fails for good. Raises LockError. One round trip."""
        if isinstance(error, str):
            error = Exception(error)
        return await self._settle(await self._terms.verdicts.failed(self, error), token, "move_to_failed", fetch_next)

    async def move_to_delayed(
        self,
        delay: timedelta | int = 0,
        token: str | None = None,
        *,
        until: datetime | int | None = None,
        fetch_next: bool = False,
    ) -> Fetched[DataT, ResultT]:
        """Run it again after `delay` (timedelta or milliseconds) or at `until`. No attempt is spent. One round trip."""
        when = DelayJob(delay, until=until)
        return await self._settle(Delayed(when.delay_ms, when.until_ms), token, "move_to_delayed", fetch_next)

    async def move_to_wait(self, token: str | None = None) -> int:
        """Give it back to the front of its line; returns for how many ms the rate limit is closed. One round trip."""
        return (await self._settle(Released(), token, "move_to_wait")).limit_ms

    async def move_to_waiting_children(
        self, token: str | None = None, *, child: Mapping[str, str] | None = None
    ) -> bool:
        """Park it until its children (or `child`: id, queue) are done; False if none is pending. One round trip."""
        outcome = WaitingForChildren(WaitForChildren(child=child).child_key)
        return (await self._exchange(outcome, token, "move_to_waiting_children")).codes[0] == 0

    async def extend_lock(self, duration: timedelta | int, token: str | None = None) -> bool:
        """Let its lock last so long from now (timedelta or milliseconds); False if it is lost. One round trip."""
        lock = (self.id, self.token if token is None else token)
        return not await extend_locks(self._store, [lock], milliseconds(duration, "duration", minimum=1))

    async def _settle(
        self, outcome: Outcome, token: str | None, command: str, fetch_next: bool = False
    ) -> Fetched[DataT, ResultT]:
        reply = await self._exchange(outcome, token, command, fetch_next)
        following = [self._following(claimed) for claimed in reply.claimed]
        return Fetched(following[0] if following else None, reply.limit_ms, reply.next_delayed_ms if fetch_next else 0)

    async def _exchange(
        self, outcome: Outcome, token: str | None, command: str, fetch_next: bool = False
    ) -> ExchangeReply:
        token = self.token if token is None else token
        claim = self._terms.claim._replace(jobs=int(fetch_next), token=token)
        reply = await settle_and_claim(self._store, [Settlement(self.id, token, outcome)], claim)
        code = reply.codes[0]
        if isinstance(code, str):
            raise ScriptError(f"{command} of job {self.id!r} failed: {code}")
        if code < 0:
            raise error_from_code(code, job_id=self.id, queue=self.queue, command=command, expected="active")
        await follow(self._store, reply.claimed)
        return reply

    def _following(self, claimed: Claimed) -> Job[DataT, ResultT]:
        return Job(self._store, claimed.job_id, claimed.fields, claimed.token, self._terms)
