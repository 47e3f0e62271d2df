"""settle_and_claim.lua: which jobs a claim takes, in which order, and what it writes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.script_bench import NOW, Bench, Ran, Zset
from tests.support.script_rows import event, exchange, stored

pytestmark = pytest.mark.anyio

READY = [("0", 0.0)]


def ids(ran: Ran) -> list[str]:
    return [row[0] for row in ran.reply[2]]


def jobs(*job_ids: str, **fields: str) -> dict[str, Any]:
    return {job_id: stored(**fields) for job_id in job_ids}


def ready(*job_ids: str, **fields: str) -> dict[str, Any]:
    """Waiting jobs, the one that is served first named first."""
    return {"wait": list(reversed(job_ids)), **jobs(*job_ids, **fields)}


def started(**more: str) -> dict[str, str]:
    return stored(**{"processedOn": str(NOW), "ats": "1", **more})


async def test_a_claimed_job_is_locked_and_handed_out(bench: Bench) -> None:
    await bench.seed(ready("1", "2"))

    ran = await bench.run("settle_and_claim", **exchange(claim=1))

    fields = [part for pair in started().items() for part in pair]
    assert ran.reply == [NOW, [], [["1", 0, fields]], 0, 0, 0, 0]
    assert ran.keys == {"1": started(), "1:lock": "w:0", "active": ["1"], "wait": ["2"], "marker": READY}
    assert ran.ttls == {"1:lock": 30}
    assert ran.events == [event("active", jobId="1", prev="waiting")]


async def test_what_is_handed_out_is_what_redis_holds(bench: Bench) -> None:
    before = {"ats": "2", "processedOn": "5", "pb": "old", "data": "ü", "x": ""}
    await bench.seed(ready("1", **before))

    ran = await bench.run("settle_and_claim", **exchange(claim=1, worker_name="worker-1"))

    flat = ran.reply[2][0][2]
    assert dict(zip(flat[::2], flat[1::2], strict=True)) == ran.keys["1"]
    assert ran.keys["1"] == started(**{**before, "ats": "3", "processedOn": str(NOW), "pb": "worker-1"})


async def test_jobs_are_served_in_order_under_numbered_tokens(bench: Bench) -> None:
    await bench.seed({**ready("1", "2", "3"), "active": ["x"]})

    ran = await bench.run("settle_and_claim", **exchange(claim=2, first_token=7))

    assert [(row[0], row[1]) for row in ran.reply[2]] == [("1", 7), ("2", 8)]
    assert (ran.keys["active"], ran.keys["wait"]) == (["2", "1", "x"], ["3"])


@pytest.mark.parametrize("waiting", [[], ["1"], ["2", "1"]], ids=len)
async def test_the_counter_of_priorities_ends_with_a_claim_that_finds_no_more(bench: Bench, waiting: list[str]) -> None:
    await bench.seed({"pc": "7", **({"wait": waiting} if waiting else {}), **jobs(*waiting)})

    ran = await bench.run("settle_and_claim", **exchange(claim=3))

    assert (ran.keys["pc"], sorted(ids(ran))) == (None, sorted(waiting))


async def test_a_single_claim_may_use_a_token_as_it_is(bench: Bench) -> None:
    await bench.seed(ready("1"))

    ran = await bench.run("settle_and_claim", **exchange(claim=1, token="mine", first_token=-1))

    assert (ran.reply[2][0][1], ran.keys["1:lock"]) == (-1, "mine")


async def test_the_token_0_takes_no_lock(bench: Bench) -> None:
    await bench.seed(ready("1"))

    ran = await bench.run("settle_and_claim", **exchange(claim=1, token="0", first_token=-1))

    assert ran.keys == {"1": started(), "active": ["1"], "wait": None, "marker": READY}


async def test_the_wait_list_is_served_before_priorities(bench: Bench) -> None:
    prioritized = Zset({"low": 2 * 2**32 + 1, "high": 2**32 + 2, "high too": 2**32 + 3})
    await bench.seed({**ready("1", "2"), **jobs(*prioritized), "prioritized": prioritized, "pc": "3"})

    ran = await bench.run("settle_and_claim", **exchange(claim=4))

    assert ids(ran) == ["1", "2", "high", "high too"]
    assert ran.keys["prioritized"] == [("low", 2 * 2.0**32 + 1)]
    assert ran.keys["active"] == ["high too", "high", "2", "1"]
    assert "pc" not in ran.keys


@pytest.mark.parametrize(("claim", "pc"), [(1, "3"), (2, None)])
async def test_the_counter_of_priorities_starts_anew_when_none_is_left(
    bench: Bench, claim: int, pc: str | None
) -> None:
    await bench.seed({**jobs("1"), "prioritized": Zset({"1": 2**32 + 1}), "pc": "3"})

    await bench.run("settle_and_claim", **exchange(claim=claim))

    assert await bench.client.get(f"{bench.base}pc") == pc


async def test_every_start_wakes_the_next_worker_whatever_the_limits(bench: Bench) -> None:
    await bench.seed({**ready("1"), "meta": {"concurrency": "1"}})

    ran = await bench.run("settle_and_claim", **exchange(claim=1))

    assert ran.keys["marker"] == READY


async def test_an_empty_queue_says_when_the_next_delayed_job_is_due(bench: Bench) -> None:
    await bench.seed({"delayed": Zset({"1": (NOW + 7) * 4096 + 3})})

    ran = await bench.run("settle_and_claim", **exchange(claim=1))

    assert (ran.reply, ran.keys, ran.events) == ([NOW, [], [], NOW + 7, 0, 0, 0], {}, [])


@pytest.mark.parametrize(("claim", "due"), [(1, 0), (2, NOW + 7)])
async def test_a_queue_that_has_more_says_nothing_of_delayed_jobs(bench: Bench, claim: int, due: int) -> None:
    await bench.seed({**ready("1"), "delayed": Zset({"2": (NOW + 7) * 4096})})

    ran = await bench.run("settle_and_claim", **exchange(claim=claim))

    assert (ids(ran), ran.reply[3]) == (["1"], due)


async def test_due_jobs_become_ready_first_come_first_served(bench: Bench) -> None:
    delayed = Zset({"late": (NOW + 1) * 4096, "b": NOW * 4096 + 1, "a": NOW * 4096, "now": NOW * 4096 + 4095})
    await bench.seed({**ready("1", delay="0"), **jobs(*delayed, delay="500"), "delayed": delayed})

    ran = await bench.run("settle_and_claim", **exchange(claim=9))

    assert ids(ran) == ["1", "a", "b", "now"]
    assert ran.keys["delayed"] == [("late", float((NOW + 1) * 4096))]
    assert ran.keys["a"] == started(delay="0")
    assert ran.events[:4] == [
        event("waiting", jobId="a", prev="delayed"),
        event("waiting", jobId="b", prev="delayed"),
        event("waiting", jobId="now", prev="delayed"),
        event("active", jobId="1", prev="waiting"),
    ]


async def test_a_due_job_goes_to_its_priority_and_lifo_does_not_apply(bench: Bench) -> None:
    due = {"1": stored(priority="3"), "2": stored(opts='{"lifo":true}'), "3": stored(priority="3")}
    await bench.seed(
        {
            **due,
            **ready("x"),
            "delayed": Zset({"1": 1, "2": 2, "3": 3}),
            "meta": {"paused": "1"},
            "pc": "4",
        }
    )

    ran = await bench.run("settle_and_claim", **exchange(claim=1))

    assert ran.keys == {
        "delayed": None,
        "wait": ["2", "x"],
        "prioritized": [("1", 3 * 2.0**32 + 5), ("3", 3 * 2.0**32 + 6)],
        "pc": "6",
    }


BLOCKED: list[dict[str, Any]] = [{"meta": {"paused": "1"}}, {"meta": {"concurrency": "1"}, "active": ["x"]}]


@pytest.mark.parametrize("keys", BLOCKED, ids=["paused", "full"])
async def test_a_blocked_queue_hands_out_nothing_but_promotes(bench: Bench, keys: dict[str, Any]) -> None:
    """E89."""
    await bench.seed({**ready("1"), **jobs("2"), "delayed": Zset({"2": 5, "3": (NOW + 9) * 4096}), **keys})

    ran = await bench.run("settle_and_claim", **exchange(claim=5))

    assert ran.reply == [NOW, [], [], 0, 0, 0, 0]
    assert ran.keys == {"delayed": [("3", float((NOW + 9) * 4096))], "wait": ["2", "1"]}


async def test_promotion_wakes_a_worker_unless_the_claim_takes_it_all(bench: Bench) -> None:
    await bench.seed({**jobs("1"), "delayed": Zset({"1": 5})})

    ran = await bench.run("settle_and_claim", **exchange(claim=1))

    assert (ids(ran), ran.keys["marker"]) == (["1"], READY)


async def test_one_call_promotes_at_most_50(bench: Bench) -> None:
    delayed = Zset({f"{n:03}": n for n in range(150)})
    await bench.seed({**jobs(*delayed), "delayed": delayed})

    ran = await bench.run("settle_and_claim", **exchange(claim=1))

    assert (ids(ran), len(ran.keys["wait"]), len(ran.keys["delayed"])) == (["000"], 49, 100)
    assert ran.reply[3] == 0


async def test_a_backlog_of_due_jobs_is_due_now(bench: Bench) -> None:
    delayed = Zset({f"{n:03}": n * 4096 for n in range(150)})
    await bench.seed({"delayed": delayed, "meta": {"concurrency": "200"}, **jobs(*delayed)})

    ran = await bench.run("settle_and_claim", **exchange(claim=110))

    assert (len(ids(ran)), ran.reply[3]) == (50, 50)


async def test_an_id_without_a_job_is_dropped(bench: Bench) -> None:
    await bench.seed({**ready("1", "2"), "wait": ["2", "ghost", "1", "ghost too"], "prioritized": Zset({"ghost 3": 5})})

    ran = await bench.run("settle_and_claim", **exchange(claim=5))

    assert ids(ran) == ["1", "2"]
    assert (ran.keys["wait"], ran.keys["prioritized"], ran.keys["active"]) == (None, None, ["2", "1"])
    assert not [name for name in ran.keys if "ghost" in name]


async def test_a_delayed_id_without_a_job_is_dropped(bench: Bench) -> None:
    await bench.seed({"delayed": Zset({"ghost": 5, "1": 6}), "1": {"name": "no priority"}})

    ran = await bench.run("settle_and_claim", **exchange(claim=5))

    assert (ids(ran), ran.keys["delayed"]) == (["1"], None)
    assert not [name for name in ran.keys if "ghost" in name]
    assert ran.events[0] == event("waiting", jobId="1", prev="delayed")


@pytest.mark.parametrize("place", ["wait", "prioritized", "delayed"])
async def test_an_id_whose_key_is_no_job_is_dropped(bench: Bench, place: str) -> None:
    places: dict[str, Any] = {"wait": ["2", "bad"], "prioritized": Zset({"bad": 1, "2": 2})}
    places["delayed"] = places["prioritized"]
    await bench.seed({place: places[place], "bad": "not a job", **jobs("2")})

    ran = await bench.run("settle_and_claim", **exchange(claim=5))

    assert (ids(ran), ran.keys[place]) == (["2"], None)
    assert "bad" not in ran.keys


async def test_markers_of_old_versions_are_dropped(bench: Bench) -> None:
    await bench.seed({**ready("1"), "wait": ["0:3", "1", "0:2", "0:1"], "prioritized": Zset({"9": 5}), **jobs("9")})

    ran = await bench.run("settle_and_claim", **exchange(claim=1))

    assert (ids(ran), ran.keys["wait"], ran.keys["active"]) == (["1"], ["0:3"], ["1"])


async def test_a_wait_list_of_old_markers_alone_runs_empty(bench: Bench) -> None:
    await bench.seed({"wait": ["0:2", "0:1"]})

    ran = await bench.run("settle_and_claim", **exchange(claim=1))

    assert (ids(ran), ran.keys) == ([], {"wait": None})


async def test_a_job_with_a_broken_counter_starts_at_one(bench: Bench) -> None:
    await bench.seed(ready("1", ats="many"))

    ran = await bench.run("settle_and_claim", **exchange(claim=1))

    assert ran.keys["1"]["ats"] == "1"


@pytest.mark.parametrize(("active", "claim", "expected"), [(["x"], 5, 2), ([], 5, 3), (["x"], 1, 1)])
async def test_global_concurrency_bounds_a_claim(bench: Bench, active: list[str], claim: int, expected: int) -> None:
    await bench.seed(
        {**ready("1", "2", "3", "4"), "meta": {"concurrency": "3"}, **({"active": active} if active else {})}
    )

    ran = await bench.run("settle_and_claim", **exchange(claim=claim))

    assert len(ids(ran)) == expected


async def test_more_active_jobs_than_the_concurrency_allow_none(bench: Bench) -> None:
    await bench.seed({**ready("1"), "meta": {"concurrency": "1"}, "active": ["x", "y"]})

    ran = await bench.run("settle_and_claim", **exchange(claim=1))

    assert (ran.reply, ran.keys) == ([NOW, [], [], 0, 0, 0, 0], {})


def suspect(*job_ids: str, **fields: str) -> dict[str, Any]:
    return jobs(*job_ids, stc="1", **fields)


async def test_a_worker_without_a_bound_claims_suspects_as_any_job(bench: Bench) -> None:
    await bench.seed({**ready("1", "2"), **suspect("1", "2")})

    ran = await bench.run("settle_and_claim", **exchange(claim=2))

    assert ids(ran) == ["1", "2"]


async def test_a_suspect_is_claimed_alone_among_innocents(bench: Bench) -> None:
    await bench.seed({**ready("1", "2", "3", "4", "5"), **suspect("2", "3", "5")})

    ran = await bench.run("settle_and_claim", **exchange(claim=3, suspects=1))

    assert ids(ran) == ["1", "2", "4"]
    assert ran.keys["wait"] == ["5", "3"]


async def test_suspects_that_may_not_run_stay_in_order(bench: Bench) -> None:
    prioritized = Zset({"p1": 2**32 + 1, "p2": 2**32 + 2, "p3": 2 * 2**32})
    await bench.seed(
        {**ready("1", "2", "3"), **suspect("1", "3", "p1"), **jobs("p2", "p3"), "prioritized": prioritized, "pc": "5"}
    )

    ran = await bench.run("settle_and_claim", **exchange(claim=9, suspects=0))

    assert ids(ran) == ["2", "p2", "p3"]
    assert (ran.keys["wait"], ran.keys["prioritized"]) == (["3", "1"], [("p1", 2.0**32 + 1)])
    assert "pc" not in ran.keys


async def test_suspects_that_are_left_hide_neither_delayed_jobs_nor_themselves(bench: Bench) -> None:
    await bench.seed({**ready("1"), **suspect("1"), "delayed": Zset({"2": (NOW + 7) * 4096})})

    ran = await bench.run("settle_and_claim", **exchange(claim=1, suspects=0))

    assert (ran.reply, ran.keys) == ([NOW, [], [], NOW + 7, 0, 0, 0], {})


async def test_the_reply_tells_how_many_suspects_there_are_and_whether_a_scheduler_made_a_job(bench: Bench) -> None:
    await bench.seed({**ready("1", "2", "3"), **suspect("1", "2")})
    assert (await bench.run("settle_and_claim", **exchange(claim=3))).reply[5:] == [2, 0]

    await bench.seed({**ready("4", "repeat:s:5"), **jobs("repeat:s:5", rjk="s")})
    assert (await bench.run("settle_and_claim", **exchange(claim=2))).reply[5:] == [0, 1]


async def test_a_call_looks_past_500_suspects_only(bench: Bench) -> None:
    names = [f"s{n:03}" for n in range(550)]
    await bench.seed({**ready(*names, "1"), **suspect(*names)})

    ran = await bench.run("settle_and_claim", **exchange(claim=50, suspects=0))

    assert (ids(ran), ran.keys) == ([], {})


@pytest.mark.parametrize("room", [1, 7, 50, 60])
async def test_jobs_behind_hundreds_of_suspects_are_claimed_and_all_others_stay_in_order(
    bench: Bench, room: int
) -> None:
    names = [f"s{n:03}" for n in range(333)]
    others = [f"o{n:02}" for n in range(55)]
    await bench.seed({**ready(*names, *others), **suspect(*names), **jobs("p"), "prioritized": Zset({"p": 2**32})})

    ran = await bench.run("settle_and_claim", **exchange(claim=room, suspects=1))

    assert ids(ran) == ["s000", *others, "p"][:room]
    assert ran.keys["wait"] == [*reversed(others[room - 1 :]), *reversed(names[1:])]


LIMITS: list[tuple[dict[str, str], dict[str, int], str, int]] = [
    ({"max": "2", "duration": "60000"}, {}, "2", 60),
    ({"max": "2", "duration": "60000"}, {"limiter_max": 3, "limiter_duration_ms": 5000}, "2", 5),
    ({}, {"limiter_max": 2, "limiter_duration_ms": 5000}, "2", 5),
    ({"duration": "60000"}, {"limiter_max": 2}, "2", 60),
    ({"max": "2", "duration": "-60000.7"}, {}, "2", 60),
]


@pytest.mark.parametrize(("meta", "limiter", "used", "window_s"), LIMITS)
async def test_a_rate_limit_bounds_a_claim(
    bench: Bench, meta: dict[str, str], limiter: dict[str, int], used: str, window_s: int
) -> None:
    await bench.seed({**ready("1", "2", "3"), "meta": meta})

    ran = await bench.run("settle_and_claim", **exchange(claim=5, **limiter))

    assert (ids(ran), ran.reply[3:5]) == (["1", "2"], [0, 0])
    assert ran.keys["limiter"] == used
    assert ran.ttls["limiter"] == window_s


async def test_a_used_up_limit_forbids_to_claim_but_not_to_promote(bench: Bench) -> None:
    """E164."""
    await bench.seed({**ready("1"), **jobs("2"), "delayed": Zset({"2": 5}), "meta": {"max": "2"}, "limiter": "2"})
    await bench.client.pexpire(f"{bench.base}limiter", 60_000)

    ran = await bench.run("settle_and_claim", **exchange(claim=5))

    assert 59_000 < ran.reply[4] <= 60_000
    assert ran.reply[:4] == [NOW, [], [], 0]
    assert ran.keys == {"delayed": None, "wait": ["2", "1"], "marker": READY}


async def test_a_window_goes_on_until_its_end(bench: Bench) -> None:
    await bench.seed({**ready("1", "2", "3"), "meta": {"max": "3", "duration": "60000"}, "limiter": "1"})
    await bench.client.pexpire(f"{bench.base}limiter", 5000)

    ran = await bench.run("settle_and_claim", **exchange(claim=5))

    assert (ids(ran), ran.keys["limiter"], ran.ttls["limiter"]) == (["1", "2"], "3", 5)


async def test_a_counter_that_never_expires_does_not_stop_the_queue(bench: Bench) -> None:
    await bench.seed({**ready("1", "2"), "meta": {"max": "1", "duration": "60000"}, "limiter": "7"})

    ran = await bench.run("settle_and_claim", **exchange(claim=5))

    assert (ids(ran), ran.keys["limiter"], ran.ttls["limiter"]) == (["1"], "1", 60)


async def test_a_manual_limit_is_nothing_to_a_queue_without_a_limit(bench: Bench) -> None:
    await bench.seed({**ready("1"), "limiter": "9007199254740991"})
    await bench.client.pexpire(f"{bench.base}limiter", 60_000)

    ran = await bench.run("settle_and_claim", **exchange(claim=5))

    assert (ids(ran), ran.reply[4]) == (["1"], 0)
    assert "limiter" not in ran.keys


async def test_jobs_that_will_only_be_failed_are_free_of_the_limit(bench: Bench) -> None:
    await bench.seed({**ready("1", "2"), **jobs("1", defa="doomed"), "meta": {"max": "5", "duration": "60000"}})

    ran = await bench.run("settle_and_claim", **exchange(claim=5))

    assert (ids(ran), ran.keys["limiter"]) == (["1", "2"], "1")


async def test_a_limit_that_nothing_was_claimed_under_is_not_touched(bench: Bench) -> None:
    await bench.seed({"meta": {"max": "5", "duration": "60000"}})

    ran = await bench.run("settle_and_claim", **exchange(claim=5))

    assert ran.keys == {}


async def test_a_queue_without_settings_may_be_claimed_from(bench: Bench) -> None:
    await bench.seed(ready("1"))
    await bench.client.delete(f"{bench.base}meta")

    ran = await bench.run("settle_and_claim", **exchange(claim=5))

    assert (ids(ran), "meta" in ran.keys) == (["1"], False)
