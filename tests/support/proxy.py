"""A TCP proxy between pyqueue and a server that misbehaves on request.

    async with Proxy.to(server.port) as proxy:
        connection = Connection.open(proxy.url)
        proxy.mode = Mode.SILENT       # sockets stay open, nothing passes: a half-open connection

Bytes that arrive while a mode swallows them are lost for good; connections made in any mode are accepted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from enum import Enum
from typing import Final

import hiredis


class Mode(Enum):
    """What happens to bytes from now on."""

    PASS = "pass"
    SILENT = "silent"
    """Nothing passes in either direction, nobody is told."""
    LOSE_REPLIES = "lose replies"
    """Commands reach the server, what it answers is lost."""
    DELAY = "delay"
    """Everything takes `DELAY_S` longer, in each direction."""
    LATE = "late"
    """Commands are held back and reach the server when the mode ends, also those of clients that have gone."""
    TRUNCATE = "truncate"
    """Replies end in the middle, and the connection with them."""
    ONE_REPLY = "one reply"
    """Of replies that the server sends together the first passes; the others arrive when the mode ends."""
    CUT_ONE_REPLY = "cut one reply"
    """The next reply breaks its connection instead of arriving; then PASS."""


DELAY_S: Final = 0.2


#: What becomes of bytes in one direction.
Treatment = Callable[[bytes], Awaitable[bytes]]


class Proxy:
    """Listens on a free port of 127.0.0.1 and forwards to `port`; lives in one event loop."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._pumps: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._mode = Mode.PASS
        self._changed = asyncio.Event()
        self.accepted = 0
        """Connections so far."""

    @classmethod
    @asynccontextmanager
    async def to(cls, port: int) -> AsyncIterator[Proxy]:
        """A running proxy, ended with all its connections."""
        proxy = cls(port)
        proxy._server = await asyncio.start_server(proxy._accept, "127.0.0.1", 0)
        try:
            yield proxy
        finally:
            proxy._server.close()
            proxy.cut()
            for pump in proxy._pumps:
                pump.cancel()
            await asyncio.gather(*proxy._pumps, return_exceptions=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """`redis://` URL of the server through the proxy."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def mode(self) -> Mode:
        """What happens to bytes; may be set at any time."""
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        self._mode = mode
        self._changed.set()
        self._changed = asyncio.Event()

    def cut(self) -> None:
        """Break every connection, as a firewall's RST does."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def leave(self) -> None:
        """Break every connection and accept no more, as a server that has gone."""
        assert self._server is not None
        self._server.close()
        self.cut()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers |= {writer, server_writer}
        self._pump(reader, server_writer, self._command)
        self._pump(server_reader, writer, self._reply)

    def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, treat: Treatment) -> None:
        task = asyncio.get_running_loop().create_task(self._forward(reader, writer, treat))
        self._pumps.add(task)
        task.add_done_callback(self._pumps.discard)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, treat: Treatment) -> None:
        try:
            while chunk := await reader.read(65536):
                if treat == self._reply and self.mode is Mode.ONE_REPLY:
                    at = _end_of_first_reply(chunk)
                    writer.write(chunk[:at])
                    chunk = chunk[at:]
                    while chunk and self.mode is Mode.ONE_REPLY:
                        await self._changed.wait()
                treated = await treat(chunk)
                writer.write(treated)
                await writer.drain()
                if 0 < len(treated) < len(chunk):
                    break
        except OSError:
            pass  # the other side is gone, too
        finally:
            writer.transport.abort()

    async def _command(self, chunk: bytes) -> bytes:
        while self.mode is Mode.LATE:
            await self._changed.wait()
        await self._delay()
        return b"" if self.mode is Mode.SILENT else chunk

    async def _reply(self, chunk: bytes) -> bytes:
        await self._delay()
        if self.mode in {Mode.SILENT, Mode.LOSE_REPLIES}:
            return b""
        if self.mode is Mode.CUT_ONE_REPLY:
            self.mode = Mode.PASS
            raise ConnectionResetError
        return chunk[: max(1, len(chunk) // 2)] if self.mode is Mode.TRUNCATE else chunk

    async def _delay(self) -> None:
        if self.mode is Mode.DELAY:
            await asyncio.sleep(DELAY_S)


def _end_of_first_reply(chunk: bytes) -> int:
    reader = hiredis.Reader()
    for at in range(len(chunk)):
        reader.feed(chunk[at : at + 1])
        if reader.gets() is not False:
            return at + 1
    return len(chunk)
