"""The operations of a queue, in plain Python: what the scripts must do to keys and events.

Written from the protocol, not from the scripts; the state machine compares both after every step. Time stands still
but for `now_ms`; locks do not expire by themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from pyqueue._store.settling import Settlement
from pyqueue.outcomes import (
    Completed,
    Delayed,
    Failed,
    Keep,
    Outcome,
    RateLimited,
    Released,
    Retried,
    Returned,
)
from pyqueue.states import JobState
from tests.properties.places import JOBS_PER_MS, ModelJob, Places

CREATED: Final = "created"
DUPLICATE: Final = "duplicate"
JOB_MISSING: Final = -1
LOCK_MISSING: Final = -2
NOT_IN_STATE: Final = -3
LOCK_LOST: Final = -6

FINISHED: Final = (JobState.COMPLETED, JobState.FAILED)
STALLED_TOO_OFTEN: Final = "job stalled more than allowable limit"
#: Field of the hash that the end of a job writes, and a retry erases.
RESULT_FIELDS: Final = {JobState.COMPLETED: "returnvalue", JobState.FAILED: "failedReason"}
#: What a job's age counts from, where that is not its end, else its last start, else its creation.
AGE_FIELDS: Final = {JobState.DELAYED: ("processedOn", "timestamp"), JobState.PRIORITIZED: ("timestamp",)}


class NewJob(NamedTuple):
    """A job to add. `job.job_id` is empty where an id is generated."""

    job: ModelJob
    timestamp_ms: int
    """0 = now."""
    delay_ms: int


class Claim(NamedTuple):
    """How jobs are claimed: how many, under which token (numbered from `first`, unless that is negative)."""

    limit: int
    token: str = ""
    first: int = -1
    suspects: int = 1_000_000
    rearm: bool = False


class Exchanged(NamedTuple):
    """What an exchange answers."""

    codes: list[int]
    claimed: list[tuple[str, str]]
    next_delayed_ms: int


@dataclass
class _Batch:
    """What one exchange collects. A group of finished jobs shares its retention."""

    finished: int = 0
    any_ready: bool = False
    any_delayed: bool = False
    groups: dict[JobState, list[tuple[Keep, list[ModelJob]]]] = field(
        default_factory=lambda: {state: [] for state in FINISHED}
    )


class Model(Places):
    """A queue."""

    # Producing.

    def add(self, new: Sequence[NewJob]) -> list[tuple[str, str]]:
        """Add jobs in one call; id and status of each."""
        results = [self._add(one) for one in new]
        created = [one for one, (_, status) in zip(new, results, strict=True) if status == CREATED]
        if any(one.delay_ms == 0 for one in created):
            self.mark_ready()
        if any(one.delay_ms for one in created):
            self.mark_delayed()
        return results

    def _add(self, new: NewJob) -> tuple[str, str]:
        self.last_number += 1
        job = new.job
        job.job_id = job.job_id or str(self.last_number)
        if job.job_id in self.jobs:
            self.announce("duplicated", job)
            return job.job_id, DUPLICATE
        timestamp = new.timestamp_ms or self.now_ms
        job.fields |= {"timestamp": str(timestamp), "delay": str(new.delay_ms)}
        self.jobs[job.job_id] = job
        self.announce("added", job, name=job.fields["name"])
        if new.delay_ms:
            self.postpone("add", job, timestamp + new.delay_ms)
        else:
            self.line_up("add", job, lifo=job.lifo)
            self.announce("waiting", job)
        return job.job_id, CREATED

    # Consuming.

    def exchange(self, settlements: Sequence[Settlement], claim: Claim) -> Exchanged:
        """Settle outcomes and claim jobs."""
        batch = _Batch()
        if any(isinstance(one.outcome, Retried) and one.outcome.delay_ms == 0 for one in settlements):
            self._promote_due()
        codes = [self._settle(one, batch) for one in settlements]
        self._flush(batch)
        limit = 0 if claim.first < 0 and codes and codes[0] != 0 else claim.limit
        claimed, ran_out = self._claim(claim._replace(limit=limit)) if limit else ([], True)
        # Who settles by hand and gets the next job leaves the marker out, as upstream; the claim wakes somebody.
        if batch.any_delayed and not (claim.first < 0 and claimed):
            self.mark_delayed()
        due = min(self.scores[JobState.DELAYED].values(), default=0) // JOBS_PER_MS if ran_out else 0
        if batch.finished and not claimed and ran_out and not (limit and due) and not self.is_ready and not self.active:
            self.announce("drained")
        if claim.rearm:
            self._rearm()
        return Exchanged(codes, claimed, due)

    def _rearm(self) -> None:
        if self.is_ready:
            self.mark_ready()
        self.mark_delayed()

    def _settle(self, settlement: Settlement, batch: _Batch) -> int:
        job = self.jobs.get(settlement.job_id)
        if job is None:
            return JOB_MISSING
        if job.token != settlement.token:
            return LOCK_MISSING if job.token is None else LOCK_LOST
        job.token = None
        self.suspected.discard(job.job_id)
        outcome: Outcome = settlement.outcome
        match outcome:
            case Completed():
                self._finish("complete", job, JobState.COMPLETED, outcome.value, outcome.keep, batch)
            case Failed():
                self._finish("fail", job, JobState.FAILED, outcome.reason, outcome.keep, batch)
                if job.made >= outcome.attempts:
                    self.announce("retries-exhausted", job, attemptsMade=job.made)
            case Retried():
                self._retry(job, outcome, batch)
            case Delayed():
                delay = max(0, outcome.until_ms - self.now_ms) if outcome.until_ms else outcome.delay_ms
                self._delay("delay", job, delay, batch)
            case Released() | Returned() | RateLimited():
                job.started -= isinstance(outcome, Returned)
                self.line_up_first("release", job)
                self.announce("waiting", job, prev="active")
                batch.any_ready = True
            case _:
                raise NotImplementedError(outcome)
        return 0

    def _finish(self, verb: str, job: ModelJob, state: JobState, value: str, keep: Keep, batch: _Batch) -> None:
        job.made += 1
        batch.finished += 1
        name = RESULT_FIELDS[state]
        self.announce(state, job, **{name: value}, prev="active")
        if keep.count == 0:
            self.move(verb, job, JobState.UNKNOWN)
            return
        self.move(verb, job, state)
        job.fields |= {name: value, "finishedOn": str(self.now_ms)}
        if state is JobState.FAILED:
            job.fields.pop("defa", None)
        groups = batch.groups[state]
        if not groups or groups[-1][0] != keep:
            groups.append((keep, []))
        groups[-1][1].append(job)

    def _retry(self, job: ModelJob, outcome: Retried, batch: _Batch) -> None:
        job.made += 1
        job.fields["failedReason"] = outcome.reason
        if outcome.delay_ms:
            self._delay("retry", job, outcome.delay_ms, batch)
            return
        self.line_up("retry", job, lifo=job.lifo)
        self.announce("waiting", job, prev="active")
        batch.any_ready = True

    def _delay(self, verb: str, job: ModelJob, delay_ms: int, batch: _Batch) -> None:
        job.fields["delay"] = str(delay_ms)
        self.postpone(verb, job, self.now_ms + delay_ms)
        batch.any_delayed = True

    def _flush(self, batch: _Batch) -> None:
        for state, groups in batch.groups.items():
            for keep, jobs in groups:
                self.scores[state] |= dict.fromkeys((job.job_id for job in jobs), self.now_ms)
                self._retain(state, keep)
        if batch.any_ready:
            self.mark_ready()

    def _retain(self, state: JobState, keep: Keep) -> None:
        scores = self.scores[state]
        if keep.age_s >= 0:
            old = [job_id for job_id in self.ordered(state) if scores[job_id] <= self.now_ms - keep.age_s * 1000]
            self._remove("retain", old[-keep.limit :])
        if keep.count > 0:
            self._remove("retain", self.ordered(state)[: -keep.count])

    def _claim(self, claim: Claim) -> tuple[list[tuple[str, str]], bool]:
        """The claimed jobs with their tokens, and whether all that may run were found."""
        self._promote_due()
        if self.is_blocked:
            return [], False
        room = claim.limit
        if self.concurrency is not None:
            room = min(room, self.concurrency - len(self.active))
        chosen, skipped = self._choose(room, claim.suspects)
        if len(chosen) < room and not skipped:
            self.priority_count = 0
        claimed = []
        for number, job in enumerate(chosen):
            job.token = claim.token if claim.first < 0 else f"{claim.token}:{claim.first + number}"
            job.started += 1
            job.fields["processedOn"] = str(self.now_ms)
            self.move("claim", job, JobState.ACTIVE)
            self.active.insert(0, job.job_id)
            self.announce("active", job, prev="waiting")
            claimed.append((job.job_id, job.token))
        self.ready_marker = self.ready_marker or bool(chosen)
        return claimed, len(chosen) < room

    def _choose(self, room: int, suspects: int) -> tuple[list[ModelJob], bool]:
        """Jobs in order of service; and whether one was passed over, because it may be the killer of its workers."""
        chosen: list[ModelJob] = []
        skipped = False
        for job_id in self.ordered(JobState.WAITING) + self.ordered(JobState.PRIORITIZED):
            job = self.jobs[job_id]
            if len(chosen) == room:
                break
            if job.stalls and not suspects:
                skipped = True
                continue
            suspects -= bool(job.stalls)
            chosen.append(job)
        return chosen, skipped

    def _promote_due(self) -> None:
        due = self.scores[JobState.DELAYED]
        ready = [job_id for job_id in self.ordered(JobState.DELAYED) if due[job_id] < (self.now_ms + 1) * JOBS_PER_MS]
        for job_id in ready:
            job = self.jobs[job_id]
            self.line_up("promote", job)
            self.announce("waiting", job, prev="delayed")
            job.fields["delay"] = "0"
        if ready:
            self.mark_ready()

    # Leases and dead workers.

    def extend(self, job_id: str, token: str) -> bool:
        """Renew a lock; whether it still was the caller's."""
        job = self.jobs.get(job_id)
        is_held = job is not None and job.token == token
        if is_held:
            self.suspected.discard(job_id)
        return is_held

    def to_recover(self) -> set[str]:
        """Jobs that the next stalled check takes away from dead workers."""
        return {job_id for job_id in self.suspected & set(self.active) if self.jobs[job_id].token is None}

    def recover_stalled(self, recovered: Iterable[str], max_stalled_count: int) -> None:
        """A stalled check that found its victims in this order (Redis has them in a set)."""
        for job_id in recovered:
            job = self.jobs[job_id]
            job.stalls += 1
            if job.stalls > max_stalled_count:
                job.fields["defa"] = STALLED_TOO_OFTEN
            self.move("recover_stalled", job, JobState.WAITING)
            self.wait.append(job_id)
            self.announce("waiting", job, prev="active")
            self.announce("stalled", job)
            self.mark_ready()
        self.suspected = set(self.active)

    # One job.

    def promote(self, job_id: str) -> int:
        """Make a delayed job ready; a code."""
        if job_id not in self.scores[JobState.DELAYED]:
            return NOT_IN_STATE
        job = self.jobs[job_id]
        self.line_up("promote", job)
        self.mark_ready()
        self.announce("waiting", job, prev="delayed")
        job.fields["delay"] = "0"
        return 0

    def change_delay(self, job_id: str, delay_ms: int) -> int:
        """Let a delayed job wait from now; a code."""
        job = self.jobs.get(job_id)
        if job is None or job.state is not JobState.DELAYED:
            return JOB_MISSING if job is None else NOT_IN_STATE
        job.fields["delay"] = str(delay_ms)
        self.postpone("change_delay", job, self.now_ms + delay_ms)
        self.mark_delayed()
        return 0

    def change_priority(self, job_id: str, priority: int, *, lifo: bool) -> int:
        """Give a job another priority, and another place if it is ready; a code."""
        job = self.jobs.get(job_id)
        if job is None:
            return JOB_MISSING
        job.priority = priority
        if job.state in (JobState.WAITING, JobState.PRIORITIZED):
            if priority and lifo:
                self.line_up_first("change_priority", job)
            else:
                self.line_up("change_priority", job, lifo=lifo)
                self.mark_ready()
        return 0

    def retry(self, job_id: str, state: JobState, *, reset_made: bool, reset_started: bool) -> int:
        """Run a finished job again; a code."""
        job = self.jobs.get(job_id)
        if job is None or job.state is not state:
            return JOB_MISSING if job is None else NOT_IN_STATE
        self._forget_run(job)
        job.made = 0 if reset_made else job.made
        job.started = 0 if reset_started else job.started
        self.line_up("reprocess", job, lifo=job.lifo)
        self.mark_ready()
        self.announce("waiting", job, prev=state)
        return 0

    def _forget_run(self, job: ModelJob) -> None:
        for name in ("finishedOn", "processedOn", RESULT_FIELDS[job.state]):
            job.fields.pop(name, None)

    def remove(self, job_id: str) -> bool:
        """Remove a job; False if a worker has locked it."""
        job = self.jobs.get(job_id)
        if job is None or job.token is not None:
            return job is None
        place = "wait" if job.state is JobState.WAITING else job.state
        self._remove("remove", [job_id])
        self.announce("removed", job, prev=place)
        return True

    # The whole queue.

    def pause(self) -> None:
        """Let no job start."""
        self.paused = True
        self.ready_marker, self.due_marker = False, None
        self.announce("paused")

    def resume(self) -> None:
        """Let jobs start again."""
        self.paused = False
        if self.is_ready:
            self.ready_marker = True
        else:
            self.mark_delayed()
        self.announce("resumed")

    def promote_all(self) -> int:
        """Make all delayed jobs ready, whatever their priority; how many."""
        job_ids = self.ordered(JobState.DELAYED)
        self._queue_up("promote", job_ids, "delayed")
        return len(job_ids)

    def retry_all(self, state: JobState, until_ms: int) -> int:
        """Run finished jobs again, whatever their priority; how many."""
        job_ids = [job_id for job_id in self.ordered(state) if self.scores[state][job_id] <= until_ms]
        for job_id in job_ids:
            self._forget_run(self.jobs[job_id])
        self._queue_up("reprocess", job_ids, state)
        return len(job_ids)

    def _queue_up(self, verb: str, job_ids: Sequence[str], previous: str) -> None:
        for job_id in job_ids:
            self.move(verb, self.jobs[job_id], JobState.WAITING)
            self.wait.insert(0, job_id)
            self.announce("waiting", self.jobs[job_id], prev=previous)
        if job_ids:
            self.mark_ready()

    def drain(self, *, delayed: bool) -> int:
        """Remove what waits to run; how many. Nothing is announced."""
        states = [JobState.WAITING, JobState.PRIORITIZED] + [JobState.DELAYED] * delayed
        return sum(self._remove("drain", self.ordered(state)) for state in states)

    def clean(self, state: JobState, grace_ms: int, limit: int) -> list[str]:
        """Remove up to `limit` (0 = all) old jobs of a state, the oldest first; their ids."""
        old = [job_id for job_id in self.ordered(state) if self._age_ms(self.jobs[job_id]) >= grace_ms]
        removable = [job_id for job_id in old if self.jobs[job_id].token is None]
        removed = removable[:limit] if limit else removable
        self._remove("clean", removed)
        return removed

    def _age_ms(self, job: ModelJob) -> int:
        names = AGE_FIELDS.get(job.state, ("finishedOn", "processedOn", "timestamp"))
        return self.now_ms - int(next(job.fields[name] for name in names if name in job.fields))

    def obliterate(self) -> int:
        """Delete everything, whatever runs; how many jobs."""
        removed = self._remove("obliterate", list(self.jobs))
        self.wait, self.active, self.suspected = [], [], set()
        self.paused, self.concurrency = False, None
        self.ready_marker, self.due_marker = False, None
        self.last_number = self.priority_count = 0
        return removed

    def _remove(self, verb: str, job_ids: Sequence[str]) -> int:
        for job_id in job_ids:
            self.move(verb, self.jobs[job_id], JobState.UNKNOWN)
        return len(job_ids)
