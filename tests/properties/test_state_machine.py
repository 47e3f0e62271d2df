"""Whatever producers, workers and administrators do in whatever order, every queue stays consistent.

The machine of `machine` is run on fakeredis and on a real server. `pytest --hypothesis-profile=thorough` looks longer
and elsewhere each time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Final

import pytest
import redis
from fakeredis import FakeRedis
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from pyqueue._redis import embedded
from pyqueue._redis.connection import Connection
from pyqueue.states import TRANSITIONS
from tests.properties.machine import Bench, Machine

#: Their operations are not built yet.
FLOWS: Final = {"wait_for_children", "release_parent", "fail_parent"}
#: Share of the profile's examples: one takes about 0.1 s on a server and 0.2 s on fakeredis.
SHARE: Final = {"redis": 2.0, "fake": 0.8}


@pytest.fixture
def bench(redis_url: str) -> Iterator[Bench]:
    with asyncio.Runner() as runner, client_of(redis_url) as client:
        connection = Connection.open(redis_url)
        yield Bench(runner, connection, client)
        runner.run(connection.aclose())


def client_of(url: str) -> Any:
    """A plain synchronous client, independent of the library's connections."""
    if not url.startswith("memory://"):
        return redis.Redis.from_url(url, decode_responses=True)
    name = url.removeprefix("memory://")
    embedded.memory_source(name)  # creates the server of that name
    return FakeRedis(server=embedded._servers[name], decode_responses=True)


def machine_on(bench: Bench) -> type[Machine]:
    class MachineHere(Machine):
        def __init__(self) -> None:
            super().__init__(bench)

    return MachineHere


@pytest.mark.timeout(0)  # the profile bounds it, by the number of examples
def test_a_queue_is_consistent_whatever_happens_to_it(bench: Bench, backend: str) -> None:
    profile = settings()
    bounded = settings(
        max_examples=round(profile.max_examples * SHARE[backend]),
        stateful_step_count=40,
        # Tracing, for an explanation, takes minutes.
        phases=[phase for phase in profile.phases if phase is not Phase.explain],
    )
    run_state_machine_as_test(machine_on(bench), settings=bounded)
    if backend == "redis":  # the shorter run may miss one
        assert bench.driven.keys() == TRANSITIONS.keys() - FLOWS
