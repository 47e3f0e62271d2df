"""add_flow.lua"""

from __future__ import annotations

from typing import Any

import pytest

from pyqueue._store.sender import RECORD_MS
from tests.support.flow_rows import Flow
from tests.support.keyspace import dump
from tests.support.script_bench import NOW, Bench, Zset
from tests.support.script_rows import Row, adding, event, stored

pytestmark = pytest.mark.anyio

READY = [("0", 0.0)]
CREATED, DUPLICATE, DEDUPLICATED, SKIPPED = 0, 1, 2, 4


@pytest.fixture
def flow(bench: Bench) -> Flow:
    return Flow(bench)


def parent(flow: Flow, job_id: str = "p", **more: Any) -> Row:
    return flow.add(job_id, placement="children", **more)


async def test_a_parent_waits_for_its_children_in_another_queue(bench: Bench, flow: Flow) -> None:
    await bench.seed()

    rows = [parent(flow), flow.add("a", "c", parent="p"), flow.add("b", "c", parent="p", priority=2)]
    ran = await bench.run("add_flow", rows, **adding())

    assert ran.reply == [NOW, ["p", "a", "b"], [CREATED] * 3]
    assert ran.keys == {
        "id": "1",
        "p": stored(),
        "waiting-children": [("p", float(NOW))],
        "p:dependencies": [flow.key("a", "c"), flow.key("b", "c")],
        "c:id": "2",
        "c:a": stored(**flow.link("p")),
        "c:b": stored(priority="2", **flow.link("p")),
        "c:wait": ["a"],
        "c:prioritized": [("b", 2 * 2.0**32 + 1)],
        "c:pc": "1",
        "c:marker": READY,
        "c:meta": {"opts.maxLenEvents": "10000"},
        "c:events": [
            event("added", jobId="a", name="mail"),
            event("waiting", jobId="a"),
            event("added", jobId="b", name="mail"),
            event("waiting", jobId="b"),
        ],
    }
    assert ran.events == [event("added", jobId="p", name="mail"), event("waiting-children", jobId="p")]


async def test_a_parent_keeps_its_delay_and_priority_for_later(bench: Bench, flow: Flow) -> None:
    await bench.seed()

    rows = [parent(flow, delay_ms=500, priority=3, timestamp_ms=7), flow.add("a", parent="p", delay_ms=5)]
    ran = await bench.run("add_flow", rows, **adding())

    assert ran.keys == {
        "id": "2",
        "p": stored(timestamp="7", delay="500", priority="3"),
        "a": stored(delay="5", **flow.link("p")),
        "waiting-children": [("p", 7.0)],
        "p:dependencies": [flow.key("a")],
        "delayed": [("a", float((NOW + 5) * 4096))],
        "marker": [("1", float(NOW + 5))],
    }


async def test_a_paused_queue_of_children_wakes_nobody(bench: Bench, flow: Flow) -> None:
    await bench.seed(meta={"paused": "1"})

    ran = await bench.run("add_flow", [parent(flow), flow.add("a", parent="p")], **adding())

    assert ran.keys["wait"] == ["a"]
    assert "marker" not in ran.keys


async def test_a_root_joins_the_dependencies_of_its_own_parent(bench: Bench, flow: Flow) -> None:
    await bench.seed({"r": {"name": "r"}, "active": ["r"]})

    ran = await bench.run("add_flow", [parent(flow, parent="r"), flow.add("a", parent="p")], **adding())

    assert ran.keys["r:dependencies"] == [flow.key("p")]
    assert ran.keys["p"] == stored(**flow.link("r"))


async def test_a_tree_without_its_roots_parent_is_refused_as_a_whole(bench: Bench, flow: Flow) -> None:
    await bench.seed()

    rows = [parent(flow, parent="gone"), flow.add("a", parent="p"), flow.add("x", tree="other")]
    ran = await bench.run("add_flow", rows, **adding())

    assert ran.reply == [NOW, ["p", "a", "x"], [-5, SKIPPED, CREATED]]
    assert ran.keys == {"id": "1", "x": stored(), "wait": ["x"], "marker": READY}


@pytest.mark.parametrize("state", ["new", "known"])
async def test_a_child_of_another_living_parent_refuses_its_tree(bench: Bench, flow: Flow, state: str) -> None:
    owned = {"name": "a", "parentKey": flow.key("other")}
    await bench.seed({"a": owned, "wait": ["a"], "other": {"name": "other"}})
    if state == "known":
        await bench.seed({"p": {"name": "p"}})

    rows = [parent(flow), flow.add("b", parent="p"), flow.add("a", parent="p")]
    ran = await bench.run("add_flow", rows, **adding())

    assert (ran.reply, ran.keys, ran.events) == ([NOW, ["p", "b", "a"], [SKIPPED, SKIPPED, -7]], {}, [])


async def test_two_trees_of_one_call_cannot_share_a_child(bench: Bench, flow: Flow) -> None:
    await bench.seed()

    rows = [
        parent(flow, "p", tree="1"),
        parent(flow, "r", tree="2"),
        flow.add("a", parent="p", tree="1"),
        flow.add("a", parent="r", tree="2"),
    ]
    ran = await bench.run("add_flow", rows, **adding())

    assert ran.reply[2] == [CREATED, SKIPPED, CREATED, -7]
    assert set(ran.keys) == {"id", "p", "a", "waiting-children", "p:dependencies", "wait", "marker"}


async def test_a_tree_of_the_same_call_may_have_a_root_of_an_earlier_one_as_its_child(bench: Bench, flow: Flow) -> None:
    await bench.seed()

    rows = [flow.add("a", tree="1"), parent(flow, tree="2"), flow.add("a", parent="p", tree="2")]
    ran = await bench.run("add_flow", rows, **adding())

    assert ran.reply[2] == [CREATED, CREATED, DUPLICATE]
    assert ran.keys["p:dependencies"] == [flow.key("a")]
    assert ran.keys["a"] == stored(**flow.link("p"))


async def test_a_child_of_a_parent_that_is_gone_is_adopted(bench: Bench, flow: Flow) -> None:
    await bench.seed({"a": {"name": "old", "parentKey": flow.key("gone")}, "wait": ["a"]})

    ran = await bench.run("add_flow", [parent(flow), flow.add("a", parent="p", data="9")], **adding())

    assert ran.reply == [NOW, ["p", "a"], [CREATED, DUPLICATE]]
    assert ran.keys["a"] == {"name": "old", **flow.link("p")}
    assert ran.keys["p:dependencies"] == [flow.key("a")]
    assert ran.events[-1] == event("duplicated", jobId="a")


async def test_a_parent_whose_children_all_had_completed_is_released_after_all_nodes(bench: Bench, flow: Flow) -> None:
    done = {"a": {"name": "a", "returnvalue": "1"}, "b": {"name": "b", "returnvalue": "2"}}
    await bench.seed({**done, "completed": Zset({"a": 1, "b": 2})})

    rows = [parent(flow), flow.add("a", parent="p"), flow.add("b", parent="p")]
    ran = await bench.run("add_flow", rows, **adding())

    assert ran.keys["p:processed"] == {flow.key("a"): "1", flow.key("b"): "2"}
    assert (ran.keys["wait"], "waiting-children" in ran.keys) == (["p"], False)
    assert [entry["event"] for entry in ran.events] == [
        "added", "waiting-children", "duplicated", "duplicated", "waiting",
    ]  # fmt: skip


async def test_a_flow_that_is_added_again_changes_nothing_but_its_dependencies(bench: Bench, flow: Flow) -> None:
    await bench.seed()
    rows = [parent(flow), flow.add("a", parent="p"), flow.add("b", parent="p")]
    await bench.run("add_flow", rows, **adding())
    await bench.client.srem(f"{bench.base}p:dependencies", flow.key("a"))

    ran = await bench.run("add_flow", rows, **adding())

    assert ran.reply == [NOW, ["p", "a", "b"], [DUPLICATE] * 3]
    assert ran.keys == {"id": "6", "p:dependencies": [flow.key("a"), flow.key("b")]}
    assert [entry["event"] for entry in ran.events] == ["duplicated"] * 3


@pytest.mark.parametrize("is_stored", [False, True], ids=["given", "stored"])
async def test_an_ancestor_of_the_root_cannot_be_below_it(bench: Bench, flow: Flow, is_stored: bool) -> None:
    await bench.seed({"a": {"name": "a"}, "b": {"name": "b", "parentKey": flow.key("a")}})
    if is_stored:
        await bench.seed({"p": {"name": "p", "parentKey": flow.key("b")}})

    root = parent(flow) if is_stored else parent(flow, parent="b")
    ran = await bench.run("add_flow", [root, flow.add("a", parent="p")], **adding())

    assert (ran.reply[2], ran.keys) == ([-21, SKIPPED], {})


async def test_a_root_without_children_may_be_deduplicated(bench: Bench, flow: Flow) -> None:
    await bench.seed({"de:D": "w", "w": {"name": "w"}, "wait": ["w"]})

    ran = await bench.run("add_flow", [flow.add("x", dedup='{"id":"D"}')], **adding())

    assert ran.reply == [NOW, ["w"], [DEDUPLICATED]]
    assert ran.keys == {"id": "1"}


async def test_the_same_call_sent_again_is_answered_from_its_record(bench: Bench, flow: Flow) -> None:
    await bench.seed()
    rows = [parent(flow), flow.add("a", parent="p")]
    first = await bench.run("add_flow", rows, **adding(sequence=3))

    again = await bench.run("add_flow", rows, **adding(sequence=3))
    late = await bench.run("add_flow", rows, **adding(sequence=2))

    assert again.reply == first.reply
    assert (again.keys, late.reply, late.keys) == ({}, -20, {})
    assert first.ttls == {"pyq:x:producer": RECORD_MS / 1000}


async def test_a_child_that_cannot_be_stored_holds_its_parent_back(bench: Bench, flow: Flow) -> None:
    await bench.seed()

    rows = [parent(flow), flow.add("a", parent="p"), flow.add("b", parent="p", dedup="{")]
    ran = await bench.run("add_flow", rows, **adding())

    assert ran.reply[2][:2] == [CREATED, CREATED]
    assert isinstance(ran.reply[2][2], str)
    assert ran.keys["p:dependencies"] == [flow.key("a"), flow.key("b")]
    assert "b" not in ran.keys


@pytest.mark.parametrize("name", ["wait", "active", "prioritized", "delayed", "events"])
async def test_a_queue_whose_key_was_overwritten_takes_no_node(bench: Bench, flow: Flow, name: str) -> None:
    await bench.seed()
    await bench.client.set(flow.key(name, "c"), "overwritten")
    before = await dump(bench.client, bench.store.keys.prefix)

    with pytest.raises(Exception, match="WRONGTYPE"):
        await bench.run("add_flow", [parent(flow), flow.add("a", "c", parent="p")], **adding())

    assert await dump(bench.client, bench.store.keys.prefix) == before


async def test_a_staged_job_gets_its_place_by_another_add(bench: Bench, flow: Flow) -> None:
    await bench.seed({"a": {"name": "old", "pyq:staged": f"{NOW}:x", **flow.link("p")}, "p": {"name": "p"}})

    ran = await bench.run("add_flow", [parent(flow), flow.add("a", parent="p")], **adding())

    assert ran.reply[2] == [DUPLICATE, CREATED]
    assert (ran.keys["a"], ran.keys["wait"]) == (stored(**flow.link("p")), ["a"])
