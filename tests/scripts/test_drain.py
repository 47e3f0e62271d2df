"""drain.lua"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.script_bench import Bench, Zset

pytestmark = pytest.mark.anyio

JOB = {"name": "a"}
SCHEDULED = "repeat:s:500"


@pytest.mark.parametrize("place", ["wait", "paused"])
async def test_the_oldest_of_a_list_are_removed_first(bench: Bench, place: str) -> None:
    await bench.seed({place: ["3", "2", "1"], "1": JOB, "2": JOB, "3": JOB, "1:logs": ["x"]})

    ran = await bench.run("drain", place=place, offset=0, limit=2)

    assert ran.reply == [2, 2]
    assert ran.keys == {place: ["3"], "1": None, "1:logs": None, "2": None}
    assert ran.events == []


@pytest.mark.parametrize("place", ["prioritized", "delayed"])
async def test_the_lowest_of_a_set_are_removed_first(bench: Bench, place: str) -> None:
    await bench.seed({place: Zset({"1": 1, "2": 2, "3": 3}), "1": JOB, "2": JOB, "3": JOB, "marker": Zset({"0": 0})})

    ran = await bench.run("drain", place=place, offset=0, limit=2)

    assert ran.reply == [2, 2]
    assert ran.keys == {place: [("3", 3.0)], "1": None, "2": None}


@pytest.mark.parametrize(
    ("place", "before", "after"),
    [
        ("wait", ["2", SCHEDULED, "1"], [SCHEDULED]),
        ("delayed", Zset({"1": 1, SCHEDULED: 2, "2": 3}), [(SCHEDULED, 2.0)]),
    ],
)
async def test_the_pending_iteration_of_a_scheduler_stays(bench: Bench, place: str, before: Any, after: Any) -> None:
    await bench.seed({place: before, "repeat": Zset({"s": 500}), "1": JOB, "2": JOB, SCHEDULED: {"rjk": "s"}})

    ran = await bench.run("drain", place=place, offset=0, limit=10)

    assert ran.reply == [2, 3]
    assert ran.keys == {place: after, "1": None, "2": None}


async def test_an_earlier_iteration_of_a_scheduler_goes(bench: Bench) -> None:
    await bench.seed({"wait": ["repeat:s:400"], "repeat": Zset({"s": 500}), "repeat:s:400": {"rjk": "s"}})

    ran = await bench.run("drain", place="wait", offset=0, limit=10)

    assert ran.keys == {"wait": None, "repeat:s:400": None}


async def test_jobs_that_earlier_calls_let_stay_are_passed_over(bench: Bench) -> None:
    await bench.seed({"wait": ["2", "1", SCHEDULED], "repeat": Zset({"s": 500}), "1": JOB, "2": JOB})

    ran = await bench.run("drain", place="wait", offset=1, limit=1)

    assert ran.reply == [1, 1]
    assert ran.keys == {"wait": ["2", SCHEDULED], "1": None}


async def test_a_deduplication_id_is_free_again(bench: Bench) -> None:
    await bench.seed({"wait": ["1"], "1": {"deid": "d"}, "de:d": "1", "dn:d": {"name": "x"}})

    ran = await bench.run("drain", place="wait", offset=0, limit=10)

    assert ran.keys == {"wait": None, "1": None, "de:d": None, "dn:d": None}


async def test_a_deduplication_id_of_another_job_stays(bench: Bench) -> None:
    await bench.seed({"wait": ["1"], "1": {"deid": "d"}, "de:d": "2"})

    assert (await bench.run("drain", place="wait", offset=0, limit=10)).keys == {"wait": None, "1": None}


async def test_a_parent_of_the_same_queue_goes_with_its_last_pending_child(bench: Bench) -> None:
    """E27."""
    parent = f"{bench.base}p"
    await bench.seed(
        {
            "wait": ["2", "1"],
            "1": {"parentKey": parent},
            "2": {"parentKey": parent},
            "waiting-children": Zset({"p": 5}),
            "p": {"name": "p"},
            "p:dependencies": {f"{bench.base}1", f"{bench.base}2"},
        }
    )

    first = await bench.run("drain", place="wait", offset=0, limit=1)
    second = await bench.run("drain", place="wait", offset=0, limit=1)

    assert first.keys == {"wait": ["2"], "1": None, "p:dependencies": [f"{bench.base}2"]}
    assert second.keys == {
        "wait": None,
        "2": None,
        "p:dependencies": None,
        "p": None,
        "waiting-children": None,
    }
    assert second.events == []


async def test_a_parent_in_another_queue_becomes_ready_without_an_event(bench: Bench) -> None:
    """E29."""
    other = bench.base.removesuffix("q:") + "other:"
    await bench.client.hset(f"{other}p", mapping={"name": "p"})
    await bench.client.zadd(f"{other}waiting-children", {"p": 5})
    await bench.client.sadd(f"{other}p:dependencies", f"{bench.base}1")
    await bench.seed({"wait": ["1"], "1": {"parentKey": f"{other}p"}})

    ran = await bench.run("drain", place="wait", offset=0, limit=10)

    assert ran.keys == {
        "wait": None,
        "1": None,
        "other:wait": ["p"],
        "other:waiting-children": None,
        "other:p:dependencies": None,
        "other:marker": [("0", 0.0)],
    }


async def test_an_empty_place_writes_nothing(bench: Bench) -> None:
    ran = await bench.run("drain", place="wait", offset=0, limit=10)

    assert (ran.reply, ran.keys, ran.events) == ([0, 0], {}, [])
