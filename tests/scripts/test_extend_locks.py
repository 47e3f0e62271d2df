"""extend_locks.lua"""

from __future__ import annotations

from typing import Any, Final

import pytest

from pyqueue._redis.scripts import load
from tests.support.script_bench import Bench
from tests.support.script_rows import exchange

pytestmark = pytest.mark.anyio

#: Without an exchange in flight.
FOR_30_S: Final[dict[str, Any]] = {"lock_ms": 30_000, "sender": "", "sequence": 0, "token": ""}


async def hold(bench: Bench, *job_ids: str, ttl_ms: int = 5000) -> None:
    """Locks of these jobs, under the token t, about to run out."""
    for job_id in job_ids:
        await bench.client.set(f"{bench.base}{job_id}:lock", "t", px=ttl_ms)


async def test_our_locks_last_from_now_on(bench: Bench) -> None:
    await bench.seed({"active": ["1", "2"], "1": {"name": "a"}})
    await hold(bench, "1", "2")

    ran = await bench.run("extend_locks", [("1", "t"), ("2", "t")], **FOR_30_S)

    assert (ran.reply, ran.keys, ran.events) == ([], {"1:lock": "t", "2:lock": "t"}, [])
    assert ran.ttls == {"1:lock": 30, "2:lock": 30}


async def test_a_sign_of_life_takes_the_marks_off(bench: Bench) -> None:
    await bench.seed({"stalled": {"1", "2", "3"}})
    await hold(bench, "1", "2", ttl_ms=30_000)

    ran = await bench.run("extend_locks", [("1", "t"), ("2", "other")], **FOR_30_S)

    assert (ran.reply, ran.keys) == (["2"], {"stalled": ["2", "3"]})


async def test_locks_that_are_gone_or_anothers_are_told_in_order(bench: Bench) -> None:
    await bench.seed({"5:lock": "other"})
    await hold(bench, "2", "4")

    rows = [("1", "t"), ("2", "t"), ("3", ""), ("4", "t "), ("5", "t")]
    ran = await bench.run("extend_locks", rows, **FOR_30_S)

    assert (ran.reply, ran.keys) == (["1", "3", "4", "5"], {"2:lock": "t"})


async def test_a_lock_outlives_the_job(bench: Bench) -> None:
    await hold(bench, "1")

    ran = await bench.run("extend_locks", [("1", "t")], **FOR_30_S)

    assert (ran.reply, ran.ttls) == ([], {"1:lock": 30})


async def test_a_lock_of_the_wrong_type_is_lost(bench: Bench) -> None:
    await bench.seed({"1:lock": ["not a token"]})

    ran = await bench.run("extend_locks", [("1", "t")], **FOR_30_S)

    assert (ran.reply, ran.keys) == (["1"], {})


async def test_nothing_to_extend_changes_nothing(bench: Bench) -> None:
    await bench.seed({"stalled": {"1"}})

    ran = await bench.run("extend_locks", [], **FOR_30_S)

    assert (ran.reply, ran.keys) == ([], {})


async def test_the_locks_of_the_busiest_worker_are_extended(bench: Bench) -> None:
    job_ids = [f"{n}" for n in range(2000)]
    await bench.seed({"stalled": set(job_ids)})
    await bench.client.mset({f"{bench.base}{job_id}:lock": "t" for job_id in job_ids[1:]})

    reply = await bench.store.call(load("extend_locks"), [(job_id, "t") for job_id in job_ids], **FOR_30_S)

    assert len(reply) == 1
    assert await bench.client.smembers(f"{bench.base}stalled") == {"0"}


async def claim(bench: Bench, *job_ids: str, sequence: int = 7) -> None:
    """An exchange of a worker claims these jobs under the tokens w:4, w:5, ..."""
    await bench.seed({"wait": list(reversed(job_ids)), **{job_id: {"name": "a"} for job_id in job_ids}})
    claiming = exchange(claim=len(job_ids), sequence=sequence, token="w", first_token=4, lock_ms=5000)
    await bench.run("settle_and_claim", **claiming)


async def test_what_an_unanswered_exchange_has_claimed_is_kept_too(bench: Bench) -> None:
    await claim(bench, "1", "2")
    await bench.seed({"stalled": {"1", "2", "3"}})
    await hold(bench, "3")

    unanswered = FOR_30_S | {"sender": "worker", "sequence": 7, "token": "w"}
    ran = await bench.run("extend_locks", [("3", "t")], **unanswered)

    assert (ran.reply, ran.keys["stalled"]) == ([], None)
    for job_id in ("1", "2", "3"):
        assert await bench.client.pttl(f"{bench.base}{job_id}:lock") > 20_000


@pytest.mark.parametrize("sequence", [6, 8], ids=["answered", "not applied"])
async def test_another_exchange_keeps_nothing(bench: Bench, sequence: int) -> None:
    await claim(bench, "1")

    ran = await bench.run("extend_locks", **FOR_30_S | {"sender": "worker", "sequence": sequence, "token": "w"})

    assert (ran.reply, ran.keys) == ([], {})


async def test_claims_that_were_lost_before_their_reply_was_read_are_told(bench: Bench) -> None:
    await claim(bench, "1", "2")
    await bench.client.set(f"{bench.base}2:lock", "thief")

    ran = await bench.run("extend_locks", **FOR_30_S | {"sender": "worker", "sequence": 7, "token": "w"})

    assert ran.reply == ["2"]
