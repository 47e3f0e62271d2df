"""Coalescing: adds issued at the same time travel in one script call.

`AddBuffer` collects what callers add while a call is in flight, or in the same turn of the event loop, and sends it
with the next call; an idle buffer sends at the loop's next turn, without a timer. It does not know what a call is: the
queue gives it the function that sends.

Modes: idle (no task) -> flushing (one task, one call in flight, ends when nothing waits) -> idle; closed at the end.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pyqueue._store.adding import MAX_ADDS, AddReply
from pyqueue.errors import PyqueueError

RowT = TypeVar("RowT")

Send: TypeAlias = Callable[[Sequence[RowT], float], Awaitable[AddReply]]
"""What sends a call: its rows, and since when (monotonic seconds) the first of their callers has been waiting."""

Answer: TypeAlias = asyncio.Future[AddReply]


class _Entry(NamedTuple, Generic[RowT]):
    """What one caller adds: its rows, who waits for them and since when (monotonic seconds), what goes first."""

    rows: Sequence[RowT]
    answer: Answer
    since: float
    after: Answer | None


class AddBuffer(Generic[RowT]):
    """Adds that wait for the next call. One caller's cancellation or bad job does not touch the others."""

    __slots__ = ("_closed", "_flush", "_limit", "_send", "_waiting")

    def __init__(self, send: Send[RowT], limit: int = MAX_ADDS) -> None:
        """`limit` is how many rows one call takes; what one caller adds is never split."""
        self._send = send
        self._limit = limit
        self._waiting: deque[_Entry[RowT]] = deque()
        self._flush: asyncio.Task[None] | None = None
        self._closed = False

    def add(self, rows: Sequence[RowT], *, after: Answer | None = None) -> Answer:
        """Send jobs with the next call, all in it (at most as many as a call takes); the answer is for them.

        If it is cancelled before that call leaves, its jobs are not added; afterwards they may be. `after`: an earlier
        answer; if that was cancelled or Redis did not answer, this one is cancelled and nothing is sent.
        """
        if self._closed:
            raise PyqueueError("it is closed: add before close(), or make another Queue or FlowProducer")
        answer: Answer = asyncio.get_running_loop().create_future()
        self._waiting.append(_Entry(rows, answer, time.monotonic(), after))
        if self._flush is None or self._flush.done():
            self._flush = asyncio.create_task(self._run(), name="pyqueue-add")
        return answer

    async def close(self) -> None:
        """Take nothing new, and wait until everything that was added is sent or has failed.

        Cancelling it gives up what is not sent.
        """
        self._closed = True
        if self._flush is None or self._flush.done():
            return
        try:
            await asyncio.wait([self._flush])
        except asyncio.CancelledError:
            self._flush.cancel()
            raise

    async def _run(self) -> None:
        while batch := self._next_batch():
            try:
                reply = await self._send([row for entry in batch for row in entry.rows], batch[0].since)
            except BaseException as error:
                _fail(batch, error)
                if not isinstance(error, Exception):
                    _fail(list(self._waiting), error)
                    self._waiting.clear()
                    raise
            else:
                _answer(batch, reply)

    def _next_batch(self) -> list[_Entry[RowT]]:
        """What goes into the next call: whole entries, in order, without those whose callers have gone."""
        batch: list[_Entry[RowT]] = []
        size = 0
        while self._waiting:
            entry = self._waiting[0]
            if entry.after is not None and _is_given_up(entry.after):
                entry.answer.cancel()
            if not entry.answer.done():
                if size + len(entry.rows) > self._limit and batch:
                    break
                batch.append(entry)
                size += len(entry.rows)
            self._waiting.popleft()
        return batch


def _answer(batch: Sequence[_Entry[RowT]], reply: AddReply) -> None:
    first = 0
    for entry in batch:
        if not entry.answer.done():
            entry.answer.set_result(AddReply(reply.now_ms, reply.results[first : first + len(entry.rows)]))
        first += len(entry.rows)


def _fail(batch: Sequence[_Entry[RowT]], error: BaseException) -> None:
    for entry in batch:
        if entry.answer.done():
            continue
        if isinstance(error, Exception):
            entry.answer.set_exception(error)
        else:  # the loop ends: the flush was cancelled, and so is everybody who waits for it
            entry.answer.cancel()


def _is_given_up(answer: Answer) -> bool:
    """Whether its caller has gone, or Redis did not answer; a refusal is an answer."""
    if not answer.done():
        return False
    return answer.cancelled() or isinstance(answer.exception(), (RedisConnectionError, RedisTimeoutError))
