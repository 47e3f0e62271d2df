"""add_jobs.lua: parents, children and what happens when an existing job gets a parent."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.script_bench import NOW, Bench, Zset
from tests.support.script_rows import Row, add_row, adding, event, stored

pytestmark = pytest.mark.anyio

READY = [("0", 0.0)]
PARENT = '{"id":"p","queueKey":"q"}'


def child(bench: Bench, job_id: str, parent: str = "p", **more: Any) -> Row:
    """A job whose parent is in the same queue."""
    return add_row(job_id, parent_key=bench.base + parent, parent=PARENT, **more)


async def test_a_parent_waits_for_its_children_and_wakes_nobody(bench: Bench) -> None:
    await bench.seed()

    ran = await bench.run("add_jobs", [add_row("p", placement="children", delay_ms=0)], **adding())

    assert ran.reply == [NOW, ["p"], [0]]
    assert ran.keys == {"id": "1", "p": stored(), "waiting-children": [("p", float(NOW))]}
    assert ran.events == [event("added", jobId="p", name="mail"), event("waiting-children", jobId="p")]


async def test_a_parent_with_a_delay_keeps_it_for_later(bench: Bench) -> None:
    await bench.seed()

    row = add_row("p", placement="children", delay_ms=500, priority=3, timestamp_ms=7)
    ran = await bench.run("add_jobs", [row], **adding())

    assert ran.keys == {
        "id": "1",
        "p": stored(timestamp="7", delay="500", priority="3"),
        "waiting-children": [("p", 7.0)],
    }


async def test_a_child_is_a_dependency_of_its_parent(bench: Bench) -> None:
    await bench.seed({"p": {"name": "p"}, "active": ["p"]})

    rows = [child(bench, "a"), child(bench, "b", delay_ms=5), child(bench, "c", priority=1)]
    ran = await bench.run("add_jobs", rows, **adding())

    link = {"parentKey": f"{bench.base}p", "parent": PARENT}
    assert ran.keys == {
        "id": "3",
        "a": stored(**link),
        "b": stored(delay="5", **link),
        "c": stored(priority="1", **link),
        "wait": ["a"],
        "delayed": [("b", float((NOW + 5) * 4096))],
        "prioritized": [("c", 2.0**32 + 1)],
        "pc": "1",
        "p:dependencies": [f"{bench.base}{name}" for name in "abc"],
        "marker": [("0", 0.0), ("1", float(NOW + 5))],
    }


async def test_parent_and_children_travel_in_one_call(bench: Bench) -> None:
    await bench.seed()

    rows = [add_row("p", placement="children"), child(bench, "a", placement="children"), child(bench, "b", "a")]
    ran = await bench.run("add_jobs", rows, **adding())

    assert ran.reply == [NOW, ["p", "a", "b"], [0, 0, 0]]
    assert (ran.keys["p:dependencies"], ran.keys["a:dependencies"]) == ([f"{bench.base}a"], [f"{bench.base}b"])
    assert ran.keys["waiting-children"] == [("a", float(NOW)), ("p", float(NOW))]


async def test_a_child_may_name_the_id_that_its_parent_gets_in_the_same_call(bench: Bench) -> None:
    await bench.seed({"id": "4"})

    rows = [
        child(bench, "early", parent="6"),
        add_row("x"),
        add_row(placement="children"),
        child(bench, "a", parent="6"),
    ]
    ran = await bench.run("add_jobs", rows, **adding())

    assert ran.reply == [NOW, ["", "x", "6", "a"], [-5, 0, 0, 0]]
    assert (ran.keys["id"], ran.keys["6:dependencies"]) == ("7", [f"{bench.base}a"])


async def test_a_job_without_its_parent_is_refused_and_spends_no_number(bench: Bench) -> None:
    await bench.seed({"id": "4"})

    rows = [child(bench, "a", "later"), add_row(), child(bench, ""), add_row("later")]
    ran = await bench.run("add_jobs", rows, **adding())

    assert ran.reply == [NOW, ["", "5", "", "later"], [-5, 0, -5, 0]]
    assert ran.keys == {"id": "6", "5": stored(), "later": stored(), "wait": ["later", "5"], "marker": READY}


async def test_a_call_whose_parents_all_are_missing_writes_nothing(bench: Bench) -> None:
    ran = await bench.run("add_jobs", [child(bench, "a"), child(bench, "")], **adding())

    assert (ran.reply, ran.keys, ran.events) == ([NOW, ["", ""], [-5, -5]], {}, [])


async def test_the_child_of_a_parent_that_was_deduplicated_is_refused(bench: Bench) -> None:
    await bench.seed({"de:D": "old", "old": {"name": "old"}})

    rows = [add_row("p", placement="children", dedup='{"id":"D"}'), child(bench, "a")]
    ran = await bench.run("add_jobs", rows, **adding())

    assert ran.reply == [NOW, ["old", ""], [2, -5]]
    assert ran.keys == {"id": "2"}


async def test_the_child_of_a_parent_that_could_not_be_added_is_refused(bench: Bench) -> None:
    await bench.seed({"p:dependencies": "not a set", "waiting-children": "not a set"})

    rows = [add_row("p", placement="children"), child(bench, "a")]
    ran = await bench.run("add_jobs", rows, **adding())

    assert (ran.reply[1], ran.reply[2][1]) == (["p", ""], -5)
    assert ran.keys == {"id": "2"}


async def test_a_child_that_its_parent_cannot_note_is_not_added(bench: Bench) -> None:
    await bench.seed({"p": {"name": "p"}, "p:dependencies": "not a set"})

    ran = await bench.run("add_jobs", [child(bench, "a"), add_row("b")], **adding())

    assert (ran.reply[1], ran.reply[2][1]) == (["a", "b"], 0)
    assert ran.reply[2][0].startswith("WRONGTYPE")
    assert ran.keys == {"id": "2", "b": stored(), "wait": ["b"], "marker": READY}


#: Fields of the existing job that let it move to the new parent: none, the same parent, a parent that is gone.
ADOPTABLE = [{}, {"parentKey": "p", "parent": "old"}, {"parentKey": "gone", "parent": "old"}]


@pytest.mark.parametrize("fields", ADOPTABLE, ids=["no parent", "same parent", "parent is gone"])
async def test_an_existing_job_is_adopted(bench: Bench, fields: dict[str, str]) -> None:
    if fields:
        fields = {**fields, "parentKey": bench.base + fields["parentKey"]}
    await bench.seed({"a": {"name": "old", **fields}, "wait": ["a"], "p": {"name": "p"}})

    ran = await bench.run("add_jobs", [child(bench, "a", data="9")], **adding())

    assert ran.reply == [NOW, ["a"], [1]]
    assert ran.keys == {
        "id": "1",
        "a": {"name": "old", "parentKey": f"{bench.base}p", "parent": PARENT},
        "p:dependencies": [f"{bench.base}a"],
    }
    assert ran.events == [event("duplicated", jobId="a")]


async def test_an_existing_job_of_a_living_parent_is_refused(bench: Bench) -> None:
    job = {"name": "a", "parentKey": f"{bench.base}other", "parent": "old"}
    await bench.seed({"a": job, "wait": ["a"], "p": {"name": "p"}, "other": {"name": "other"}})

    ran = await bench.run("add_jobs", [child(bench, "a")], **adding())

    assert (ran.reply, ran.keys, ran.events) == ([NOW, ["a"], [-7]], {"id": "1"}, [])


async def test_a_completed_job_hands_its_value_to_the_new_parent_and_releases_it(bench: Bench) -> None:
    await bench.seed(
        {
            "a": {"name": "a", "returnvalue": '{"ok":1}'},
            "completed": Zset({"a": 5}),
            "p": {"name": "p"},
            "waiting-children": Zset({"p": 3}),
        }
    )

    ran = await bench.run("add_jobs", [child(bench, "a")], **adding())

    assert ran.reply == [NOW, ["a"], [1]]
    assert ran.keys == {
        "id": "1",
        "a": {"name": "a", "returnvalue": '{"ok":1}', "parentKey": f"{bench.base}p", "parent": PARENT},
        "p:processed": {f"{bench.base}a": '{"ok":1}'},
        "waiting-children": None,
        "wait": ["p"],
        "marker": READY,
    }
    assert ran.events == [
        event("waiting", jobId="p", prev="waiting-children"),
        event("duplicated", jobId="a"),
    ]


async def test_a_completed_job_does_not_release_a_parent_with_other_children(bench: Bench) -> None:
    await bench.seed(
        {
            "a": {"name": "a"},
            "completed": Zset({"a": 5}),
            "p": {"name": "p"},
            "p:dependencies": {"other"},
            "waiting-children": Zset({"p": 3}),
        }
    )

    ran = await bench.run("add_jobs", [child(bench, "a")], **adding())

    assert ran.keys.keys() == {"id", "a", "p:processed"}


async def test_a_parent_may_live_in_another_queue(bench: Bench) -> None:
    await bench.seed()
    flows = f"{bench.store.keys.prefix}:flows:"
    await bench.client.hset(f"{flows}p", "name", "parent")

    ran = await bench.run("add_jobs", [add_row("a", parent_key=f"{flows}p", parent=PARENT)], **adding())

    assert ran.keys == {
        "id": "1",
        "a": stored(parentKey=f"{flows}p", parent=PARENT),
        "wait": ["a"],
        "marker": READY,
        "flows:p:dependencies": [f"{bench.base}a"],
    }
