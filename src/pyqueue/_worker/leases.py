"""Leases: extend the locks of all jobs in the worker's hands, and tell whose lock is lost.

Does not know in which event loop it runs: usually in that of the `LeaseThread`, so that a processor that blocks the
worker's loop does not lose its job. The engine adds and drops jobs from the worker's loop meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from itertools import zip_longest
from typing import Any, Final

from pyqueue._redis.outage import Outage
from pyqueue._store.settling import ALL_ANSWERED, Unanswered, extend_locks
from pyqueue._store.store import Store
from pyqueue._worker.held import Held

#: Locks extended by one call; three commands each, so it stays below 2 ms of Redis' time.
_LOCKS_PER_CALL: Final = 250
#: Shortest deadline of an extension: below it a slow server would look like a dead one.
_MIN_COMMAND_S: Final = 1.0


class Leases:
    """The locks of one worker, each extended for `lock_ms` every `renew_ms`.

    `lost` gets the jobs whose locks are gone, `report` what went wrong; both are called in the worker's loop.
    """

    def __init__(
        self, lock_ms: int, renew_ms: int, *, lost: Callable[[list[Held]], None], report: Callable[[Exception], None]
    ) -> None:
        self.lock_ms = lock_ms
        self.command_s = max(_MIN_COMMAND_S, lock_ms / 3000)
        """Deadline of an extension: short enough to try again before the locks run out."""
        self.is_halted = False
        """While set, locks are left to run out: the worker does not respond."""
        self._renew_s = renew_ms / 1000
        self._lost = lost
        self._report = report
        self._held: dict[str, Held] = {}
        self._expected: dict[Unanswered, _Expected] = {}
        self._emptied: asyncio.Event | None = None  # while somebody waits for it

    def __len__(self) -> int:
        return len(self._held)

    def add(self, held: Held) -> Held | None:
        """Take a job into care; returns an older holding of the same job."""
        older = self._held.get(held.job.id)
        self._held[held.job.id] = held
        return older

    def drop(self, held: Held) -> None:
        """Stop caring for a job."""
        if self._held.get(held.job.id) is held:
            del self._held[held.job.id]
            self._tell_if_empty()

    def end(self) -> None:
        """Stop caring for any: the worker has ended, and what it could not settle is in nobody's hands."""
        self._held.clear()
        self._tell_if_empty()

    async def wait_empty(self) -> None:
        """Wait until no job is in this worker's hands."""
        if self._held:
            self._emptied = self._emptied or asyncio.Event()
            await self._emptied.wait()

    def _tell_if_empty(self) -> None:
        if self._emptied is not None and not self._held:
            self._emptied.set()
            self._emptied = None

    def expect(self, unanswered: Unanswered, *, after_s: float = 0.0) -> None:
        """An exchange leaves. What it claims is kept, too, if its reply has to wait for a blocked event loop.

        after_s: how long Redis may have to wait itself before it executes it; until then nothing need be kept.
        """
        if unanswered not in self._expected:
            self._expected[unanswered] = _Expected(unanswered, time.monotonic() + after_s if after_s else 0.0)

    def answered(self, unanswered: Unanswered) -> float:
        """Its reply has come, or never will; until when the locks of what it claimed were extended, or 0."""
        return self._expected.pop(unanswered, _NOTHING).until

    async def renew_forever(self, store: Store, outage: Outage, deliver: Callable[..., Any]) -> None:
        """Extend all locks in regular steps, sooner after a failure; `deliver(function, argument)` reports back."""
        pause_s = self._renew_s
        while True:
            await asyncio.sleep(pause_s)
            pause_s = self._renew_s
            if not (self._held or self._expected) or self.is_halted:
                continue
            began = time.monotonic()
            try:
                gone = await self._renew(store)
            except Exception as error:
                if not outage.is_known(began):
                    deliver(self._report, error)
                pause_s = min(pause_s, outage.failed(error, began))
            else:
                outage.recovered()
                if gone:
                    deliver(self._lost, gone)

    async def _renew(self, store: Store) -> list[Held]:
        # copy() is one step of the interpreter; the worker's loop changes the dictionaries while we look.
        everything = list(self._held.copy().values())
        parts = [everything[start : start + _LOCKS_PER_CALL] for start in range(0, len(everything), _LOCKS_PER_CALL)]
        gone: list[Held] = []
        now = time.monotonic()
        due = [expected for expected in self._expected.copy().values() if expected.since <= now]
        for part, expected in zip_longest(parts, due):
            gone += await self._renew_part(store, part or [], expected or _NOTHING)
        return gone

    async def _renew_part(self, store: Store, part: list[Held], expected: _Expected) -> list[Held]:
        """Extend these locks, and those of what an exchange without an answer has claimed."""
        began = time.monotonic()
        locks = [(held.job.id, held.job.token) for held in part]
        failed = set(await extend_locks(store, locks, self.lock_ms, expected.unanswered))
        gone: list[Held] = []
        until = began + self.lock_ms / 1000
        if expected is not _NOTHING and failed <= {held.job.id for held in part}:
            expected.until = until
        for held in part:
            if held.job.id in failed:
                gone.append(held)
            else:
                held.lease_until = until
        return gone


class _Expected:
    """An exchange without an answer, and until when (monotonic seconds) the locks of what it claimed were extended.

    since: from when on they are to be extended.
    """

    __slots__ = ("since", "unanswered", "until")

    def __init__(self, unanswered: Unanswered, since: float = 0.0) -> None:
        self.unanswered = unanswered
        self.since = since
        self.until = 0.0


_NOTHING: Final = _Expected(ALL_ANSWERED)
