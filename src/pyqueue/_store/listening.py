"""The event stream of a queue: read it, add to it, and wait for a job's end.

`read_events` and `publish_event` are single commands; `FinishListener` reads the stream for all callers of
`Job.result` of one queue, with one connection. Typed events for users are in `pyqueue.events`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple, TypeVar

import anyio

from pyqueue._redis.commands import Commands
from pyqueue._redis.outage import Outage, is_outage
from pyqueue._redis.replies import pairs, text
from pyqueue._store.inspecting import Finish, is_finished
from pyqueue._store.store import Store
from pyqueue.types import Raw

#: Entries read by one command, so that a reader that fell behind does not load thousands at once.
READ_COUNT: Final = 500
#: How long one read waits for news. Whoever waits is asked about anew after an outage, not after each read.
BLOCK_MS: Final = 5_000

T = TypeVar("T")


class Entry(NamedTuple):
    """One entry of the stream."""

    entry_id: str
    fields: dict[str, Raw]


async def last_event_id(store: Store) -> str:
    """Id of the newest entry; "0-0" when there is none. O(1)."""
    newest = await store.commands.execute("XREVRANGE", store.keys.events, "+", "-", "COUNT", 1)
    return text(newest[0][0]) if newest else "0-0"


async def read_events(commands: Commands, stream: str, after: str, *, block_ms: int | None) -> list[Entry]:
    """Entries after an id, at most READ_COUNT; waits up to `block_ms` for the first one, None = not at all.

    Empty when none came. A server ends waits about ten times a second, however short they are.
    """
    block = () if block_ms is None else ("BLOCK", block_ms)
    reply = await commands.execute("XREAD", "COUNT", READ_COUNT, *block, "STREAMS", stream, after)
    return [Entry(text(entry_id), pairs(fields or [])) for _, entries in reply or [] for entry_id, fields in entries]


async def publish_event(store: Store, name: str, fields: Mapping[str, str], *, max_events: int) -> str:
    """Append an event of the caller's own; returns its id. O(1)."""
    flat = [part for pair in fields.items() for part in pair]
    entry_id = await store.commands.execute(
        "XADD", store.keys.events, "MAXLEN", "~", max_events, "*", "event", name, *flat
    )
    return text(entry_id)


class FinishListener:
    """Waits for the ends of jobs. Modes: idle (nobody waits, no connection) -> reading (one task) -> idle."""

    def __init__(self, store: Store, open_lane: Callable[[], Commands], outage: Outage) -> None:
        """`store` asks about single jobs; `open_lane` opens the connection that blocks on the stream."""
        self._store = store
        self._open_lane = open_lane
        self._outage = outage
        self._waiting: dict[str, set[asyncio.Future[Finish]]] = {}
        self._reader: asyncio.Task[None] | None = None
        self._position = ""
        self._catching_up = asyncio.Lock()
        self._catches_begun = 0
        self._caught_up = 0  # number of the last of them that has ended well

    async def wait(self, job_id: str, timeout_s: float | None) -> Finish:
        """Wait until the job has ended; TimeoutError after `timeout_s`. Code -1: there is no such job."""
        with anyio.move_on_after(timeout_s):
            return await self._wait(job_id)
        told = f"job {job_id!r} of queue {self._store.keys.queue!r} was not seen to end within {timeout_s} s"
        raise TimeoutError(f"{told}; it may end later, and explain() says what it waits for")

    async def _wait(self, job_id: str) -> Finish:
        """Wait for as long as the caller does.

        Subscribes first and asks about the job afterwards, so that an end in between is not missed.
        """
        future: asyncio.Future[Finish] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(job_id, set()).add(future)
        try:
            await self._patiently(self._start)
            finish = await self._patiently(lambda: self._ask(job_id, future))
            return await future if finish is None else finish
        finally:
            self._forget(job_id, future)

    async def close(self) -> None:
        """End the reading; who still waits is cancelled."""
        for future in [future for futures in self._waiting.values() for future in futures]:
            future.cancel()
        if (reader := self._reader) is not None:
            reader.cancel()
            await asyncio.wait([reader])

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask until Redis answers: whoever waits for a job waits out an outage, too."""
        while True:
            try:
                return await ask()
            except Exception as error:
                if not is_outage(error):
                    raise
                await anyio.sleep(self._outage.failed(error))

    async def _start(self) -> None:
        if self._reader is None:
            position = await last_event_id(self._store)
            if self._reader is None:  # nobody else started it meanwhile
                self._position = position
                self._catching_up = asyncio.Lock()  # of the event loop that the reader is of
                self._reader = asyncio.create_task(self._read(), name="pyqueue-results")

    async def _ask(self, job_id: str, future: asyncio.Future[Finish]) -> Finish | None:
        """How the job ended; None while it has not. One that is removed at its end is known by its event alone."""
        finish = await is_finished(self._store, job_id)
        if finish.code == 0:
            return None
        if finish.code < 0:
            await self._catch_up()
            return future.result() if future.done() else finish
        return finish

    async def _catch_up(self) -> None:
        """Read what the stream has by now; all who ask during one such reading share the next."""
        begun_before = self._catches_begun
        async with self._catching_up:
            if self._caught_up > begun_before:
                return
            self._catches_begun += 1
            after, is_more = self._position, True
            while is_more:
                entries = await read_events(self._store.commands, self._store.keys.events, after, block_ms=None)
                for entry in entries:
                    after = entry.entry_id
                    self._dispatch(entry)
                is_more = len(entries) == READ_COUNT
            self._caught_up = self._catches_begun

    async def _read(self) -> None:
        lane = self._open_lane()
        try:
            while self._waiting:
                try:
                    entries = await read_events(lane, self._store.keys.events, self._position, block_ms=BLOCK_MS)
                    if self._outage.is_down:
                        self._outage.recovered()
                        await self._ask_all()
                except Exception as error:
                    if not is_outage(error):
                        self._fail(error)
                        return
                    await anyio.sleep(self._outage.failed(error))
                else:
                    for entry in entries:
                        self._position = entry.entry_id
                        self._dispatch(entry)
        finally:
            self._reader = None  # before anything is awaited: whoever comes now starts another reader
            with anyio.CancelScope(shield=True):
                await lane.aclose()

    async def _ask_all(self) -> None:
        """After an outage: events may have been lost with the server, or trimmed."""
        for job_id in list(self._waiting):
            finish = await is_finished(self._store, job_id)
            if finish.code > 0:
                self._resolve(job_id, finish)

    def _dispatch(self, entry: Entry) -> None:
        fields = entry.fields
        kind = text(fields.get("event"))
        if kind == "completed":
            self._resolve(text(fields.get("jobId")), Finish(1, text(fields.get("returnvalue"))))
        elif kind == "failed":
            self._resolve(text(fields.get("jobId")), Finish(2, text(fields.get("failedReason"))))

    def _resolve(self, job_id: str, finish: Finish) -> None:
        for future in self._waiting.get(job_id, ()):
            if not future.done():
                future.set_result(finish)

    def _fail(self, error: Exception) -> None:
        for futures in self._waiting.values():
            for future in futures:
                if not future.done():
                    future.set_exception(error)

    def _forget(self, job_id: str, future: asyncio.Future[Finish]) -> None:
        futures = self._waiting[job_id]
        futures.discard(future)
        if not futures:
            del self._waiting[job_id]
