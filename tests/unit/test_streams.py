"""Streams: replies in pieces, in time, too late, unasked for; against a server that says what the test tells it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, TypeAlias

import pytest
from redis.asyncio.connection import Connection as TcpConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError

from pyqueue._redis import streams
from pyqueue._redis.sources import ServerSource
from pyqueue._redis.streams import ReplyStream, Stream, WireStream, stream_of
from tests.support.waiting import wait_until

pytestmark = pytest.mark.anyio

Answer: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Open: TypeAlias = Callable[[Answer], Awaitable[Stream]]

#: Only a stream that is known to be open can start a command.
HIREDIS = pytest.mark.parametrize("connect", ["hiredis"], indirect=True)

PING = b"*1\r\n$4\r\nPING\r\n"


@pytest.fixture(params=["hiredis", "redis-py"])
async def connect(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Open]:
    """Open a stream, of either kind, to a server that handles its one connection as told."""
    if request.param == "redis-py":
        monkeypatch.setattr(streams, "_new_reader", None)
    servers: list[asyncio.Server] = []
    opened: list[Stream] = []

    async def open_stream(answer: Answer) -> Stream:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await answer(reader, writer)
            finally:
                writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        servers.append(server)
        port = server.sockets[0].getsockname()[1]
        wire = await ServerSource(TcpConnection, {"host": "127.0.0.1", "port": port}, "test").dial(None)
        stream = stream_of(wire)
        assert type(stream) is (ReplyStream if request.param == "hiredis" else WireStream)
        opened.append(stream)
        return stream

    yield open_stream
    for stream in opened:
        await stream.drop()
    for server in servers:
        server.close()


def replies(*pieces: bytes) -> Answer:
    """Answer each command with the next piece, then wait until the client goes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            await reader.readexactly(len(PING))
            writer.write(piece)
        await reader.read()

    return answer


async def test_a_reply_is_read(connect: Open) -> None:
    stream = await connect(replies(b"*3\r\n:1\r\n$2\r\nab\r\n$-1\r\n", b"+OK\r\n"))

    assert await stream.exchange(PING, 1, 5) == [1, b"ab", None]
    assert await stream.exchange(PING, 1, 5) == b"OK"
    assert not await stream.is_stale()


async def test_a_reply_in_pieces_is_put_together(connect: Open) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(PING))
        for byte in b"$5\r\nhello\r\n":
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        await reader.read()

    stream = await connect(answer)

    assert await stream.exchange(PING, 1, 5) == b"hello"


async def test_the_last_of_several_replies_counts(connect: Open) -> None:
    stream = await connect(replies(b"+OK\r\n:7\r\n"))

    assert await stream.exchange(PING, 2, 5) == 7


async def test_an_error_reply_is_raised_and_the_next_command_works(connect: Open) -> None:
    stream = await connect(replies(b"-NOSCRIPT No matching script\r\n", b"+OK\r\n"))

    with pytest.raises(NoScriptError):
        await stream.exchange(PING, 1, 5)
    assert await stream.exchange(PING, 1, 5) == b"OK"


async def test_a_silent_server_is_given_up_at_the_deadline(connect: Open) -> None:
    stream = await connect(replies(b"+OK\r\n"))
    assert await stream.exchange(PING, 1, 60) == b"OK"  # a deadline far away does not hide a closer one

    began = time.monotonic()
    with pytest.raises(TimeoutError):
        await stream.exchange(PING, 1, 0.1)
    assert 0.09 <= time.monotonic() - began < 5


@HIREDIS
async def test_commands_that_follow_each_other_are_answered_in_order(connect: Open) -> None:
    stream = await connect(replies(b"+one\r\n", b"-NOSCRIPT No matching script\r\n", b"+three\r\n"))
    assert isinstance(stream, ReplyStream)
    heard: list[Any] = []

    for number in range(3):
        stream.start(PING, 1, 5, partial(_hear, heard, number))
    await wait_until(lambda: len(heard) == 3)

    assert [(number, repr(reply)) for number, reply in heard] == [
        (0, "b'one'"),
        (1, repr(NoScriptError("No matching script"))),
        (2, "b'three'"),
    ]
    assert stream.is_open


@HIREDIS
async def test_a_broken_connection_breaks_all_commands_in_flight(connect: Open) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(3 * len(PING))
        writer.write(b"+one\r\n")

    stream = await connect(answer)
    assert isinstance(stream, ReplyStream)
    heard: list[Any] = []

    for number in range(3):
        stream.start(PING, 1, 5, partial(_hear, heard, number))
    await wait_until(lambda: len(heard) == 3)

    assert heard[0] == (0, b"one")
    assert [(number, type(reply)) for number, reply in heard[1:]] == [
        (1, RedisConnectionError),
        (2, RedisConnectionError),
    ]


@HIREDIS
async def test_the_closest_deadline_of_all_commands_in_flight_counts(connect: Open) -> None:
    stream = await connect(replies())
    assert isinstance(stream, ReplyStream)
    heard: list[Any] = []

    stream.start(PING, 1, 60, partial(_hear, heard, 0))
    stream.start(PING, 1, 0.1, partial(_hear, heard, 1))
    await wait_until(lambda: len(heard) == 2)

    assert [(number, type(reply)) for number, reply in heard] == [(0, TimeoutError), (1, TimeoutError)]


def _hear(heard: list[Any], number: int, reply: Any) -> None:
    heard.append((number, reply))


async def test_the_deadline_of_an_early_command_does_not_end_a_later_one(connect: Open) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(PING))
        writer.write(b"+OK\r\n")
        await reader.readexactly(len(PING))
        await asyncio.sleep(1.3)
        writer.write(b"+late\r\n")
        await reader.read()

    stream = await connect(answer)

    assert await stream.exchange(PING, 1, 1) == b"OK"
    assert await stream.exchange(PING, 1, 5) == b"late"


async def test_a_server_that_hangs_up_breaks_the_command_in_flight(connect: Open) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(PING))

    stream = await connect(answer)

    with pytest.raises(RedisConnectionError):
        await stream.exchange(PING, 1, 5)


async def test_bytes_that_nobody_asked_for_make_it_stale(connect: Open) -> None:
    sent = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(PING))
        writer.write(b"+OK\r\n+again\r\n")
        await writer.drain()
        sent.set()
        await reader.read()

    stream = await connect(answer)
    assert await stream.exchange(PING, 1, 5) == b"OK"
    await sent.wait()

    assert await stream.is_stale()


async def test_a_stream_that_is_dropped_breaks_the_command_in_flight(connect: Open) -> None:
    stream = await connect(replies())
    command = asyncio.create_task(stream.exchange(PING, 1, 5))
    await asyncio.sleep(0)

    await stream.drop()

    with pytest.raises(RedisConnectionError):
        await command


async def started(connect: Open, answer: Answer) -> tuple[ReplyStream, list[object], asyncio.Event]:
    """A stream with a started command, what it was told of it, and the event that says so."""
    stream = await connect(answer)
    assert isinstance(stream, ReplyStream)
    told: list[object] = []
    done = asyncio.Event()

    def receive(reply: object) -> None:
        told.append(reply)
        done.set()

    stream.start(PING, 1, 0.2, receive)
    return stream, told, done


@HIREDIS
async def test_a_started_command_is_told_its_reply_by_the_connection_itself(connect: Open) -> None:
    stream, told, done = await started(connect, replies(b":1\r\n", b":2\r\n"))
    await done.wait()
    assert told == [1]

    told.clear()
    done.clear()

    def receive(reply: object) -> None:
        told.append(asyncio.current_task())
        done.set()

    stream.start(PING, 1, 5, receive)
    await done.wait()
    assert told == [None]  # no task was woken for it
    assert stream.is_open


@HIREDIS
async def test_a_started_command_is_told_an_error_reply(connect: Open) -> None:
    stream, told, done = await started(connect, replies(b"-NOSCRIPT No matching script\r\n", b"+OK\r\n"))
    await done.wait()

    assert isinstance(told[0], NoScriptError)
    assert await stream.exchange(PING, 1, 5) == b"OK"


@HIREDIS
@pytest.mark.parametrize("end", ["deadline", "hang up", "drop"])
async def test_a_started_command_is_told_once_what_came_instead_of_a_reply(connect: Open, end: str) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(PING))

    stream, told, done = await started(connect, hang_up if end == "hang up" else replies())
    if end == "drop":
        await stream.drop()
    await done.wait()
    await stream.drop()

    assert [type(error) for error in told] == [TimeoutError if end == "deadline" else RedisConnectionError]
    assert not stream.is_open
