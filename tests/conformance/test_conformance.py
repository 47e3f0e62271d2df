"""Every scenario gives the report of real BullMQ: the same results, errors by code, and every key.

The goldens were written by BullMQ 6.7.0. Where pyqueue differs on purpose, `ruled/` holds the exact difference and its
reason. What is not built yet is in one table, which can only shrink.
"""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.conformance.execution import run_scenario
from tests.conformance.normal_form import differences, parse_json
from tests.conformance.ruled import RULED, SCENARIOS, expected, load

pytestmark = pytest.mark.anyio

#: What a scenario needs that pyqueue has not built yet.
NOT_BUILT: Final[dict[str, str]] = {}


def _not_built(report: Any) -> list[str]:
    return [result["op"] for result in report["results"] if result.get("error", {}).get("message") == "not built"]


@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_scenario_leaves_the_keys_of_bullmq(name: str, redis_url: str) -> None:
    report = parse_json(await run_scenario(load("scenarios", name), redis_url))
    if name in NOT_BUILT:
        assert _not_built(report), f"{name} runs now: take it out of NOT_BUILT"
    else:
        assert differences(expected(name), report) == []


def test_the_tables_name_existing_scenarios() -> None:
    assert set(NOT_BUILT) | set(RULED) <= set(SCENARIOS)
    assert not set(NOT_BUILT) & set(RULED)
    assert all(load("ruled", name)["reason"] for name in RULED)


@pytest.mark.parametrize("name", RULED)
def test_a_ruling_changes_its_golden(name: str) -> None:
    assert differences(load("goldens", name), expected(name))
