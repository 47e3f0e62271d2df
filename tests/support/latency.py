"""A TCP proxy that makes the way to a server longer, without narrowing it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def far_away(port: int, one_way_s: float) -> AsyncIterator[str]:
    """URL of the server behind a network that takes so long in each direction."""
    loop = asyncio.get_running_loop()
    transports: set[asyncio.StreamWriter] = set()
    tasks: set[asyncio.Task[None]] = set()

    def deliver(writer: asyncio.StreamWriter, chunk: bytes) -> None:
        if not writer.is_closing():
            writer.write(chunk) if chunk else writer.close()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        chunk = b"?"
        while chunk:
            try:
                chunk = await reader.read(65536)
            except OSError:
                chunk = b""
            loop.call_later(one_way_s, deliver, writer, chunk)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)
        transports.update((writer, server_writer))
        for one in (pump(reader, server_writer), pump(server_reader, writer)):
            task = loop.create_task(one)
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    finally:
        server.close()
        for writer in transports:
            writer.transport.abort()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
