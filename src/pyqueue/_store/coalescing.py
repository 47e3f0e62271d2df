"""Coalescing: adds issued at the same time travel in one script call.

`AddBuffer` collects what callers add while calls are in flight, or in the same turn of the event loop, and sends it
with the next call; an idle buffer sends at the loop's next turn, without a timer. Where adds have come one by one for
some time, the next leaves at once, and what is added before its reply follows it. What a call is, the queue says.

Modes: idle -> busy -> idle when nothing waits; closed at the end. A call is launched, which needs neither a task nor a
turn of the event loop. While one is on its way, a second one follows it if there is much to say, so that Redis need not
wait for us; they are answered in the order in which they left. What cannot be launched, or whose launch has failed, is
grounded: a task sends it, when all before it are answered, and nothing is launched meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pyqueue._redis.commands import NothingRan
from pyqueue._store.adding import AddReply
from pyqueue._store.sender import MAX_IN_FLIGHT
from pyqueue.errors import OutOfTurn, PyqueueError

#: From so many callers on, their adds are worth a call that follows another one. And a call of so many is answered in
#: two halves when nothing else is there to send: callers that add again and again would otherwise all wait while Redis
#: works, and Redis while they run.
_MANY: Final = 16
#: After so many calls in a row that had one caller each, the next caller need not wait for others.
_ALONE: Final = 16
#: Answers to a launch that leave nothing unknown: the call is sent anew.
_NOT_APPLIED: Final = (NothingRan, OutOfTurn)

RowT = TypeVar("RowT")

Answer: TypeAlias = asyncio.Future[AddReply]


class Call(Protocol):
    """One call that adds the rows of one or more callers."""

    @property
    def is_followable(self) -> bool:
        """Whether another call can be launched behind it, now that it is in flight."""
        ...

    def launch(self, told: Callable[[AddReply | Exception], None], behind: Any) -> bool:
        """Send it at once, where that needs no waiting; `told` hears what came of it.

        `behind`: a followable call of the same maker that is in flight, or None.
        """
        ...

    async def send(self, failure: Exception | None) -> AddReply:
        """Send it, again after a lost reply. `failure`: what came of its launch."""
        ...


class _Entry(NamedTuple, Generic[RowT]):
    """What one caller adds: its rows, who waits for them and since when (monotonic seconds), what goes first."""

    rows: Sequence[RowT]
    weight: int
    answer: Answer
    since: float
    after: Answer | None


@dataclass(slots=True, eq=False)
class _Flight(Generic[RowT]):
    """A call that leaves or has left, and those who wait for it."""

    batch: list[_Entry[RowT]]
    call: Call
    is_early: bool = False
    """It left before others could join it; if they come, they follow it."""
    is_grounded: bool = False
    failure: Exception | None = None
    """What came of its launch."""


class AddBuffer(Generic[RowT]):
    """Adds that wait for the next call. One caller's cancellation or bad job does not touch the others."""

    __slots__ = (
        "_alone", "_closed", "_flights", "_idle", "_is_turn_due", "_limit", "_loop", "_make_call", "_rest", "_sending",
        "_waiting", "_weight", "has_given_up",
    )  # fmt: skip

    def __init__(
        self,
        make_call: Callable[[Sequence[RowT], float], Call],
        *,
        limit: int,
    ) -> None:
        """`make_call` gets rows, and since when (monotonic seconds) the first of their callers has been waiting.

        `limit` is the weight that one call takes; what one caller adds is never split.
        """
        self._make_call = make_call
        self._limit = limit
        self._waiting: deque[_Entry[RowT]] = deque()
        self._weight = 0  # of what is waiting
        self._flights: deque[_Flight[RowT]] = deque()
        self._rest: list[_Entry[RowT]] = []  # the second half of an answered call, to be told
        self._sending: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # the one in which it is busy
        self._is_turn_due = False
        self._alone = 0  # calls in a row that had one caller, and nobody came meanwhile
        self._idle = asyncio.Event()
        self._closed = False
        self.has_given_up = False
        """Whether callers were left without an answer, though their jobs may be stored."""

    def add(self, rows: Sequence[RowT], weight: int, *, after: Answer | None = None) -> Answer:
        """Send jobs with the next call, all in it (they weigh at most what a call takes); the answer is for them.

        If it is cancelled before that call leaves, its jobs are not added; afterwards they may be. `after`: an earlier
        answer; if that was cancelled or Redis did not answer, this one is cancelled and nothing is sent.
        """
        if self._closed:
            raise PyqueueError("it is closed: add before close(), or make another Queue or FlowProducer")
        loop = asyncio.get_running_loop()
        begins = self._loop is not loop
        if begins:
            if self._loop is not None and self._loop.is_running():
                raise RuntimeError("it is in use by another event loop: make a Queue or FlowProducer per loop")
            self._begin(loop)
        answer: Answer = loop.create_future()
        self._waiting.append(_Entry(rows, weight, answer, time.monotonic(), after))
        self._weight += weight
        if begins and self._alone >= _ALONE:
            self._go_on(is_early=True)
        elif not self._is_turn_due and (begins or (self._flights and self._has_room())):
            self._is_turn_due = True  # others may add in this turn, too
            loop.call_soon(self._turn)
        return answer

    async def close(self) -> None:
        """Take nothing new, and wait until everything that was added is sent or has failed.

        Cancelling it gives up what is not sent.
        """
        self._closed = True
        if self._loop is not asyncio.get_running_loop():
            return
        try:
            await self._idle.wait()
        except asyncio.CancelledError:
            self._give_up()
            raise

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not None:
            self._forget()  # callers of an event loop that has ended
        self._loop = loop
        self.has_given_up = False
        self._is_turn_due = False  # one may have been due in a loop that has ended
        self._idle.clear()

    def _turn(self) -> None:
        self._is_turn_due = False
        if self._loop is asyncio.get_running_loop() and not self._rest:
            self._go_on()

    def _go_on(self, *, is_early: bool = False) -> None:
        """Send what can be sent now, or become idle."""
        while self._waiting and self._has_room() and (flight := self._next_flight()):
            flight.is_early = is_early
            self._launch(flight)
        if not self._flights:
            self._loop = None
            self._idle.set()
        elif self._flights[0].is_grounded and self._sending is None:
            self._sending = asyncio.create_task(self._send_and_answer(self._flights[0]), name="pyqueue-add")

    def _has_room(self) -> bool:
        """Whether another call may leave: alone, or behind one that is on its way."""
        if not self._flights:
            return True
        if not (self._flights[-1].is_early or self._weight >= self._limit or len(self._waiting) >= _MANY):
            return False
        if len(self._flights) >= MAX_IN_FLIGHT or any(flight.is_grounded for flight in self._flights):
            return False
        return self._flights[-1].call.is_followable

    def _launch(self, flight: _Flight[RowT]) -> None:
        behind = self._flights[-1].call if self._flights else None
        self._flights.append(flight)
        try:
            flight.is_grounded = not flight.call.launch(partial(self._told, flight), behind)
        except Exception as error:  # one of its jobs cannot be encoded
            flight.is_grounded, flight.failure = True, error

    def _told(self, flight: _Flight[RowT], answer: AddReply | Exception) -> None:
        if flight not in self._flights or self._loop is not asyncio.get_running_loop():
            return  # given up
        if isinstance(answer, Exception):
            flight.is_grounded, flight.failure = True, None if isinstance(answer, _NOT_APPLIED) else answer
            self._go_on()
            return
        self._flights.remove(flight)
        batch = flight.batch
        self._alone = self._alone + 1 if len(batch) == 1 and not (self._flights or self._waiting) else 0
        if self._flights or self._waiting or len(batch) < _MANY:
            self._go_on()
            _answer(batch, answer)
            return
        self._rest = batch[len(batch) // 2 :]
        told = _answer(batch[: len(batch) // 2], answer)
        rest = AddReply(answer.now_ms, answer.results[told:])
        asyncio.get_running_loop().call_soon(self._tell_rest, self._rest, rest)

    def _tell_rest(self, rest: list[_Entry[RowT]], answer: AddReply) -> None:
        """The other half has had its turn: send what it has added, then let these run while Redis works."""
        if rest is self._rest:
            self._rest = []
            self._go_on()
            _answer(rest, answer)

    async def _send_and_answer(self, flight: _Flight[RowT]) -> None:
        try:
            reply = await flight.call.send(flight.failure)
        except Exception as error:
            _fail(flight.batch, error)
        except BaseException:
            self._give_up()
            raise
        else:
            _answer(flight.batch, reply)
        self._sending = None
        self._flights.remove(flight)
        self._go_on()

    def _give_up(self) -> None:
        """Nobody is answered any more: the event loop ends, or the closing was cancelled."""
        self.has_given_up = True
        if self._sending is not None:
            self._sending.cancel()
        flying = [entry for flight in self._flights for entry in flight.batch]
        for entry in (*flying, *self._rest, *self._waiting):
            entry.answer.cancel()
        self._forget()
        self._loop = None
        self._idle.set()

    def _forget(self) -> None:
        self._waiting.clear()
        self._weight = 0
        self._flights.clear()
        self._rest = []
        self._sending = None

    def _next_flight(self) -> _Flight[RowT] | None:
        """The next call: whole entries, in order, without those whose callers have gone; None if none wait."""
        batch: list[_Entry[RowT]] = []
        weight = 0
        while self._waiting:
            entry = self._waiting[0]
            if entry.after is not None and _is_given_up(entry.after):
                entry.answer.cancel()
            if not entry.answer.done():
                if weight + entry.weight > self._limit and batch:
                    break
                batch.append(entry)
                weight += entry.weight
            self._waiting.popleft()
            self._weight -= entry.weight
        if not batch:
            return None
        rows = batch[0].rows if len(batch) == 1 else [row for entry in batch for row in entry.rows]
        return _Flight(batch, self._make_call(rows, batch[0].since))


def _answer(batch: Sequence[_Entry[RowT]], reply: AddReply) -> int:
    """Tell each caller its part of a reply; returns how many rows that were."""
    first = 0
    for entry in batch:
        last = first + len(entry.rows)
        if not entry.answer.done():
            is_all = first == 0 and last == len(reply.results)
            entry.answer.set_result(reply if is_all else AddReply(reply.now_ms, reply.results[first:last]))
        first = last
    return first


def _fail(batch: Sequence[_Entry[RowT]], error: Exception) -> None:
    for entry in batch:
        if not entry.answer.done():
            entry.answer.set_exception(error)


def _is_given_up(answer: Answer) -> bool:
    """Whether its caller has gone, or Redis did not answer; a refusal is an answer."""
    if not answer.done():
        return False
    return answer.cancelled() or isinstance(answer.exception(), (RedisConnectionError, RedisTimeoutError))
