"""place_nodes.lua"""

from __future__ import annotations

import pytest

from tests.support.flow_rows import Flow
from tests.support.script_bench import NOW, Bench, Zset
from tests.support.script_rows import adding, event, stored

pytestmark = pytest.mark.anyio

PLACED, EXISTS = 0, 1
READY = [("0", 0.0)]
STAMP = {"pyq:staged": f"{NOW}:f"}
THEN = NOW - 500


@pytest.fixture
def flow(bench: Bench) -> Flow:
    return Flow(bench)


async def test_a_parent_begins_to_wait(bench: Bench, flow: Flow) -> None:
    await bench.seed({"p": stored(**STAMP), "p:dependencies": {flow.key("a")}})

    row = flow.place("p", placement="children", timestamp_ms=THEN)
    ran = await bench.run("place_nodes", [row], **adding())

    assert ran.reply == [NOW, [PLACED]]
    assert ran.keys == {"p": stored(), "waiting-children": [("p", float(THEN))]}
    assert ran.events == [event("added", jobId="p", name="mail"), event("waiting-children", jobId="p")]


async def test_leaves_become_ready_or_delayed_from_the_time_they_were_stored(bench: Bench, flow: Flow) -> None:
    staged = {job_id: stored(**STAMP) for job_id in "abc"}
    await bench.seed({**staged, "wait": ["z"]})

    rows = [
        flow.place("a", timestamp_ms=THEN),
        flow.place("b", timestamp_ms=THEN, delay_ms=700),
        flow.place("c", timestamp_ms=THEN, priority=1),
    ]
    ran = await bench.run("place_nodes", rows, **adding())

    assert ran.keys == {
        **{job_id: stored() for job_id in "abc"},
        "wait": ["a", "z"],
        "delayed": [("b", float((THEN + 700) * 4096))],
        "prioritized": [("c", 2.0**32 + 1)],
        "pc": "1",
        "marker": [("0", 0.0), ("1", float(THEN + 700))],
    }
    assert [entry["event"] for entry in ran.events] == ["added", "waiting", "added", "delayed", "added", "waiting"]


async def test_a_job_that_has_a_place_keeps_it(bench: Bench, flow: Flow) -> None:
    await bench.seed({"a": stored(), "active": ["a"]})

    ran = await bench.run("place_nodes", [flow.place("a", timestamp_ms=THEN)], **adding())

    assert (ran.reply, ran.keys, ran.events) == ([NOW, [EXISTS]], {}, [])


async def test_a_root_joins_the_dependencies_of_its_own_parent(bench: Bench, flow: Flow) -> None:
    await bench.seed({"r": {"name": "r"}, "p": stored(**STAMP), "p:dependencies": {"a"}})

    row = flow.place("p", placement="children", parent_key=flow.key("r"), timestamp_ms=THEN)
    ran = await bench.run("place_nodes", [row], **adding())

    assert ran.keys["r:dependencies"] == [flow.key("p")]


async def test_without_the_roots_own_parent_nothing_is_placed(bench: Bench, flow: Flow) -> None:
    await bench.seed({"p": stored(**STAMP), "m": stored(**STAMP)})

    rows = [flow.place("p", parent_key=flow.key("gone")), flow.place("m", placement="children")]
    ran = await bench.run("place_nodes", rows, **adding())

    assert (ran.reply, ran.keys) == (-5, {})


@pytest.mark.parametrize("staged", [True, False])
async def test_a_parent_whose_children_all_had_completed_is_released(bench: Bench, flow: Flow, staged: bool) -> None:
    await bench.seed({"p": stored(**STAMP) if staged else stored(), "p:processed": {"a": "1"}})
    if not staged:
        await bench.seed({"waiting-children": Zset(p=1)})

    row = flow.place("p", placement="children", timestamp_ms=THEN)
    ran = await bench.run("place_nodes", [row], **adding())

    assert (ran.keys["wait"], ran.keys["marker"]) == (["p"], READY)
    assert ran.events[-1] == event("waiting", jobId="p", prev="waiting-children")


async def test_the_same_call_sent_again_is_answered_from_its_record(bench: Bench, flow: Flow) -> None:
    await bench.seed({"a": stored(**STAMP)})
    rows = [flow.place("a", timestamp_ms=THEN)]
    first = await bench.run("place_nodes", rows, **adding(sequence=3))

    again = await bench.run("place_nodes", rows, **adding(sequence=3))

    assert (again.reply, again.keys) == (first.reply, {}) == ([NOW, [PLACED]], {})
