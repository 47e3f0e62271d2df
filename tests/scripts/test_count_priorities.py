"""count_priorities.lua"""

from __future__ import annotations

import pytest

from tests.support.script_bench import Bench, Zset

pytestmark = pytest.mark.anyio

LINE = 2**32


async def test_it_counts_each_line(bench: Bench) -> None:
    top = 2_097_151
    scores = {"a": LINE, "b": 2 * LINE - 1, "c": 2 * LINE, "d": top * LINE, "e": (top + 1) * LINE - 1}
    await bench.seed(wait=["1", "2", "3"], prioritized=Zset(scores))

    ran = await bench.run("count_priorities", [(0,), (1,), (2,), (3,), (top,)])

    assert ran.reply == [3, 2, 1, 0, 2]
    assert (ran.keys, ran.events) == ({}, [])
