"""resume.lua"""

from __future__ import annotations

import pytest

from tests.support.script_bench import Bench, Zset

pytestmark = pytest.mark.anyio

META = {"opts.maxLenEvents": "10000"}


async def test_it_clears_the_flag_and_marks_ready_jobs(bench: Bench) -> None:
    await bench.seed(meta={"paused": "1"}, prioritized=Zset({"1": 1}))

    ran = await bench.run("resume", is_first=1, limit=10)

    assert ran.reply == 0
    assert ran.keys == {"meta": META, "marker": [("0", 0.0)]}
    assert ran.events == [{"event": "resumed"}]


async def test_without_ready_jobs_it_marks_the_next_delayed_one(bench: Bench) -> None:
    await bench.seed(meta={"paused": "1"}, delayed=Zset({"1": 1_700_000_000_123 * 4096}))

    ran = await bench.run("resume", is_first=1, limit=10)

    assert ran.keys == {"meta": META, "marker": [("1", 1_700_000_000_123.0)]}


async def test_an_empty_queue_gets_no_marker(bench: Bench) -> None:
    await bench.seed(meta={"paused": "1"})

    ran = await bench.run("resume", is_first=1, limit=10)

    assert ran.keys == {"meta": META}


async def test_jobs_set_aside_become_the_wait_list(bench: Bench) -> None:
    await bench.seed(meta={"paused": "1"}, paused=["3", "2", "1"])

    ran = await bench.run("resume", is_first=1, limit=2)

    assert ran.reply == 0
    assert ran.keys == {"meta": META, "paused": None, "wait": ["3", "2", "1"], "marker": [("0", 0.0)]}


async def test_jobs_set_aside_are_served_before_the_waiting_ones_in_slices(bench: Bench) -> None:
    await bench.seed(meta={"paused": "1"}, paused=["3", "2", "1"], wait=["5", "4"])

    first = await bench.run("resume", is_first=1, limit=2)
    second = await bench.run("resume", is_first=0, limit=2)

    assert first.reply == 1
    assert first.keys == {
        "meta": META,
        "paused": ["1"],
        "wait": ["5", "4", "3", "2"],
        "marker": [("0", 0.0)],
    }
    assert first.events == [{"event": "resumed"}]
    assert second.reply == 0
    assert second.keys == {"paused": None, "wait": ["5", "4", "3", "2", "1"]}
    assert second.events == []


async def test_a_later_slice_does_not_resume_a_queue_that_was_paused_again(bench: Bench) -> None:
    await bench.seed(meta={"paused": "1"}, paused=["1"], wait=["2"])

    ran = await bench.run("resume", is_first=0, limit=2)

    assert ran.keys == {"paused": None, "wait": ["2", "1"]}
    assert ran.events == []
