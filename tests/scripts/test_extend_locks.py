"""extend_locks.lua"""

from __future__ import annotations

import pytest

from pyqueue._redis.scripts import load
from tests.support.script_bench import Bench

pytestmark = pytest.mark.anyio


async def hold(bench: Bench, *job_ids: str, ttl_ms: int = 5000) -> None:
    """Locks of these jobs, under the token t, about to run out."""
    for job_id in job_ids:
        await bench.client.set(f"{bench.base}{job_id}:lock", "t", px=ttl_ms)


async def test_our_locks_last_from_now_on(bench: Bench) -> None:
    await bench.seed({"active": ["1", "2"], "1": {"name": "a"}})
    await hold(bench, "1", "2")

    ran = await bench.run("extend_locks", [("1", "t"), ("2", "t")], lock_ms=30_000)

    assert (ran.reply, ran.keys, ran.events) == ([], {"1:lock": "t", "2:lock": "t"}, [])
    assert ran.ttls == {"1:lock": 30, "2:lock": 30}


async def test_a_sign_of_life_takes_the_marks_off(bench: Bench) -> None:
    await bench.seed({"stalled": {"1", "2", "3"}})
    await hold(bench, "1", "2", ttl_ms=30_000)

    ran = await bench.run("extend_locks", [("1", "t"), ("2", "other")], lock_ms=30_000)

    assert (ran.reply, ran.keys) == (["2"], {"stalled": ["2", "3"]})


async def test_locks_that_are_gone_or_anothers_are_told_in_order(bench: Bench) -> None:
    await bench.seed({"5:lock": "other"})
    await hold(bench, "2", "4")

    rows = [("1", "t"), ("2", "t"), ("3", ""), ("4", "t "), ("5", "t")]
    ran = await bench.run("extend_locks", rows, lock_ms=30_000)

    assert (ran.reply, ran.keys) == (["1", "3", "4", "5"], {"2:lock": "t"})


async def test_a_lock_outlives_the_job(bench: Bench) -> None:
    await hold(bench, "1")

    ran = await bench.run("extend_locks", [("1", "t")], lock_ms=30_000)

    assert (ran.reply, ran.ttls) == ([], {"1:lock": 30})


async def test_a_lock_of_the_wrong_type_is_lost(bench: Bench) -> None:
    await bench.seed({"1:lock": ["not a token"]})

    ran = await bench.run("extend_locks", [("1", "t")], lock_ms=30_000)

    assert (ran.reply, ran.keys) == (["1"], {})


async def test_nothing_to_extend_changes_nothing(bench: Bench) -> None:
    await bench.seed({"stalled": {"1"}})

    ran = await bench.run("extend_locks", [], lock_ms=30_000)

    assert (ran.reply, ran.keys) == ([], {})


async def test_the_locks_of_the_busiest_worker_are_extended(bench: Bench) -> None:
    job_ids = [f"{n}" for n in range(2000)]
    await bench.seed({"stalled": set(job_ids)})
    await bench.client.mset({f"{bench.base}{job_id}:lock": "t" for job_id in job_ids[1:]})

    reply = await bench.store.call(load("extend_locks"), [(job_id, "t") for job_id in job_ids], lock_ms=30_000)

    assert len(reply) == 1
    assert await bench.client.smembers(f"{bench.base}stalled") == {"0"}
