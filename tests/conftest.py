"""Fixtures that all tests share.

Which one to ask for:

- `source`: what `Queue(connection=...)` takes; the test runs twice, on fakeredis and on a real server.
- `redis_url`: the same, where only a URL will do.
- `connection`: an open `pyqueue._redis.connection.Connection` to the same database, closed afterwards.
- `redis_client`: a plain `redis.asyncio` client of the same database, answers str; look behind pyqueue's back.
- `prefix`: a key prefix nobody else uses.
- `backend`: the kind of server, for the rare test that must know.
- `server`: the real server alone; the test runs once, and says so with `@pytest.mark.needs_server`.

A test marked `every_backend` runs on all kinds of `tests/support/backends.py`. `pytest --backend cluster` runs the
tests that take a backend on that one, and no others; with `--backend redis` also those that take none. A test that
cannot run on some kind is marked `not_on("cluster", reason="...")`.

Asynchronous tests are marked `pytestmark = pytest.mark.anyio`. Every test begins with an empty database.
"""

from __future__ import annotations

import signal
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import hypothesis
import pytest

from pyqueue._redis.connection import Connection
from pyqueue.queue import ConnectionSource
from tests.support.backends import OTHERS, URLS, USUAL, Backend, Backends, close_client
from tests.support.certificates import server_speaks_tls
from tests.support.server import RedisServer

# A shell starts what it puts into the background with SIGINT ignored, and programs of tests would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

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


@pytest.fixture(scope="session")
def _backends(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Backends]:
    directory = tmp_path_factory.mktemp("backends")
    with Backends(directory, lambda: request.getfixturevalue("_server_process")) as backends:
        yield backends


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> str:
    """The kind of server behind `source`."""
    kind: str = request.param
    if kind == "tls" and not server_speaks_tls():
        pytest.skip("this server was built without TLS: install redis-server")
    return kind


@pytest.fixture
def running_backend(backend: str, _backends: Backends) -> Backend:
    """The server behind `source`, without keys."""
    return _backends.get(backend)


@pytest.fixture
async def source(running_backend: Backend, anyio_backend: str) -> AsyncIterator[ConnectionSource]:
    """A URL of an empty database, or a client of it that is closed at the end."""
    source = running_backend.source()
    yield source
    if not isinstance(source, str):
        await close_client(source)


@pytest.fixture
def redis_url(running_backend: Backend) -> str:
    """URL of an empty database."""
    return str(running_backend.source())


@pytest.fixture
async def connection(source: ConnectionSource) -> AsyncIterator[Connection]:
    """An open connection of the library, closed at the end."""
    connection = Connection.open(source)
    yield connection
    await connection.aclose()


@pytest.fixture
async def redis_client(running_backend: Backend) -> AsyncIterator[Any]:
    """A plain client of the same database that answers str, independent of the library's connections."""
    client = running_backend.observer()
    yield client
    await client.aclose()


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """A key prefix of this test's own; on a cluster with a hash tag."""
    own = f"t{uuid.uuid4().hex[:8]}"
    on_cluster = "backend" in request.fixturenames and request.getfixturevalue("backend") == "cluster"
    return f"{{{own}}}" if on_cluster else own


# ---------------------------------------------------------------------------------------------- which tests run where


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--backend", choices=(*USUAL, *OTHERS), help="run tests that take a backend on this one only")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    test = metafunc.definition
    chosen_itself = any("backend" in mark.args[0] for mark in test.iter_markers("parametrize"))
    if "backend" not in metafunc.fixturenames or chosen_itself:
        return
    chosen = metafunc.config.getoption("--backend")
    kinds = (chosen,) if chosen else (*USUAL, *(OTHERS if test.get_closest_marker("every_backend") else ()))
    excluded = {kind: mark.kwargs["reason"] for mark in test.iter_markers("not_on") for kind in mark.args}
    if "redis_url" in metafunc.fixturenames:
        excluded |= dict.fromkeys(set(OTHERS) - set(URLS), "it has no URL")
    parameters = []
    for kind in kinds:
        if kind in OTHERS and kind in excluded and not chosen:
            continue
        marks = [pytest.mark.skip(reason=f"not on {kind}: {excluded[kind]}")] if kind in excluded else []
        if kind in OTHERS and not chosen:
            marks.append(pytest.mark.xdist_group(kind))  # one process of a parallel run starts it, for all its tests
            marks.append(pytest.mark.timeout(60))  # of which the first waits until it has started
        parameters.append(pytest.param(kind, marks=marks))
    metafunc.parametrize("backend", parameters, indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    chosen = config.getoption("--backend")
    if not chosen:
        return
    wanted = [item for item in items if _is_wanted(item, chosen)]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(wanted)])
    items[:] = wanted


def _is_wanted(item: pytest.Item, chosen: str) -> bool:
    call = getattr(item, "callspec", None)
    takes_one = call is not None and "backend" in call.params
    return takes_one or (chosen == "redis" and "backend" not in getattr(item, "fixturenames", ()))
