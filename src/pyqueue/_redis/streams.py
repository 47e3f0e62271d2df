"""One open connection: a packed command in, its reply out.

redis-py opens connections (names, TLS, AUTH, SELECT). Where hiredis is installed, `ReplyStream` then takes the
transport over and reads replies as they arrive: without a stream reader, its coroutines and a timer per command, a
command costs the client half as much. Elsewhere (no hiredis, fakeredis) `WireStream` goes through redis-py. Neither
knows scripts, refusals or how to connect; `links` decides when a stream is given up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol, TypeAlias, cast

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse

_new_reader: Callable[..., Any] | None
try:
    import hiredis
except ImportError:  # the extra "fast" is not installed
    _new_reader = None
else:
    _new_reader = hiredis.Reader

_NOT_ENOUGH: Final = object()

Receive: TypeAlias = Callable[[Any], None]
"""Takes the reply to a command, or the exception that came instead: an error reply, TimeoutError, ConnectionError."""


class Wire(Protocol):
    """The part of `redis.asyncio.connection.AbstractConnection` that we use."""

    @property
    def is_connected(self) -> bool: ...
    async def connect(self) -> None: ...
    async def disconnect(self, nowait: bool = ...) -> None: ...
    async def send_packed_command(self, command: bytes, check_health: bool = ...) -> None: ...
    async def read_response(self, disable_decoding: bool = ..., timeout: float | None = ...) -> Any: ...


class Stream(Protocol):
    """An open connection that carries one command at a time."""

    @property
    def is_open(self) -> bool:
        """Whether it can be used, as far as is known without asking the server; always, for a `WireStream`."""
        ...

    async def is_stale(self) -> bool:
        """Whether it turns out to be closed, or to hold bytes that nobody asked for."""
        ...

    async def exchange(self, packed: bytes, replies: int, timeout_s: float) -> Any:
        """Send one command, or several packed one after another; the last reply, or the first error raised.

        TimeoutError after `timeout_s`. Whatever it raises but an error reply, the stream must be dropped.
        """
        ...

    async def drop(self) -> None:
        """Give the connection up at once, with whatever is unsent or unread. Does not yield to the loop."""
        ...


def stream_of(wire: Wire) -> Stream:
    """The fastest stream for a connection that redis-py has opened. Its transport is the stream's from now on."""
    transport = transport_of(wire)
    parse_error = getattr(getattr(wire, "_parser", None), "parse_error", None)
    if _new_reader is None or transport is None or parse_error is None:
        return WireStream(wire)
    reader = _new_reader(protocolError=InvalidResponse, replyError=parse_error, notEnoughData=_NOT_ENOUGH)
    return ReplyStream(wire, transport, reader)


_Expected: TypeAlias = tuple[int, Receive, float]
"""A command whose last reply is to come: how many replies, who takes it, until when (the loop's seconds)."""


class ReplyStream(asyncio.Protocol):
    """Reads replies off a transport. The timer of a deadline stays armed across commands, and looks when it rings.

    Commands may be sent before those ahead of them are answered: replies come in the same order.
    """

    __slots__ = ("_expected", "_loop", "_reader", "_rings_at", "_timer", "_transport", "_wire", "is_open")

    def __init__(self, wire: Wire, transport: asyncio.WriteTransport, reader: Any) -> None:
        """`transport` is that of `wire`, which stays referred to because it closes what it opened when it goes."""
        self.is_open = not transport.is_closing()
        self._wire = wire
        self._transport = transport
        self._reader = reader
        self._loop = asyncio.get_running_loop()
        self._expected: deque[_Expected] = deque()
        self._timer: asyncio.Handle | None = None
        self._rings_at = 0.0  # kept here, because not every handle of uvloop knows it
        transport.set_protocol(self)

    async def is_stale(self) -> bool:
        return not self.is_open

    def start(self, packed: bytes, replies: int, timeout_s: float, receive: Receive) -> None:
        """As `exchange`, for who is in no task: `receive` is called as soon as the reply is there.

        The stream must be given up (`abandon`, or `drop`) after whatever is no reply.
        """
        deadline = self._loop.time() + timeout_s
        if self._timer is None or self._rings_at > deadline:
            self._arm(deadline)
        self._expected.append((replies, receive, deadline))
        self._transport.write(packed)

    async def exchange(self, packed: bytes, replies: int, timeout_s: float) -> Any:
        waiter: asyncio.Future[Any] = self._loop.create_future()
        self.start(packed, replies, timeout_s, partial(_resolve, waiter))
        return await waiter

    async def drop(self) -> None:
        self.abandon()
        with contextlib.suppress(Exception):
            await self._wire.disconnect(nowait=True)

    def abandon(self) -> None:
        """Use it no more; whoever waits is told. `drop` does the rest."""
        self._disarm()
        self._break(RedisConnectionError("this connection to Redis was given up"))

    # What the transport calls.

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not _NOT_ENOUGH:
                self._take(reply)
        except InvalidResponse as error:
            self._break(RedisConnectionError(f"Redis sent what is no reply: {error}"))

    def eof_received(self) -> None:
        self.is_open = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self._disarm()
        self._fail(RedisConnectionError(f"Connection to Redis lost: {exc or 'closed by the server'}"))

    # Replies and deadlines.

    def _take(self, reply: Any) -> None:
        if not self._expected:
            self._break(RedisConnectionError("Redis sent a reply that nobody asked for"))
            return
        replies, receive, deadline = self._expected.popleft()
        if replies == 1 or isinstance(reply, Exception):
            receive(reply)
        else:
            self._expected.appendleft((replies - 1, receive, deadline))

    def _break(self, error: Exception) -> None:
        self.is_open = False
        with contextlib.suppress(RuntimeError):  # its event loop is closed
            # close() would wait for unsent bytes (and TLS for the peer's goodbye), for ever on a half-open connection.
            self._transport.abort()
        self._fail(error)

    def _fail(self, error: Exception) -> None:
        expected, self._expected = self._expected, deque()  # whoever is told first may give the connection up
        if self._loop.is_closed():  # nobody is left who could be told
            return
        for _, receive, _ in expected:
            receive(error)

    def _arm(self, deadline: float) -> None:
        self._disarm()
        self._timer = self._loop.call_at(deadline, self._ring)
        self._rings_at = deadline

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        if not self._expected:
            return
        deadline = min(deadline for _, _, deadline in self._expected)
        if self._loop.time() < deadline:  # a later command's
            self._arm(deadline)
        else:
            self._break(TimeoutError())


def _resolve(waiter: asyncio.Future[Any], reply: Any) -> None:
    if waiter.done():  # whoever waited has been cancelled, and drops the stream
        return
    if isinstance(reply, Exception):
        waiter.set_exception(reply)
        waiter.exception()  # seen, also when whoever waited has been given up
    else:
        waiter.set_result(reply)


class WireStream:
    """Goes through redis-py."""

    __slots__ = ("_transport", "_wire")

    is_open = False  # only asking it tells

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._transport = transport_of(wire)

    async def is_stale(self) -> bool:
        wire: Any = self._wire
        if not wire.is_connected:
            return True
        try:
            # can_read_destructive is its name before redis-py 8.
            return bool(await (wire.can_read() if hasattr(wire, "can_read") else wire.can_read_destructive()))
        except Exception:
            return True

    async def exchange(self, packed: bytes, replies: int, timeout_s: float) -> Any:
        async with asyncio.timeout(timeout_s):
            await self._wire.send_packed_command(packed, check_health=False)
            for _ in range(replies - 1):
                await self._wire.read_response()
            return await self._wire.read_response()

    async def drop(self) -> None:
        await abort(self._wire)


def transport_of(wire: Wire) -> asyncio.WriteTransport | None:
    """The transport that a connection of redis-py writes to; None for fakeredis."""
    transport = getattr(getattr(wire, "_writer", None), "transport", None)
    # By what it can: uvloop's transports are no subclasses of asyncio's.
    return cast("asyncio.WriteTransport", transport) if hasattr(transport, "set_protocol") else None


async def abort(wire: Wire) -> None:
    """Close a connection at once, with whatever is unsent or unread. Does not yield to the loop."""
    transport = transport_of(wire)
    if transport is not None:
        with contextlib.suppress(RuntimeError):  # its event loop is closed
            transport.abort()
    with contextlib.suppress(Exception):
        await wire.disconnect(nowait=True)
