"""settle_and_claim.lua: completed."""

from __future__ import annotations

import pytest

from tests.support.script_bench import NOW, Bench, Zset
from tests.support.script_rows import active, event, exchange, running, settled

pytestmark = pytest.mark.anyio

COMPLETED = event("completed", jobId="1", returnvalue="42", prev="active")
DRAINED = event("drained")


async def test_a_completed_job_is_kept_with_its_value(bench: Bench) -> None:
    await bench.seed({**active("1"), "wait": ["2"], "stalled": {"1", "x"}})

    ran = await bench.run("settle_and_claim", [settled("1", "completed", "42")], **exchange())

    assert ran.reply == [NOW, [0], [], 0, 0, 0, 0]
    assert ran.keys == {
        "1": running(returnvalue="42", finishedOn=str(NOW), atm="1"),
        "1:lock": None,
        "active": None,
        "completed": [("1", float(NOW))],
        "stalled": ["x"],
    }
    assert ran.events == [COMPLETED]


async def test_the_value_is_stored_as_it_came(bench: Bench) -> None:
    value = '{"s":"äöü/\\u0000","n":12345678901234567890,"e":[],"o":{}}'
    await bench.seed(active("1"))

    ran = await bench.run("settle_and_claim", [settled("1", "completed", value)], **exchange())

    assert ran.keys["1"]["returnvalue"] == value
    assert ran.events[0]["returnvalue"] == value


@pytest.mark.parametrize(("fields", "made"), [({"atm": "2"}, "3"), ({"attemptsMade": "4"}, "5"), ({}, "1")])
async def test_the_attempt_counts_as_made(bench: Bench, fields: dict[str, str], made: str) -> None:
    await bench.seed(active("1", **fields))

    ran = await bench.run("settle_and_claim", [settled("1", "completed", "42")], **exchange())

    assert ran.keys["1"]["atm"] == made


async def test_a_reason_of_an_earlier_attempt_stays(bench: Bench) -> None:
    await bench.seed(active("1", failedReason="boom", stacktrace="[]", defa="doomed"))

    ran = await bench.run("settle_and_claim", [settled("1", "completed", "42")], **exchange())

    kept = {"failedReason": "boom", "stacktrace": "[]", "defa": "doomed"}
    assert ran.keys["1"] == running(returnvalue="42", finishedOn=str(NOW), atm="1", **kept)


async def test_the_last_job_announces_that_nothing_is_left(bench: Bench) -> None:
    await bench.seed({**active("1"), "delayed": Zset({"2": 5}), "waiting-children": Zset({"3": 5})})

    ran = await bench.run("settle_and_claim", [settled("1", "completed", "42")], **exchange())

    assert ran.events == [COMPLETED, DRAINED]


@pytest.mark.parametrize("place", [{"wait": ["2"]}, {"prioritized": Zset({"2": 5})}, {"active": ["2", "1"]}])
async def test_a_queue_with_work_is_not_drained(bench: Bench, place: dict[str, list[str]]) -> None:
    await bench.seed({**active("1"), **place})

    ran = await bench.run("settle_and_claim", [settled("1", "completed", "42")], **exchange())

    assert ran.events == [COMPLETED]


async def test_settling_alone_tells_when_the_next_delayed_job_is_due(bench: Bench) -> None:
    await bench.seed({**active("1"), "delayed": Zset({"2": (NOW + 7) * 4096 + 5})})

    ran = await bench.run("settle_and_claim", [settled("1", "completed", "42")], **exchange())

    assert ran.reply == [NOW, [0], [], NOW + 7, 0, 0, 0]


async def test_the_job_is_taken_from_the_end_of_active(bench: Bench) -> None:
    await bench.seed({**active("1"), "active": ["1", "2", "1", "3"]})

    ran = await bench.run("settle_and_claim", [settled("1", "completed", "42")], **exchange())

    assert ran.keys["active"] == ["1", "2", "3"]


async def test_a_missing_job_is_told(bench: Bench) -> None:
    await bench.seed({"active": ["1"], "1:lock": "t"})

    ran = await bench.run("settle_and_claim", [settled("1", "completed", "42")], **exchange())

    assert (ran.reply[1], ran.keys, ran.events) == ([-1], {}, [])


LOCKS = [(None, "t", -2), ("other", "t", -6), ("t", "t ", -6)]


@pytest.mark.parametrize(("lock", "token", "code"), LOCKS)
async def test_a_job_with_a_lost_lock_is_not_completed(bench: Bench, lock: str | None, token: str, code: int) -> None:
    await bench.seed({"active": ["1"], "1": running(), "stalled": {"1"}, **({"1:lock": lock} if lock else {})})

    ran = await bench.run("settle_and_claim", [settled("1", "completed", "42", token=token)], **exchange())

    assert (ran.reply[1], ran.keys, ran.events) == ([code], {}, [])


@pytest.mark.parametrize("lock", [{}, {"1:lock": "other"}])
async def test_the_token_0_works_without_a_lock(bench: Bench, lock: dict[str, str]) -> None:
    await bench.seed({"active": ["1"], "1": running(), "stalled": {"1"}, **lock})

    ran = await bench.run("settle_and_claim", [settled("1", "completed", "42", token="0")], **exchange())

    assert ran.reply[1] == [0]
    assert ran.keys == {
        "1": running(returnvalue="42", finishedOn=str(NOW), atm="1"),
        "active": None,
        "completed": [("1", float(NOW))],
    }


async def test_a_job_that_is_not_active_only_gives_up_its_lock(bench: Bench) -> None:
    await bench.seed({"active": ["2"], "1": running(), "1:lock": "t", "stalled": {"1"}})

    ran = await bench.run("settle_and_claim", [settled("1", "completed", "42")], **exchange())

    assert (ran.reply[1], ran.keys, ran.events) == ([-3], {"1:lock": None, "stalled": None}, [])


async def test_a_parent_does_not_complete_before_its_children(bench: Bench) -> None:
    await bench.seed({**active("1"), "1:dependencies": {"c"}, "1:unsuccessful": Zset({"d": 1})})

    ran = await bench.run("settle_and_claim", [settled("1", "completed", "42")], **exchange())

    assert (ran.reply[1], ran.keys, ran.events) == ([-4], {}, [])


async def test_a_parent_does_not_complete_with_a_failed_child(bench: Bench) -> None:
    await bench.seed({**active("1"), "1:unsuccessful": Zset({"d": 1})})

    ran = await bench.run("settle_and_claim", [settled("1", "completed", "42")], **exchange())

    assert (ran.reply[1], ran.keys, ran.events) == ([-9], {}, [])


async def test_children_are_looked_at_before_the_lock(bench: Bench) -> None:
    await bench.seed({"active": ["1"], "1": running(), "1:dependencies": {"c"}})

    ran = await bench.run("settle_and_claim", [settled("1", "completed", "42")], **exchange())

    assert ran.reply[1] == [-4]


async def test_the_children_of_one_job_do_not_hold_back_another(bench: Bench) -> None:
    await bench.seed({**active("1", "2"), "2:dependencies": {"c"}})

    rows = [settled("1", "completed", "42"), settled("2", "completed", "42")]
    ran = await bench.run("settle_and_claim", rows, **exchange())

    assert (ran.reply[1], ran.keys["active"]) == ([0, -4], ["2"])


async def test_a_queue_without_settings_gets_the_default_cap_of_events(bench: Bench) -> None:
    """E63."""
    await bench.seed(active("1"))
    await bench.client.delete(f"{bench.base}meta")

    ran = await bench.run("settle_and_claim", [settled("1", "completed", "42")], **exchange())

    assert ran.keys["meta"] == {"opts.maxLenEvents": "10000"}


async def test_the_event_stream_is_capped(bench: Bench) -> None:
    await bench.seed({**active("1"), "meta": {"opts.maxLenEvents": "5"}})
    for _ in range(500):
        await bench.client.xadd(f"{bench.base}events", {"event": "old"})

    await bench.run("settle_and_claim", [settled("1", "completed", "42")], **exchange())

    assert await bench.client.xlen(f"{bench.base}events") < 200
