"""A job in this worker's hands: what the parts of the worker tell each other about it.

The engine makes one per claimed job, the slots run it, the leases renew its lock, and it is dropped when its outcome
was confirmed or its lock was lost. No behaviour of its own.
"""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import Any

from pyqueue._worker.running_job import RunningJob
from pyqueue.outcomes import Outcome


class CancelReason(Enum):
    """Why the worker cancels a processor; the value completes the sentence "cancelled because ..."."""

    LOCK_LOST = "its lock was lost"
    CLOSING = "the worker is closing"


class Held:
    """One claimed job.

    lease_until: monotonic seconds; the job may not start later. is_suspect: it was active when a worker died.
    is_lost: the lock is not ours any more, nothing may be written about the job. task: the slot that runs it now.
    cancels: how often that task was asked to cancel. outcome, value, error: the end of the run.
    """

    __slots__ = (
        "cancel_reason",
        "cancels",
        "error",
        "is_lost",
        "is_suspect",
        "job",
        "lease_until",
        "outcome",
        "task",
        "value",
    )

    def __init__(self, job: RunningJob, lease_until: float, *, is_suspect: bool = False) -> None:
        self.job = job
        self.lease_until = lease_until
        self.is_suspect = is_suspect
        self.is_lost = False
        self.cancel_reason: CancelReason | None = None
        self.cancels = 0
        self.task: asyncio.Task[Any] | None = None
        self.outcome: Outcome | None = None
        self.value: Any = None
        self.error: BaseException | None = None
