"""Coalescing: adds issued at the same time travel in one script call.

`AddBuffer` collects what callers add while a call is in flight, or in the same turn of the event loop, and sends it
with the next call; an idle buffer sends at the loop's next turn, without a timer. What a call is, the queue says.

The next call is encoded while the last one is in flight, if there is enough for all of it: Redis need not wait for that.

Modes: idle -> busy (one call in flight; the next one leaves before the answers of the last are told) -> idle when
nothing waits; closed at the end. A call is launched, which needs neither a task nor a turn of the event loop; one that
cannot be launched, or whose launch has failed, is sent by a task.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pyqueue._redis.commands import NothingRan
from pyqueue._store.adding import AddReply
from pyqueue.errors import PyqueueError

#: From so many callers on, a call is answered in two halves when nothing else is there to send. Callers that add again
#: and again would otherwise all wait while Redis works, and Redis while they run.
_LOCKSTEP: Final = 16

RowT = TypeVar("RowT")

Answer: TypeAlias = asyncio.Future[AddReply]


class Call(Protocol):
    """One call that adds the rows of one or more callers."""

    def prepare(self) -> None:
        """Encode it, so that its launch takes no time; raises what cannot be encoded."""
        ...

    def launch(self, told: Callable[[AddReply | Exception], None]) -> bool:
        """Send it at once, where that needs no waiting; `told` hears what came of it."""
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


class _Prepared(NamedTuple, Generic[RowT]):
    """A call that has not left, and those who wait for it."""

    batch: list[_Entry[RowT]]
    call: Call


class AddBuffer(Generic[RowT]):
    """Adds that wait for the next call. One caller's cancellation or bad job does not touch the others."""

    __slots__ = (
        "_closed", "_flying", "_idle", "_limit", "_loop", "_make_call", "_prepared", "_sending", "_waiting", "_weight",
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
        self._prepared: _Prepared[RowT] | None = None
        self._flying: list[_Entry[RowT]] = []
        self._sending: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # the one in which it is busy
        self._idle = asyncio.Event()
        self._closed = False

    def add(self, rows: Sequence[RowT], weight: int, *, after: Answer | None = None) -> Answer:
        """Send jobs with the next call, all in it (they weigh at most what a call takes); the answer is for them.

        If it is cancelled before that call leaves, its jobs are not added; afterwards they may be. `after`: an earlier
        answer; if that was cancelled or Redis did not answer, this one is cancelled and nothing is sent.
        """
        if self._closed:
            raise PyqueueError("it is closed: add before close(), or make another Queue or FlowProducer")
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None and self._loop.is_running():
                raise RuntimeError("it is in use by another event loop: make a Queue or FlowProducer per loop")
            self._begin(loop)
        answer: Answer = loop.create_future()
        self._waiting.append(_Entry(rows, weight, answer, time.monotonic(), after))
        self._weight += weight
        if self._flying:
            self._prepare()
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
        self._loop = loop
        self._idle = asyncio.Event()
        self._forget()  # callers of an event loop that has ended
        loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Send the next call, or become idle."""
        following = self._take_prepared() or self._next_call()
        if following is None:
            self._flying = []
            self._loop = None
            self._idle.set()
            return
        batch, call = following
        self._flying = batch
        try:
            if not call.launch(partial(self._told, batch, call)):
                self._send(batch, call, None)
        except Exception as error:  # one of its jobs cannot be encoded
            self._send(batch, call, error)
        self._prepare()

    def _prepare(self) -> None:
        """Encode the next call, if it will be a full one."""
        if self._prepared is not None or self._weight < self._limit:
            return
        self._prepared = self._next_call()
        if self._prepared is not None:
            with suppress(Exception):  # its launch raises that again
                self._prepared.call.prepare()

    def _take_prepared(self) -> _Prepared[RowT] | None:
        """The call that was prepared, if all of its callers still wait; else they are waiting again."""
        prepared, self._prepared = self._prepared, None
        if prepared is None or all(_is_wanted(entry) for entry in prepared.batch):
            return prepared
        self._waiting.extendleft(reversed(prepared.batch))
        self._weight += sum(entry.weight for entry in prepared.batch)
        return None

    def _told(self, batch: list[_Entry[RowT]], call: Call, answer: AddReply | Exception) -> None:
        if batch is not self._flying or self._loop is not asyncio.get_running_loop():
            return  # given up
        if isinstance(answer, Exception):
            self._send(batch, call, None if isinstance(answer, NothingRan) else answer)
        elif self._waiting or self._prepared or len(batch) < _LOCKSTEP:
            self._go_on()
            _answer(batch, answer)
        else:
            self._flying = batch[len(batch) // 2 :]
            told = _answer(batch[: len(batch) // 2], answer)
            rest = AddReply(answer.now_ms, answer.results[told:])
            asyncio.get_running_loop().call_soon(self._tell_rest, self._flying, rest)

    def _tell_rest(self, rest: list[_Entry[RowT]], answer: AddReply) -> None:
        """The other half has had its turn: send what it has added, then let these run while Redis works."""
        if rest is self._flying:
            self._go_on()
            _answer(rest, answer)

    def _send(self, batch: list[_Entry[RowT]], call: Call, failure: Exception | None) -> None:
        self._sending = asyncio.create_task(self._send_and_answer(batch, call, failure), name="pyqueue-add")

    async def _send_and_answer(self, batch: list[_Entry[RowT]], call: Call, failure: Exception | None) -> None:
        try:
            reply = await call.send(failure)
        except Exception as error:
            _fail(batch, error)
        except BaseException:
            self._give_up()
            raise
        else:
            _answer(batch, reply)
        self._go_on()

    def _give_up(self) -> None:
        """Nobody is answered any more: the event loop ends, or the closing was cancelled."""
        if self._sending is not None:
            self._sending.cancel()
        prepared = self._prepared.batch if self._prepared else ()
        for entry in (*self._flying, *prepared, *self._waiting):
            entry.answer.cancel()
        self._forget()
        self._loop = None
        self._idle.set()

    def _forget(self) -> None:
        self._waiting.clear()
        self._weight = 0
        self._prepared = None
        self._flying = []

    def _next_call(self) -> _Prepared[RowT] | None:
        """The next call: whole entries, in order, without those whose callers have gone."""
        batch: list[_Entry[RowT]] = []
        weight = 0
        while self._waiting:
            entry = self._waiting[0]
            if _is_wanted(entry):
                if weight + entry.weight > self._limit and batch:
                    break
                batch.append(entry)
                weight += entry.weight
            self._waiting.popleft()
            self._weight -= entry.weight
        if not batch:
            return None
        return _Prepared(batch, self._make_call([row for entry in batch for row in entry.rows], batch[0].since))


def _is_wanted(entry: _Entry[Any]) -> bool:
    """Whether its caller still waits, and may get an answer."""
    if entry.after is not None and _is_given_up(entry.after):
        entry.answer.cancel()
    return not entry.answer.done()


def _answer(batch: Sequence[_Entry[RowT]], reply: AddReply) -> int:
    """Tell each caller its part of a reply; returns how many rows that were."""
    first = 0
    for entry in batch:
        if not entry.answer.done():
            entry.answer.set_result(AddReply(reply.now_ms, reply.results[first : first + len(entry.rows)]))
        first += len(entry.rows)
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
