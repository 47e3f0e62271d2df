"""Servers that pyqueue provides itself: `memory://NAME` and `embedded:///DIR`.

`memory://NAME` is fakeredis, one server per name in this process; nothing is kept. `embedded:///DIR` is a real server
with its data in DIR, started by whoever needs it first (`server_process`). Called by `connection`.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from redis.asyncio.connection import UnixDomainSocketConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from pyqueue._redis import server_process
from pyqueue._redis.resp3 import as_resp2
from pyqueue._redis.sources import ServerSource, label_of
from pyqueue._redis.streams import Wire
from pyqueue.errors import ConfigurationError

#: fakeredis servers of this process by the name in the URL; they live until the process ends.
_servers: Final[dict[str, Any]] = {}
_lock: Final = threading.Lock()


def memory_source(name: str) -> ServerSource:
    """The in-process server of that name, created at first use."""
    fakeredis = _fakeredis()
    with _lock:
        if name not in _servers:
            _servers[name] = fakeredis.FakeServer()
    return fake_source(fakeredis.FakeAsyncRedis(server=_servers[name]), f"memory://{name}")


def fake_source(client: Any, label: str = "fakeredis") -> ServerSource:
    """The server behind a fakeredis client."""
    pool = client.connection_pool
    return FakeSource(pool.connection_class, dict(pool.connection_kwargs), label)


def embedded_source(path: str) -> EmbeddedSource:
    """The server of a directory, from the part of the URL after `embedded://`.

    A path that begins with / is absolute, ~ is the home directory, anything else is relative to the current directory.
    """
    if not path:
        raise ConfigurationError("embedded:/// needs a directory, such as embedded:///var/lib/myapp/queue")
    return EmbeddedSource(Path(unquote(path)).expanduser().resolve())


class FakeSource(ServerSource):
    """A fakeredis server. Its connections need two corrections, which `_FakeWire` makes."""

    async def dial(self, client_name: str | None) -> Wire:
        wire: Any = await super().dial(client_name)
        await wire.send_command("CLIENT", "ID")
        with contextlib.suppress(ResponseError):
            return _FakeWire(wire, await wire.read_response())
        return _FakeWire(wire, None)


class _FakeWire:
    """A fakeredis connection that behaves like a socket.

    A blocking pop of a connection that was dropped goes on in fakeredis and takes an element that nobody receives, so
    it is ended here; and scores come as floats when the pop had to wait.
    """

    def __init__(self, wire: Any, client_id: int | None) -> None:
        self._wire = wire
        self._client_id = client_id
        self._is_waiting = False
        self._is_dropped = False

    @property
    def is_connected(self) -> bool:
        return bool(self._wire.is_connected) and not self._is_dropped

    async def connect(self) -> None:
        await self._wire.connect()

    async def can_read(self) -> bool:
        return bool(await self._wire.can_read())

    async def send_packed_command(self, command: bytes, check_health: bool = False) -> None:
        self._is_waiting = True
        await self._wire.send_packed_command(command, check_health=False)

    async def read_response(self, disable_decoding: bool = False, timeout: float | None = None) -> Any:
        try:
            reply = await self._wire.read_response(disable_decoding=disable_decoding, timeout=timeout)
        except RedisError:
            self._is_waiting = False
            raise
        self._is_waiting = False
        if self._is_dropped:  # by another task, while this one waited
            raise RedisConnectionError("Connection closed.")
        return as_resp2("", reply)

    async def disconnect(self, nowait: bool = False) -> None:
        self._is_dropped = True
        if self._is_waiting and self._client_id is not None:
            self._unblock(self._client_id)
        self._is_waiting = False
        await self._wire.disconnect(nowait=nowait)

    def _unblock(self, client_id: int) -> None:
        # A synchronous client of the same server: no I/O, it only takes the server's lock for a moment.
        with contextlib.suppress(RedisError), _fakeredis().FakeRedis(server=self._wire._server) as client:
            client.client_unblock(client_id)


class EmbeddedSource(ServerSource):
    """The server of a directory: attached to if it runs, else started; ended by whoever closes last."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._has_dialled = False
        settings = {"path": str(server_process.socket_path(directory))}
        super().__init__(UnixDomainSocketConnection, settings, label_of(settings, "unix"))
        self.label = f"embedded://{directory}"

    async def dial(self, client_name: str | None) -> Wire:
        self._has_dialled = True
        await asyncio.to_thread(server_process.ensure_running, self._directory)
        try:
            return await super().dial(client_name)
        except RedisConnectionError:  # its last user ended it between our two steps
            await asyncio.to_thread(server_process.ensure_running, self._directory)
            return await super().dial(client_name)

    def for_another_loop(self) -> EmbeddedSource:
        return EmbeddedSource(self._directory)

    async def aclose(self) -> None:
        """End the server if nobody else is connected to it; its data stays."""
        if self._has_dialled:
            self._has_dialled = False
            await asyncio.to_thread(server_process.stop_if_unused, self._directory)


def _fakeredis() -> Any:
    try:
        import fakeredis  # optional dependency
    except ImportError:
        raise ConfigurationError("memory:// needs fakeredis: pip install pyqueue-redis[embedded]") from None
    return fakeredis
