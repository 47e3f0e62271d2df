"""The places of a modelled queue: which job is where, in which order, what was announced, which markers are set.

Primitives only; what an operation does with them is in `model`. Every move goes through `Places.move`, which refuses
what `pyqueue.states.TRANSITIONS` does not know.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from pyqueue.outcomes import KEEP_ALL, Keep
from pyqueue.states import TRANSITIONS, JobState

JOBS_PER_MS: Final = 4096
PRIORITY_STEP: Final = 2**32

#: States whose jobs have a score -> name of their sorted set.
SCORED: Final = {
    JobState.PRIORITIZED: "prioritized",
    JobState.DELAYED: "delayed",
    JobState.COMPLETED: "completed",
    JobState.FAILED: "failed",
}


@dataclass
class ModelJob:
    """One job. `fields` are those of its hash that an operation may change, by their names on the wire."""

    job_id: str
    fields: dict[str, str]
    priority: int = 0
    lifo: bool = False
    attempts: int = 0
    backoff_ms: tuple[int, ...] = ()
    """Wait before the first retry, the second, ...; no wait after the last of them."""
    keep_completed: Keep = KEEP_ALL
    keep_failed: Keep = KEEP_ALL
    state: JobState = JobState.UNKNOWN
    token: str | None = None
    """Who holds its lock."""
    made: int = 0
    started: int = 0
    stalls: int = 0

    def image(self) -> dict[str, str]:
        """Its hash; counters that were never written are 0."""
        counters = {"atm": self.made, "ats": self.started, "stc": self.stalls, "priority": self.priority}
        return {**self.fields, **{name: str(count) for name, count in counters.items()}}


@dataclass
class Places:
    """A queue without operations. Lists are in Redis' order: jobs enter at index 0 and are served from the end."""

    now_ms: int
    jobs: dict[str, ModelJob] = field(default_factory=dict)
    wait: list[str] = field(default_factory=list)
    active: list[str] = field(default_factory=list)
    scores: dict[JobState, dict[str, int]] = field(default_factory=lambda: {state: {} for state in SCORED})
    suspected: set[str] = field(default_factory=set)
    """Ids marked by the last stalled check."""
    ready_marker: bool = False
    due_marker: float | None = None
    paused: bool = False
    concurrency: int | None = None
    last_number: int = 0
    priority_count: int = 0
    events: list[dict[str, str]] = field(default_factory=list)
    """Announced since `take_events`."""
    driven: Counter[str] = field(default_factory=Counter)
    """How often each transition has taken place."""

    def move(self, verb: str, job: ModelJob, target: JobState) -> None:
        """Take a job out of its state into another; placing it there is the caller's business."""
        allowed = TRANSITIONS[verb]
        assert job.state in allowed.sources, f"{verb} takes a job out of {job.state}"
        assert target in allowed.targets, f"{verb} takes a job into {target}"
        self.driven[verb] += 1
        if job.state is JobState.WAITING:
            self.wait.remove(job.job_id)
        elif job.state is JobState.ACTIVE:
            self.active.remove(job.job_id)
        elif job.state in SCORED:
            # A finished job gets its score only at the end of its call.
            self.scores[job.state].pop(job.job_id, None)
        job.state = target
        if target is JobState.UNKNOWN:
            del self.jobs[job.job_id]

    def line_up(self, verb: str, job: ModelJob, *, lifo: bool = False) -> None:
        """Ready, behind all others of its priority; `lifo` before them, where it has none."""
        if job.priority:
            self.move(verb, job, JobState.PRIORITIZED)
            self.priority_count += 1
            score = job.priority * PRIORITY_STEP + self.priority_count % PRIORITY_STEP
            self.scores[JobState.PRIORITIZED][job.job_id] = score
        else:
            self.move(verb, job, JobState.WAITING)
            self.wait.insert(len(self.wait) if lifo else 0, job.job_id)

    def line_up_first(self, verb: str, job: ModelJob) -> None:
        """Ready, before all others of its priority."""
        if job.priority:
            self.move(verb, job, JobState.PRIORITIZED)
            self.scores[JobState.PRIORITIZED][job.job_id] = job.priority * PRIORITY_STEP
        else:
            self.move(verb, job, JobState.WAITING)
            self.wait.append(job.job_id)

    def postpone(self, verb: str, job: ModelJob, due_ms: int) -> None:
        """Delayed, behind all others of the same millisecond."""
        low, high = due_ms * JOBS_PER_MS, (due_ms + 1) * JOBS_PER_MS - 1
        taken = [score for score in self.scores[JobState.DELAYED].values() if low <= score <= high]
        self.move(verb, job, JobState.DELAYED)
        self.scores[JobState.DELAYED][job.job_id] = min(max(taken) + 1, high) if taken else low
        self.announce("delayed", job, delay=due_ms)

    def ordered(self, state: JobState) -> list[str]:
        """Ids of a state, in the order in which they are served, or have finished."""
        if state is JobState.WAITING:
            return self.wait[::-1]
        if state is JobState.ACTIVE:
            return self.active[::-1]
        scores = self.scores[state]
        return sorted(scores, key=lambda job_id: (scores[job_id], job_id.encode()))

    def ids(self, state: JobState) -> set[str]:
        """Ids in a state, as the jobs themselves say."""
        return {job.job_id for job in self.jobs.values() if job.state is state}

    @property
    def is_ready(self) -> bool:
        """Whether a job could be claimed, were it not for limits."""
        return bool(self.wait or self.scores[JobState.PRIORITIZED])

    @property
    def is_blocked(self) -> bool:
        """Whether the queue holds its jobs back."""
        return self.paused or (self.concurrency is not None and len(self.active) >= self.concurrency)

    def mark_ready(self) -> None:
        """Wake a worker, unless the queue holds its jobs back."""
        self.ready_marker = self.ready_marker or not self.is_blocked

    def mark_delayed(self) -> None:
        """Tell a worker when the first delayed job is due."""
        if delayed := self.scores[JobState.DELAYED]:
            self.due_marker = min(delayed.values()) / JOBS_PER_MS

    def announce(self, event: str, job: ModelJob | None = None, **fields: Any) -> None:
        """Append an event."""
        of_job = {} if job is None else {"jobId": job.job_id}
        self.events.append({"event": event, **of_job, **{name: str(value) for name, value in fields.items()}})

    def take_events(self) -> list[dict[str, str]]:
        """What was announced since the last time."""
        taken, self.events = self.events, []
        return taken

    def image(self) -> dict[str, Any]:
        """The keys of the queue, as `snapshot` reads them."""
        markers = {"0": 0.0} if self.ready_marker else {}
        markers |= {} if self.due_marker is None else {"1": self.due_marker}
        settings = {"paused": "1"} if self.paused else {}
        settings |= {} if self.concurrency is None else {"concurrency": str(self.concurrency)}
        return {
            "wait": self.wait,
            "active": self.active,
            **{name: self.scores[state] for state, name in SCORED.items()},
            "stalled": self.suspected,
            "marker": markers,
            "meta": settings,
            "id": self.last_number,
            "pc": self.priority_count,
            "locks": {job.job_id: job.token for job in self._sorted_jobs() if job.token is not None},
            "hashes": {job.job_id: job.image() for job in self._sorted_jobs()},
        }

    def _sorted_jobs(self) -> Iterable[ModelJob]:
        return sorted(self.jobs.values(), key=lambda job: job.job_id)
