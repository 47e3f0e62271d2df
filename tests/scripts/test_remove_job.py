"""remove_job.lua"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.script_bench import Bench, Zset

pytestmark = pytest.mark.anyio

JOB = {"name": "a"}

PLACES: list[tuple[str, Any, Any]] = [
    ("completed", Zset({"1": 1, "2": 2}), [("2", 2.0)]),
    ("failed", Zset({"1": 1, "2": 2}), [("2", 2.0)]),
    ("delayed", Zset({"1": 1, "2": 2}), [("2", 2.0)]),
    ("prioritized", Zset({"1": 1, "2": 2}), [("2", 2.0)]),
    ("waiting-children", Zset({"1": 1, "2": 2}), [("2", 2.0)]),
    ("wait", ["3", "1", "2"], ["3", "2"]),
    ("paused", ["3", "1", "2"], ["3", "2"]),
    ("active", ["3", "1", "2"], ["3", "2"]),
]


def removed(job_id: str, prev: str) -> dict[str, str]:
    return {"event": "removed", "jobId": job_id, "prev": prev}


@pytest.mark.parametrize(("place", "before", "after"), PLACES, ids=[place for place, _, _ in PLACES])
async def test_it_leaves_its_state_and_everything_below_its_key_goes(
    bench: Bench, place: str, before: Any, after: Any
) -> None:
    below = {"1:logs": ["x"], "1:processed": {"k": "v"}, "1:failed": {"k": "v"}, "1:unsuccessful": Zset({"k": 1})}
    await bench.seed({place: before, "1": JOB, "2": JOB, **below})

    ran = await bench.run("remove_job", job_id="1", with_children=0)

    assert ran.reply == 1
    assert ran.keys == {place: after, "1": None, **dict.fromkeys(below)}
    assert ran.events == [removed("1", place)]


async def test_a_job_that_no_state_holds_was_unknown(bench: Bench) -> None:
    await bench.seed({"1": JOB})

    ran = await bench.run("remove_job", job_id="1", with_children=1)

    assert ran.events == [removed("1", "unknown")]


async def test_removing_a_missing_job_does_nothing(bench: Bench) -> None:
    ran = await bench.run("remove_job", job_id="1", with_children=1)

    assert (ran.reply, ran.keys, ran.events) == (1, {}, [])


async def test_a_locked_job_stays(bench: Bench) -> None:
    await bench.seed({"active": ["1"], "1": JOB, "1:lock": "t"})

    ran = await bench.run("remove_job", job_id="1", with_children=0)

    assert (ran.reply, ran.keys, ran.events) == (0, {}, [])


async def test_the_pending_iteration_of_a_scheduler_stays(bench: Bench) -> None:
    await bench.seed({"delayed": Zset({"repeat:s:500": 1}), "repeat": Zset({"s": 500}), "repeat:s:500": {"rjk": "s"}})

    ran = await bench.run("remove_job", job_id="repeat:s:500", with_children=1)

    assert (ran.reply, ran.keys, ran.events) == (-8, {}, [])


async def test_an_owned_deduplication_id_is_free_again(bench: Bench) -> None:
    """E225."""
    await bench.seed({"wait": ["1"], "1": {"deid": "d"}, "de:d": "1", "dn:d": {"name": "x"}})

    ran = await bench.run("remove_job", job_id="1", with_children=1)

    assert ran.keys == {"wait": None, "1": None, "de:d": None, "dn:d": None}


async def test_the_last_pending_child_releases_its_parent(bench: Bench) -> None:
    await bench.seed(
        {
            "wait": ["9", "1"],
            "1": {"parentKey": f"{bench.base}p"},
            "waiting-children": Zset({"p": 5}),
            "p": JOB,
            "p:dependencies": {f"{bench.base}1"},
        }
    )

    ran = await bench.run("remove_job", job_id="1", with_children=1)

    assert ran.keys == {
        "wait": ["9", "p"],
        "1": None,
        "waiting-children": None,
        "p:dependencies": None,
        "marker": [("0", 0.0)],
    }
    assert ran.events == [{"event": "waiting", "jobId": "p", "prev": "waiting-children"}, removed("1", "wait")]


def family(bench: Bench) -> dict[str, Any]:
    parent = f"{bench.base}p"
    return {
        "waiting-children": Zset({"p": 5}),
        "p": JOB,
        "p:dependencies": {f"{bench.base}pending"},
        "p:processed": {f"{bench.base}done": "1"},
        "p:failed": {f"{bench.base}ignored": "boom"},
        "p:unsuccessful": Zset({f"{bench.base}lost": 1}),
        "wait": ["pending"],
        "completed": Zset({"done": 1}),
        "failed": Zset({"ignored": 1, "lost": 2}),
        **{child: {"parentKey": parent} for child in ("pending", "done", "ignored", "lost")},
    }


async def test_children_go_first_and_the_pending_one_releases_the_parent(bench: Bench) -> None:
    keys = family(bench)
    await bench.seed(keys)

    ran = await bench.run("remove_job", job_id="p", with_children=1)

    assert ran.reply == 1
    assert ran.keys == {**dict.fromkeys(keys), "marker": [("0", 0.0)]}
    assert ran.events == [
        removed("done", "completed"),
        removed("ignored", "failed"),
        removed("lost", "failed"),
        {"event": "waiting", "jobId": "p", "prev": "waiting-children"},
        removed("pending", "wait"),
        removed("p", "wait"),
    ]


async def test_children_may_stay(bench: Bench) -> None:
    await bench.seed(family(bench))

    ran = await bench.run("remove_job", job_id="p", with_children=0)

    parts = ["p", "p:dependencies", "p:processed", "p:failed", "p:unsuccessful", "waiting-children"]
    assert ran.keys == dict.fromkeys(parts)
    assert ran.events == [removed("p", "waiting-children")]


async def test_a_locked_pending_child_keeps_the_family(bench: Bench) -> None:
    await bench.seed({**family(bench), "pending:lock": "t"})

    ran = await bench.run("remove_job", job_id="p", with_children=1)

    assert (ran.reply, ran.keys, ran.events) == (0, {}, [])


async def test_children_in_another_queue_are_removed_there(bench: Bench) -> None:
    other = bench.base.removesuffix("q:") + "other:"
    await bench.client.hset(f"{other}c", mapping={"parentKey": f"{bench.base}p"})
    await bench.client.rpush(f"{other}wait", "d", "c")
    await bench.seed({"waiting-children": Zset({"p": 5}), "p": JOB, "p:dependencies": {f"{other}c"}})

    ran = await bench.run("remove_job", job_id="p", with_children=1)

    assert ran.keys == {
        "waiting-children": None,
        "p": None,
        "p:dependencies": None,
        "marker": [("0", 0.0)],
        "other:c": None,
        "other:wait": ["d"],
        "other:events": [removed("c", "wait")],
        "other:meta": {"opts.maxLenEvents": "10000"},
    }


async def test_a_family_that_is_a_circle_ends(bench: Bench) -> None:
    one, two = f"{bench.base}1", f"{bench.base}2"
    await bench.seed(
        {"1": JOB, "2": JOB, "1:processed": {two: "x"}, "2:processed": {one: "x"}, "completed": Zset({"1": 1})}
    )

    ran = await bench.run("remove_job", job_id="1", with_children=1)

    assert ran.keys == dict.fromkeys(["1", "2", "1:processed", "2:processed", "completed"])


async def test_an_id_with_colons_is_removed(bench: Bench) -> None:
    await bench.seed({"wait": ["a:b:c"], "a:b:c": JOB})

    ran = await bench.run("remove_job", job_id="a:b:c", with_children=1)

    assert ran.keys == {"wait": None, "a:b:c": None}


@pytest.mark.parametrize(("children", "reply"), [(49, 1), (50, 2)])
async def test_a_family_of_more_than_50_jobs_is_left_to_several_calls(bench: Bench, children: int, reply: int) -> None:
    keys = {f"{bench.base}c{n}" for n in range(children)}
    kinds = {"p:dependencies": set(list(keys)[:20]), "p:processed": dict.fromkeys(list(keys)[20:], "1")}
    await bench.seed({"p": JOB, "waiting-children": Zset(p=1), **kinds})

    ran = await bench.run("remove_job", job_id="p", with_children=1)

    assert ran.reply == reply
    assert ("p" in ran.keys) is (reply == 1)
