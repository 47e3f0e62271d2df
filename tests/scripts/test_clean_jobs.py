"""clean_jobs.lua"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.script_bench import NOW, Bench, Zset

pytestmark = pytest.mark.anyio

OLD, NEW = str(NOW - 1000), str(NOW - 999)


def args(place: str, **more: Any) -> dict[str, Any]:
    return {"place": place, "grace_ms": 1000, "offset": 0, "limit": 10, "carried": 0, "announce": 0, **more}


def cleaned(count: int) -> list[dict[str, str]]:
    return [{"event": "cleaned", "count": str(count)}]


@pytest.mark.parametrize("state", ["completed", "failed"])
async def test_finished_jobs_are_old_by_their_finish(bench: Bench, state: str) -> None:
    job = {"timestamp": "1"}
    await bench.seed({state: Zset({"1": NOW - 2000, "2": NOW - 1000, "3": NOW - 999}), "1": job, "2": job, "3": job})

    ran = await bench.run("clean_jobs", **args(state))

    assert ran.reply == [2, 1, "1", "2"]
    assert ran.keys == {state: [("3", NOW - 999)], "1": None, "2": None}
    assert ran.events == cleaned(2)


#: place, field that decides, fields that would decide otherwise
AGES: list[tuple[str, str, tuple[str, ...]]] = [
    ("delayed", "processedOn", ("timestamp",)),
    ("delayed", "timestamp", ()),
    ("prioritized", "timestamp", ()),
    ("wait", "finishedOn", ("processedOn", "timestamp")),
    ("wait", "processedOn", ("timestamp",)),
    ("wait", "timestamp", ()),
    ("active", "processedOn", ("timestamp",)),
]


@pytest.mark.parametrize(("place", "field", "later"), AGES)
async def test_other_jobs_are_old_by_the_first_time_they_have(
    bench: Bench, place: str, field: str, later: tuple[str, ...]
) -> None:
    is_list = place in {"wait", "active"}
    await bench.seed(
        {
            place: ["2", "1"] if is_list else Zset({"1": 1, "2": 2}),
            "1": {field: OLD, **dict.fromkeys(later, NEW)},
            "2": {field: NEW, **dict.fromkeys(later, OLD)},
        }
    )

    ran = await bench.run("clean_jobs", **args(place))

    assert ran.reply == [2, 1, "1"]
    assert ran.keys == {place: ["2"] if is_list else [("2", 2.0)], "1": None}
    assert ran.events == cleaned(1)


async def test_a_job_without_a_time_is_old(bench: Bench) -> None:
    await bench.seed({"wait": ["1"], "1": {"name": "a"}})

    assert (await bench.run("clean_jobs", **args("wait"))).keys == {"wait": None, "1": None}


async def test_an_active_job_with_a_lock_stays(bench: Bench) -> None:
    await bench.seed({"active": ["2", "1"], "1": {"timestamp": OLD}, "1:lock": "t", "2": {"timestamp": OLD}})

    ran = await bench.run("clean_jobs", **args("active"))

    assert ran.reply == [2, 1, "2"]
    assert ran.keys == {"active": ["1"], "2": None}


async def test_the_pending_iteration_of_a_scheduler_stays(bench: Bench) -> None:
    iteration = "repeat:s:500"
    await bench.seed({"delayed": Zset({iteration: 1}), "repeat": Zset({"s": 500}), iteration: {"timestamp": OLD}})

    ran = await bench.run("clean_jobs", **args("delayed"))

    assert ran.reply == [1, 1]
    assert ran.keys == {}


async def test_a_full_slice_is_announced_with_a_later_one(bench: Bench) -> None:
    await bench.seed({"completed": Zset({"1": 1, "2": 2, "3": 3})})

    first = await bench.run("clean_jobs", **args("completed", limit=2))
    second = await bench.run("clean_jobs", **args("completed", limit=2, carried=2))

    assert (first.reply, first.events) == ([2, 0, "1", "2"], [])
    assert (second.reply, second.events) == ([1, 1, "3"], cleaned(3))


async def test_a_slice_is_announced_on_demand(bench: Bench) -> None:
    await bench.seed({"completed": Zset({"1": 1, "2": 2})})

    ran = await bench.run("clean_jobs", **args("completed", limit=1, announce=1))

    assert (ran.reply, ran.events) == ([1, 1, "1"], cleaned(1))


async def test_jobs_that_earlier_calls_let_stay_are_passed_over(bench: Bench) -> None:
    await bench.seed({"wait": ["2", "1"], "1": {"timestamp": NEW}, "2": {"timestamp": OLD}})

    ran = await bench.run("clean_jobs", **args("wait", offset=1, limit=1))

    assert ran.reply == [1, 0, "2"]
    assert ran.keys == {"wait": ["1"], "2": None}


async def test_nothing_to_clean_is_announced_too(bench: Bench) -> None:
    ran = await bench.run("clean_jobs", **args("completed"))

    assert (ran.reply, ran.keys, ran.events) == ([0, 1], {}, cleaned(0))


async def test_a_parent_of_the_same_queue_goes_with_its_last_pending_child(bench: Bench) -> None:
    await bench.seed(
        {
            "wait": ["1"],
            "1": {"parentKey": f"{bench.base}p", "timestamp": OLD},
            "waiting-children": Zset({"p": 5}),
            "p": {"timestamp": OLD},
            "p:dependencies": {f"{bench.base}1"},
        }
    )

    ran = await bench.run("clean_jobs", **args("wait"))

    assert ran.keys == {"wait": None, "1": None, "p": None, "p:dependencies": None, "waiting-children": None}
