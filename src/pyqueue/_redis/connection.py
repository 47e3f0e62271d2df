"""The connection of a queue or a worker: one place that knows where Redis is and what we opened ourselves.

`Connection.open` takes a URL or a `redis.asyncio` client. `commands` is for ordinary use, `lane()` gives a dedicated
connection (a worker has one for exchanges, one that blocks), `derive_for_thread()` the same settings for another event
loop (leases). What runs on them is in `commands`; keys and scripts are not known here. Nothing is opened before the
first command.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.sentinel import SentinelConnectionPool

from pyqueue._redis import server_check
from pyqueue._redis.cluster import ClusterSource
from pyqueue._redis.commands import DEADLINE_S, Commands, RedisCommands
from pyqueue._redis.keys import has_hash_tag
from pyqueue._redis.links import BorrowedLinks, Carrier
from pyqueue._redis.sources import SentinelSource, Source, source_of_client, source_of_url
from pyqueue.errors import ConfigurationError
from pyqueue.lazy_modules import LazyModule

if TYPE_CHECKING:
    from pyqueue._redis import embedded
else:
    embedded = LazyModule("pyqueue._redis.embedded")

__all__ = ["AnyRedis", "Commands", "Connection"]

logger = logging.getLogger("pyqueue.connection")

#: A client of redis-py that may be handed to us.
AnyRedis: TypeAlias = "Redis | RedisCluster"

DEFAULT_URL: Final = "redis://localhost:6379"
#: Connections for `commands`, opened as concurrency asks for them: adds of one queue travel together, so few suffice.
POOL_SIZE: Final = 4
#: When queues and workers look at their server: the first rush is over then, and nobody waits for the answer.
CHECK_AFTER_S: Final = 1.0


class Connection:
    """A way to Redis that opens connections on demand and closes what it opened.

    Of a borrowed client for a single server, `commands` uses the pool; of one for Sentinel, Cluster or fakeredis
    nothing but the settings is used. Lanes are always connections of our own, except where the settings cannot be told.
    """

    def __init__(
        self,
        source: Source,
        *,
        commands: Commands | None = None,
        owns_source: bool = True,
        can_derive: bool = True,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        """`open` is the usual way. `commands`, where given, belong to somebody else and are not closed here."""
        self._source = source
        self._owns_source = owns_source
        self._deadline_s = deadline_s
        self._opened: set[Carrier] = set()
        self._is_checked = False
        self.can_derive = can_derive
        self.is_cluster = isinstance(source, ClusterSource)
        self.commands: Commands = commands or self._dedicated(POOL_SIZE, None, deadline_s)

    @classmethod
    def open(cls, source: str | AnyRedis | Connection | None = None, *, deadline_s: float = DEADLINE_S) -> Connection:
        """A connection from a URL (default redis://localhost:6379), a client or another connection; no I/O yet.

        A client or connection stays the caller's: it is used and never closed. `deadline_s` bounds every command in
        seconds. Raises ConfigurationError for a URL or a client that cannot be used.
        """
        if isinstance(source, Connection):
            return cls(
                source._source,
                commands=source.commands,
                owns_source=False,
                can_derive=source.can_derive,
                deadline_s=source._deadline_s,
            )
        if source is None or isinstance(source, str):
            return cls(_source_of_url(DEFAULT_URL if source is None else source), deadline_s=deadline_s)
        if isinstance(source, RedisCluster):
            return cls(ClusterSource(source), deadline_s=deadline_s)
        if isinstance(source, Redis):
            return cls._borrow(source, deadline_s)
        raise ConfigurationError(f"a URL or a redis.asyncio client is expected, not {type(source).__name__}")

    @classmethod
    def _borrow(cls, client: Redis, deadline_s: float) -> Connection:
        pool = client.connection_pool
        if isinstance(pool, SentinelConnectionPool):
            return cls(SentinelSource(pool), deadline_s=deadline_s)
        if "server" in getattr(pool, "connection_kwargs", ()):
            return cls(embedded.fake_source(client), deadline_s=deadline_s)
        try:
            source: Source = source_of_client(client)
        except (AttributeError, KeyError, TypeError, ConfigurationError) as error:
            logger.warning(
                "connections of our own cannot be derived from this %s (%s): everything shares its pool, and the locks "
                "of a worker are renewed on its own event loop",
                type(client).__name__,
                error,
            )
            return cls(_SharedSource(pool), can_derive=False, deadline_s=deadline_s)
        commands = RedisCommands(BorrowedLinks(pool, size=POOL_SIZE), label=source.label, deadline_s=deadline_s)
        return cls(source, commands=commands, deadline_s=deadline_s)

    @property
    def url_safe(self) -> str:
        """Where it leads, without user, password and options."""
        return self._source.label

    def lane(
        self, *, blocking: bool = False, client_name: str | None = None, deadline_s: float | None = None
    ) -> Commands:
        """One dedicated connection; commands of several tasks wait for each other. The caller closes it.

        `client_name` is what CLIENT LIST shows; a server that refuses names is no obstacle. `blocking` says that the
        lane will wait for jobs; connections do not differ in that today. `deadline_s` bounds its commands more tightly
        than those of the connection.
        """
        return self._dedicated(1, client_name, min(self._deadline_s, deadline_s or self._deadline_s))

    def derive_for_thread(self) -> Connection:
        """The same settings for another event loop; RuntimeError unless `can_derive`. The caller closes it."""
        if not self.can_derive:
            raise RuntimeError("a client whose settings cannot be told serves only the event loop it belongs to")
        return Connection(self._source.for_another_loop(), deadline_s=self._deadline_s)

    def check_prefix(self, prefix: str) -> None:
        """Refuse a prefix whose keys a cluster would spread over its nodes; ConfigurationError names the remedy."""
        if self.is_cluster and not has_hash_tag(prefix):
            tagged = f"{{{prefix.strip('{}') or 'bull'}}}"
            raise ConfigurationError(
                f"on a cluster the prefix needs a hash tag, so that all keys of a queue are on one node: "
                f"use prefix={tagged!r} instead of {prefix!r}"
            )

    async def check_server(self, *, after_s: float = 0.0) -> None:
        """Look once per connection, `after_s` from now, at what about the server endangers jobs, and log it.

        Never fails, also where INFO is denied. One round trip.
        """
        if not self._is_checked:
            self._is_checked = True
            await asyncio.sleep(after_s)
            await server_check.check(self.commands, self.url_safe)

    async def aclose(self) -> None:
        """Close every connection that was opened here; a borrowed client stays open."""
        while self._opened:
            await self._opened.pop().aclose()
        if self._owns_source:
            await self._source.aclose()

    def __repr__(self) -> str:
        return f"<Connection {self.url_safe}>"

    def _dedicated(self, size: int, client_name: str | None, deadline_s: float) -> Commands:
        carrier = self._source.links(size, client_name)
        self._opened.add(carrier)
        return RedisCommands(
            carrier, label=self.url_safe, deadline_s=deadline_s, on_close=lambda: self._opened.discard(carrier)
        )


class _SharedSource:
    """The pool of a client whose settings cannot be told."""

    label = "redis client"

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def links(self, size: int, client_name: str | None) -> Carrier:
        return BorrowedLinks(self._pool, size=size)

    def for_another_loop(self) -> _SharedSource:
        return self

    async def aclose(self) -> None:
        """The pool is not ours."""


def _source_of_url(url: str) -> Source:
    scheme, _, rest = url.partition("://")
    if scheme in {"redis", "rediss", "unix"}:
        return source_of_url(url)
    if scheme == "memory":
        return embedded.memory_source(rest)
    if scheme == "embedded":
        return embedded.embedded_source(rest)
    raise ConfigurationError("the URL must begin with redis://, rediss://, unix://, memory:// or embedded:///")
