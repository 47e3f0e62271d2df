"""get_state.lua"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.script_bench import Bench, Zset

pytestmark = pytest.mark.anyio

PLACES: list[tuple[str, Any, str]] = [
    ("completed", Zset({"1": 1}), "completed"),
    ("failed", Zset({"1": 1}), "failed"),
    ("delayed", Zset({"1": 1}), "delayed"),
    ("prioritized", Zset({"1": 1}), "prioritized"),
    ("waiting-children", Zset({"1": 1}), "waiting-children"),
    ("active", ["2", "1"], "active"),
    ("wait", ["2", "1"], "waiting"),
    ("paused", ["2", "1"], "waiting"),
]


@pytest.mark.parametrize(("place", "content", "state"), PLACES, ids=[place for place, _, _ in PLACES])
async def test_it_names_the_state_that_holds_the_job(bench: Bench, place: str, content: Any, state: str) -> None:
    await bench.seed({place: content, "1": {"name": "a"}})

    ran = await bench.run("get_state", job_id="1")

    assert ran.reply == state
    assert (ran.keys, ran.events) == ({}, [])


async def test_a_missing_job_is_unknown(bench: Bench) -> None:
    assert (await bench.run("get_state", job_id="1")).reply == "unknown"


async def test_a_job_that_no_state_holds_is_unknown(bench: Bench) -> None:
    await bench.seed({"1": {"name": "orphan"}, "wait": ["2"]})

    assert (await bench.run("get_state", job_id="1")).reply == "unknown"


async def test_an_active_job_without_a_hash_is_active(bench: Bench) -> None:
    await bench.seed(active=["1"])

    assert (await bench.run("get_state", job_id="1")).reply == "active"
