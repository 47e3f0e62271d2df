"""stage_nodes.lua"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.flow_rows import Flow
from tests.support.script_bench import NOW, Bench, Zset
from tests.support.script_rows import adding, event, stored

pytestmark = pytest.mark.anyio

STORED, EXISTS = 0, 1
STAMP = {"pyq:staged": f"{NOW}:f"}
TEN_MINUTES = 600_000


@pytest.fixture
def flow(bench: Bench) -> Flow:
    return Flow(bench)


def staging(**more: Any) -> dict[str, Any]:
    return adding(flow="f", check_only=0, **more)


async def test_nodes_are_stored_and_linked_and_nothing_can_run_them(bench: Bench, flow: Flow) -> None:
    await bench.seed()

    rows = [flow.stage("p", is_root=1), flow.stage("a", "c", parent="p", delay_ms=5), flow.stage("b", "c", parent="p")]
    ran = await bench.run("stage_nodes", rows, **staging())

    assert ran.reply == [NOW, [STORED] * 3]
    assert ran.keys == {
        "id": "1",
        "p": stored(**STAMP),
        "p:dependencies": [flow.key("a", "c"), flow.key("b", "c")],
        "c:id": "2",
        "c:a": stored(delay="5", **flow.link("p"), **STAMP),
        "c:b": stored(**flow.link("p"), **STAMP),
        "c:meta": {"opts.maxLenEvents": "10000"},
    }
    assert ran.events == []


async def test_a_roots_own_parent_does_not_wait_for_it_yet(bench: Bench, flow: Flow) -> None:
    await bench.seed({"r": {"name": "r"}})

    ran = await bench.run("stage_nodes", [flow.stage("p", parent="r", is_root=1)], **staging())

    assert ran.keys == {"id": "1", "p": stored(**flow.link("r"), **STAMP)}


async def test_checking_writes_nothing(bench: Bench, flow: Flow) -> None:
    owned = {"name": "a", "parentKey": flow.key("other")}
    await bench.seed({"a": owned, "other": {"name": "other"}})

    rows = [flow.stage("p", parent="gone", is_root=1), flow.stage("a", parent="p"), flow.stage("b", parent="p")]
    ran = await bench.run("stage_nodes", rows, **staging() | {"check_only": 1})

    assert (ran.reply, ran.keys) == ([NOW, [-5, -7, STORED]], {})


async def test_a_job_that_exists_is_attached_and_stays_as_it_is(bench: Bench, flow: Flow) -> None:
    await bench.seed(
        {"a": {"name": "old"}, "wait": ["a"], "b": {"name": "b", "returnvalue": "2"}, "completed": Zset(b=1)}
    )

    rows = [flow.stage("p", is_root=1), flow.stage("a", parent="p"), flow.stage("b", parent="p")]
    ran = await bench.run("stage_nodes", rows, **staging())

    assert ran.reply == [NOW, [STORED, EXISTS, EXISTS]]
    assert ran.keys == {
        "id": "3",
        "p": stored(**STAMP),
        "a": {"name": "old", **flow.link("p")},
        "b": {"name": "b", "returnvalue": "2", **flow.link("p")},
        "p:dependencies": [flow.key("a")],
        "p:processed": {flow.key("b"): "2"},
    }
    assert ran.events == [event("duplicated", jobId="a"), event("duplicated", jobId="b")]


async def test_a_job_of_another_living_parent_is_refused(bench: Bench, flow: Flow) -> None:
    await bench.seed({"a": {"name": "a", "parentKey": flow.key("other")}, "other": {"name": "other"}})

    ran = await bench.run("stage_nodes", [flow.stage("p", is_root=1), flow.stage("a", parent="p")], **staging())

    assert ran.reply == [NOW, [STORED, -7]]
    assert set(ran.keys) == {"id", "p"}


async def test_what_an_unfinished_add_of_the_same_flow_left_is_stored_anew(bench: Bench, flow: Flow) -> None:
    left = {"name": "old", "rest": "x", "pyq:staged": f"{NOW - 1}:other", **flow.link("p")}
    await bench.seed({"p": {"name": "p"}, "a": left, "p:dependencies": {flow.key("a")}})

    ran = await bench.run("stage_nodes", [flow.stage("a", parent="p")], **staging())

    assert ran.reply == [NOW, [STORED]]
    assert ran.keys == {"id": "1", "a": stored(**flow.link("p"), **STAMP)}


@pytest.mark.parametrize(("age_ms", "status"), [(TEN_MINUTES, -7), (TEN_MINUTES + 1, STORED)])
async def test_a_node_is_taken_from_another_unfinished_flow_after_ten_minutes(
    bench: Bench, flow: Flow, age_ms: int, status: int
) -> None:
    stamp = {"pyq:staged": f"{NOW - age_ms}:other"}
    left = {"o": {"name": "o", **stamp}, "a": {"name": "a", **stamp, **flow.link("o")}}
    await bench.seed({**left, "o:dependencies": {flow.key("a"), "kept"}, "p": {"name": "p"}})

    ran = await bench.run("stage_nodes", [flow.stage("a", parent="p")], **staging())

    assert ran.reply == [NOW, [status]]
    if status == STORED:
        assert ran.keys == {
            "id": "1",
            "a": stored(**flow.link("p"), **STAMP),
            "p:dependencies": [flow.key("a")],
            "o:dependencies": ["kept"],
        }


async def test_the_same_call_sent_again_is_answered_from_its_record(bench: Bench, flow: Flow) -> None:
    await bench.seed()
    rows = [flow.stage("p", is_root=1, is_new=1)]
    first = await bench.run("stage_nodes", rows, **staging(sequence=3))

    again = await bench.run("stage_nodes", rows, **staging(sequence=3))
    late = await bench.run("stage_nodes", rows, **staging(sequence=2))

    assert (again.reply, again.keys, late.reply) == (first.reply, {}, -20)
