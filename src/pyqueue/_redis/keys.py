"""Names of every Redis key of a queue.

The one place that spells BullMQ's key layout (`<prefix>:<queue>:<suffix>`). It knows nothing of Redis itself; the
scripts' `@key` headers name attributes of `QueueKeys`, and `Script.bind` looks them up here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

#: Attribute of QueueKeys -> suffix of the key, in the order of the key space reference.
SUFFIXES: Final[dict[str, str]] = {
    "id": "id",
    "meta": "meta",
    "wait": "wait",
    "paused": "paused",
    "active": "active",
    "prioritized": "prioritized",
    "pc": "pc",
    "delayed": "delayed",
    "waiting_children": "waiting-children",
    "completed": "completed",
    "failed": "failed",
    "stalled": "stalled",
    "stalled_check": "stalled-check",
    "limiter": "limiter",
    "marker": "marker",
    "events": "events",
    "schedulers": "repeat",
    "metrics_completed": "metrics:completed",
    "metrics_completed_data": "metrics:completed:data",
    "metrics_failed": "metrics:failed",
    "metrics_failed_data": "metrics:failed:data",
    "retention_check": "pyq:retention",
}


def has_hash_tag(prefix: str) -> bool:
    """Whether Redis Cluster would hash only a part of the prefix, so that all keys of a queue share a slot."""
    opening = prefix.find("{")
    return opening >= 0 and prefix.find("}", opening) > opening + 1


@dataclass(frozen=True, slots=True)
class QueueKeys:
    """Every key of one queue; attributes are full key names."""

    prefix: str
    queue: str
    base: str = field(init=False)
    id: str = field(init=False)
    meta: str = field(init=False)
    wait: str = field(init=False)
    paused: str = field(init=False)
    active: str = field(init=False)
    prioritized: str = field(init=False)
    pc: str = field(init=False)
    delayed: str = field(init=False)
    waiting_children: str = field(init=False)
    completed: str = field(init=False)
    failed: str = field(init=False)
    stalled: str = field(init=False)
    stalled_check: str = field(init=False)
    limiter: str = field(init=False)
    marker: str = field(init=False)
    events: str = field(init=False)
    schedulers: str = field(init=False)
    metrics_completed: str = field(init=False)
    metrics_completed_data: str = field(init=False)
    metrics_failed: str = field(init=False)
    metrics_failed_data: str = field(init=False)
    retention_check: str = field(init=False)

    def __post_init__(self) -> None:
        base = f"{self.prefix}:{self.queue}:"
        object.__setattr__(self, "base", base)
        for attribute, suffix in SUFFIXES.items():
            object.__setattr__(self, attribute, base + suffix)

    @property
    def qualified(self) -> str:
        """`<prefix>:<queue>`: how parent references name a queue."""
        return self.base[:-1]

    def job(self, job_id: str) -> str:
        """Hash of one job."""
        return self.base + job_id

    def lock(self, job_id: str) -> str:
        """Lease of the worker that runs the job."""
        return f"{self.base}{job_id}:lock"

    def logs(self, job_id: str) -> str:
        """Log rows of one job, oldest first."""
        return f"{self.base}{job_id}:logs"

    def dependencies(self, job_id: str) -> str:
        """Set of job keys of unfinished children."""
        return f"{self.base}{job_id}:dependencies"

    def processed(self, job_id: str) -> str:
        """Hash: key of a completed child -> its return value as JSON."""
        return f"{self.base}{job_id}:processed"

    def failed_children(self, job_id: str) -> str:
        """Hash: key of a child whose failure is ignored -> its reason."""
        return f"{self.base}{job_id}:failed"

    def unsuccessful(self, job_id: str) -> str:
        """Sorted set: keys of children whose failure fails the parent."""
        return f"{self.base}{job_id}:unsuccessful"

    def deduplication(self, deduplication_id: str) -> str:
        """Id of the job that owns a deduplication id."""
        return f"{self.base}de:{deduplication_id}"

    def deduplication_next(self, deduplication_id: str) -> str:
        """Job kept back until the owner of the deduplication id finishes."""
        return f"{self.base}dn:{deduplication_id}"

    def scheduler(self, scheduler_id: str) -> str:
        """Record of a job scheduler."""
        return f"{self.base}repeat:{scheduler_id}"

    def exchange(self, sender: str) -> str:
        """Exchange record of one sender (pyqueue's own): what its last call did."""
        return f"{self.base}pyq:x:{sender}"
