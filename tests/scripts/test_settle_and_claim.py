"""settle_and_claim.lua: many outcomes at once, settling and claiming together, what a damaged queue loses (nothing)."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from pyqueue.errors import RedisRefused
from tests.support.script_bench import NOW, Bench, Zset
from tests.support.script_rows import STACK, TOKEN, active, event, exchange, running, settled, stored

pytestmark = pytest.mark.anyio

READY = [("0", 0.0)]
KINDS = [
    "completed",
    "failed",
    "retried",
    "backoff",
    "delayed",
    "delayed_until",
    "released",
    "returned",
    "rate_limited",
    "waiting_children",
]


async def test_an_exchange_without_anything_to_do_changes_nothing(bench: Bench) -> None:
    await bench.seed({"delayed": Zset({"2": (NOW + 7) * 4096})})

    ran = await bench.run("settle_and_claim", **exchange())

    assert (ran.reply, ran.keys, ran.events) == ([NOW, [], [], NOW + 7, 0, 0, 0], {}, [])


async def test_every_kind_of_outcome_is_settled_in_one_call(bench: Bench) -> None:
    ids = {kind: f"a-{kind}" for kind in KINDS}
    children = {"a-waiting_children:dependencies": {"c"}}
    await bench.seed({**active(*ids.values()), **children, "stalled": {*ids.values(), "x"}})

    numbers = {"backoff": 1000, "delayed": 2000, "delayed_until": NOW + 3000}
    rows = [settled(ids[kind], kind, number=numbers.get(kind, 0), attempts=9) for kind in KINDS]
    ran = await bench.run("settle_and_claim", rows, **exchange())

    end = {"finishedOn": str(NOW), "atm": "1"}
    assert ran.reply == [NOW, [0] * len(KINDS), [], NOW + 1000, 0, 0, 0]
    assert ran.keys == {
        **{f"{job_id}:lock": None for job_id in ids.values()},
        "active": None,
        "stalled": ["x"],
        "a-completed": running(returnvalue="", **end),
        "completed": [("a-completed", float(NOW))],
        "a-failed": running(failedReason="", **end),
        "failed": [("a-failed", float(NOW))],
        "a-retried": running(failedReason="", atm="1"),
        "a-backoff": running(failedReason="", atm="1") | {"delay": "1000"},
        "a-delayed": running() | {"delay": "2000"},
        "a-delayed_until": running() | {"delay": "3000"},
        "a-returned": running() | {"ats": "0"},
        "delayed": [
            ("a-backoff", float((NOW + 1000) * 4096)),
            ("a-delayed", float((NOW + 2000) * 4096)),
            ("a-delayed_until", float((NOW + 3000) * 4096)),
        ],
        "waiting-children": [("a-waiting_children", float(NOW))],
        "wait": ["a-retried", "a-released", "a-returned", "a-rate_limited"],
        "marker": [("0", 0.0), ("1", float(NOW + 1000))],
    }
    assert [entry["jobId"] for entry in ran.events] == list(ids.values())


async def test_50_outcomes_and_50_claims_keep_their_order(bench: Bench) -> None:
    done, ready = [f"d{n:02}" for n in range(50)], [f"r{n:02}" for n in range(50)]
    await bench.seed({**active(*done), "wait": list(reversed(ready)), **{job_id: stored() for job_id in ready}})

    rows = [settled(job_id, "completed", str(n)) for n, job_id in enumerate(done)]
    ran = await bench.run("settle_and_claim", rows, **exchange(claim=50))

    assert ran.reply[1] == [0] * 50
    assert [(row[0], row[1]) for row in ran.reply[2]] == [(job_id, n) for n, job_id in enumerate(ready)]
    assert ran.keys["active"] == list(reversed(ready))
    assert [entry["jobId"] for entry in ran.events] == done + ready


LEAVING = {
    "all": "123456789",
    "oldest": "12345",
    "oldest, then others": "123597",
    "newest": "9876",
    "others, then oldest": "41235",
    "with a stranger": "12x34",
    "none": "xyzu",
    "one twice": "123314",
}


@pytest.mark.parametrize("leaving", LEAVING.values(), ids=LEAVING)
async def test_jobs_leave_the_active_list_in_any_order(bench: Bench, leaving: str) -> None:
    await bench.seed({**active(*"123456789"), **dict.fromkeys("xyzu", running())})
    await bench.client.mset({f"{bench.base}{job_id}:lock": TOKEN for job_id in "xyzu"})

    ran = await bench.run("settle_and_claim", [settled(job_id, "returned") for job_id in leaving], **exchange())

    left = list(dict.fromkeys(job_id for job_id in leaving if job_id.isdigit()))
    stayed = [job_id for job_id in "987654321" if job_id not in left]
    assert await bench.client.lrange(f"{bench.base}active", 0, -1) == stayed
    assert (ran.keys.get("wait") or []) == left


async def test_a_bad_job_spoils_no_other(bench: Bench) -> None:
    await bench.seed(
        {**active("1", "2", "3", "4", "5"), "2": "not a job", "3:lock": "other", "wait": ["6"], "6": stored()}
    )
    await bench.client.delete(f"{bench.base}4")

    rows = [settled(job_id, "completed", job_id) for job_id in "12345"]
    ran = await bench.run("settle_and_claim", rows, **exchange(claim=1))

    assert ran.reply[1][1].startswith("WRONGTYPE")
    assert [*ran.reply[1][:1], *ran.reply[1][2:]] == [0, -6, -1, 0]
    assert [row[0] for row in ran.reply[2]] == ["6"]
    assert ran.keys == {
        "1": running(returnvalue="1", finishedOn=str(NOW), atm="1"),
        "5": running(returnvalue="5", finishedOn=str(NOW), atm="1"),
        "6": stored(processedOn=str(NOW), ats="1"),
        "1:lock": None,
        "5:lock": None,
        "6:lock": "w:0",
        "active": ["6", "4", "3", "2"],
        "completed": [("1", float(NOW)), ("5", float(NOW))],
        "wait": None,
        "marker": READY,
    }
    assert [(entry["event"], entry["jobId"]) for entry in ran.events] == [
        ("completed", "1"),
        ("completed", "5"),
        ("active", "6"),
    ]


@pytest.mark.parametrize("second", KINDS)
async def test_a_job_that_is_settled_twice_in_one_call_is_settled_once(bench: Bench, second: str) -> None:
    await bench.seed({**active("1"), "wait": ["x"]})

    rows = [settled("1", "completed", "42"), settled("1", second, "late", stacktrace=STACK, number=1)]
    ran = await bench.run("settle_and_claim", rows, **exchange())

    assert ran.reply[1] == [0, 1 if second == "waiting_children" else -2]
    assert ran.keys == {
        "1": running(returnvalue="42", finishedOn=str(NOW), atm="1"),
        "1:lock": None,
        "active": None,
        "completed": [("1", float(NOW))],
    }
    assert ran.events == [event("completed", jobId="1", returnvalue="42", prev="active")]


async def test_a_job_may_be_claimed_again_in_the_call_that_retries_it(bench: Bench) -> None:
    await bench.seed(active("1"))

    rows = [settled("1", "retried", "boom", stacktrace=STACK)]
    ran = await bench.run("settle_and_claim", rows, **exchange(claim=1))

    again = running(failedReason="boom", stacktrace=STACK, atm="1") | {"ats": "2", "processedOn": str(NOW)}
    assert ran.reply[1] == [0]
    assert [(row[0], row[1]) for row in ran.reply[2]] == [("1", 0)]
    assert ran.keys == {"1": again, "1:lock": "w:0", "marker": READY}
    assert ran.events == [
        event("waiting", jobId="1", prev="active"),
        event("active", jobId="1", prev="waiting"),
    ]


async def test_a_settled_job_makes_room_for_a_claim(bench: Bench) -> None:
    await bench.seed({**active("1"), "meta": {"concurrency": "1"}, "wait": ["3", "2"], "2": stored(), "3": stored()})

    ran = await bench.run("settle_and_claim", [settled("1", "completed", "42")], **exchange(claim=2))

    assert ([row[0] for row in ran.reply[2]], ran.reply[3:5]) == (["2"], [0, 0])
    assert ran.keys["wait"] == ["3"]


#: What is left when the last job finishes, and whether a claim that finds no job says that the queue is drained.
LEFT: list[tuple[dict[str, Any], bool]] = [
    ({}, True),
    ({"delayed": Zset({"2": (NOW + 7) * 4096})}, False),
    ({"meta": {"paused": "1"}}, False),
    ({"waiting-children": Zset({"2": 5})}, True),
]


@pytest.mark.parametrize(("left", "drained"), LEFT, ids=["nothing", "delayed", "paused", "parents"])
async def test_who_asks_for_more_hears_that_the_queue_is_drained(
    bench: Bench, left: dict[str, Any], drained: bool
) -> None:
    await bench.seed({**active("1"), **left})

    ran = await bench.run("settle_and_claim", [settled("1", "completed", "42")], **exchange(claim=1))

    assert (event("drained") in ran.events) is drained


async def test_a_limited_queue_is_not_drained_for_who_asks_for_more(bench: Bench) -> None:
    await bench.seed({**active("1"), "meta": {"max": "1", "duration": "60000"}, "limiter": "1"})
    await bench.client.pexpire(f"{bench.base}limiter", 60_000)

    ran = await bench.run("settle_and_claim", [settled("1", "completed", "42")], **exchange(claim=1))

    assert event("drained") not in ran.events


async def test_a_claim_alone_never_says_drained(bench: Bench) -> None:
    await bench.seed()

    ran = await bench.run("settle_and_claim", **exchange(claim=1))

    assert (ran.reply, ran.keys, ran.events) == ([NOW, [], [], 0, 0, 0, 0], {}, [])


async def test_several_finishes_say_drained_once_and_last(bench: Bench) -> None:
    """E230."""
    await bench.seed(active("1", "2"))

    rows = [settled("1", "completed", "1"), settled("2", "failed", "boom", stacktrace=STACK, attempts=9)]
    ran = await bench.run("settle_and_claim", rows, **exchange(claim=5))

    assert [entry["event"] for entry in ran.events] == ["completed", "failed", "drained"]


async def test_the_delay_marker_shows_what_is_left_after_the_claim(bench: Bench) -> None:
    await bench.seed({**active("1"), "delayed": Zset({"2": NOW * 4096}), "2": stored(delay="5")})

    rows = [settled("1", "backoff", "boom", stacktrace=STACK, number=1000)]
    ran = await bench.run("settle_and_claim", rows, **exchange(claim=1))

    assert [row[0] for row in ran.reply[2]] == ["2"]
    assert ran.keys["marker"] == [("0", 0.0), ("1", float(NOW + 1000))]


async def test_a_job_delayed_until_now_is_claimed_at_once(bench: Bench) -> None:
    await bench.seed(active("1"))

    ran = await bench.run("settle_and_claim", [settled("1", "delayed")], **exchange(claim=1))

    assert [row[0] for row in ran.reply[2]] == ["1"]
    assert ran.keys == {"1": running() | {"ats": "2", "processedOn": str(NOW)}, "1:lock": "w:0", "marker": READY}


async def test_a_manual_limit_holds_the_claim_of_its_own_call_where_a_limit_is_set(bench: Bench) -> None:
    await bench.seed({**active("1"), "meta": {"max": "5", "duration": "1000"}, "wait": ["2"], "2": stored()})

    ran = await bench.run("settle_and_claim", [settled("1", "rate_limited", number=60_000)], **exchange(claim=1))

    assert ran.reply[2] == []
    assert 59_000 < ran.reply[4] <= 60_000


REARM: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"wait": ["2"]}, {"marker": READY}),
    ({"prioritized": Zset({"2": 5})}, {"marker": READY}),
    ({"delayed": Zset({"2": (NOW + 7) * 4096})}, {"marker": [("1", NOW + 7)]}),
    ({"wait": ["2"], "meta": {"paused": "1"}}, {}),
    ({"wait": ["2"], "active": ["1"], "meta": {"concurrency": "1"}}, {}),
]


@pytest.mark.parametrize(("keys", "marker"), REARM, ids=["wait", "prioritized", "delayed", "paused", "full"])
async def test_a_marker_that_is_of_no_use_is_put_back(
    bench: Bench, keys: dict[str, Any], marker: dict[str, Any]
) -> None:
    await bench.seed(keys)

    ran = await bench.run("settle_and_claim", **exchange(rearm=1))

    assert ran.keys == marker


async def test_the_clock_of_the_server_is_used_where_the_caller_has_none(bench: Bench) -> None:
    await bench.seed({**active("1"), "wait": ["2"], "2": stored()})

    ran = await bench.run("settle_and_claim", [settled("1", "completed", "42")], **exchange(claim=1, now_ms=0))

    now = ran.reply[0]
    assert abs(now / 1000 - (await bench.client.time())[0]) < 60
    assert ran.keys["completed"] == [("1", float(now))]
    assert ran.keys["2"]["processedOn"] == str(now)


async def places_of(bench: Bench, *, without: str) -> list[str]:
    """Ids in all lists and sets but one, sorted."""
    dumped = await bench.dump()
    found: list[str] = []
    for name in ("wait", "active", "prioritized", "delayed", "waiting-children", "completed", "failed"):
        if name in dumped and name != without:
            found += [entry[0] if isinstance(entry, tuple) else entry for entry in dumped[name].value]
    return sorted(found)


@pytest.mark.parametrize("kind", ["completed", "retried", "backoff", "released", "waiting_children"])
@pytest.mark.parametrize("key", ["wait", "prioritized", "delayed", "events", "marker", "stalled", "limiter", "pc"])
async def test_a_key_that_was_overwritten_loses_no_job(bench: Bench, key: str, kind: str) -> None:
    jobs = {name: stored() for name in "2345"}
    ready = {"wait": ["3", "2"], "prioritized": Zset({"4": 5}), "delayed": Zset({"5": 5})}
    children = {"1:dependencies": {"c"}} if kind == "waiting_children" else {}
    await bench.seed({**active("1"), **jobs, **ready, **children, "meta": {"max": "9", "duration": "60000"}})
    await bench.client.delete(bench.base + key)
    await bench.write(bench.base + key, {"name": "a job of this name, from a client that allows it"})
    before = await places_of(bench, without=key)

    with suppress(RedisRefused):
        await bench.run("settle_and_claim", [settled("1", kind, number=1000)], **exchange(claim=5))

    assert await places_of(bench, without=key) == before


async def test_an_overwritten_active_list_takes_and_loses_nothing(bench: Bench) -> None:
    await bench.seed({"active": "not a list", "wait": ["3", "2"], "2": stored(), "3": stored()})
    await bench.seed({"prioritized": Zset({"4": 5}), "4": stored()})
    before = await places_of(bench, without="active")

    with pytest.raises(RedisRefused, match="WRONGTYPE"):
        await bench.run("settle_and_claim", [], **exchange(claim=5))

    assert await places_of(bench, without="active") == before


@pytest.mark.parametrize(
    ("key", "kind"),
    [("completed", "completed"), ("failed", "failed"), ("waiting-children", "waiting_children")],
)
async def test_a_job_whose_set_was_overwritten_stays_active(bench: Bench, key: str, kind: str) -> None:
    await bench.seed({**active("1", "2"), "1:dependencies": {"c"}, key: "not ours"})

    other = "failed" if kind == "completed" else "completed"
    rows = [settled("1", kind), settled("2", other, "42")]
    ran = await bench.run("settle_and_claim", rows, **exchange())

    assert ran.reply[1][0].startswith("WRONGTYPE")
    assert ran.reply[1][1] == 0
    assert ran.keys.keys() == {"2", "2:lock", "active", other}
    assert ran.keys["active"] == ["1"]
