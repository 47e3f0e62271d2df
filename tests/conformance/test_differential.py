"""Random scenarios leave the same keys and results as on real BullMQ; `make differential` runs as many as one likes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from tests.conformance.differential import DEFAULT, Comparison, Oracle
from tests.conformance.generate import Generator
from tests.interop.node import NODE_MODULES
from tests.support.node import skip_without_node
from tests.support.server import RedisServer

pytestmark = [pytest.mark.needs_server, pytest.mark.needs_node]

_LENGTH: Final = 40
_FEATURES: Final = (DEFAULT, ("core", "jobs", "events"), ("core", "jobs", "schedulers"), ("core", "jobs", "flows"))
#: Scenarios of one test. An obliterated queue that is used again, for example, comes in every eighth.
_SCENARIOS: Final = 30


@pytest.fixture(scope="module")
def oracle(_server_process: RedisServer) -> Iterator[Oracle]:
    skip_without_node(NODE_MODULES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BULLMQ_NODE_MODULES", str(NODE_MODULES))
        with Oracle.started(_server_process.port) as started:
            yield started


@pytest.mark.timeout(120)
@pytest.mark.parametrize("features", _FEATURES, ids="-".join)
@pytest.mark.parametrize("seed", [1, 100_001])
def test_random_scenarios_end_as_on_bullmq(
    oracle: Oracle, server: RedisServer, features: tuple[str, ...], seed: int
) -> None:
    comparison = Comparison(oracle, server.url)
    for one in range(seed, seed + _SCENARIOS):
        scenario = Generator(one, _LENGTH, features).scenario()
        found = comparison.differences(scenario)
        if found:  # a key may have expired in between, on a machine that stood still
            found = comparison.differences(scenario)
        assert found == [], f"make differential ARGS='--seed {one} --count 1 --features {','.join(features)}'"
