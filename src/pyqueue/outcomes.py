"""Outcomes: what became of one run of a job, as values.

The verdict on a run makes them, the planner orders them, `settle_and_claim` applies them. They hold what the script
needs and nothing else; no I/O, no clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias


@dataclass(frozen=True, slots=True)
class Keep:
    """Which finished jobs stay: what a retention option means to the script."""

    count: int = -1
    """How many; -1 all, 0 none: the job itself is removed at once."""
    age_s: int = -1
    """For how many seconds; -1 for ever."""
    limit: int = 1000
    """How many may be removed for their age at one finish."""

    @property
    def is_bounded(self) -> bool:
        """Whether a job that is kept may push out older ones."""
        return self.count > 0 or self.age_s >= 0


KEEP_ALL: Final = Keep()


@dataclass(frozen=True, slots=True)
class Completed:
    """The processor returned; `value` is its result as JSON text."""

    value: str
    keep: Keep = KEEP_ALL


@dataclass(frozen=True, slots=True)
class Failed:
    """Failed for good, with a JSON array of stack traces.

    `attempts` is the job's option; compared with the attempts made it tells whether retries are exhausted.
    """

    reason: str
    stacktrace: str
    attempts: int = 0
    keep: Keep = KEEP_ALL


@dataclass(frozen=True, slots=True)
class Retried:
    """Failed, with attempts left: again at once (0) or after a backoff. Spends an attempt."""

    reason: str
    stacktrace: str
    delay_ms: int = 0


@dataclass(frozen=True, slots=True)
class Delayed:
    """The processor asked to run again later. No attempt is spent. `until_ms` > 0 is an absolute unix time."""

    delay_ms: int = 0
    until_ms: int = 0


@dataclass(frozen=True, slots=True)
class Released:
    """Back to the front of its line. No attempt is spent."""


@dataclass(frozen=True, slots=True)
class Returned:
    """As `Released`, for a job that never started: the start is not counted either."""


@dataclass(frozen=True, slots=True)
class WaitingForChildren:
    """Parked until its children are done, or while the child with the job key `child_key` is not.

    Code 1 in the reply: nothing to wait for, the job stays active.
    """

    child_key: str = ""


@dataclass(frozen=True, slots=True)
class RateLimited:
    """As `Released`; `delay_ms` > 0 also closes the queue's limiter for that long."""

    delay_ms: int = 0


Outcome: TypeAlias = Completed | Failed | Retried | Delayed | Released | Returned | WaitingForChildren | RateLimited
