"""The exchange records of add_jobs.lua and settle_and_claim.lua: a call that is sent again is not applied again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pyqueue._store.sender import RECORD_MS
from pyqueue.errors import RedisRefused
from tests.support.script_bench import NOW, Bench, Ran, Zset
from tests.support.script_rows import STACK, active, add_row, adding, exchange, settled, stored

pytestmark = pytest.mark.anyio

STALE, OUT_OF_TURN = -20, -22
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


async def record(bench: Bench, sender: str) -> Any:
    """The record of a sender, decoded; None if there is none."""
    text = await bench.client.get(bench.store.keys.exchange(sender))
    return text and json.loads(text)


def is_unchanged(ran: Ran) -> bool:
    """Whether nothing was written but locks that last anew."""
    return not [name for name in ran.keys if not name.endswith(":lock")] and ran.events == []


@pytest.mark.parametrize("claim", [0, 1, 3])
@pytest.mark.parametrize("kind", KINDS)
async def test_an_exchange_that_is_sent_again_is_not_applied_again(bench: Bench, kind: str, claim: int) -> None:
    ready = {"wait": ["3", "2"], "2": stored(), "3": stored(ats="4")}
    await bench.seed(
        {**active("1", atm="1", deid="D"), "1:dependencies": {"c"}, "stalled": {"1"}, "de:D": "1", **ready}
    )
    if kind == "completed":
        await bench.client.delete(f"{bench.base}1:dependencies")
    rows = [settled("1", kind, "c" if kind == "waiting_children" else "42", stacktrace=STACK, number=60_000)]
    args = exchange(claim, sequence=1, first_token=5)

    first = await bench.run("settle_and_claim", rows, **args)
    again = await bench.run("settle_and_claim", rows, **args)

    assert first.reply[1] == again.reply[1] == [0]
    assert first.reply[2] == again.reply[2]
    assert len(first.reply[2]) >= min(claim, 2)
    assert again.reply[3:5] == [NOW, 0]
    assert is_unchanged(again)


async def test_the_record_holds_what_the_last_exchange_did(bench: Bench) -> None:
    await bench.seed({**active("1"), "wait": ["2"], "2": stored()})

    rows = [settled("1", "completed", "42"), settled("9", "completed", "42")]
    ran = await bench.run("settle_and_claim", rows, **exchange(1, sequence=3, first_token=7))

    assert json.loads(ran.keys["pyq:x:worker"]) == {"s": 3, "c": [0, -1], "j": ["2"], "t": 7}
    assert ran.ttls["pyq:x:worker"] == RECORD_MS / 1000


@pytest.mark.parametrize("code", [-1, -2, -3, -4, -6, -9, 1, "WRONGTYPE"])
async def test_the_codes_are_answered_again(bench: Bench, code: int | str) -> None:
    keys: dict[int | str, dict[str, Any]] = {
        -2: {"1:lock": None},
        -3: {"active": ["x"]},
        -4: {"1:dependencies": {"c"}},
        -6: {"1:lock": "other"},
        -9: {"1:unsuccessful": Zset({"c": 1})},
        -1: {"1": None},
        "WRONGTYPE": {"1": ["not a job"]},
    }
    seeds = {**active("1"), **keys.get(code, {})}
    await bench.seed({name: value for name, value in seeds.items() if value is not None})
    rows = [settled("1", "waiting_children" if code == 1 else "completed", "")]

    first = await bench.run("settle_and_claim", rows, **exchange(sequence=1))
    again = await bench.run("settle_and_claim", rows, **exchange(sequence=1))

    assert first.reply[1] == again.reply[1]
    assert first.reply[1] == [code] or first.reply[1][0].startswith(str(code))
    assert is_unchanged(again)


async def test_claimed_jobs_are_handed_out_again_as_they_are_now(bench: Bench) -> None:
    await bench.seed({"wait": ["1"], "1": stored()})
    await bench.run("settle_and_claim", **exchange(1, sequence=1))
    await bench.client.hset(f"{bench.base}1", "progress", "50")
    await bench.client.pexpire(f"{bench.base}1:lock", 5000)

    again = await bench.run("settle_and_claim", **exchange(1, sequence=1))

    [(job_id, number, flat)] = again.reply[2]
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    assert (job_id, number, fields["progress"], fields["ats"]) == ("1", 0, "50", "1")
    assert (again.keys, again.ttls) == ({"1:lock": "w:0"}, {"1:lock": 30})


@pytest.mark.parametrize("lock", [None, "w:1 ", "other:0"])
async def test_a_claim_whose_lock_is_gone_is_left_out(bench: Bench, lock: str | None) -> None:
    await bench.seed({"wait": ["3", "2", "1"], **{name: stored() for name in "123"}})
    await bench.run("settle_and_claim", **exchange(3, sequence=1))
    await bench.client.delete(f"{bench.base}2:lock")
    if lock:
        await bench.client.set(f"{bench.base}2:lock", lock)

    again = await bench.run("settle_and_claim", **exchange(3, sequence=1))

    assert [(row[0], row[1]) for row in again.reply[2]] == [("1", 0), ("3", 2)]
    assert is_unchanged(again)


async def test_a_single_claim_under_a_plain_token_is_handed_out_again(bench: Bench) -> None:
    await bench.seed({"wait": ["1"], "1": stored()})
    args = exchange(1, sequence=1, token="mine", first_token=-1)

    first = await bench.run("settle_and_claim", **args)
    again = await bench.run("settle_and_claim", **args)

    assert first.reply[2] == again.reply[2]
    assert again.reply[2][0][1] == -1


async def test_an_older_exchange_that_arrives_late_is_refused(bench: Bench) -> None:
    await bench.seed({**active("1"), "wait": ["2"], "2": stored()})
    await bench.run("settle_and_claim", **exchange(sequence=5))

    late = await bench.run("settle_and_claim", [settled("1", "completed", "42")], **exchange(1, sequence=4))

    assert late.reply == STALE
    assert is_unchanged(late)


async def test_ids_in_a_record_are_not_mistaken_for_its_sequence(bench: Bench) -> None:
    tricky = '","s":9,"'
    await bench.seed({"wait": [tricky], tricky: stored()})

    first = await bench.run("settle_and_claim", **exchange(1, sequence=1))
    again = await bench.run("settle_and_claim", **exchange(1, sequence=1))

    assert [row[0] for row in first.reply[2]] == [row[0] for row in again.reply[2]] == [tricky]


async def test_the_next_exchange_takes_the_place_of_the_record(bench: Bench) -> None:
    await bench.seed(active("1", "2"))
    await bench.run("settle_and_claim", [settled("1", "completed", "42")], **exchange(sequence=1))

    ran = await bench.run("settle_and_claim", [settled("2", "completed", "42")], **exchange(sequence=2))

    assert ran.reply[1] == [0]
    assert (await record(bench, "worker"))["s"] == 2


async def test_senders_do_not_know_each_other(bench: Bench) -> None:
    await bench.seed(active("1", "2"))
    await bench.run("settle_and_claim", [settled("1", "completed", "42")], **exchange(sequence=9, sender="a"))

    ran = await bench.run("settle_and_claim", [settled("2", "completed", "42")], **exchange(sequence=1, sender="b"))

    assert ran.reply[1] == [0]


async def test_sequence_0_keeps_no_record(bench: Bench) -> None:
    await bench.seed({**active("1"), "wait": ["2"], "2": stored()})
    rows = [settled("1", "completed", "42")]

    first = await bench.run("settle_and_claim", rows, **exchange(1, sequence=0))
    again = await bench.run("settle_and_claim", rows, **exchange(1, sequence=0))

    assert (first.reply[1], again.reply[1]) == ([0], [-2])
    assert not [name for name in first.keys if name.startswith("pyq:")]


async def test_a_call_that_fails_leaves_no_record(bench: Bench) -> None:
    await bench.seed({"wait": ["1"], "1": stored(), "prioritized": "not a set"})
    with pytest.raises(RedisRefused, match="WRONGTYPE"):
        await bench.run("settle_and_claim", **exchange(2, sequence=1))
    await bench.client.delete(f"{bench.base}prioritized")

    ran = await bench.run("settle_and_claim", **exchange(2, sequence=1))

    assert [row[0] for row in ran.reply[2]] == ["1"]


ADDS = [
    add_row(),
    add_row("a"),
    add_row("a"),
    add_row(delay_ms=1000),
    add_row(priority=1),
    add_row(parent_key="gone", parent="{}"),
    add_row(dedup='{"id":"D","replace":true}', delay_ms=5),
    add_row(dedup='{"id":"D","replace":true}', delay_ms=5),
    add_row(dedup="{"),
    add_row("p", placement="children"),
]


async def test_adds_that_are_sent_again_are_stored_once(bench: Bench) -> None:
    await bench.seed()

    first = await bench.run("add_jobs", ADDS, **adding(sequence=1))
    again = await bench.run("add_jobs", ADDS, **adding(sequence=1))

    assert first.reply == again.reply
    assert first.reply[1] == ["1", "a", "a", "4", "5", "", "6", "7", "8", "p"]
    assert [status for status in first.reply[2] if isinstance(status, int)] == [0, 0, 1, 0, 0, -5, 0, 3, 0]
    assert is_unchanged(again)
    assert first.ttls == {"pyq:x:producer": RECORD_MS / 1000}


async def test_a_call_that_added_nothing_is_answered_again(bench: Bench) -> None:
    await bench.seed()

    first = await bench.run("add_jobs", [], **adding(sequence=1))
    again = await bench.run("add_jobs", [add_row()], **adding(sequence=1))

    assert first.reply == again.reply == [NOW, [], []]


async def test_adds_that_arrive_late_are_refused(bench: Bench) -> None:
    await bench.seed()
    await bench.run("add_jobs", [add_row()], **adding(sequence=2))

    late = await bench.run("add_jobs", [add_row()], **adding(sequence=1))

    assert late.reply == STALE
    assert is_unchanged(late)


async def test_adds_without_a_sequence_are_stored_each_time(bench: Bench) -> None:
    await bench.seed()
    await bench.run("add_jobs", [add_row()], **adding(sequence=0))

    again = await bench.run("add_jobs", [add_row()], **adding(sequence=0))

    assert again.reply == [NOW, ["2"], [0]]
    assert await record(bench, "producer") is None


async def test_a_repeated_add_may_come_after_the_job_is_done(bench: Bench) -> None:
    await bench.seed()
    first = await bench.run("add_jobs", [add_row()], **adding(sequence=1))
    await bench.run("settle_and_claim", **exchange(1))
    await bench.run("settle_and_claim", [settled("1", "completed", token="w:0", keep=(0, -1, 1000))], **exchange())

    again = await bench.run("add_jobs", [add_row()], **adding(sequence=1))

    assert first.reply == again.reply
    assert is_unchanged(again)


@pytest.mark.parametrize(("first", "second"), [("producer", "producer.1"), ("producer.1", "producer")])
async def test_a_call_that_follows_another_is_applied_after_it_only(bench: Bench, first: str, second: str) -> None:
    await bench.seed()

    early = await bench.run("add_jobs", [add_row()], **adding(sender=second, sequence=-8))
    await bench.run("add_jobs", [add_row()], **adding(sender=first, sequence=7))
    following = await bench.run("add_jobs", [add_row()], **adding(sender=second, sequence=-8))
    again = await bench.run("add_jobs", [add_row()], **adding(sender=second, sequence=8))

    assert early.reply == OUT_OF_TURN
    assert is_unchanged(early)
    assert following.reply == again.reply == [NOW, ["2"], [0]]
    assert is_unchanged(again)


async def test_a_call_whose_predecessor_failed_is_applied_when_it_follows_no_more(bench: Bench) -> None:
    await bench.seed()
    early = await bench.run("add_jobs", [add_row()], **adding(sequence=-2))

    alone = await bench.run("add_jobs", [add_row()], **adding(sequence=2))

    assert early.reply == OUT_OF_TURN
    assert alone.reply == [NOW, ["1"], [0]]


async def test_ids_beyond_what_json_counts_are_answered_again(bench: Bench) -> None:
    await bench.seed({"id": str(10**15)})

    first = await bench.run("add_jobs", [add_row(), add_row()], **adding(sequence=1))
    again = await bench.run("add_jobs", [add_row(), add_row()], **adding(sequence=1))

    assert first.reply == again.reply == [NOW, [str(10**15 + 1), str(10**15 + 2)], [0, 0]]
