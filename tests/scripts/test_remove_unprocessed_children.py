"""remove_unprocessed_children.lua"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.flow_rows import Flow
from tests.support.script_bench import Bench, Zset
from tests.support.script_rows import event

pytestmark = pytest.mark.anyio


@pytest.fixture
def flow(bench: Bench) -> Flow:
    return Flow(bench)


async def test_pending_children_go_and_the_parent_goes_on(bench: Bench, flow: Flow) -> None:
    await bench.seed(
        {
            "p": {"name": "p"},
            "waiting-children": Zset(p=1),
            "p:dependencies": {flow.key("a"), flow.key("b")},
            "p:processed": {flow.key("done"): "1"},
            "a": {"name": "a", **flow.link("p")},
            "a:logs": ["row"],
            "b": {"name": "b", **flow.link("p")},
            "done": {"name": "done"},
            "completed": Zset(done=1),
            "wait": ["a"],
            "delayed": Zset(b=5),
        }
    )

    ran = await bench.run("remove_unprocessed_children", job_id="p", cursor="0", limit=20)

    assert ran.reply == ["0", 2]
    gone = dict.fromkeys(["a", "a:logs", "b", "delayed", "p:dependencies", "waiting-children"])
    assert ran.keys == {**gone, "wait": ["p"], "marker": [("0", 0.0)]}
    assert sorted(ran.events, key=lambda entry: (entry["event"], entry["jobId"])) == [
        event("removed", jobId="a", prev="wait"),
        event("removed", jobId="b", prev="delayed"),
        event("waiting", jobId="p", prev="waiting-children"),
    ]


async def test_locked_and_failed_children_stay_at_every_level(bench: Bench, flow: Flow) -> None:
    def child(job_id: str, parent: str) -> dict[str, Any]:
        return {job_id: {"name": job_id, **flow.link(parent)}}

    await bench.seed(
        {
            "p": {"name": "p"},
            "waiting-children": Zset(p=1, m=1),
            "p:dependencies": {flow.key("m"), flow.key("locked"), flow.key("failed-one")},
            **child("locked", "p"),
            "locked:lock": "t",
            "active": ["locked", "below"],
            **child("failed-one", "p"),
            "failed": Zset({"failed-one": 1}),
            **child("m", "p"),
            "m:dependencies": {flow.key("below"), flow.key("leaf")},
            "m:processed": {flow.key("kept"): "1"},
            **child("below", "m"),
            "below:lock": "t",
            **child("leaf", "m"),
            "wait": ["leaf"],
            "kept": {"name": "kept"},
            "completed": Zset(kept=1),
        }
    )

    ran = await bench.run("remove_unprocessed_children", job_id="p", cursor="0", limit=20)

    assert ran.reply == ["0", 2]
    assert ran.keys == {
        "p:dependencies": [flow.key("failed-one"), flow.key("locked")],
        "waiting-children": [("p", 1.0)],
        **dict.fromkeys(["m", "m:dependencies", "m:processed", "leaf", "wait"]),
    }


async def test_many_children_go_in_several_calls(bench: Bench, flow: Flow) -> None:
    children = [f"c{i}" for i in range(300)]
    await bench.seed({name: {"name": name, **flow.link("p")} for name in children})
    await bench.seed({"p": {"name": "p"}, "p:dependencies": {flow.key(name) for name in children}, "wait": children})

    ran = await bench.run("remove_unprocessed_children", job_id="p", cursor="0", limit=20)
    removed, calls = ran.reply[1], 1
    while ran.reply[0] != "0":
        ran = await bench.run("remove_unprocessed_children", job_id="p", cursor=ran.reply[0], limit=20)
        removed, calls = removed + ran.reply[1], calls + 1

    assert removed == 300
    assert calls > 1
    assert ran.keys["p:dependencies"] is None
