"""get_rate_limit_ttl.lua"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.script_bench import Bench

pytestmark = pytest.mark.anyio

#: what, keys before, counter (expiring), max_jobs, whether a life is answered
CASES: list[tuple[str, dict[str, Any], str | None, int, bool]] = [
    ("below the given limit", {}, "1", 2, False),
    ("at the given limit", {}, "2", 2, True),
    ("below the queue's limit", {"meta": {"max": "3"}}, "2", 0, False),
    ("at the queue's limit", {"meta": {"max": "3"}}, "3", 0, True),
    ("the given limit goes first", {"meta": {"max": "3"}}, "2", 2, True),
    ("no limit", {}, "1", 0, True),
    ("no window", {}, None, 2, False),
]


@pytest.mark.parametrize(
    ("keys", "counter", "max_jobs", "is_limited"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
async def test_it_answers_the_life_of_the_window_when_the_limit_is_reached(
    bench: Bench, keys: dict[str, Any], counter: str | None, max_jobs: int, is_limited: bool
) -> None:
    """E162."""
    await bench.seed(keys)
    if counter is not None:
        await bench.client.set(f"{bench.base}limiter", counter, px=60_000)

    ran = await bench.run("get_rate_limit_ttl", max_jobs=max_jobs)

    assert (50_000 < ran.reply <= 60_000) if is_limited else ran.reply == 0
    assert (ran.keys, ran.events) == ({}, [])


async def test_without_any_limit_a_missing_window_is_minus_two(bench: Bench) -> None:
    assert (await bench.run("get_rate_limit_ttl", max_jobs=0)).reply == -2
