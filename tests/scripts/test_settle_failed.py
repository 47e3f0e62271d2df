"""settle_and_claim.lua: failed for good, retried at once, retried after a backoff."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.script_bench import NOW, Bench, Zset
from tests.support.script_rows import STACK, active, event, exchange, running, settled

pytestmark = pytest.mark.anyio

READY = [("0", 0.0)]
FAILURES = ["failed", "retried", "backoff"]


def failure(fields: dict[str, str] | None = None, **more: str) -> dict[str, str]:
    """Hash of job 1 after an attempt that failed."""
    return running(**{**(fields or {}), "failedReason": "boom", "stacktrace": STACK, **more})


def failed(kind: str = "failed", **more: Any) -> tuple[Any, ...]:
    return settled("1", kind, "boom", stacktrace=STACK, **more)


async def test_a_failed_job_is_kept_with_its_reason(bench: Bench) -> None:
    await bench.seed({**active("1"), "stalled": {"1"}, "wait": ["2"]})

    ran = await bench.run("settle_and_claim", [failed(attempts=3)], **exchange())

    assert ran.reply == [NOW, [0], [], 0, 0, 0, 0]
    assert ran.keys == {
        "1": failure(finishedOn=str(NOW), atm="1"),
        "1:lock": None,
        "active": None,
        "stalled": None,
        "failed": [("1", float(NOW))],
    }
    assert ran.events == [event("failed", jobId="1", failedReason="boom", prev="active")]


@pytest.mark.parametrize(("made", "attempts", "exhausted"), [(0, 0, True), (2, 3, True), (1, 3, False), (3, 3, True)])
async def test_exhausted_retries_are_announced(bench: Bench, made: int, attempts: int, exhausted: bool) -> None:
    await bench.seed({**active("1", atm=str(made)), "wait": ["2"]})

    ran = await bench.run("settle_and_claim", [failed(attempts=attempts)], **exchange())

    more = [event("retries-exhausted", jobId="1", attemptsMade=str(made + 1))] if exhausted else []
    assert ran.events == [event("failed", jobId="1", failedReason="boom", prev="active"), *more]


async def test_the_last_failed_job_announces_that_nothing_is_left(bench: Bench) -> None:
    await bench.seed(active("1"))

    ran = await bench.run("settle_and_claim", [failed(attempts=9)], **exchange())

    assert ran.events[-1] == event("drained")


async def test_a_failed_job_loses_its_deferred_failure(bench: Bench) -> None:
    await bench.seed(active("1", defa="job stalled more than allowable limit"))

    ran = await bench.run("settle_and_claim", [failed()], **exchange())

    assert ran.keys["1"] == failure(finishedOn=str(NOW), atm="1")


async def test_a_failure_without_a_stack_trace_keeps_that_of_the_attempt_before(bench: Bench) -> None:
    await bench.seed(active("1", stacktrace="old"))

    ran = await bench.run("settle_and_claim", [settled("1", "failed", "boom")], **exchange())

    assert ran.keys["1"] == running(stacktrace="old", failedReason="boom", finishedOn=str(NOW), atm="1")


async def test_a_parent_may_fail_with_children_pending(bench: Bench) -> None:
    await bench.seed({**active("1"), "1:dependencies": {"c"}, "1:unsuccessful": Zset({"d": 1})})

    ran = await bench.run("settle_and_claim", [failed()], **exchange())

    assert ran.reply[1] == [0]
    assert ran.keys.keys() == {"1", "1:lock", "active", "failed"}


@pytest.mark.parametrize("kind", FAILURES)
@pytest.mark.parametrize(
    ("keys", "code"), [({"1": None}, -1), ({"1:lock": None}, -2), ({"1:lock": "other"}, -6)], ids=["-1", "-2", "-6"]
)
async def test_a_failure_of_a_job_that_is_not_ours_changes_nothing(
    bench: Bench, kind: str, keys: dict[str, Any], code: int
) -> None:
    """E105."""
    seeds = {**active("1"), "stalled": {"1"}, **keys}
    await bench.seed({key: value for key, value in seeds.items() if value is not None})

    ran = await bench.run("settle_and_claim", [failed(kind, number=1000)], **exchange())

    assert (ran.reply[1], ran.keys, ran.events) == ([code], {}, [])


@pytest.mark.parametrize("kind", FAILURES)
async def test_a_job_that_is_not_active_keeps_the_reason_and_gives_up_its_lock(bench: Bench, kind: str) -> None:
    await bench.seed({"1": running(), "1:lock": "t", "active": ["2"]})

    ran = await bench.run("settle_and_claim", [failed(kind, number=1000)], **exchange())

    assert (ran.reply[1], ran.events) == ([-3], [])
    assert ran.keys == {"1": failure(), "1:lock": None}


async def test_a_retried_job_goes_to_the_back_and_spends_an_attempt(bench: Bench) -> None:
    await bench.seed({**active("1", atm="1"), "wait": ["2"], "stalled": {"1"}})

    ran = await bench.run("settle_and_claim", [failed("retried")], **exchange())

    assert ran.reply == [NOW, [0], [], 0, 0, 0, 0]
    assert ran.keys == {
        "1": failure({"atm": "2"}),
        "1:lock": None,
        "active": None,
        "stalled": None,
        "wait": ["1", "2"],
        "marker": READY,
    }
    assert ran.events == [event("waiting", jobId="1", prev="active")]


LIFO = [
    ('{"lifo":true}', ["2", "1"]),
    ('{"lifo":false}', ["1", "2"]),
    ('{"tag":"lifo"}', ["1", "2"]),
    ("{lifo", ["1", "2"]),
]


@pytest.mark.parametrize(("opts", "wait"), LIFO)
async def test_a_retried_lifo_job_goes_to_the_front(bench: Bench, opts: str, wait: list[str]) -> None:
    await bench.seed({**active("1"), "1": {**running(), "opts": opts}, "wait": ["2"]})

    ran = await bench.run("settle_and_claim", [failed("retried")], **exchange())

    assert (ran.reply[1], ran.keys["wait"]) == ([0], wait)


async def test_a_retried_job_goes_behind_those_of_its_priority(bench: Bench) -> None:
    await bench.seed({**active("1"), "1": {**running(), "priority": "3", "opts": '{"lifo":true}'}, "pc": "6"})

    ran = await bench.run("settle_and_claim", [failed("retried")], **exchange())

    assert ran.keys == {
        "1": failure({"priority": "3", "opts": '{"lifo":true}', "atm": "1"}),
        "1:lock": None,
        "active": None,
        "pc": "7",
        "prioritized": [("1", 3 * 2.0**32 + 7)],
        "marker": READY,
    }


async def test_due_jobs_go_before_a_retried_one(bench: Bench) -> None:
    """E100."""
    keys = {"delayed": Zset({"2": NOW * 4096, "3": (NOW + 2) * 4096}), "2": {"delay": "5", "priority": "0"}}
    await bench.seed({**active("1"), **keys})

    ran = await bench.run("settle_and_claim", [failed("retried")], **exchange())

    assert ran.keys["wait"] == ["1", "2"]
    assert ran.keys["2"] == {"delay": "0", "priority": "0"}
    assert ran.keys["delayed"] == [("3", float((NOW + 2) * 4096))]
    assert ran.events == [event("waiting", jobId="2", prev="delayed"), event("waiting", jobId="1", prev="active")]


async def test_other_outcomes_do_not_promote(bench: Bench) -> None:
    await bench.seed({**active("1"), "delayed": Zset({"2": NOW * 4096}), "2": {"delay": "5"}})

    ran = await bench.run("settle_and_claim", [failed("backoff", number=5)], **exchange())

    assert "wait" not in ran.keys


@pytest.mark.parametrize("meta", [{"paused": "1"}, {"concurrency": "1"}])
async def test_a_retried_job_of_a_blocked_queue_wakes_nobody(bench: Bench, meta: dict[str, str]) -> None:
    await bench.seed({**active("1"), "active": ["1", "2"], "meta": meta})

    ran = await bench.run("settle_and_claim", [failed("retried")], **exchange())

    assert ran.keys == {"1": failure({"atm": "1"}), "1:lock": None, "active": ["2"], "wait": ["1"]}


async def test_a_retried_job_that_makes_room_wakes_a_worker(bench: Bench) -> None:
    await bench.seed({**active("1"), "active": ["1", "2"], "meta": {"concurrency": "2"}})

    ran = await bench.run("settle_and_claim", [failed("retried")], **exchange())

    assert ran.keys["marker"] == READY


async def test_a_backoff_delays_the_job_and_spends_an_attempt(bench: Bench) -> None:
    await bench.seed({**active("1", atm="1"), "stalled": {"1"}, "delayed": Zset({"2": (NOW + 1000) * 4096})})

    ran = await bench.run("settle_and_claim", [failed("backoff", number=1000)], **exchange())

    assert ran.reply == [NOW, [0], [], NOW + 1000, 0, 0, 0]
    assert ran.keys == {
        "1": failure({"atm": "2", "delay": "1000"}),
        "1:lock": None,
        "active": None,
        "stalled": None,
        "delayed": [("2", float((NOW + 1000) * 4096)), ("1", float((NOW + 1000) * 4096 + 1))],
        "marker": [("1", float(NOW + 1000))],
    }
    assert ran.events == [event("delayed", jobId="1", delay=str(NOW + 1000))]


async def test_a_backoff_keeps_priority_and_parent_in_place(bench: Bench) -> None:
    fields = {"parentKey": f"{bench.base}p", "parent": '{"fpof":true}', "deid": "D"}
    seeds = {"p": {"name": "p"}, "p:dependencies": {f"{bench.base}1"}, "de:D": "1"}
    await bench.seed({**active("1", **fields), **seeds})

    ran = await bench.run("settle_and_claim", [failed("backoff", number=1000)], **exchange())

    assert ran.keys.keys() == {"1", "1:lock", "active", "delayed", "marker"}
