"""get_metrics.lua"""

from __future__ import annotations

import pytest

from tests.support.script_bench import Bench

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("state", ["completed", "failed"])
async def test_it_reads_one_series(bench: Bench, state: str) -> None:
    await bench.seed(
        {
            f"metrics:{state}": {"count": "9", "prevTS": "1700000000000", "prevCount": "7"},
            f"metrics:{state}:data": ["3", "0", "4"],
        }
    )

    ran = await bench.run("get_metrics", state=state, first=1, last=-1)

    assert ran.reply == ["9", "1700000000000", "7", 3, "0", "4"]
    assert (ran.keys, ran.events) == ({}, [])


async def test_nothing_counted_yet_is_zero(bench: Bench) -> None:
    assert (await bench.run("get_metrics", state="failed", first=0, last=-1)).reply == ["0", "0", "0", 0]
