"""remove_members.lua"""

from __future__ import annotations

import pytest

from tests.support.flow_rows import Flow
from tests.support.script_bench import Bench, Zset
from tests.support.script_rows import event

pytestmark = pytest.mark.anyio


async def test_members_leave_their_places_and_running_ones_stay(bench: Bench) -> None:
    flow = Flow(bench)
    await bench.seed(
        {
            "a": {"name": "a", **flow.link("gone")},
            "a:logs": ["row"],
            "wait": ["a"],
            "running": {"name": "running"},
            "running:lock": "t",
            "active": ["running"],
            "m": {"name": "m", **flow.link("gone")},
            "m:dependencies": {flow.key("x")},
            "waiting-children": Zset(m=1),
        }
    )

    rows = [(flow.key(job_id),) for job_id in ("m", "a", "running", "missing")]
    ran = await bench.run("remove_members", rows)

    assert ran.reply == 2
    assert ran.keys == dict.fromkeys(["a", "a:logs", "wait", "m", "m:dependencies", "waiting-children"])
    assert ran.events == [
        event("removed", jobId="m", prev="waiting-children"),
        event("removed", jobId="a", prev="wait"),
    ]
