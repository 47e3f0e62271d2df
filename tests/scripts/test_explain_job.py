"""explain_job.lua"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.flow_rows import Flow
from tests.support.script_bench import NOW, Bench, Zset

pytestmark = pytest.mark.anyio


def facts(flat: list[str]) -> dict[str, str]:
    """What is not empty, as a dictionary."""
    return {name: value for name, value in zip(flat[::2], flat[1::2], strict=True) if value not in ("", "0")}


PLACES: list[tuple[str, Any]] = [
    ("completed", Zset(x=1)),
    ("failed", Zset(x=1)),
    ("delayed", Zset(x=NOW * 4096 + 3)),
    ("prioritized", Zset(x=1)),
    ("waiting-children", Zset(x=1)),
    ("active", ["x"]),
]


@pytest.mark.parametrize(("place", "holds"), PLACES, ids=[place for place, _ in PLACES])
async def test_the_place_of_a_job_is_found(bench: Bench, place: str, holds: Any) -> None:
    await bench.seed({"x": {"name": "x"}, place: holds})

    ran = await bench.run("explain_job", job_id="x", limit=10)

    due = {"due_ms": str(NOW)} if place == "delayed" else {}
    assert (facts(ran.reply[1]), ran.keys) == ({"place": place, **due}, {})


async def test_a_job_that_is_in_no_set_waits_in_the_list(bench: Bench) -> None:
    await bench.seed({"x": {"name": "x"}, "s": {"name": "s", "pyq:staged": "1:f"}})

    places = [facts((await bench.run("explain_job", job_id=i, limit=10)).reply[1])["place"] for i in ("x", "s", "none")]

    assert places == ["waiting", "staged", "missing"]


async def test_what_a_job_and_its_queue_say(bench: Bench) -> None:
    job = {"name": "x", "failedReason": "why", "defa": "doomed", "pb": "w1", "processedOn": "5"}
    await bench.seed(
        {"x": job, "x:lock": "t", "active": ["x"], "x:unsuccessful": Zset(c=1), "limiter": "3"},
        meta={"paused": "1", "concurrency": "1"},
    )
    await bench.client.pexpire(f"{bench.base}limiter", 60_000)

    now, job_facts, queues, children = (await bench.run("explain_job", job_id="x", limit=10)).reply

    assert (now, children) == (NOW, [])
    assert facts(job_facts) == {
        "place": "active",
        "locked": "1",
        "failed_reason": "why",
        "deferred_failure": "doomed",
        "processed_by": "w1",
        "processed_on": "5",
        "unsuccessful": "1",
    }
    queue = facts(queues[1])
    assert 0 < int(queue.pop("limit_ms")) <= 60_000
    assert (queues[0], queue) == (bench.base, {"paused": "1", "concurrency": "1", "active": "1"})


async def test_pending_children_and_their_queues_are_looked_at(bench: Bench) -> None:
    flow = Flow(bench)
    await bench.seed({"p": {"name": "p"}, "waiting-children": Zset(p=1), "p:dependencies": {flow.key("a", "c")}})
    await bench.client.hset(flow.key("a", "c"), mapping={"name": "a", "failedReason": "boom"})
    await bench.client.zadd(flow.key("failed", "c"), {"a": 1})
    await bench.client.hset(flow.key("meta", "c"), "paused", "1")

    _, job, queues, children = (await bench.run("explain_job", job_id="p", limit=10)).reply

    assert facts(job) == {"place": "waiting-children", "pending": "1"}
    assert {queues[i]: facts(queues[i + 1]) for i in (0, 2)} == {bench.base: {}, flow.key("", "c"): {"paused": "1"}}
    assert (children[0], facts(children[1])) == (flow.key("a", "c"), {"place": "failed", "failed_reason": "boom"})
