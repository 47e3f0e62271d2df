"""The connection of a queue or a worker: one place that knows where Redis is and what we opened ourselves.

`Connection.open` takes a URL or a `redis.asyncio` client. `commands` is for ordinary use, `lane()` gives a dedicated
connection (a worker has one for exchanges, one that blocks), `derive_for_thread()` the same settings for another event
loop (leases). What runs on them is in `commands`; keys and scripts are not known here. Nothing is opened before the
first command.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from redis.asyncio import Redis, RedisCluster

from pyqueue._redis.commands import DEADLINE_S, Commands, RedisCommands
from pyqueue._redis.embedded import memory_source
from pyqueue._redis.links import BorrowedLinks, Carrier, Links, Wire
from pyqueue._redis.sources import ServerSource, Source, source_of_client, source_of_url
from pyqueue.errors import ConfigurationError

__all__ = ["AnyRedis", "Commands", "Connection"]

AnyRedis: TypeAlias = "Redis | RedisCluster"

DEFAULT_URL: Final = "redis://localhost:6379"
#: Connections for `commands`, opened as concurrency asks for them: adds of one queue travel together, so few suffice.
POOL_SIZE: Final = 4


class Connection:
    """A way to Redis that opens connections on demand and closes what it opened."""

    def __init__(self, source: Source, *, borrowed: Redis | None = None, deadline_s: float = DEADLINE_S) -> None:
        self._source = source
        self._borrowed = borrowed
        self._deadline_s = deadline_s
        self._opened: list[Carrier] = []
        self.can_derive = True
        self.is_cluster = False
        self.commands: Commands = self._on(
            BorrowedLinks(borrowed.connection_pool) if borrowed is not None else self._links(POOL_SIZE)
        )

    @classmethod
    def open(cls, source: str | AnyRedis | Connection | None = None, *, deadline_s: float = DEADLINE_S) -> Connection:
        """A connection from a URL (default redis://localhost:6379) or a client; no I/O yet.

        A client stays the caller's: it is used and never closed. Raises ConfigurationError for a URL or a client that
        cannot be used.
        """
        if isinstance(source, Connection):
            return source
        if source is None or isinstance(source, str):
            return cls(_source_of_url(source or DEFAULT_URL), deadline_s=deadline_s)
        if isinstance(source, Redis):
            return cls(source_of_client(source), borrowed=source, deadline_s=deadline_s)
        raise ConfigurationError(f"a URL or a redis.asyncio client is expected, not {type(source).__name__}")

    @property
    def url_safe(self) -> str:
        """Where it leads, without user, password and options."""
        return self._source.label

    def lane(self, *, blocking: bool = False, client_name: str | None = None) -> Commands:
        """One dedicated connection; commands of several tasks wait for each other. The caller closes it."""
        return self._on(self._links(1, client_name))

    def derive_for_thread(self) -> Connection:
        """The same settings for another event loop."""
        return Connection(self._source.for_another_loop(), deadline_s=self._deadline_s)

    async def aclose(self) -> None:
        """Close every connection that was opened here; a borrowed client stays open."""
        for carrier in self._opened:
            await carrier.aclose()
        self._opened.clear()
        await self._source.aclose()

    def __repr__(self) -> str:
        return f"<Connection {self.url_safe}>"

    def _links(self, size: int, client_name: str | None = None) -> Links:
        source = self._source

        async def dial() -> Wire:
            return await source.dial(client_name)

        links = Links(dial, size=size)
        self._opened.append(links)
        return links

    def _on(self, carrier: Carrier) -> Commands:
        return RedisCommands(carrier, label=self.url_safe, deadline_s=self._deadline_s)


def _source_of_url(url: str) -> ServerSource:
    scheme, _, rest = url.partition("://")
    if scheme in {"redis", "rediss", "unix"}:
        return source_of_url(url)
    if scheme == "memory":
        return memory_source(rest)
    raise ConfigurationError("the URL must begin with redis://, rediss://, unix://, memory:// or embedded:///")
