"""settle_and_claim.lua: which finished jobs stay: by count, by age, none; and the metrics, which count them all."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.script_bench import NOW, Bench, Zset
from tests.support.script_rows import KEEP_ALL, STACK, active, event, exchange, running, settled

pytestmark = pytest.mark.anyio

MINUTE = 60_000
KINDS = ["completed", "failed"]


def ended(kind: str, job_id: str = "1", **more: Any) -> tuple[Any, ...]:
    return settled(job_id, kind, "42", stacktrace=STACK if kind == "failed" else "", **more)


async def finished(bench: Bench, kind: str, count: int, *, age_s: int = 1, first: int = 0) -> list[str]:
    """Seed finished jobs, the oldest first; the newest ended `age_s` seconds ago, the others 1 ms apart before it."""
    job_ids = [f"old{n:03}" for n in range(first, first + count)]
    scores = {job_id: NOW - age_s * 1000 - count + n for n, job_id in enumerate(job_ids, 1)}
    if scores:
        await bench.client.zadd(f"{bench.base}{kind}", scores)
    for job_id in job_ids:
        await bench.client.hset(f"{bench.base}{job_id}", mapping={"name": "old"})
    return job_ids


def removed(ran: Any) -> set[str]:
    return {name for name, value in ran.keys.items() if name.startswith("old") and value is None}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_job_that_is_not_kept_leaves_nothing_but_its_events(bench: Bench, kind: str) -> None:
    rest = {"1:logs": ["row"], "1:processed": {"c": "1"}, "1:failed": {"c": "1"}}
    await bench.seed({**active("1"), **rest, "wait": ["2"]})

    ran = await bench.run("settle_and_claim", [ended(kind, attempts=5, keep=(0, -1, 1000))], **exchange())

    assert ran.reply[1] == [0]
    assert ran.keys == dict.fromkeys(["1", "1:lock", "active", *rest])
    field = "returnvalue" if kind == "completed" else "failedReason"
    assert ran.events == [event(kind, jobId="1", prev="active", **{field: "42"})]


@pytest.mark.parametrize("kind", KINDS)
async def test_the_newest_are_kept_by_count(bench: Bench, kind: str) -> None:
    await bench.seed({**active("1"), "old000:logs": ["row"], "old000:processed": {"c": "1"}})
    await finished(bench, kind, 3)

    ran = await bench.run("settle_and_claim", [ended(kind, keep=(2, -1, 1000))], **exchange())

    assert removed(ran) == {"old000", "old000:logs", "old000:processed", "old001"}
    assert [member for member, _ in ran.keys[kind]] == ["old002", "1"]


async def test_all_are_kept_without_a_policy(bench: Bench) -> None:
    await bench.seed(active("1"))
    await finished(bench, "completed", 3, age_s=9999)

    ran = await bench.run("settle_and_claim", [ended("completed", keep=KEEP_ALL)], **exchange())

    assert removed(ran) == set()


@pytest.mark.parametrize("kind", KINDS)
async def test_the_young_are_kept_by_age(bench: Bench, kind: str) -> None:
    """E58."""
    await bench.seed(active("1"))
    await finished(bench, kind, 2, age_s=10)
    await finished(bench, kind, 1, age_s=9, first=2)

    ran = await bench.run("settle_and_claim", [ended(kind, keep=(-1, 10, 1000))], **exchange())

    assert removed(ran) == {"old000", "old001"}


async def test_age_and_count_apply_together(bench: Bench) -> None:
    """E58."""
    await bench.seed(active("1"))
    await finished(bench, "completed", 2, age_s=10)
    await finished(bench, "completed", 3, age_s=9, first=2)

    ran = await bench.run("settle_and_claim", [ended("completed", keep=(2, 10, 1000))], **exchange())

    assert [member for member, _ in ran.keys["completed"]] == ["old004", "1"]


async def test_a_limit_bounds_what_age_removes_the_newest_first(bench: Bench) -> None:
    """E58, E61."""
    await bench.seed(active("1"))
    await finished(bench, "completed", 5, age_s=10)

    ran = await bench.run("settle_and_claim", [ended("completed", keep=(-1, 10, 2))], **exchange())

    assert removed(ran) == {"old003", "old004"}


async def test_a_job_may_fall_under_its_own_rule(bench: Bench) -> None:
    await bench.seed(active("1"))

    ran = await bench.run("settle_and_claim", [ended("completed", keep=(-1, 0, 1000))], **exchange())

    assert (ran.reply[1], ran.keys) == ([0], dict.fromkeys(["1", "1:lock", "active"]))
    assert ran.events[0] == event("completed", jobId="1", returnvalue="42", prev="active")


@pytest.mark.parametrize("keep", [(10, -1, 1000), (-1, 1, 1000), (10, 1, 1000)], ids=["count", "age", "both"])
async def test_one_call_removes_at_most_32(bench: Bench, keep: tuple[int, int, int]) -> None:
    await bench.seed(active("1", "2"))
    await finished(bench, "completed", 150, age_s=10)
    await finished(bench, "failed", 150, age_s=10, first=150)

    ran = await bench.run(
        "settle_and_claim", [ended("completed", keep=keep), ended("failed", "2", keep=keep)], **exchange()
    )

    assert len(removed(ran)) == 32
    left = await bench.client.zcard(f"{bench.base}completed") + await bench.client.zcard(f"{bench.base}failed")
    assert left == 302 - 32


@pytest.mark.parametrize(("old", "promoted"), [(0, 50), (20, 40), (300, 34)])
async def test_removals_leave_less_room_for_promotions(bench: Bench, old: int, promoted: int) -> None:
    due = Zset({f"d{n:03}": n for n in range(150)})
    await bench.seed({**active("1"), "delayed": due, **{job_id: {"delay": "5"} for job_id in due}})
    await finished(bench, "completed", old)

    ran = await bench.run("settle_and_claim", [ended("completed", keep=(1, -1, 1000))], **exchange(1))

    assert len(removed(ran)) == min(old, 32)
    assert len(ran.keys["delayed"]) == 150 - promoted


async def test_the_backlog_goes_with_the_next_finishes(bench: Bench) -> None:
    await bench.seed(active("1", "2"))
    await finished(bench, "completed", 45)

    await bench.run("settle_and_claim", [ended("completed", keep=(10, -1, 1000))], **exchange())
    await bench.run("settle_and_claim", [ended("completed", "2", keep=(10, -1, 1000))], **exchange())

    assert await bench.client.zcard(f"{bench.base}completed") == 10


async def test_completed_and_failed_jobs_have_policies_of_their_own(bench: Bench) -> None:
    await bench.seed(active("1", "2"))
    await finished(bench, "completed", 3)
    await finished(bench, "failed", 3, first=3)

    rows = [ended("completed", keep=(1, -1, 1000)), ended("failed", "2", keep=KEEP_ALL)]
    ran = await bench.run("settle_and_claim", rows, **exchange())

    assert removed(ran) == {"old000", "old001", "old002"}


#: Policies of the jobs a and b, settled in this order; which of old000, a and b are left.
MIXED = [((1, -1, 1000), (5, -1, 1000), ["a", "b"]), ((5, -1, 1000), (1, -1, 1000), ["b"])]


@pytest.mark.parametrize(("first", "second", "left"), MIXED)
async def test_policies_apply_in_the_order_of_the_outcomes(
    bench: Bench, first: tuple[int, int, int], second: tuple[int, int, int], left: list[str]
) -> None:
    await bench.seed(active("a", "b"))
    await finished(bench, "completed", 1)

    rows = [ended("completed", "a", keep=first), ended("completed", "b", keep=second)]
    ran = await bench.run("settle_and_claim", rows, **exchange())

    assert [member for member, _ in ran.keys["completed"]] == left


async def test_a_deduplication_id_of_a_job_that_falls_under_a_policy_stays(bench: Bench) -> None:
    """E225."""
    await bench.seed({**active("1"), "de:D": "old000"})
    await finished(bench, "completed", 1)
    await bench.client.hset(f"{bench.base}old000", "deid", "D")

    ran = await bench.run("settle_and_claim", [ended("completed", keep=(1, -1, 1000))], **exchange())

    assert removed(ran) == {"old000"}
    assert "de:D" not in ran.keys


async def test_a_failed_child_that_falls_under_a_policy_lets_its_parent_go(bench: Bench) -> None:
    parent = {"p": {"name": "p"}, "p:dependencies": {f"{bench.base}old000"}, "waiting-children": Zset({"p": 5})}
    await bench.seed({**active("1"), **parent})
    await finished(bench, "failed", 1)
    await bench.client.hset(f"{bench.base}old000", "parentKey", f"{bench.base}p")

    ran = await bench.run("settle_and_claim", [ended("failed", keep=(1, -1, 1000))], **exchange())

    assert (ran.keys["p:dependencies"], ran.keys["waiting-children"], ran.keys["wait"]) == (None, None, ["p"])
    assert event("waiting", jobId="p", prev="waiting-children") in ran.events


async def test_an_old_job_that_cannot_be_removed_spoils_nothing(bench: Bench) -> None:
    await bench.seed(active("1"))
    await finished(bench, "completed", 3)
    await bench.seed({"old001:x": "1"})
    await bench.client.delete(f"{bench.base}old001")
    await bench.client.set(f"{bench.base}old001", "not a job")

    ran = await bench.run("settle_and_claim", [ended("completed", keep=(1, -1, 1000))], **exchange())

    assert ran.reply[1] == [0]
    assert removed(ran) == {"old000", "old002"}
    assert ran.keys["completed"] == [("1", float(NOW))]


@pytest.mark.parametrize("kind", KINDS)
async def test_the_first_finish_starts_the_series(bench: Bench, kind: str) -> None:
    await bench.seed(active("1", "2"))

    rows = [ended(kind, keep=(0, -1, 1000)), ended(kind, "2")]
    ran = await bench.run("settle_and_claim", rows, **exchange(metrics_points=5))

    assert ran.keys[f"metrics:{kind}"] == {"count": "2", "prevTS": str(NOW), "prevCount": "0"}
    assert f"metrics:{kind}:data" not in ran.keys


async def test_without_metrics_nothing_is_counted(bench: Bench) -> None:
    await bench.seed({**active("1"), "metrics:completed": {"count": "2", "prevTS": "0", "prevCount": "0"}})

    ran = await bench.run("settle_and_claim", [ended("completed")], **exchange(metrics_points=0))

    assert "metrics:completed" not in ran.keys


START = NOW - NOW % MINUTE
#: Minutes since the last count, what the list holds before and after (count 7, 4 of them counted; two jobs finish).
SERIES: list[tuple[int, list[str], list[str]]] = [
    (0, ["9"], ["9"]),
    (1, ["9"], ["3", "9"]),
    (3, ["9"], ["0", "0", "3", "9"]),
    (4, ["9", "8"], ["0", "0", "0", "3"]),
    (9999, ["9"], ["0", "0", "0", "3"]),
]


@pytest.mark.parametrize(("minutes", "before", "after"), SERIES)
async def test_a_new_minute_closes_the_one_before(
    bench: Bench, minutes: int, before: list[str], after: list[str]
) -> None:
    previous = START - minutes * MINUTE
    await bench.seed(
        {
            **active("1", "2"),
            "metrics:completed": {"count": "7", "prevTS": str(previous), "prevCount": "4"},
            "metrics:completed:data": before,
        }
    )

    ran = await bench.run(
        "settle_and_claim", [ended("completed"), ended("completed", "2")], **exchange(metrics_points=4)
    )

    if minutes == 0:
        assert ran.keys["metrics:completed"] == {"count": "9", "prevTS": str(previous), "prevCount": "4"}
        assert "metrics:completed:data" not in ran.keys
    else:
        assert ran.keys["metrics:completed"] == {"count": "9", "prevTS": str(NOW), "prevCount": "7"}
        assert ran.keys["metrics:completed:data"] == after


async def test_metrics_that_were_overwritten_spoil_nothing(bench: Bench) -> None:
    await bench.seed({**active("1"), "metrics:completed": "not a hash"})

    ran = await bench.run("settle_and_claim", [ended("completed")], **exchange(metrics_points=5))

    assert ran.reply[1] == [0]
    assert ran.keys["1"] == running(returnvalue="42", finishedOn=str(NOW), atm="1")
