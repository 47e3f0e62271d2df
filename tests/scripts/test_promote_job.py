"""promote_job.lua"""

from __future__ import annotations

import pytest

from tests.support.script_bench import Bench, Zset

pytestmark = pytest.mark.anyio

WAITING = [{"event": "waiting", "jobId": "1", "prev": "delayed"}]


async def test_a_job_without_priority_goes_to_the_back_of_the_wait_list(bench: Bench) -> None:
    await bench.seed({"delayed": Zset({"1": 9, "2": 10}), "wait": ["3"], "1": {"delay": "5", "priority": "0"}})

    ran = await bench.run("promote_job", job_id="1")

    assert ran.reply == 0
    assert ran.keys == {
        "delayed": [("2", 10.0)],
        "wait": ["1", "3"],
        "marker": [("0", 0.0)],
        "1": {"delay": "0", "priority": "0"},
    }
    assert ran.events == WAITING


async def test_a_job_with_priority_goes_into_its_line(bench: Bench) -> None:
    """E94."""
    await bench.seed({"delayed": Zset({"1": 9}), "pc": "6", "1": {"delay": "5", "priority": "2"}})

    ran = await bench.run("promote_job", job_id="1")

    assert ran.keys == {
        "delayed": None,
        "pc": "7",
        "prioritized": [("1", 2 * 2**32 + 7)],
        "marker": [("0", 0.0)],
        "1": {"delay": "0", "priority": "2"},
    }


async def test_a_paused_queue_gets_no_marker(bench: Bench) -> None:
    """E94."""
    await bench.seed({"delayed": Zset({"1": 9}), "meta": {"paused": "1"}, "1": {"delay": "5", "priority": "0"}})

    ran = await bench.run("promote_job", job_id="1")

    assert ran.keys == {"delayed": None, "wait": ["1"], "1": {"delay": "0", "priority": "0"}}
    assert ran.events == WAITING


async def test_a_full_queue_gets_no_marker(bench: Bench) -> None:
    await bench.seed({"delayed": Zset({"1": 9}), "meta": {"concurrency": "1"}, "active": ["2"], "1": {"delay": "5"}})

    ran = await bench.run("promote_job", job_id="1")

    assert "marker" not in ran.keys


async def test_a_job_that_is_not_delayed_is_left_alone(bench: Bench) -> None:
    await bench.seed({"wait": ["1"], "1": {"delay": "0", "priority": "0"}})

    ran = await bench.run("promote_job", job_id="1")

    assert (ran.reply, ran.keys, ran.events) == (-3, {}, [])
