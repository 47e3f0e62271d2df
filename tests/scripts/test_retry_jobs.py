"""retry_jobs.lua"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.script_bench import NOW, Bench, Zset

pytestmark = pytest.mark.anyio

READY = [("0", 0.0)]


def waiting(*job_ids: str, prev: str = "failed") -> list[dict[str, str]]:
    return [{"event": "waiting", "jobId": job_id, "prev": prev} for job_id in job_ids]


async def test_the_oldest_are_moved_first_and_served_first(bench: Bench) -> None:
    job = {"priority": "5", "atm": "1", "finishedOn": "1", "processedOn": "1", "failedReason": "x"}
    await bench.seed({"failed": Zset({"1": 10, "2": 11, "3": 12}), "wait": ["9"], "1": job, "2": job, "3": job})

    ran = await bench.run("retry_jobs", state="failed", until_ms=-1, limit=2)

    assert ran.reply == [2, NOW]
    assert ran.keys == {
        "failed": [("3", 12.0)],
        "wait": ["2", "1", "9"],
        "marker": READY,
        "1": {"priority": "5", "atm": "1"},
        "2": {"priority": "5", "atm": "1"},
    }
    assert ran.events == waiting("1", "2")


async def test_jobs_that_finished_later_stay(bench: Bench) -> None:
    await bench.seed({"failed": Zset({"1": 10, "2": 11}), "1": {"name": "a"}, "2": {"name": "b"}})

    ran = await bench.run("retry_jobs", state="failed", until_ms=10, limit=100)

    assert ran.reply == [1, 10]
    assert ran.keys == {"failed": [("2", 11.0)], "wait": ["1"], "marker": READY}


async def test_completed_jobs_forget_their_return_value(bench: Bench) -> None:
    await bench.seed({"completed": Zset({"1": 10}), "1": {"name": "a", "returnvalue": "1", "finishedOn": "1"}})

    ran = await bench.run("retry_jobs", state="completed", until_ms=-1, limit=100)

    assert ran.keys == {"completed": None, "wait": ["1"], "marker": READY, "1": {"name": "a"}}
    assert ran.events == waiting("1", prev="completed")


async def test_children_are_pending_again_for_their_parents(bench: Bench) -> None:
    child = f"{bench.base}1"
    keys: dict[str, Any] = {
        "failed": Zset({"1": 10}),
        "1": {"parentKey": f"{bench.base}p"},
        "p": {"name": "p"},
        "p:unsuccessful": Zset({child: 1}),
    }
    await bench.seed(keys)

    ran = await bench.run("retry_jobs", state="failed", until_ms=-1, limit=100)

    assert ran.keys == {
        "failed": None,
        "wait": ["1"],
        "marker": READY,
        "p:unsuccessful": None,
        "p:dependencies": [child],
    }


async def test_a_paused_queue_gets_no_marker(bench: Bench) -> None:
    await bench.seed({"failed": Zset({"1": 10}), "meta": {"paused": "1"}, "1": {"name": "a"}})

    ran = await bench.run("retry_jobs", state="failed", until_ms=-1, limit=100)

    assert ran.keys == {"failed": None, "wait": ["1"]}


async def test_nothing_to_move_writes_nothing(bench: Bench) -> None:
    await bench.seed(wait=["1"])

    ran = await bench.run("retry_jobs", state="failed", until_ms=-1, limit=100)

    assert (ran.reply, ran.keys, ran.events) == ([0, NOW], {}, [])
