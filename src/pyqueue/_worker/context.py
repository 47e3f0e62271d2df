"""What a processor receives beside its job: progress, log rows, its token, and whether it should stop.

A thin view of one running job; the executor makes one where the processor asks for it (`processor(job, context)`).
"""

from __future__ import annotations

from typing import Any

import anyio.lowlevel

from pyqueue._worker.held import CancelReason, Held
from pyqueue.job import Job


class Context:
    """The running job as its processor sees it. Attributes may be read from the thread of a plain `def` processor."""

    __slots__ = ("_held", "_worker_name")

    def __init__(self, held: Held, worker_name: str) -> None:
        self._held = held
        self._worker_name = worker_name

    @property
    def job(self) -> Job[Any, Any]:
        """The job."""
        return self._held.job

    @property
    def token(self) -> str:
        """The token of the job's lock, unique per claim: a fencing token for the systems that the processor calls."""
        return self._held.job.token

    @property
    def worker_name(self) -> str:
        """The name of the worker, "" if it has none."""
        return self._worker_name

    @property
    def deadline(self) -> float:
        """Until when the lock certainly holds, on `time.monotonic()`; it moves on as the worker renews the lock."""
        return self._held.lease_until

    @property
    def is_cancelled(self) -> bool:
        """Whether the processor should stop: the worker closes or the lock is lost. A thread must ask for it."""
        return self._held.cancel_reason is not None

    @property
    def is_lock_lost(self) -> bool:
        """Whether another worker may run the job by now; what this run returns will not count."""
        return self._held.cancel_reason is CancelReason.LOCK_LOST

    async def progress(self, value: Any) -> None:
        """Store and announce the progress, any JSON value. One round trip."""
        await self._held.job.update_progress(value)

    async def log(self, row: str) -> int:
        """Append a row to the job's log; returns the number of rows. One round trip."""
        return await self._held.job.log(row)

    async def checkpoint(self) -> None:
        """Let other jobs run; a cancellation is delivered here."""
        await anyio.lowlevel.checkpoint()
