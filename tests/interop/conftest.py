"""Fixtures of the interop tests: a Node process for the session, both sides on one prefix, and the pairs of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final, NamedTuple, Protocol

import pytest

from tests.interop.node import HERE, NODE_MODULES, NodeProcess
from tests.interop.report import SHOWN, summary
from tests.interop.sides import NodeSide, PythonSide, Side
from tests.support.node import skip_without_node
from tests.support.server import RedisServer

_SUBJECTS: Final = pytest.StashKey[dict[str, str]]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Remember what the modules of this directory are about, for the summary."""
    modules = {
        item.nodeid.partition("::")[0]: item.module.__doc__ or ""
        for item in session.items
        if isinstance(item, pytest.Function) and item.path.parent == HERE
    }
    session.config.stash[_SUBJECTS] = {path: doc.partition("\n")[0] for path, doc in modules.items()}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what was shown."""
    subjects = config.stash.get(_SUBJECTS, {})
    reports = [
        report
        for name in ("passed", "failed")
        for report in terminalreporter.getreports(name)
        if report.nodeid.partition("::")[0] in subjects
    ]
    if reports:
        terminalreporter.section("interop")
        terminalreporter.write_line(summary(subjects, reports))


class Pair(NamedTuple):
    """Two sides, one of them for the part that the other one is not asked to play."""

    first: Side
    other: Side


@pytest.fixture(scope="session")
def _node_process(_server_process: RedisServer) -> Iterator[NodeProcess]:
    skip_without_node(NODE_MODULES)
    with NodeProcess.started(_server_process.port) as process:
        yield process


@pytest.fixture
async def node(_node_process: NodeProcess, server: RedisServer, prefix: str) -> AsyncIterator[NodeSide]:
    """BullMQ for Node."""
    side = NodeSide(_node_process, prefix)
    yield side
    await side.close()


@pytest.fixture
async def python(server: RedisServer, prefix: str) -> AsyncIterator[PythonSide]:
    """pyqueue."""
    async with PythonSide(server.url, prefix) as side:
        yield side


class Show(Protocol):
    """Puts a line with figures into the summary of `make interop`."""

    def __call__(self, what: str, /, **figures: float) -> None: ...


@pytest.fixture
def show(record_property: Callable[[str, object], None]) -> Show:
    """Tell what was shown, for the summary."""

    def tell(what: str, /, **figures: float) -> None:
        told = (f"{_figure(value)} {name.replace('_', ' ')}" for name, value in figures.items())
        record_property(SHOWN, (what, ", ".join(told)))

    return tell


def _figure(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.1f}"


@pytest.fixture(params=["node", "python"])
def cross(request: pytest.FixtureRequest, node: NodeSide, python: PythonSide) -> Pair:
    """Each side once with the leading part, named by the test's id, the other one with the other part."""
    return Pair(node, python) if request.param == "node" else Pair(python, node)
