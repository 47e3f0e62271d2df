"""remove_child_dependency.lua"""

from __future__ import annotations

import pytest

from tests.support.flow_rows import Flow
from tests.support.script_bench import Bench, Zset
from tests.support.script_rows import event

pytestmark = pytest.mark.anyio


@pytest.fixture
def flow(bench: Bench) -> Flow:
    return Flow(bench)


async def test_a_parent_goes_on_without_its_last_child(bench: Bench, flow: Flow) -> None:
    await bench.seed(
        {
            "a": {"name": "a", **flow.link("p")},
            "wait": ["a"],
            "p": {"name": "p", "delay": "500", "priority": "3"},
            "waiting-children": Zset(p=1),
            "p:dependencies": {flow.key("a")},
        }
    )

    ran = await bench.run("remove_child_dependency", job_id="a")

    assert ran.reply == 0
    assert ran.keys == {
        "a": {"name": "a"},
        "p:dependencies": None,
        "waiting-children": None,
        "wait": ["a", "p"],  # first in line, whatever its delay and priority: as upstream
        "marker": [("0", 0.0)],
    }
    assert ran.events == [event("waiting", jobId="p", prev="waiting-children")]


async def test_a_parent_with_another_child_keeps_waiting(bench: Bench, flow: Flow) -> None:
    child = {"name": "a", **flow.link("p", "other")}
    await bench.seed({"a": child, "other:p": {"name": "p"}})
    await bench.client.hset(flow.key("p", "other"), "name", "p")
    await bench.client.sadd(flow.key("p:dependencies", "other"), flow.key("a"), "another")

    ran = await bench.run("remove_child_dependency", job_id="a")

    assert (ran.reply, ran.events) == (0, [])
    assert ran.keys == {"a": {"name": "a"}, "other:p:dependencies": ["another"]}


async def test_a_child_that_is_no_dependency_any_more_stays_as_it_is(bench: Bench, flow: Flow) -> None:
    await bench.seed({"a": {"name": "a", **flow.link("p")}, "p": {"name": "p"}, "p:processed": {flow.key("a"): "1"}})

    ran = await bench.run("remove_child_dependency", job_id="a")

    assert (ran.reply, ran.keys) == (1, {})


async def test_what_does_not_exist_is_refused(bench: Bench, flow: Flow) -> None:
    await bench.seed({"lone": {"name": "x"}, "orphan": {"name": "x", **flow.link("gone")}})

    replies = [
        (await bench.run("remove_child_dependency", job_id=job_id)).reply for job_id in ("none", "lone", "orphan")
    ]

    assert replies == [-1, -5, -5]
