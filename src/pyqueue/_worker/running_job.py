"""The job as this worker runs it: what a processor and the worker's callbacks receive.

Made by `wiring` for every claimed job; everything else about jobs is in `pyqueue.job`.
"""

from __future__ import annotations

from typing import Any

from pyqueue._store.record import Field
from pyqueue._store.stored_options import decode_options
from pyqueue.errors import PayloadError, Unrecoverable
from pyqueue.job import Job


class RunningJob(Job[Any, Any]):
    """A job that this worker claimed."""

    __slots__ = ()

    def unreadable(self) -> Unrecoverable | None:
        """Why the job cannot be run, if its data or options are no JSON. Decodes both, once."""
        try:
            self._options = decode_options(self._fields.get(Field.OPTIONS))
            self._data = self.data
        except PayloadError as error:
            return Unrecoverable(str(error))
        return None
