"""The job as this worker runs it: what a processor and the worker's callbacks receive.

Made by `wiring` for every claimed job; everything else about jobs is in `pyqueue.job`.
"""

from __future__ import annotations

from typing import Any

from pyqueue._store.record import Field, decode_options
from pyqueue._store.settling import Claimed, ClaimRequest
from pyqueue._store.store import Store
from pyqueue._worker.events import Callbacks
from pyqueue.errors import PayloadError, Unrecoverable
from pyqueue.job import Job
from pyqueue.verdict import Verdicts


class RunningJob(Job[Any, Any]):
    """A job that this worker claimed: its progress is also an event of the worker."""

    __slots__ = ("_callbacks",)

    def __init__(
        self, store: Store, claimed: Claimed, *, verdicts: Verdicts, claim: ClaimRequest, callbacks: Callbacks
    ) -> None:
        """As `Job`; `callbacks` hear of the progress."""
        job_id, token, fields = claimed
        super().__init__(store, job_id, fields, token=token, verdicts=verdicts, claim=claim)
        self._callbacks = callbacks

    def unreadable(self) -> Unrecoverable | None:
        """Why the job cannot be run, if its data or options are no JSON. Decodes both, once."""
        try:
            self._options = decode_options(self._fields.get(Field.OPTIONS))
            self._data = self.data
        except PayloadError as error:
            return Unrecoverable(str(error))
        return None

    async def update_progress(self, progress: Any) -> None:
        """Store and announce progress, any JSON value. One round trip."""
        await super().update_progress(progress)
        self._callbacks.emit("progress", self, progress)
