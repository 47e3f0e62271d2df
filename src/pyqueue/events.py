"""QueueEvents: what happens to the jobs of a queue, as typed events, in order.

Reads the stream that every client of the queue writes, Node's included. A reader keeps its place over reconnects and
is not stopped by an entry that it cannot decode. Several readers see the same events; nothing is acknowledged. To wait
for one job use `job.result()`.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

import anyio

from pyqueue import payload
from pyqueue._redis.commands import Commands
from pyqueue._redis.connection import AnyRedis, Connection
from pyqueue._redis.keys import QueueKeys
from pyqueue._redis.outage import Outage, is_outage
from pyqueue._redis.replies import number, text
from pyqueue._store.listening import Entry, last_event_id, read_events
from pyqueue._store.store import Store
from pyqueue.durations import milliseconds
from pyqueue.errors import PayloadError
from pyqueue.names import check_prefix, check_queue_name
from pyqueue.types import Raw


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened to a queue or to one of its jobs. Also the class of events without fields of their own."""

    entry_id: str
    """Id in the stream, `<unix ms>-<sequence>`; give it as `last_event_id` to go on from here."""
    name: str
    """The event's name on the wire: added, waiting, active, completed, ..., or a custom one."""
    job_id: str
    """The job it is about; empty for events of the queue (paused, resumed, drained, cleaned)."""

    @property
    def timestamp_ms(self) -> int:
        """When Redis recorded it, unix milliseconds."""
        return number(self.entry_id.partition("-")[0])


@dataclass(frozen=True, slots=True)
class AddedEvent(Event):
    """A job was created."""

    job_name: str


@dataclass(frozen=True, slots=True)
class MovedEvent(Event):
    """A job is now waiting, active, waiting for children, or removed."""

    previous: str
    """The state it came from, as far as the event tells; empty for a new job."""


@dataclass(frozen=True, slots=True)
class DelayedEvent(Event):
    """A job waits for its time."""

    due_ms: int
    """When it is due, unix milliseconds."""


@dataclass(frozen=True, slots=True)
class CompletedEvent(Event):
    """A processor returned."""

    return_value: Any


@dataclass(frozen=True, slots=True)
class FailedEvent(Event):
    """A job failed for good."""

    reason: str


@dataclass(frozen=True, slots=True)
class RetriesExhaustedEvent(Event):
    """A job failed, and it was its last attempt."""

    attempts_made: int


@dataclass(frozen=True, slots=True)
class ProgressEvent(Event):
    """A job reported progress."""

    progress: Any


@dataclass(frozen=True, slots=True)
class DeduplicatedEvent(Event):
    """An add was absorbed by the job `job_id`; in replace mode `job_id` is the new job and the other one is gone."""

    deduplication_id: str
    deduplicated_job_id: str


@dataclass(frozen=True, slots=True)
class CleanedEvent(Event):
    """Jobs were cleaned in bulk."""

    count: int


@dataclass(frozen=True, slots=True)
class CustomEvent(Event):
    """An event of somebody's own, published with `Queue.publish_event` or by another client."""

    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class BrokenEvent(Event):
    """An entry whose value is no JSON: some client wrote it wrongly. Reading goes on behind it."""

    fields: Mapping[str, str]
    problem: str


AnyEvent: TypeAlias = (
    Event
    | AddedEvent
    | MovedEvent
    | DelayedEvent
    | CompletedEvent
    | FailedEvent
    | RetriesExhaustedEvent
    | ProgressEvent
    | DeduplicatedEvent
    | CleanedEvent
    | CustomEvent
    | BrokenEvent
)


class QueueEvents:
    """The events of a queue: `async for event in QueueEvents("email")`. One reader, with a connection of its own."""

    def __init__(
        self,
        queue: str,
        *,
        connection: str | AnyRedis | Connection | None = None,
        prefix: str = "bull",
        last_event_id: str = "$",
        blocking_timeout: timedelta | int = 10_000,
    ) -> None:
        """`last_event_id`: read what comes after it; `$` is now, `0` the oldest kept.

        `blocking_timeout` (timedelta or ms) is how long one read waits; it bounds nothing that a user sees. Raises
        ConfigurationError as `Queue` does.
        """
        self.queue: Final = check_queue_name(queue)
        self._block_ms = milliseconds(blocking_timeout, "blocking_timeout", minimum=1)
        self._connection = Connection.open(connection)
        self._is_ours = not isinstance(connection, Connection)
        self._connection.check_prefix(check_prefix(prefix))
        self._store = Store(self._connection.commands, QueueKeys(prefix, queue))
        self._outage = Outage(f"events of {queue}: {self._connection.url_safe}")
        self._last_event_id = last_event_id
        self._lane: Commands | None = None
        self._closed = False

    @property
    def last_event_id(self) -> str:
        """Id of the event that was handed out last: start another reader from it to lose nothing."""
        return self._last_event_id

    async def ready(self) -> None:
        """Fix the place to read from: events that happen after this returns will be seen. One round trip."""
        if self._last_event_id == "$":
            self._last_event_id = await last_event_id(self._store)

    async def __aiter__(self) -> AsyncIterator[AnyEvent]:
        """Events in order, for as long as the reader is open; outages are waited out, and logged once."""
        while not self._closed:
            for entry in await self._next():
                self._last_event_id = entry.entry_id
                yield event_of(entry)

    async def _next(self) -> list[Entry]:
        """What has come; nothing after a while without events, after an outage's pause, and when closed meanwhile."""
        try:
            entries = await self._read()
        except Exception as error:
            if self._closed:
                return []
            if not is_outage(error):
                raise
            await anyio.sleep(self._outage.failed(error))
            return []
        self._outage.recovered()
        return entries

    async def _read(self) -> list[Entry]:
        if self._lane is None:
            self._lane = self._connection.lane(
                blocking=True, client_name=f"{self._store.keys.prefix}:{_base64(self.queue)}:qe"
            )
        await self.ready()
        return await read_events(self._lane, self._store.keys.events, self._last_event_id, block_ms=self._block_ms)

    async def close(self) -> None:
        """End the reading and close the connections that were opened here; a borrowed client stays open."""
        self._closed = True
        with anyio.CancelScope(shield=True):
            if self._lane is not None:
                await self._lane.aclose()
            if self._is_ours:
                await self._connection.aclose()

    async def __aenter__(self) -> Self:
        await self.ready()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def event_of(entry: Entry) -> AnyEvent:
    """The typed event of a stream entry; never raises for what other clients wrote."""
    fields = entry.fields
    name, job_id = text(fields.get("event")), text(fields.get("jobId"))
    make = _MAKERS.get(name)
    try:
        if make is not None:
            return make(entry.entry_id, name, job_id, fields)
    except PayloadError as error:
        return BrokenEvent(entry.entry_id, name, job_id, _texts(fields), str(error))
    return CustomEvent(entry.entry_id, name, job_id, _texts(fields))


_Maker: TypeAlias = Callable[[str, str, str, Mapping[str, Raw]], AnyEvent]


def _plain(entry_id: str, name: str, job_id: str, fields: Mapping[str, Raw]) -> AnyEvent:
    return Event(entry_id, name, job_id)


def _moved(entry_id: str, name: str, job_id: str, fields: Mapping[str, Raw]) -> AnyEvent:
    return MovedEvent(entry_id, name, job_id, text(fields.get("prev")))


_MAKERS: Final[Mapping[str, _Maker]] = {
    "added": lambda i, n, j, f: AddedEvent(i, n, j, text(f.get("name"))),
    "waiting": _moved,
    "active": _moved,
    "waiting-children": _moved,
    "removed": _moved,
    "delayed": lambda i, n, j, f: DelayedEvent(i, n, j, number(f.get("delay"))),
    "completed": lambda i, n, j, f: CompletedEvent(i, n, j, payload.decode(f.get("returnvalue", ""), what="value")),
    "failed": lambda i, n, j, f: FailedEvent(i, n, j, text(f.get("failedReason"))),
    "retries-exhausted": lambda i, n, j, f: RetriesExhaustedEvent(i, n, j, number(f.get("attemptsMade"))),
    "progress": lambda i, n, j, f: ProgressEvent(i, n, j, payload.decode(f.get("data", ""), what="progress")),
    "deduplicated": lambda i, n, j, f: DeduplicatedEvent(
        i, n, j, text(f.get("deduplicationId")), text(f.get("deduplicatedJobId"))
    ),
    "cleaned": lambda i, n, j, f: CleanedEvent(i, n, j, number(f.get("count"))),
    "stalled": _plain,
    "duplicated": _plain,
    "drained": _plain,
    "paused": _plain,
    "resumed": _plain,
}


def _texts(fields: Mapping[str, Raw]) -> dict[str, str]:
    return {name: text(value) for name, value in fields.items() if name != "event"}


def _base64(queue: str) -> str:
    return b64encode(queue.encode()).decode()
