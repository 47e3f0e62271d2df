"""A TCP proxy between pyqueue and a server that misbehaves on request.

    async with Proxy.to(server.port) as proxy:
        connection = Connection.open(proxy.url)
        proxy.mode = Mode.SILENT       # sockets stay open, nothing passes: a half-open connection

Bytes that arrive while a mode swallows them are lost for good; connections made in any mode are accepted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum


class Mode(Enum):
    """What happens to bytes from now on."""

    PASS = "pass"
    SILENT = "silent"
    """Nothing passes in either direction, nobody is told."""
    LOSE_REPLIES = "lose replies"
    """Commands reach the server, what it answers is lost."""


class Proxy:
    """Listens on a free port of 127.0.0.1 and forwards to `port`; lives in one event loop."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._pumps: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.mode = Mode.PASS
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

    def cut(self) -> None:
        """Break every connection, as a firewall's RST does."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers |= {writer, server_writer}
        self._pump(reader, server_writer, {Mode.SILENT})
        self._pump(server_reader, writer, {Mode.SILENT, Mode.LOSE_REPLIES})

    def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, swallowing: set[Mode]) -> None:
        task = asyncio.get_running_loop().create_task(self._forward(reader, writer, swallowing))
        self._pumps.add(task)
        task.add_done_callback(self._pumps.discard)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, swallowing: set[Mode]) -> None:
        try:
            while chunk := await reader.read(65536):
                if self.mode not in swallowing:
                    writer.write(chunk)
                    await writer.drain()
        except OSError:
            pass  # the other side is gone, too
        finally:
            writer.transport.abort()
