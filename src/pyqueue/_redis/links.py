"""Connections that carry one command at a time: our own links and a borrowed pool.

A link opens a connection when it needs one, without the client of redis-py above it (which costs 40 us more per
command, repeats commands behind our back and reshapes replies). The rule that keeps replies apart: a link is free again
only after its replies have been read; whatever else happens (deadline, cancellation, broken socket) drops the
connection with what it has not answered. How bytes become replies is in `streams`, script fallback and refusals in
`commands`, where to connect in `sources`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, Protocol, cast

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pyqueue._redis.refusals import WRONG_SERVER, code_of
from pyqueue._redis.streams import Receive, ReplyStream, Stream, Wire, abort, stream_of

#: Time for name resolution, TCP, TLS, AUTH and SELECT together; a server that takes longer counts as unreachable.
CONNECT_TIMEOUT_S: Final = 5.0
CLOSED: Final = "this connection to Redis has been closed by its owner"


#: Attribute of errors that came before their command could leave.
_UNSENT: Final = "pyqueue_unsent"

Dial = Callable[[], Awaitable[Wire]]


def mark_unsent(error: BaseException) -> None:
    """Note that nothing of the command that fails with this error has left: it had no connection yet."""
    setattr(error, _UNSENT, True)


def is_unsent(error: BaseException | None) -> bool:
    """Whether nothing of the command that failed so has left, for certain; without the mark it may have."""
    return getattr(error, _UNSENT, False)


class Carrier(Protocol):
    """Whatever sends one packed command and reads its reply; TimeoutError after `timeout_s`, connecting included."""

    #: Whether replies may come in the shapes of RESP3.
    may_speak_resp3: bool

    def idle(self, key: str) -> Link | None:
        """A link on which a command with this key can be started at once, without a task; None if there is none."""
        ...

    async def exchange(self, packed: bytes, key: str | None, timeout_s: float) -> Any: ...
    async def aclose(self) -> None: ...


class Link:
    """One connection of our own, opened at the first command and again after each drop."""

    __slots__ = ("_closed", "_dial", "_links", "_stream", "started")

    def __init__(self, dial: Dial, links: Links | None = None) -> None:
        """`links`: whose it is; one of its own can only `exchange`."""
        self.started = 0
        """Commands that were started, and whose replies are to come."""
        self._closed = False
        self._dial = dial
        self._links = links
        self._stream: Stream | None = None

    @property
    def is_open(self) -> bool:
        """Whether a command can be sent at once."""
        return self._stream is not None and self._stream.is_open

    @property
    def may_be_followed(self) -> bool:
        """Whether a command may be sent behind one that was started, before that is answered."""
        return self._links is not None and self._links.may_be_followed and self.is_open

    @property
    def is_followable(self) -> bool:
        """Whether a command can be sent behind one that was started and is not answered."""
        return self.started > 0 and self.may_be_followed

    async def exchange(self, packed: bytes, timeout_s: float, replies: int = 1) -> Any:
        """Send one command, or several packed one after another, and return the last reply."""
        stream = self._stream
        if stream is None or (not stream.is_open and await stream.is_stale()):
            stream = await self._open()
        try:
            return await stream.exchange(packed, replies, timeout_s)
        except ResponseError as error:
            if code_of(error) in WRONG_SERVER:
                await self.drop()
            raise
        except BaseException:
            await self.drop()
            raise

    def start(self, packed: bytes, timeout_s: float, receive: Receive) -> None:
        """Send one command on a link that is idle or followable; `receive` gets its reply, or what came instead.

        It is called as soon as the reply is there. With the first command the link is taken, with the last reply free.
        """
        stream, links = self._stream, self._links
        assert isinstance(stream, ReplyStream)
        assert links is not None
        if not self.started:
            links.take(self)
        self.started += 1
        stream.start(packed, 1, timeout_s, partial(self._received, receive))

    def _received(self, receive: Receive, reply: Any) -> None:
        stream, links = self._stream, self._links
        assert links is not None
        self.started -= 1
        if isinstance(reply, Exception):
            links.failed(reply)
            if isinstance(stream, ReplyStream):  # nothing else is sent on a connection of no use
                stream.is_open &= isinstance(reply, ResponseError) and code_of(reply) not in WRONG_SERVER
        if not self.started:
            links.put_back(self)
        receive(reply)  # before those behind it hear of what it did to their connection
        if isinstance(stream, ReplyStream) and not stream.is_open:
            stream.abandon()

    async def _open(self) -> Stream:
        await self.drop()
        try:
            wire = await self._dialled()
        except BaseException as error:  # a cancellation, too: it is what a deadline does
            mark_unsent(error)
            raise
        stream = self._stream = stream_of(wire)
        if self._closed:  # while it was being opened
            await self.drop()
            raise RedisConnectionError(CLOSED)
        return stream

    async def _dialled(self) -> Wire:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                return await self._dial()
        except TimeoutError:
            raise RedisTimeoutError(f"no connection to Redis within {CONNECT_TIMEOUT_S:g} s") from None

    async def close(self) -> None:
        """Drop the connection, and one that is being opened as soon as it is open."""
        self._closed = True
        await self.drop()

    async def drop(self) -> None:
        """Give the connection up at once, with whatever is unsent or unread. Does not yield to the loop."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.drop()


class Links:
    """Up to `size` links of our own; with one, commands are serialised. Who finds none free waits for its turn.

    Bound to the event loop it is used in. Another loop may take over when the first one has ended (a module-level queue
    under successive `asyncio.run`), never while it runs.
    """

    may_speak_resp3 = False

    def __init__(
        self,
        dial: Dial,
        *,
        size: int = 1,
        is_followable: bool = True,
        failed: Callable[[Exception], None] = lambda error: None,
    ) -> None:
        """`failed` hears of errors that came to started commands, error replies included."""
        self.failed = failed
        self._is_followable = is_followable
        self._make = partial(Link, dial, self)
        self._all = [self._make() for _ in range(size)]
        self._free = list(self._all)  # last in, first out: what is not needed stays unopened
        self._turns: deque[asyncio.Future[Link]] = deque()  # of commands that wait for a link; then none is free
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    @property
    def may_be_followed(self) -> bool:
        """Whether a command may be sent behind a started one: not while others wait, or they would starve."""
        return self._is_followable and not self._turns

    async def exchange(self, packed: bytes, key: str | None, timeout_s: float, *, replies: int = 1) -> Any:
        if self._loop is not asyncio.get_running_loop():
            await self._enter_loop()
        if self._free and self._free[-1].is_open:  # the stream keeps the deadline
            return await self._exchange(packed, timeout_s, replies)
        async with asyncio.timeout(timeout_s):
            return await self._exchange(packed, timeout_s, replies)

    def idle(self, key: str) -> Link | None:
        if self._closed or not self._free or self._loop is not asyncio.get_running_loop():
            return None
        link = self._free[-1]
        return link if link.is_open else None

    def take(self, link: Link) -> None:
        """A free link is in use now."""
        self._free.remove(link)

    def put_back(self, link: Link) -> None:
        """A link is in use no more: it is whose turn it is, or free."""
        if link not in self._all:  # of an event loop that has ended
            return
        while self._turns:
            turn = self._turns.popleft()
            if not turn.done():
                turn.set_result(link)
                return
        self._free.append(link)

    async def _exchange(self, packed: bytes, timeout_s: float, replies: int) -> Any:
        link = self._free.pop() if self._free else await self._turn()
        try:
            if self._closed:
                raise RedisConnectionError(CLOSED)
            return await link.exchange(packed, timeout_s, replies)
        finally:
            self.put_back(link)

    async def _turn(self) -> Link:
        turn: asyncio.Future[Link] = asyncio.get_running_loop().create_future()
        self._turns.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it had come
                self.put_back(turn.result())
            elif turn in self._turns:
                self._turns.remove(turn)
            raise

    async def _enter_loop(self) -> None:
        if self._loop is not None and self._loop.is_running():
            raise RuntimeError(
                "this connection is in use by another event loop: open one per loop (Connection.derive_for_thread)"
            )
        self._loop = asyncio.get_running_loop()
        self._turns.clear()
        # New ones, because somebody of the other loop may still hold a former one.
        former, self._all = self._all, [self._make() for _ in self._all]
        self._free = list(self._all)
        for link in former:
            await link.drop()

    async def aclose(self) -> None:
        self._closed = True
        for link in self._all:
            await link.close()
        await asyncio.sleep(0)  # lets the transports finish closing before a loop that ends now


class BorrowedLinks:
    """The pool of a client that was handed to us: we take a connection per command and give it back, never close it.

    Up to `size` commands at a time; the others wait, and so does one that finds the pool exhausted by its owner.
    """

    #: A borrowed client's own socket timeout (5 s in redis-py 8) must not cut a command short of our deadline.
    _BEYOND_DEADLINE_S: Final = 60.0
    _POLL_S: Final = 0.01
    may_speak_resp3 = True

    def __init__(self, pool: Any, *, size: int) -> None:
        self._pool = pool
        self._size = size
        self._slots = asyncio.Semaphore(size)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._releasing: set[asyncio.Task[None]] = set()

    def idle(self, key: str) -> Link | None:
        return None

    async def exchange(self, packed: bytes, key: str | None, timeout_s: float) -> Any:
        if self._loop is not asyncio.get_running_loop():
            self._loop = asyncio.get_running_loop()
            self._slots = asyncio.Semaphore(self._size)
        async with asyncio.timeout(timeout_s), self._slots:
            return await self._exchange(packed, timeout_s)

    async def _exchange(self, packed: bytes, timeout_s: float) -> Any:
        wire = await self._acquire()
        try:
            await wire.send_packed_command(packed, check_health=False)
            # Undecoded: a client with decode_responses would fail on bytes that are not text.
            return await wire.read_response(disable_decoding=True, timeout=timeout_s + self._BEYOND_DEADLINE_S)
        except ResponseError as error:
            if code_of(error) in WRONG_SERVER:
                await wire.disconnect(nowait=True)
            raise
        except BaseException:
            await abort(wire)
            raise
        finally:
            await self._release(wire)

    async def _acquire(self) -> Wire:
        try:
            return await self._taken()
        except BaseException as error:
            mark_unsent(error)
            raise

    async def _taken(self) -> Wire:
        while True:
            try:
                taking = self._pool.get_connection()
            except TypeError:  # redis-py before 5.3 wants the command's name and does not use it
                taking = self._pool.get_connection("EVALSHA")
            try:
                return cast(Wire, await taking)
            except RedisConnectionError as error:
                # MaxConnectionsError, which older versions of redis-py do not raise here.
                if str(error) != "Too many connections":
                    raise
            await asyncio.sleep(self._POLL_S)

    async def _release(self, wire: Wire) -> None:
        # A release that is cancelled at the pool's lock would lose the connection for ever (redis-py #4121).
        task = asyncio.ensure_future(self._pool.release(wire))
        self._releasing.add(task)
        task.add_done_callback(self._releasing.discard)
        await asyncio.shield(task)

    async def aclose(self) -> None:
        """Nothing here is ours to close."""
