"""add_jobs.lua: numbers, places, duplicates, markers, many jobs at once. Parents and deduplication: beside this."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.script_bench import NOW, Bench, Zset
from tests.support.script_rows import add_row, adding, event, stored

pytestmark = pytest.mark.anyio

READY = [("0", 0.0)]


def score(due_ms: int, sequence: int = 0) -> float:
    """Score in the delayed set."""
    return float(due_ms * 4096 + sequence)


async def test_a_job_gets_the_next_number_and_enters_at_the_back(bench: Bench) -> None:
    await bench.seed({"id": "6", "wait": ["6"]})

    ran = await bench.run("add_jobs", [add_row(data='{"to":"a"}')], **adding())

    assert ran.reply == [NOW, ["7"], [0]]
    assert ran.keys == {"id": "7", "7": stored(data='{"to":"a"}'), "wait": ["7", "6"], "marker": READY}
    assert ran.events == [event("added", jobId="7", name="mail"), event("waiting", jobId="7")]


async def test_many_jobs_enter_in_order_and_share_what_can_be_shared(bench: Bench) -> None:
    await bench.seed()

    ran = await bench.run("add_jobs", [add_row(name=name) for name in "abc"], **adding())

    assert ran.reply == [NOW, ["1", "2", "3"], [0, 0, 0]]
    assert ran.keys == {
        "id": "3",
        "1": stored(name="a"),
        "2": stored(name="b"),
        "3": stored(name="c"),
        "wait": ["3", "2", "1"],
        "marker": READY,
    }
    assert [entry["event"] for entry in ran.events] == ["added", "waiting"] * 3
    assert [entry["jobId"] for entry in ran.events] == ["1", "1", "2", "2", "3", "3"]


async def test_the_payload_is_stored_as_it_came(bench: Bench) -> None:
    data, opts = '{"s":"äöü/\\u0000","n":12345678901234567890,"e":[],"o":{}}', '{"attempts":3, "removeOnFail":[]}'
    await bench.seed()

    ran = await bench.run("add_jobs", [add_row(name="ünï", data=data, opts=opts)], **adding())

    assert ran.keys["1"] == stored(name="ünï", data=data, opts=opts)


async def test_a_custom_id_spends_a_number_all_the_same(bench: Bench) -> None:
    await bench.seed({"id": "6"})

    ran = await bench.run("add_jobs", [add_row("invite"), add_row()], **adding())

    assert ran.reply == [NOW, ["invite", "8"], [0, 0]]
    assert ran.keys == {"id": "8", "invite": stored(), "8": stored(), "wait": ["8", "invite"], "marker": READY}


@pytest.mark.parametrize("state", ["wait", "completed", "failed"])
async def test_a_duplicate_id_leaves_the_job_as_it_is_whatever_its_state(bench: Bench, state: str) -> None:
    place = {"wait": ["invite"]} if state == "wait" else {state: Zset({"invite": 5})}
    await bench.seed({"id": "6", "invite": {"name": "old"}, **place})

    ran = await bench.run("add_jobs", [add_row("invite", data='{"n":2}')], **adding())

    assert ran.reply == [NOW, ["invite"], [1]]
    assert ran.keys == {"id": "7"}
    assert ran.events == [event("duplicated", jobId="invite")]


async def test_the_same_id_twice_in_one_call_is_added_once(bench: Bench) -> None:
    await bench.seed()

    ran = await bench.run("add_jobs", [add_row("a", data="1"), add_row("a", data="2")], **adding())

    assert ran.reply == [NOW, ["a", "a"], [0, 1]]
    assert ran.keys == {"id": "2", "a": stored(data="1"), "wait": ["a"], "marker": READY}
    assert ran.events[-1] == event("duplicated", jobId="a")


async def test_lifo_jobs_enter_at_the_front(bench: Bench) -> None:
    await bench.seed({"wait": ["x"]})

    rows = [add_row("a", placement="lifo"), add_row("b"), add_row("c", placement="lifo")]
    ran = await bench.run("add_jobs", rows, **adding())

    assert ran.keys["wait"] == ["b", "x", "a", "c"]


async def test_priorities_are_ordered_by_number_then_by_arrival(bench: Bench) -> None:
    await bench.seed({"pc": "7"})

    rows = [add_row("a", priority=2), add_row("b", priority=1), add_row("c", priority=2, placement="lifo")]
    ran = await bench.run("add_jobs", rows, **adding())

    assert ran.keys == {
        "id": "3",
        "pc": "10",
        "a": stored(priority="2"),
        "b": stored(priority="1"),
        "c": stored(priority="2"),
        "prioritized": [("b", 2.0**32 + 9), ("a", 2 * 2.0**32 + 8), ("c", 2 * 2.0**32 + 10)],
        "marker": READY,
    }
    assert ran.events[:2] == [event("added", jobId="a", name="mail"), event("waiting", jobId="a")]


async def test_the_priority_counter_wraps_within_a_priority(bench: Bench) -> None:
    await bench.seed({"pc": str(2**32 - 1)})

    ran = await bench.run("add_jobs", [add_row(priority=2_097_151)], **adding())

    assert ran.keys["prioritized"] == [("1", 2_097_151 * 2.0**32)]


async def test_delayed_jobs_keep_their_order_within_a_millisecond(bench: Bench) -> None:
    await bench.seed({"delayed": Zset({"x": score(NOW + 5000)})})

    rows = [add_row("a", delay_ms=5000), add_row("b", delay_ms=4999, priority=3), add_row("c", delay_ms=5000)]
    ran = await bench.run("add_jobs", rows, **adding())

    assert ran.reply == [NOW, ["a", "b", "c"], [0, 0, 0]]
    assert ran.keys == {
        "id": "3",
        "a": stored(delay="5000"),
        "b": stored(delay="4999", priority="3"),
        "c": stored(delay="5000"),
        "delayed": [
            ("b", score(NOW + 4999)),
            ("x", score(NOW + 5000)),
            ("a", score(NOW + 5000, 1)),
            ("c", score(NOW + 5000, 2)),
        ],
        "marker": [("1", float(NOW + 4999))],
    }
    assert ran.events == [
        event("added", jobId="a", name="mail"),
        event("delayed", jobId="a", delay=str(NOW + 5000)),
        event("added", jobId="b", name="mail"),
        event("delayed", jobId="b", delay=str(NOW + 4999)),
        event("added", jobId="c", name="mail"),
        event("delayed", jobId="c", delay=str(NOW + 5000)),
    ]


async def test_the_4096_places_of_a_millisecond_share_the_last(bench: Bench) -> None:
    await bench.seed({"delayed": Zset({"x": score(NOW + 1, 4094)})})

    ran = await bench.run("add_jobs", [add_row(name, delay_ms=1) for name in "ab"], **adding())

    assert ran.keys["delayed"] == [
        ("x", score(NOW + 1, 4094)),
        ("a", score(NOW + 1, 4095)),
        ("b", score(NOW + 1, 4095)),
    ]


async def test_the_longest_delay_comes_last(bench: Bench) -> None:
    await bench.seed({"delayed": Zset({"x": score(NOW + 1)})})

    ran = await bench.run("add_jobs", [add_row("a", delay_ms=2**53)], **adding())

    assert ran.keys["delayed"] == [("x", score(NOW + 1)), ("a", score(NOW + 2**53))]


async def test_a_delay_counts_from_the_timestamp_of_the_job(bench: Bench) -> None:
    await bench.seed()

    ran = await bench.run("add_jobs", [add_row(timestamp_ms=1000, delay_ms=500)], **adding())

    assert ran.keys == {
        "id": "1",
        "1": stored(timestamp="1000", delay="500"),
        "delayed": [("1", score(1500))],
        "marker": [("1", 1500.0)],
    }


async def test_a_delay_that_is_behind_others_leaves_the_marker_at_the_first(bench: Bench) -> None:
    await bench.seed({"delayed": Zset({"x": score(NOW + 10)}), "marker": Zset({"1": NOW + 99, "0": 0})})

    ran = await bench.run("add_jobs", [add_row(delay_ms=5000)], **adding())

    assert ran.keys["marker"] == [("0", 0.0), ("1", float(NOW + 10))]


BLOCKED: list[dict[str, Any]] = [
    {"meta": {"paused": "1"}},
    {"meta": {"concurrency": "1"}, "active": ["x"]},
]


@pytest.mark.parametrize("keys", BLOCKED, ids=["paused", "full"])
async def test_a_blocked_queue_takes_jobs_but_wakes_nobody(bench: Bench, keys: dict[str, Any]) -> None:
    await bench.seed(keys)

    ran = await bench.run("add_jobs", [add_row("a"), add_row("b", priority=1)], **adding())

    assert (ran.keys["wait"], ran.keys["prioritized"]) == (["a"], [("b", 2.0**32 + 1)])
    assert "marker" not in ran.keys


async def test_a_blocked_queue_still_says_when_a_delayed_job_is_due(bench: Bench) -> None:
    await bench.seed({"meta": {"paused": "1"}})

    ran = await bench.run("add_jobs", [add_row(delay_ms=10)], **adding())

    assert ran.keys["marker"] == [("1", float(NOW + 10))]


async def test_a_queue_with_room_wakes_a_worker(bench: Bench) -> None:
    await bench.seed({"meta": {"concurrency": "2"}, "active": ["x"]})

    ran = await bench.run("add_jobs", [add_row()], **adding())

    assert ran.keys["marker"] == READY


async def test_a_queue_without_settings_gets_the_default_cap_of_events(bench: Bench) -> None:
    ran = await bench.run("add_jobs", [add_row()], **adding())

    assert ran.keys == {
        "id": "1",
        "1": stored(),
        "wait": ["1"],
        "marker": READY,
        "meta": {"opts.maxLenEvents": "10000"},
    }


async def test_the_event_stream_is_capped(bench: Bench) -> None:
    await bench.seed({"meta": {"opts.maxLenEvents": "0"}})

    await bench.run("add_jobs", [add_row() for _ in range(100)], **adding())

    assert await bench.client.xlen(f"{bench.base}events") < 200


async def test_a_call_without_jobs_writes_nothing(bench: Bench) -> None:
    ran = await bench.run("add_jobs", [], **adding())

    assert (ran.reply, ran.keys, ran.events) == ([NOW, [], []], {}, [])


async def test_the_clock_of_the_server_is_used_where_the_caller_has_none(bench: Bench) -> None:
    await bench.seed()

    ran = await bench.run("add_jobs", [add_row(delay_ms=1000)], **adding(now_ms=0))

    now = ran.reply[0]
    assert abs(now / 1000 - (await bench.client.time())[0]) < 60
    assert ran.keys["1"] == stored(timestamp=str(now), delay="1000")
    assert ran.keys["marker"] == [("1", float(now + 1000))]


async def test_a_job_that_cannot_be_stored_spoils_no_other(bench: Bench) -> None:
    await bench.seed({"2": "not a job", "6": "not a job"})

    rows = [add_row(), add_row(), add_row("c", priority=1), add_row("d", delay_ms=5), add_row("e"), add_row()]
    ran = await bench.run("add_jobs", rows, **adding())

    assert ran.reply[1] == ["1", "2", "c", "d", "e", "6"]
    assert [ran.reply[2][i] for i in (0, 2, 3, 4)] == [0, 0, 0, 0]
    assert all(ran.reply[2][i].startswith("WRONGTYPE") for i in (1, 5))
    assert ran.keys == {
        "id": "6",
        "1": stored(),
        "c": stored(priority="1"),
        "d": stored(delay="5"),
        "e": stored(),
        "wait": ["e", "1"],
        "prioritized": [("c", 2.0**32 + 1)],
        "pc": "1",
        "delayed": [("d", score(NOW + 5))],
        "marker": [("0", 0.0), ("1", float(NOW + 5))],
    }


async def test_a_job_that_finds_no_place_leaves_nothing_behind(bench: Bench) -> None:
    await bench.seed({"waiting-children": "not a set", "p": {"name": "parent"}})

    parent_key = f"{bench.base}p"
    rows = [add_row("a", placement="children", parent_key=parent_key, parent="{}"), add_row("b")]
    ran = await bench.run("add_jobs", rows, **adding())

    assert ran.reply[1] == ["a", "b"]
    assert ran.reply[2][0].startswith("WRONGTYPE")
    assert ran.reply[2][1] == 0
    assert ran.keys == {"id": "2", "b": stored(), "wait": ["b"], "marker": READY}


@pytest.mark.parametrize(("key", "bad"), [("wait", 0), ("prioritized", 1), ("delayed", 2), ("waiting-children", 3)])
async def test_a_place_that_was_overwritten_takes_no_job_and_spoils_no_other(bench: Bench, key: str, bad: int) -> None:
    await bench.seed({key: {"name": "a job of this name, from a client that allows it"}})

    rows = [
        add_row("a"),
        add_row("b", priority=1),
        add_row("c", delay_ms=1),
        add_row("d", placement="children"),
    ]
    ran = await bench.run("add_jobs", rows, **adding())

    assert [isinstance(status, str) for status in ran.reply[2]] == [n == bad for n in range(4)]
    assert ran.reply[2][bad].startswith("WRONGTYPE")
    assert {"a", "b", "c", "d"} - ran.keys.keys() == {"abcd"[bad]}
    assert key not in ran.keys


async def test_a_queue_whose_event_stream_was_overwritten_takes_no_job(bench: Bench) -> None:
    await bench.seed({"events": "not a stream", "id": "4", "de:D": "x", "p": {"name": "p"}})
    before = await bench.dump()

    rows = [add_row(), add_row(priority=1), add_row(delay_ms=1), add_row(dedup='{"id":"E"}')]
    rows.append(add_row(parent_key=f"{bench.base}p", parent="{}"))
    ran = await bench.run("add_jobs", rows, **adding())

    assert all(status.startswith("WRONGTYPE") for status in ran.reply[2])
    after = await bench.dump()
    assert after.pop("id").value == "9"
    assert after == {name: key for name, key in before.items() if name != "id"}
