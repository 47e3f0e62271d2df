"""What a job tells about itself: its hash as it was read, decoded attribute by attribute on demand.

The base of `Job`, which adds what can be done with a job. Attributes do not follow the job in Redis. Wire names are in
`record`, JSON in `payload`.
"""

from __future__ import annotations

from typing import Any, Final, Generic, TypeVar, cast

from pyqueue import payload
from pyqueue._redis.replies import number, text
from pyqueue._store.adding import AddStatus
from pyqueue._store.record import Field
from pyqueue._store.store import Store
from pyqueue._store.stored_options import decode_options, decode_parent
from pyqueue.errors import PayloadError
from pyqueue.options import JobOptions, ParentReference
from pyqueue.types import Raw

DataT = TypeVar("DataT")
ResultT = TypeVar("ResultT")

#: Stands for data that was not decoded yet.
UNDECODED: Final[Any] = object()


class Snapshot(Generic[DataT, ResultT]):
    """The attributes of one job. Data, options, progress and return value decode when they are read."""

    __slots__ = ("_data", "_fields", "_options", "_store", "add_status", "id", "token")

    def __init__(self, store: Store, job_id: str, fields: dict[str, Raw], token: str = "") -> None:
        """Made by the library. `fields`: the hash; kept and not copied."""
        self.id: Final = job_id
        """Its id, unique in the queue."""
        self.token = token
        """The token of its lock, if it was claimed; else empty."""
        self.add_status: AddStatus | None = None
        """What `add` did: created, found a duplicate, was deduplicated, or replaced; None for a job that was read."""
        self._store = store
        self._fields = fields
        self._data: Any = UNDECODED
        self._options: JobOptions | None = None

    @property
    def queue(self) -> str:
        """Name of its queue."""
        return self._store.keys.queue

    @property
    def name(self) -> str:
        """What kind of job it is."""
        return self._text(Field.NAME)

    @property
    def data(self) -> DataT:
        """Its input, decoded from JSON once. Raises PayloadError if another client stored something else."""
        if self._data is UNDECODED:
            self._data = self._json(Field.DATA)
        return cast(DataT, self._data)

    @property
    def options(self) -> JobOptions:
        """The options it was added with; the defaults, if another client stored something that is no JSON object.

        Its `priority` and `delay` may have changed since: see the attributes of the job.
        """
        if self._options is None:
            try:
                self._options = decode_options(self._fields.get(Field.OPTIONS))
            except PayloadError:
                self._options = JobOptions()
        return self._options

    @property
    def timestamp(self) -> int:
        """When it was created, unix milliseconds."""
        return number(self._fields.get(Field.TIMESTAMP))

    @property
    def delay(self) -> int:
        """How long it waits, or waited last, in milliseconds."""
        return number(self._fields.get(Field.DELAY))

    @property
    def priority(self) -> int:
        """Its priority; 0 = none."""
        return number(self._fields.get(Field.PRIORITY))

    @property
    def progress(self) -> Any:
        """What was last reported; 0 before."""
        return self._json(Field.PROGRESS, 0)

    @property
    def return_value(self) -> ResultT | None:
        """What its processor returned; None before it completed."""
        return cast("ResultT | None", self._json(Field.RETURN_VALUE))

    @property
    def failed_reason(self) -> str | None:
        """Why its last failed attempt failed; None if none did."""
        return self._text(Field.FAILED_REASON) if Field.FAILED_REASON in self._fields else None

    @property
    def stack_trace(self) -> list[str]:
        """Stacks of its failed attempts, oldest first."""
        try:
            stacks = self._json(Field.STACK_TRACE)
        except PayloadError:
            return []
        return [str(stack) for stack in stacks] if isinstance(stacks, list) else []

    @property
    def attempts_made(self) -> int:
        """How many attempts have ended, in success or failure."""
        return number(self._fields.get(Field.ATTEMPTS_MADE, self._fields.get(Field.LEGACY_ATTEMPTS_MADE)))

    @property
    def attempts_started(self) -> int:
        """How often it was handed to a worker."""
        return number(self._fields.get(Field.ATTEMPTS_STARTED))

    @property
    def stalled_count(self) -> int:
        """How often it was recovered from a dead worker."""
        return number(self._fields.get(Field.STALLED_COUNT))

    @property
    def deferred_failure(self) -> str:
        """Why it must fail when a worker takes it next; empty if it need not."""
        return self._text(Field.DEFERRED_FAILURE)

    @property
    def processed_on(self) -> int | None:
        """When its last run began, unix milliseconds; None before."""
        return number(self._fields.get(Field.PROCESSED_ON)) or None

    @property
    def finished_on(self) -> int | None:
        """When it completed or failed, unix milliseconds; None before."""
        return number(self._fields.get(Field.FINISHED_ON)) or None

    @property
    def processed_by(self) -> str | None:
        """Name of the worker that ran it last, if that has one."""
        return self._text(Field.PROCESSED_BY) or None

    @property
    def parent(self) -> ParentReference | None:
        """Its parent's `id` and `queue` (`<prefix>:<queue>`); None without one."""
        return decode_parent(self._fields.get(Field.PARENT))

    @property
    def deduplication_id(self) -> str | None:
        """Its deduplication id, if it has one."""
        return self._text(Field.DEDUPLICATION_ID) or None

    @property
    def scheduler_id(self) -> str | None:
        """The job scheduler that made it, if one did."""
        return self._text(Field.SCHEDULER_ID) or None

    def __repr__(self) -> str:
        return f"<Job {self.id!r} {self.name!r} of queue {self.queue!r}>"

    def _text(self, field: str) -> str:
        raw = self._fields.get(field)
        return "" if raw is None else text(raw)

    def _json(self, field: str, missing: Any = None) -> Any:
        raw = self._fields.get(field)
        return missing if raw is None else payload.decode(raw)
