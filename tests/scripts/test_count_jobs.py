"""count_jobs.lua"""

from __future__ import annotations

import pytest

from tests.support.script_bench import Bench, Zset

pytestmark = pytest.mark.anyio


async def test_it_counts_every_place(bench: Bench) -> None:
    await bench.seed(
        wait=["1"],
        paused=["1", "2"],
        active=["1", "2", "3"],
        prioritized=Zset({"1": 1}),
        delayed=Zset({"1": 1, "2": 1}),
        waiting_children=Zset({"1": 1, "2": 1, "3": 1}),
        completed=Zset({"1": 1, "2": 1, "3": 1, "4": 1}),
        failed=Zset({"1": 1, "2": 1, "3": 1, "4": 1, "5": 1}),
    )

    ran = await bench.run("count_jobs")

    assert ran.reply == [1, 2, 3, 1, 2, 3, 4, 5]
    assert (ran.keys, ran.events) == ({}, [])


async def test_an_empty_queue_counts_nothing(bench: Bench) -> None:
    assert (await bench.run("count_jobs")).reply == [0] * 8


async def test_a_marker_of_an_old_version_is_dropped_and_not_counted(bench: Bench) -> None:
    await bench.seed(wait=["1", "0:0"], paused=["0:0"])

    ran = await bench.run("count_jobs")

    assert ran.reply[:2] == [1, 0]
    assert ran.keys == {"wait": ["1"], "paused": None}
