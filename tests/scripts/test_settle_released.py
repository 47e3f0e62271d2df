"""settle_and_claim.lua: outcomes that spend no attempt: delayed, released, returned, rate limited, waiting children."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.script_bench import NOW, Bench, Zset
from tests.support.script_rows import active, event, exchange, running, settled

pytestmark = pytest.mark.anyio

READY = [("0", 0.0)]
BACK = ["released", "returned", "rate_limited"]
KINDS = ["delayed", "delayed_until", *BACK]


@pytest.mark.parametrize(("kind", "number"), [("delayed", 2000), ("delayed_until", NOW + 2000)])
async def test_a_job_delays_itself(bench: Bench, kind: str, number: int) -> None:
    await bench.seed({**active("1", atm="1"), "stalled": {"1"}})

    ran = await bench.run("settle_and_claim", [settled("1", kind, number=number)], **exchange())

    assert ran.reply == [NOW, [0], [], NOW + 2000, 0, 0, 0]
    assert ran.keys == {
        "1": {**running(atm="1"), "delay": "2000"},
        "1:lock": None,
        "active": None,
        "stalled": None,
        "delayed": [("1", float((NOW + 2000) * 4096))],
        "marker": [("1", float(NOW + 2000))],
    }
    assert ran.events == [event("delayed", jobId="1", delay=str(NOW + 2000))]


@pytest.mark.parametrize(("kind", "number"), [("delayed", 0), ("delayed_until", NOW - 5), ("delayed_until", 1)])
async def test_a_delay_that_is_over_ends_now(bench: Bench, kind: str, number: int) -> None:
    await bench.seed({**active("1"), "delayed": Zset({"2": NOW * 4096})})

    ran = await bench.run("settle_and_claim", [settled("1", kind, number=number)], **exchange())

    assert "1" not in ran.keys
    assert ran.keys["delayed"] == [("2", float(NOW * 4096)), ("1", float(NOW * 4096 + 1))]
    assert ran.events == [event("delayed", jobId="1", delay=str(NOW))]


@pytest.mark.parametrize("kind", ["delayed", "delayed_until"])
async def test_delaying_keeps_the_reason_of_an_earlier_attempt(bench: Bench, kind: str) -> None:
    await bench.seed(active("1", failedReason="boom", stacktrace="[]"))

    ran = await bench.run("settle_and_claim", [settled("1", kind, number=NOW + 5)], **exchange())

    assert (ran.keys["1"]["failedReason"], ran.keys["1"]["stacktrace"]) == ("boom", "[]")


@pytest.mark.parametrize("kind", BACK)
async def test_a_job_goes_back_to_the_front(bench: Bench, kind: str) -> None:
    await bench.seed({**active("1", atm="1"), "stalled": {"1"}, "wait": ["3", "2"]})

    ran = await bench.run("settle_and_claim", [settled("1", kind)], **exchange())

    assert ran.reply == [NOW, [0], [], 0, 0, 0, 0]
    changed = {"1": {**running(atm="1"), "ats": "0"}} if kind == "returned" else {}
    assert ran.keys == {
        **changed,
        "1:lock": None,
        "active": None,
        "stalled": None,
        "wait": ["3", "2", "1"],
        "marker": READY,
    }
    assert ran.events == [event("waiting", jobId="1", prev="active")]


@pytest.mark.parametrize("kind", BACK)
async def test_a_job_goes_to_the_front_of_its_priority_and_wakes_a_worker(bench: Bench, kind: str) -> None:
    prioritized = Zset({"2": 3 * 2**32 + 5, "3": 2 * 2**32 + 6})
    await bench.seed({**active("1"), "1": {**running(), "priority": "3"}, "prioritized": prioritized, "pc": "6"})

    ran = await bench.run("settle_and_claim", [settled("1", kind)], **exchange())

    ran.keys.pop("1", None)
    assert ran.keys == {
        "1:lock": None,
        "active": None,
        "prioritized": [("3", 2 * 2.0**32 + 6), ("1", 3 * 2.0**32), ("2", 3 * 2.0**32 + 5)],
        "marker": READY,
    }


@pytest.mark.parametrize("meta", [{"paused": "1"}, {"concurrency": "1"}])
async def test_a_job_of_a_blocked_queue_goes_back_and_wakes_nobody(bench: Bench, meta: dict[str, str]) -> None:
    await bench.seed({**active("1"), "active": ["1", "2"], "meta": meta})

    ran = await bench.run("settle_and_claim", [settled("1", "released")], **exchange())

    assert ran.keys == {"1:lock": None, "active": ["2"], "wait": ["1"]}


@pytest.mark.parametrize(("started", "left"), [("3", "2"), ("1", "0"), ("-1", "0"), ("x", "0")])
async def test_a_returned_job_takes_its_start_back(bench: Bench, started: str, left: str) -> None:
    await bench.seed({**active("1"), "1": {**running(), "ats": started}})

    ran = await bench.run("settle_and_claim", [settled("1", "returned")], **exchange())

    assert ran.keys["1"]["ats"] == left


async def test_a_rate_limited_job_closes_the_limiter(bench: Bench) -> None:
    await bench.seed({**active("1"), "limiter": "3"})

    ran = await bench.run("settle_and_claim", [settled("1", "rate_limited", number=60_000)], **exchange())

    assert 59_000 < ran.reply[4] <= 60_000
    assert ran.keys == {
        "1:lock": None,
        "active": None,
        "wait": ["1"],
        "marker": READY,
        "limiter": "9007199254740991",
    }
    assert ran.ttls == {"limiter": 60}


@pytest.mark.parametrize(("kind", "asked"), [("released", True), ("rate_limited", True), ("returned", False)])
async def test_the_rest_of_a_limit_is_told_to_who_gives_a_job_back(bench: Bench, kind: str, asked: bool) -> None:
    await bench.seed({**active("1"), "limiter": "1"})
    await bench.client.pexpire(f"{bench.base}limiter", 60_000)

    ran = await bench.run("settle_and_claim", [settled("1", kind)], **exchange())

    assert (59_000 < ran.reply[4] <= 60_000) if asked else ran.reply[4] == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("keys", "code"), [({"1": None}, -1), ({"1:lock": None}, -2), ({"1:lock": "other"}, -6)], ids=["-1", "-2", "-6"]
)
async def test_a_job_that_is_not_ours_stays_where_it_is(
    bench: Bench, kind: str, keys: dict[str, Any], code: int
) -> None:
    seeds = {**active("1"), "stalled": {"1"}, **keys}
    await bench.seed({key: value for key, value in seeds.items() if value is not None})

    ran = await bench.run("settle_and_claim", [settled("1", kind, number=60_000)], **exchange())

    assert (ran.reply[1], ran.keys, ran.events) == ([code], {}, [])


@pytest.mark.parametrize("kind", [*KINDS, "waiting_children"])
async def test_a_job_that_is_not_active_only_gives_up_its_lock(bench: Bench, kind: str) -> None:
    await bench.seed({"1": running(), "1:lock": "t", "active": ["2"], "1:dependencies": {"c"}})

    ran = await bench.run("settle_and_claim", [settled("1", kind, number=60_000)], **exchange())

    # Giving a job back that somebody took out of active is no error, as upstream.
    assert (ran.reply[1], ran.keys, ran.events) == ([0 if kind in BACK else -3], {"1:lock": None}, [])


@pytest.mark.parametrize("kind", KINDS)
async def test_giving_a_job_back_does_not_count_as_drained(bench: Bench, kind: str) -> None:
    await bench.seed(active("1"))

    ran = await bench.run("settle_and_claim", [settled("1", kind, number=60_000)], **exchange())

    assert [entry["event"] for entry in ran.events] in (["delayed"], ["waiting"])


@pytest.mark.parametrize("child", ["", "kid"])
async def test_a_parent_waits_for_its_children(bench: Bench, child: str) -> None:
    await bench.seed({**active("1", atm="1"), "stalled": {"1"}, "1:dependencies": {"kid", "other"}})

    ran = await bench.run("settle_and_claim", [settled("1", "waiting_children", child)], **exchange())

    assert ran.reply == [NOW, [0], [], 0, 0, 0, 0]
    assert ran.keys == {
        "1:lock": None,
        "active": None,
        "stalled": None,
        "waiting-children": [("1", float(NOW))],
    }
    assert ran.events == [event("waiting-children", jobId="1", prev="active")]


NOTHING_PENDING: list[tuple[str, dict[str, Any]]] = [("", {}), ("kid", {}), ("kid", {"1:dependencies": {"other"}})]


@pytest.mark.parametrize(("child", "keys"), NOTHING_PENDING)
async def test_a_parent_with_nothing_to_wait_for_stays_active(bench: Bench, child: str, keys: dict[str, Any]) -> None:
    await bench.seed({**active("1"), **keys})

    ran = await bench.run("settle_and_claim", [settled("1", "waiting_children", child, token="wrong")], **exchange())

    assert (ran.reply[1], ran.keys, ran.events) == ([1], {}, [])


async def test_a_parent_with_a_failed_child_does_not_wait(bench: Bench) -> None:
    await bench.seed({**active("1"), "1:dependencies": {"kid"}, "1:unsuccessful": Zset({"other": 1})})

    ran = await bench.run("settle_and_claim", [settled("1", "waiting_children")], **exchange())

    assert (ran.reply[1], ran.keys, ran.events) == ([-9], {}, [])


@pytest.mark.parametrize(("keys", "code"), [({"1": None}, -1), ({"1:lock": None}, -2), ({"1:lock": "other"}, -6)])
async def test_a_parent_that_is_not_ours_stays_where_it_is(bench: Bench, keys: dict[str, Any], code: int) -> None:
    seeds = {**active("1"), "1:dependencies": {"kid"}, **keys}
    await bench.seed({key: value for key, value in seeds.items() if value is not None})

    ran = await bench.run("settle_and_claim", [settled("1", "waiting_children")], **exchange())

    assert (ran.reply[1], ran.keys, ran.events) == ([code], {}, [])
