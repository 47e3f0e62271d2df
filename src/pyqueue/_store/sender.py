"""Send exchanges so that a lost reply costs nothing.

A sender numbers its exchanges. When the connection breaks it cannot know whether the script ran, so it sends the same
number again: the script applies a number once and answers a repetition from its record. Used by `Queue` for adds and
by the worker's engine; the record itself is written by `lua/include/exchange.lua`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar
from uuid import uuid4

import anyio
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pyqueue._redis.outage import Outage
from pyqueue.errors import RedisRefused

#: How long Redis remembers the last exchange of a sender. Long against any outage that a sender sits out, short
#: against the life of the keys that ended processes leave behind (a few hundred bytes each). As in the scripts.
RECORD_MS: Final = 600_000
#: An exchange is sent again for at most this long, so that its record cannot have expired: a margin for one attempt.
RESEND_S: Final = RECORD_MS / 1000 - 60

#: Calls of one sender in flight at most: one that Redis works on, and one that it finds when that is done.
MAX_IN_FLIGHT: Final = 2

#: Refusals of a server that is starting, failing over or resharding. Nothing was applied, so the call is sent again.
_TRANSITIONAL: Final = frozenset({"LOADING", "READONLY", "BUSY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN"})

T = TypeVar("T")


class Sender:
    """One numbered sequence of exchanges. As many may be in flight as it has lanes: each lane has a record."""

    __slots__ = ("_lanes", "_outage", "_sequence", "uuid")

    def __init__(self, outage: Outage, *, lanes: int = 1) -> None:
        self.uuid = str(uuid4())
        self._lanes = lanes
        self._sequence = 0
        self._outage = outage

    @property
    def is_up(self) -> bool:
        """Whether the last attempt was answered."""
        return not self._outage.is_down

    @property
    def last_number(self) -> int:
        """The number of the newest exchange."""
        return self._sequence

    def next_number(self) -> int:
        """The number of a new exchange."""
        self._sequence += 1
        return self._sequence

    def name_of(self, number: int) -> str:
        """Whose record an exchange has: lanes take turns. `include/exchange.lua` knows the names of two."""
        lane = number % self._lanes
        return f"{self.uuid}.{lane}" if lane else self.uuid

    def bound_s(self, try_s: float, deadline: float) -> float:
        """How long a try may take: `try_s`, and in an outage no longer than until `deadline` (monotonic seconds)."""
        return min(try_s, max(0.0, deadline - time.monotonic())) if self._outage.is_down else try_s

    async def send(
        self,
        attempt: Callable[[str, int], Awaitable[T]],
        *,
        number: int | None = None,
        failure: Exception | None = None,
        began: float | None = None,
        timeout_s: float = RESEND_S,
        try_s: float | None = None,
    ) -> T:
        """Run `attempt(name, sequence)` until it is answered; what it raises for an answer passes through.

        `number`, `failure` and `began` (monotonic seconds): of an exchange whose first try was made already, without
        this method, and failed so.
        After a connection error the same sequence is tried again, with growing jittered pauses; from then on a refusal
        of the server is no answer, either, because an earlier try may have been applied. Raises the last connection
        error once `timeout_s` has passed: whether the exchange was applied is then unknown. With `try_s` a try that
        takes longer than its bound is a broken connection; without, tries keep their own, and the last may end later.
        """
        sequence = self.next_number() if number is None else number
        deadline = time.monotonic() + min(timeout_s, RESEND_S)
        unknown: Exception | None = None
        while True:
            if failure is None or began is None:
                began = time.monotonic()
            try:
                if failure is not None:
                    raise failure
                if try_s is None:
                    reply = await attempt(self.name_of(sequence), sequence)
                else:
                    reply = await _bounded(attempt(self.name_of(sequence), sequence), self.bound_s(try_s, deadline))
            except (RedisConnectionError, RedisTimeoutError, RedisRefused) as error:
                failure = None
                if not isinstance(error, RedisRefused):
                    unknown = error
                elif unknown is None and error.code not in _TRANSITIONAL:
                    raise
                pause_s = self._outage.failed(error, began)
                if time.monotonic() + pause_s >= deadline:
                    if unknown is None or unknown is error:
                        raise
                    raise unknown from error
                await anyio.sleep(pause_s)
            else:
                self._outage.recovered()
                return reply


async def _bounded(attempt: Awaitable[T], bound_s: float) -> T:
    try:
        async with asyncio.timeout(bound_s):  # anyio's scope costs 10 us more, which every add would pay
            return await attempt
    except TimeoutError:
        raise RedisTimeoutError(f"no reply within {bound_s:.1f} s") from None
