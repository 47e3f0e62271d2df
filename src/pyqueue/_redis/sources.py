"""Where connections come from: a URL or a client that was handed to us, turned into settings to dial with.

Every connection that we open gets our own settings (RESP2, bytes, no socket timeout, no hidden repetition, keepalive),
whatever the URL's options or the client's say: redis-py's defaults would cut a blocking pop after 5 s and send a
command again up to ten times. Cluster clients are in `cluster`, `memory://` and `embedded://` in `embedded`. Called by
`connection`.
"""

from __future__ import annotations

import contextlib
import logging
import re
import socket
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol, cast
from urllib.parse import unquote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.connection import Connection as TcpConnection
from redis.asyncio.connection import SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from pyqueue._redis.links import Carrier, Links
from pyqueue._redis.streams import Wire, abort
from pyqueue._redis.tls import TlsContext
from pyqueue.errors import ConfigurationError

logger = logging.getLogger("pyqueue.connection")

#: Sentinels are asked one after another; a dead one must not use up the deadline of the command that waits.
_SENTINEL_TIMEOUT_S: Final = 1.0
# A dead peer of an idle connection is noticed after 30 + 3 * 5 s; commands have their deadline.
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
#: Settings of a client that belong to its pool or to its way of repeating commands, not to one connection.
_NOT_COPIED: Final = frozenset(
    {"check_connection", "connection_pool", "is_master"}
    | {"encoder_class", "event_dispatcher", "health_check_interval", "himport_registry"}
    | {"driver_info", "legacy_responses", "lib_name", "lib_version"}
)
_NOT_COPIED_PREFIXES: Final = ("maint", "oss_cluster", "orig_", "retry")
#: The path of a URL: none, or the number of a database.
_DATABASE: Final = "/?|/[0-9]+/?"


# redis-py leaves these two without types.
_new_sentinel: Final = cast("Callable[..., Sentinel]", Sentinel)
_new_sentinel_pool: Final = cast("Callable[..., Any]", SentinelConnectionPool)


class Source(Protocol):
    """Opens connections to one server, or to whichever server has its role at the moment."""

    #: What it is, for logs and errors; without user, password and options.
    label: str

    def links(self, size: int, client_name: str | None) -> Carrier:
        """Up to `size` connections of our own, opened when they are needed."""
        ...

    def for_another_loop(self) -> Source:
        """The same settings for use in another event loop."""
        ...

    async def aclose(self) -> None:
        """Close what dialling itself has opened."""
        ...


class ServerSource:
    """One server at a fixed address (TCP, TLS or Unix socket), or a fakeredis server in this process."""

    def __init__(
        self, connection_class: type[Any], settings: dict[str, Any], label: str, tls: TlsContext | None = None
    ) -> None:
        """tls: where this is one of several servers with the same settings, what they share."""
        self.label = label
        self._tls = tls or TlsContext()
        self._class = connection_class
        self._settings = our_settings(connection_class, settings)
        self._client_name = settings.get("client_name")
        self._make()  # a wrong option shows now, not at the first command

    def links(self, size: int, client_name: str | None) -> Carrier:
        return Links(partial(self.dial, client_name), size=size)

    async def dial(self, client_name: str | None) -> Wire:
        """A new connection, ready for commands; redis.ConnectionError if there is none to be had."""
        wire = self._make()
        await self._tls.share(wire)
        await prepare(wire, client_name or self._client_name)
        return wire

    def for_another_loop(self) -> ServerSource:
        return self

    async def aclose(self) -> None:
        """Dialling keeps nothing open."""

    def _make(self) -> Wire:
        try:
            return cast(Wire, self._class(**self._settings))
        except TypeError as error:
            raise ConfigurationError(f"{self.label}: redis-py does not accept these options: {error}") from None


class SentinelSource:
    """The master of a Sentinel service, asked for at every dial, so that a failover is followed."""

    def __init__(self, pool: SentinelConnectionPool) -> None:
        if not pool.is_master:
            raise ConfigurationError("this Sentinel client reads from replicas: pass the one of master_for()")
        self.label = f"sentinel service {pool.service_name}"
        self._borrowed = pool
        self._tls = TlsContext()
        self._client_name = pool.connection_kwargs.get("client_name")
        given = pool.sentinel_manager
        addresses = [client.connection_pool.connection_kwargs for client in given.sentinels]
        self._sentinel = _new_sentinel(
            [(address["host"], address["port"]) for address in addresses],
            min_other_sentinels=given.min_other_sentinels,
            sentinel_kwargs={
                "socket_timeout": _SENTINEL_TIMEOUT_S,
                "socket_connect_timeout": _SENTINEL_TIMEOUT_S,
                **given.sentinel_kwargs,
                "retry": Retry(NoBackoff(), 0),
            },
            force_master_ip=getattr(given, "_force_master_ip", None),
        )
        settings = our_settings(pool.connection_class, pool.connection_kwargs)
        # Never used as a pool: its connections ask it for the master's address when they connect.
        self._pool = _new_sentinel_pool(
            pool.service_name, self._sentinel, connection_class=pool.connection_class, **settings
        )

    def links(self, size: int, client_name: str | None) -> Carrier:
        return Links(partial(self._dial, client_name), size=size)

    async def _dial(self, client_name: str | None) -> Wire:
        wire: Wire = self._pool.make_connection()
        await self._tls.share(wire)
        try:
            await prepare(wire, client_name or self._client_name)
        except MasterNotFoundError:
            # Its text describes every Sentinel's client, in older versions of redis-py with the password.
            raise RedisConnectionError(f"{self.label}: no Sentinel in reach names a master") from None
        return wire

    def for_another_loop(self) -> SentinelSource:
        return SentinelSource(self._borrowed)

    async def aclose(self) -> None:
        for client in self._sentinel.sentinels:
            await client.aclose()


def source_of_url(url: str) -> ServerSource:
    """Settings of redis://, rediss:// and unix:// URLs, with redis-py's options in the query."""
    scheme = url.partition("://")[0]
    try:
        settings: dict[str, Any] = dict(parse_url(url))
        if (scheme != "unix" and not re.fullmatch(_DATABASE, unquote(urlsplit(url).path))) or settings.get("db", 0) < 0:
            raise ValueError  # what the parser takes for database 0
    except ValueError:
        # The message of the parser may hold a part of the password.
        form = "/path/of/socket?db=0" if scheme == "unix" else "user:password@host:6379/0"
        raise ConfigurationError(
            f"cannot read this {scheme}:// URL (not shown: it may hold a password): it has the form {scheme}://{form}, "
            "where port and database are numbers, and a '/' or '@' of a password is written %2F or %40"
        ) from None
    connection_class = settings.pop("connection_class", TcpConnection)
    settings.pop("max_connections", None)
    return ServerSource(connection_class, settings, label_of(settings, scheme))


def source_of_client(client: Redis) -> ServerSource:
    """Settings of a borrowed client; AttributeError or ConfigurationError if its pool does not tell them."""
    pool = client.connection_pool
    settings = dict(pool.connection_kwargs)
    scheme = "rediss" if issubclass(pool.connection_class, SSLConnection) else "redis"
    return ServerSource(pool.connection_class, settings, label_of(settings, scheme))


def label_of(settings: dict[str, Any], scheme: str) -> str:
    """Address without user, password and options, for logs and errors."""
    if settings.get("path"):
        return f"unix://{settings['path']}"
    host = str(settings.get("host", "localhost"))
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{settings.get('port', 6379)}/{settings.get('db') or 0}"


def our_settings(connection_class: type[Any], given: dict[str, Any]) -> dict[str, Any]:
    """Settings for connections of our own: address, credentials and TLS as given, the rest as a queue needs it."""
    settings = {
        name: value
        for name, value in given.items()
        if name not in _NOT_COPIED and not name.startswith(_NOT_COPIED_PREFIXES)
    }
    settings |= {
        "protocol": 2,
        "decode_responses": False,
        "encoding": "utf-8",
        "encoding_errors": "strict",
        "socket_timeout": None,
        "retry": Retry(NoBackoff(), 0),
        "client_name": None,  # set by prepare, which ignores a refusal
    }
    if issubclass(connection_class, TcpConnection):
        settings["socket_keepalive"] = True
        settings.setdefault("socket_keepalive_options", _keepalive_options())
    if issubclass(connection_class, SSLConnection):
        verifies = str(settings.get("ssl_cert_reqs", "required")) not in {"none", "VerifyMode.CERT_NONE", "0"}
        settings.setdefault("ssl_check_hostname", verifies)
    return settings


async def prepare(wire: Any, client_name: str | None) -> None:
    """Connect and give the connection its name; a server or ACL that refuses names is no obstacle."""
    # CLIENT SETINFO would be denied (and logged by the server) under a least-privilege ACL.
    for attribute in ("driver_info", "lib_name", "lib_version"):
        if hasattr(wire, attribute):
            setattr(wire, attribute, None)
    try:
        await wire.connect()
        if client_name:
            await wire.send_command("CLIENT", "SETNAME", client_name, check_health=False)
            with contextlib.suppress(ResponseError):
                await wire.read_response()
    except BaseException:
        await abort(wire)  # redis-py leaves the socket open when AUTH or SELECT is cancelled
        raise


def _keepalive_options() -> dict[int, int]:
    return {getattr(socket, name): value for name, value in _KEEPALIVE.items() if hasattr(socket, name)}
