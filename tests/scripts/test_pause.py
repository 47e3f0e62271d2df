"""pause.lua"""

from __future__ import annotations

import pytest

from tests.support.script_bench import Bench, Zset

pytestmark = pytest.mark.anyio


async def test_it_sets_the_flag_and_deletes_the_marker(bench: Bench) -> None:
    await bench.seed(wait=["2", "1"], marker=Zset({"0": 0}), active=["3"])

    ran = await bench.run("pause")

    assert ran.reply == 1
    assert ran.keys == {"meta": {"opts.maxLenEvents": "10000", "paused": "1"}, "marker": None}
    assert ran.events == [{"event": "paused"}]


async def test_a_paused_queue_only_announces_it_again(bench: Bench) -> None:
    await bench.seed(meta={"paused": "1"})

    ran = await bench.run("pause")

    assert ran.keys == {}
    assert ran.events == [{"event": "paused"}]
