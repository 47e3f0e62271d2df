"""Fixtures that all tests share.

Which one to ask for:

- `redis_url`: the URL for `Queue(connection=...)`; the test runs twice, on fakeredis and on a real server.
- `connection`: an open `pyqueue._redis.connection.Connection` to the same database, closed afterwards.
- `redis_client`: a plain `redis.asyncio` client of the same database, answers str; look behind pyqueue's back.
- `prefix`: a key prefix nobody else uses.
- `backend`: "fake" or "redis", for the rare test that must know.
- `server`: the real server alone; the test runs once, and says so with `@pytest.mark.needs_server`.

Asynchronous tests are marked `pytestmark = pytest.mark.anyio`. Every test begins with an empty database.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import hypothesis
import pytest
from fakeredis import FakeAsyncRedis
from redis.asyncio import Redis

from pyqueue._redis import embedded
from pyqueue._redis.connection import Connection
from tests.support.server import RedisServer

# How fast this machine is, with other tests beside this one, is no property of the code. Every run sees the same
# examples, so that a change is what breaks a test; `pytest --hypothesis-profile=thorough` looks elsewhere, and longer.
hypothesis.settings.register_profile(
    "pyqueue", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], print_blob=True, derandomize=True
)
hypothesis.settings.register_profile(
    "thorough", hypothesis.settings.get_profile("pyqueue"), derandomize=False, max_examples=2000
)
hypothesis.settings.load_profile("pyqueue")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """asyncio: redis-py runs on nothing else."""
    return "asyncio"


@pytest.fixture(scope="session")
def _server_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer.started(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def server(_server_process: RedisServer) -> RedisServer:
    """A real server without keys, one process for the whole session (of each xdist worker)."""
    _server_process.flush()
    return _server_process


@pytest.fixture(params=["fake", "redis"])
def backend(request: pytest.FixtureRequest) -> str:
    """The kind of server behind `redis_url`."""
    kind: str = request.param
    return kind


@pytest.fixture
def redis_url(backend: str, request: pytest.FixtureRequest) -> str:
    """URL of an empty database."""
    if backend == "fake":
        return f"memory://test-{uuid.uuid4().hex}"
    server: RedisServer = request.getfixturevalue("server")
    return server.url


@pytest.fixture
async def connection(redis_url: str) -> AsyncIterator[Connection]:
    """An open connection of the library, closed at the end."""
    connection = Connection.open(redis_url)
    yield connection
    await connection.aclose()


@pytest.fixture
async def redis_client(redis_url: str) -> AsyncIterator[Any]:
    """A plain client of the same database that answers str, independent of the library's connections."""
    if redis_url.startswith("memory://"):
        name = redis_url.removeprefix("memory://")
        embedded.memory_source(name)  # creates the server of that name
        client: Any = FakeAsyncRedis(server=embedded._servers[name], decode_responses=True)
    else:
        client = Redis.from_url(redis_url, decode_responses=True)
    yield client
    await client.aclose()


@pytest.fixture
def prefix() -> str:
    """A key prefix of this test's own."""
    return f"t{uuid.uuid4().hex[:8]}"
