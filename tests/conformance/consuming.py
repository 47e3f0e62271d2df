"""Operations of the consuming side: take, settle, process, locks, stalled jobs."""

from __future__ import annotations

from typing import Any, Final

from pyqueue import FailedChildren, JobError, JobNotInState, PendingChildren
from pyqueue._store.record import Field
from pyqueue._store.settling import ExchangeReply, extend_locks, recover_stalled
from pyqueue._worker.held import Held
from pyqueue.job import Fetched
from pyqueue.outcomes import Completed, Delayed, Failed, Outcome, RateLimited, Retried, WaitingForChildren
from tests.conformance.job_view import job_view
from tests.conformance.scripted import scripted_error
from tests.conformance.session import Op, Session

_EMPTY_HANDED: Final = {"limitDelay": 0, "delayUntil": 0}
#: BullMQ's names of what an outcome asks for, as its errors show them.
_COMMANDS: Final[dict[type, str]] = {WaitingForChildren: "moveToWaitingChildren", Delayed: "moveToDelayed"}
#: A refusal becomes the reason of the job's failure. Its wording is ours; the scenario compares it in BullMQ's.
_REASONS: Final[dict[type, str]] = {
    JobNotInState: "Job {id} is not in the active state. {command}",
    PendingChildren: "Job {id} has pending dependencies. {command}",
    FailedChildren: "Cannot complete job {id} because it has at least one failed child. {command}",
}


def _token(op: Op) -> str:
    token = op.get("token")
    return "t" if token is None else token


async def take(session: Session, op: Op) -> Any:
    reply = await session.worker(op)._fetch(_token(op))
    if reply.claimed:
        return job_view(session.hold(op, reply.claimed[0]))
    return {"none": True, "limited": reply.limit_ms > 0, "delayUntil": reply.next_delayed_ms}


async def complete(session: Session, op: Op) -> Any:
    job = await session.held_job(op)
    fetched = await job.move_to_completed(op.get("returnvalue"), _token(op), fetch_next=bool(op.get("fetchNext")))
    session.drop(op, job.id)
    return _chained(session, op, fetched)


async def fail(session: Session, op: Op) -> Any:
    job, error = await session.held_job(op), scripted_error(op)
    outcome = await job._terms.verdicts.failed(job, error)
    delay_ms = outcome.delay_ms if isinstance(outcome, Retried) else None
    # BullMQ never fetches with an immediate retry, and tells nothing but a job with a later one.
    fetches = bool(op.get("fetchNext")) and delay_ms != 0
    try:
        fetched = await job.move_to_failed(error, _token(op), fetch_next=fetches)
    except JobError:
        if isinstance(outcome, (Failed, Retried)):  # BullMQ's job object keeps the stack of a refused failure
            job._fields[Field.STACK_TRACE] = outcome.stacktrace
        raise
    session.drop(op, job.id)
    if delay_ms is None or fetched.job:
        return _chained(session, op, fetched)
    return _EMPTY_HANDED if delay_ms else None


def _chained(session: Session, op: Op, fetched: Fetched[Any, Any]) -> Any:
    if fetched.job is not None:
        return {"next": session.hold(op, fetched.job).id}
    return {"limitDelay": "<ttl>" if fetched.limit_ms > 0 else 0, "delayUntil": fetched.next_delayed_ms}


async def move_to_delayed(session: Session, op: Op) -> Any:
    timestamp = op.get("timestamp")
    until = session.clock.now + op["ms"] if timestamp is None else timestamp
    await (await session.held_job(op)).move_to_delayed(token=_token(op), until=max(1, until))


async def move_to_wait(session: Session, op: Op) -> Any:
    limit_ms = await (await session.held_job(op)).move_to_wait(_token(op))
    return "<ttl>" if limit_ms > 0 else 0


async def move_to_waiting_children(session: Session, op: Op) -> Any:
    child = (op.get("opts") or {}).get("child")
    return await (await session.held_job(op)).move_to_waiting_children(_token(op), child=child)


async def extend_lock(session: Session, op: Op) -> Any:
    return int(await (await session.held_job(op)).extend_lock(op["duration"], _token(op)))


async def extend_many_locks(session: Session, op: Op) -> Any:
    store = session.worker(op)._parts._jobs
    return await extend_locks(store, list(zip(op["ids"], op["tokens"], strict=True)), op["duration"])


async def stalled_check(session: Session, op: Op) -> Any:
    worker = session.worker(op)
    if op.get("resetCheck"):
        await session.client.execute_command("DEL", worker._parts._keys.stalled_check)
    options = worker.options
    return sorted(await recover_stalled(worker._parts._jobs, options.max_stalled_count, options.stalled_interval))


# -------------------------------------------------------------------------------------------- the whole worker path


async def process(session: Session, op: Op) -> Any:
    """Take a job, run the scripted processor in the worker's executor, settle its outcome and fetch the next job."""
    if op.get("id"):
        job = await session.held_job(op)
    else:
        fetched = await session.worker(op)._fetch(_token(op))
        if not fetched.claimed:
            return {"none": True}
        job = session.hold(op, fetched.claimed[0])
    session.outcome = op.get("outcome")
    held = Held(job, float("inf"))
    await session.worker(op)._parts.executor.run(held)
    assert held.outcome is not None
    run = _Run(session, op, held)
    reply = await run.settle(held.outcome)
    session.drop(op, job.id)
    following = session.hold(op, reply.claimed[0]) if reply and reply.claimed else None
    return {"id": job.id, "event": run.event, "next": following.id if following else None}


class _Run:
    """Settles one run as a BullMQ worker does: what the script refuses goes the way of a failure."""

    def __init__(self, session: Session, op: Op, held: Held) -> None:
        self.event: str | None = None
        self._session = session
        self._op = op
        self._held = held

    async def settle(self, outcome: Outcome) -> ExchangeReply | None:
        """Settle the outcome, and fetch the next job where a BullMQ worker does; None where the job was refused."""
        fetches = bool(self._op.get("fetchNext")) and not isinstance(outcome, RateLimited)
        # A job that goes back at once brings no other one; one that its processor moved is followed by another fetch.
        is_backoff = isinstance(outcome, Retried) and outcome.delay_ms > 0
        in_one_call = is_backoff or isinstance(outcome, (Completed, Failed))
        command = _COMMANDS.get(type(outcome), "moveToFinished")
        try:
            reply = await self._held.job._exchange(outcome, _token(self._op), command, fetches and in_one_call)
        except JobError as error:
            if type(error) in _REASONS:
                error.args = (_REASONS[type(error)].format(id=self._held.job.id, command=command),)
            return await self._refused(outcome, error)
        if reply.codes[0] == 1:  # no child to wait for: the scripted processor returns
            value = (self._session.outcome or {}).get("returnvalue")
            return await self.settle(self._verdicts.completed(self._held.job, value))
        if isinstance(outcome, Completed):
            self.event = "completed"
        elif isinstance(outcome, (Failed, Retried)):
            self.event = f"failed: {outcome.reason}"
        elif fetches:
            return await self._session.worker(self._op)._fetch(_token(self._op))
        return reply

    @property
    def _verdicts(self) -> Any:
        return self._session.worker(self._op)._parts.verdicts

    async def _refused(self, outcome: Outcome, error: JobError) -> ExchangeReply | None:
        is_failure = isinstance(outcome, (Failed, Retried))
        if is_failure or isinstance(outcome, (Completed, RateLimited)):
            # A BullMQ worker tries twice to fail a job that it may not even start.
            tries = 2 if is_failure and self._verdicts.refusal(self._held.job) else 1
            self._session.worker_errors.extend([{"workerError": str(error)}] * tries)
        if is_failure or isinstance(outcome, RateLimited):
            return None
        return await self.settle(await self._verdicts.failed(self._held.job, error))
