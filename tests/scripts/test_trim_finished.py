"""trim_finished.lua"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.script_bench import NOW, Bench, Zset

pytestmark = pytest.mark.anyio

NONE = (-1, -1, 1000)
CHECKED = {"pyq:retention": str(NOW)}
OPTION = {"completed": "removeOnComplete", "failed": "removeOnFail"}


def args(**more: Any) -> dict[str, Any]:
    return {"interval_ms": 30_000, "resume": 0, **more}


def finished(kind: str, ages_s: list[int], opts: str = '{"attempts":0}') -> dict[str, Any]:
    """Jobs that ended so many seconds ago, named by that; all with the same options."""
    return {
        kind: Zset({f"{kind}{age}": NOW - age * 1000 for age in ages_s}),
        **{f"{kind}{age}": {"name": "n", "opts": opts} for age in ages_s},
    }


def kept(ran: Any, kind: str) -> Any:
    """Members of a set after the run; `same` if it was not written."""
    if kind not in ran.keys:
        return "same"
    return [member for member, _ in ran.keys[kind] or []]


@pytest.mark.parametrize("kind", ["completed", "failed"])
async def test_what_has_grown_old_by_the_rule_of_the_newest_job_goes(bench: Bench, kind: str) -> None:
    opts = json.dumps({OPTION[kind]: {"age": 60}})
    await bench.seed({**finished(kind, [10, 59, 60, 3600], opts), f"{kind}3600:logs": ["row"]})

    ran = await bench.run("trim_finished", [NONE, NONE], **args())

    assert ran.reply == 0
    assert ran.keys == {
        **CHECKED,
        kind: [(f"{kind}59", NOW - 59_000.0), (f"{kind}10", NOW - 10_000.0)],
        f"{kind}60": None,
        f"{kind}3600": None,
        f"{kind}3600:logs": None,
    }
    assert ran.ttls == {"pyq:retention": 30}
    assert ran.events == []


async def test_the_rule_of_the_worker_is_for_jobs_that_have_none(bench: Bench) -> None:
    await bench.seed({**finished("completed", [5, 50]), **finished("failed", [5, 50])})

    ran = await bench.run("trim_finished", [(-1, 10, 1000), (-1, 4, 1000)], **args())

    assert (kept(ran, "completed"), kept(ran, "failed")) == (["completed5"], [])


@pytest.mark.parametrize("option", ["false", "true", "-1", '"text"', "{}", '{"age":-1,"count":-1}', '{"age":"old"}'])
async def test_a_job_that_asks_for_no_limit_keeps_them_all(bench: Bench, option: str) -> None:
    await bench.seed(finished("completed", [5, 50], f'{{"removeOnComplete":{option}}}'))

    ran = await bench.run("trim_finished", [(1, 1, 1000), NONE], **args())

    assert ran.keys == CHECKED


@pytest.mark.parametrize("damage", ["not json", "7", "[]"])
async def test_damaged_options_count_as_none(bench: Bench, damage: str) -> None:
    await bench.seed(finished("completed", [5, 50], damage))

    ran = await bench.run("trim_finished", [(-1, 10, 1000), NONE], **args())

    assert kept(ran, "completed") == ["completed5"]


async def test_an_id_without_a_job_counts_as_one_without_options(bench: Bench) -> None:
    await bench.seed({"completed": Zset({"ghost": NOW - 20_000.0})})

    ran = await bench.run("trim_finished", [(-1, 10, 1000), NONE], **args())

    assert ran.keys == {**CHECKED, "completed": None}


async def test_a_count_is_kept_too_and_a_limit_bounds_what_goes_for_its_age(bench: Bench) -> None:
    await bench.seed(
        {
            **finished("completed", [1, 2, 3, 4], '{"removeOnComplete":3}'),
            **finished("failed", [10, 20, 30, 40], '{"removeOnFail":{"age":5,"limit":2}}'),
        }
    )

    ran = await bench.run("trim_finished", [NONE, NONE], **args())

    assert kept(ran, "completed") == ["completed3", "completed2", "completed1"]
    assert len(kept(ran, "failed")) == 2


async def test_one_call_removes_32_and_says_that_there_is_more(bench: Bench) -> None:
    ages = list(range(100, 150))
    await bench.seed({**finished("completed", ages), **finished("failed", [7])})

    first = await bench.run("trim_finished", [(-1, 60, 1000), (-1, 5, 1000)], **args())
    second = await bench.run("trim_finished", [(-1, 60, 1000), (-1, 5, 1000)], **args(resume=1))

    assert (first.reply, second.reply) == (1, 0)
    assert len(kept(first, "completed")) == 18
    assert (kept(second, "completed"), kept(second, "failed")) == ([], [])


async def test_it_takes_effect_once_per_interval_over_all_workers(bench: Bench) -> None:
    await bench.seed({**finished("completed", [50]), "pyq:retention": "1"})

    ran = await bench.run("trim_finished", [(-1, 10, 1000), NONE], **args())

    assert (ran.reply, ran.keys) == (0, {})


async def test_a_parent_is_released_when_the_child_that_goes_was_its_last(bench: Bench) -> None:
    child = {"name": "n", "opts": "{}", "parentKey": f"{bench.base}p"}
    await bench.seed(
        {
            "completed": Zset({"c": NOW - 99_000.0}),
            "c": child,
            "p": {"name": "p"},
            "p:dependencies": {f"{bench.base}c"},
            "waiting-children": Zset({"p": NOW - 1.0}),
        }
    )

    ran = await bench.run("trim_finished", [(-1, 10, 1000), NONE], **args())

    assert ran.keys["wait"] == ["p"]
    assert ran.keys["waiting-children"] is None
