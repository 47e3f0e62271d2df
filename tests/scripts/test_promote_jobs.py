"""promote_jobs.lua"""

from __future__ import annotations

import pytest

from tests.support.script_bench import Bench, Zset

pytestmark = pytest.mark.anyio


async def test_those_due_first_are_moved_first_and_served_first(bench: Bench) -> None:
    job = {"priority": "5", "delay": "77"}
    await bench.seed({"delayed": Zset({"1": 10, "2": 11, "3": 12}), "wait": ["9"], "1": job, "2": job, "3": job})

    ran = await bench.run("promote_jobs", limit=2)

    assert ran.reply == 2
    assert ran.keys == {"delayed": [("3", 12.0)], "wait": ["2", "1", "9"], "marker": [("0", 0.0)]}
    assert ran.events == [{"event": "waiting", "jobId": job_id, "prev": "delayed"} for job_id in ("1", "2")]


async def test_a_paused_queue_gets_no_marker(bench: Bench) -> None:
    await bench.seed({"delayed": Zset({"1": 10}), "meta": {"paused": "1"}})

    assert (await bench.run("promote_jobs", limit=2)).keys == {"delayed": None, "wait": ["1"]}


async def test_nothing_to_move_writes_nothing(bench: Bench) -> None:
    await bench.seed(wait=["1"])

    ran = await bench.run("promote_jobs", limit=2)

    assert (ran.reply, ran.keys, ran.events) == (0, {}, [])
