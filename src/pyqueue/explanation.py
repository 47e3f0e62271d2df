"""Why a job is where it is: facts of Redis turned into sentences.

Pure: `_store.children.explain_job` reads the facts, `Job.explain` brings both together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from pyqueue._redis.replies import number
from pyqueue._store.children import Facts
from pyqueue.states import JobState

#: Places that are no states: a node of a large flow whose producer stopped half-way, and a child that is gone.
STAGED, MISSING = "staged", "missing"

#: Pending children whose state a sentence names one by one.
_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class PendingChild:
    """A child that a job waits for."""

    key: str
    """`<prefix>:<queue>:<id>`."""
    place: str
    """Its state; `staged` or `missing` for one that nothing will run."""
    failed_reason: str
    """Why its last attempt failed, if one did."""
    is_queue_paused: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a job is, and what holds it there. `str()` gives the reasons, one per line."""

    state: JobState
    reasons: tuple[str, ...]
    """Sentences, the most important first; never empty."""
    pending: int = 0
    """Children that it waits for."""
    children: tuple[PendingChild, ...] = ()
    """Those of them that were looked at: about the first 50."""

    def __str__(self) -> str:
        return "\n".join(self.reasons)


def explain(job_id: str, facts: Facts) -> Explanation:
    """Put the facts about one job into words."""
    place = facts.job["place"]
    children = tuple(_child(key, child, facts.queues) for key, child in facts.children.items())
    pending = number(facts.job["pending"])
    reasons = [*_SENTENCES.get(place, _no_sentence)(job_id, facts)]
    if place == JobState.WAITING_CHILDREN:
        reasons += _children_sentences(pending, children)
    if facts.job["deferred_failure"]:
        reasons.append(f"The next worker will fail it: {facts.job['deferred_failure']}.")
    state = JobState(place) if place in set(JobState) else JobState.UNKNOWN
    return Explanation(state, tuple(reasons), pending, children)


def _child(key: str, child: Mapping[str, str], queues: Mapping[str, Mapping[str, str]]) -> PendingChild:
    queue = queues.get(f"{key.rpartition(':')[0]}:", {})
    return PendingChild(key, child["place"], child["failed_reason"], queue.get("paused") == "1")


def _ready(job_id: str, facts: Facts) -> Iterator[str]:
    queue = next(iter(facts.queues.values()))
    yield "It is ready: a worker takes it in its turn."
    if queue["paused"] == "1":
        yield "Its queue is paused: no job starts before queue.resume()."
    concurrency, active = number(queue["concurrency"]), number(queue["active"])
    if concurrency and active >= concurrency:
        yield f"Its queue runs {active} jobs, as many as its concurrency of {concurrency} allows."
    if number(queue["limit_ms"]):
        yield f"A window of the rate limit is open for another {number(queue['limit_ms'])} ms."


def _active(job_id: str, facts: Facts) -> Iterator[str]:
    by = f" by worker {facts.job['processed_by']!r}" if facts.job["processed_by"] else ""
    yield f"It has run{by} since {_time(number(facts.job['processed_on']))}."
    if facts.job["locked"] == "0":
        yield "Its lock is gone: its worker is dead or blocked, and the next stalled checks give the job to another."


def _delayed(job_id: str, facts: Facts) -> Iterator[str]:
    due_ms = number(facts.job["due_ms"])
    yield f"It is delayed until {_time(due_ms)}, for another {max(0, due_ms - facts.now_ms)} ms."
    if facts.job["failed_reason"]:
        yield f"Its last attempt failed: {facts.job['failed_reason']}."


def _failed(job_id: str, facts: Facts) -> Iterator[str]:
    yield f"It failed for good: {facts.job['failed_reason']}. job.retry() runs it again."


def _completed(job_id: str, facts: Facts) -> Iterator[str]:
    yield "It is completed."


def _waiting_children(job_id: str, facts: Facts) -> Iterator[str]:
    yield f"It waits for {number(facts.job['pending'])} children."


def _staged(job_id: str, facts: Facts) -> Iterator[str]:
    yield (
        "It belongs to a large flow that is being added, or whose producer stopped half-way: adding the same flow "
        "again gives it its place."
    )


def _missing(job_id: str, facts: Facts) -> Iterator[str]:
    yield f"No job has the id {job_id!r}: it was never added, or it was removed."


def _no_sentence(job_id: str, facts: Facts) -> Iterator[str]:
    yield f"It is {facts.job['place']}."


_SENTENCES: Final = {
    JobState.WAITING: _ready,
    JobState.PRIORITIZED: _ready,
    JobState.ACTIVE: _active,
    JobState.DELAYED: _delayed,
    JobState.FAILED: _failed,
    JobState.COMPLETED: _completed,
    JobState.WAITING_CHILDREN: _waiting_children,
    STAGED: _staged,
    MISSING: _missing,
}


def _children_sentences(pending: int, children: tuple[PendingChild, ...]) -> Iterator[str]:
    if not pending:
        yield "Nothing is left to wait for, and yet it was not released: add a child again, or remove and add the job."
        return
    counts = Counter(child.place for child in children)
    seen = "them" if len(children) >= pending else f"the {len(children)} that were looked at"
    yield f"Of {seen}: " + ", ".join(f"{counts[place]} {place}" for place in sorted(counts)) + "."
    yield from _stuck_sentences(children)
    paused = sorted({_queue_of(child.key) for child in children if child.is_queue_paused})
    if paused:
        yield f"Paused queues of children: {', '.join(paused)}."


def _stuck_sentences(children: tuple[PendingChild, ...]) -> Iterator[str]:
    remedies = {
        JobState.FAILED: "failed without a policy for its parent: retry it, or job.remove_child_dependency()",
        MISSING: "does not exist: add it again, or parent.remove_unprocessed_children()",
        STAGED: "has no place, because the flow's producer stopped half-way: add the same flow again",
    }
    for place, remedy in remedies.items():
        stuck = [child for child in children if child.place == place]
        for child in stuck[:_NAMED]:
            reason = f" ({child.failed_reason})" if child.failed_reason and place == JobState.FAILED else ""
            yield f"{child.key}{reason} {remedy}."
        if len(stuck) > _NAMED:
            yield f"{len(stuck) - _NAMED} more are {place}."


def _queue_of(job_key: str) -> str:
    return job_key.rpartition(":")[0]


def _time(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec="milliseconds")
