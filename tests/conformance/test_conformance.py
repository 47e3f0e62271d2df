"""Every scenario gives the report of real BullMQ: the same results, errors by code, and every key.

The goldens were written by BullMQ 6.7.0. Where pyqueue differs on purpose, `ruled/` holds the exact difference and its
reason.
"""

from __future__ import annotations

import pytest

from tests.conformance.execution import run_scenario
from tests.conformance.normal_form import differences, parse_json
from tests.conformance.ruled import RULED, SCENARIOS, expected, load

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_scenario_leaves_the_keys_of_bullmq(name: str, redis_url: str) -> None:
    report = parse_json(await run_scenario(load("scenarios", name), redis_url))
    assert differences(expected(name), report) == []


def test_the_tables_name_existing_scenarios() -> None:
    assert set(RULED) <= set(SCENARIOS)
    assert all(load("ruled", name)["reason"] for name in RULED)


@pytest.mark.parametrize("name", RULED)
def test_a_ruling_changes_its_golden(name: str) -> None:
    assert differences(load("goldens", name), expected(name))
