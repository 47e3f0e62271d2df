"""get_schedulers.lua, find_broken_schedulers.lua, remove_scheduler.lua"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.script_bench import Bench, Zset

pytestmark = pytest.mark.anyio

RECORD = {"name": "n", "ic": "1"}


async def test_a_range_is_read_in_either_order(bench: Bench) -> None:
    await bench.seed({"repeat": Zset({"a": 5, "b": 6}), "repeat:a": RECORD, "repeat:b": RECORD})
    for soonest_first, ids in ((1, ["a", "b"]), (0, ["b", "a"])):
        ran = await bench.run("get_schedulers", scheduler_id="", first=0, last=-1, soonest_first=soonest_first)
        assert ran.reply[::3] == ids
        assert ran.keys == {}


async def test_one_is_read_by_its_id(bench: Bench) -> None:
    await bench.seed({"repeat": Zset({"a": 1_700_000_000_000}), "repeat:a": RECORD})
    ran = await bench.run("get_schedulers", scheduler_id="a", first=0, last=0, soonest_first=1)
    assert ran.reply[:2] == ["a", "1700000000000"]
    assert (await bench.run("get_schedulers", scheduler_id="x", first=0, last=0, soonest_first=1)).reply == []


async def test_an_id_without_a_record_is_dropped(bench: Bench) -> None:
    await bench.seed({"repeat": Zset({"ghost": 5, "n:i::UTC:0 9 * * *": 6})})
    ran = await bench.run("get_schedulers", scheduler_id="", first=0, last=-1, soonest_first=1)
    assert (ran.reply, ran.keys) == ([], {"repeat": [("n:i::UTC:0 9 * * *", 6.0)]})


@pytest.mark.parametrize(
    ("job", "is_lost"),
    [
        (None, "1"),
        ({"name": "n", "finishedOn": "5"}, "0"),
        ({"name": "n"}, ""),
        ({"name": "n", "processedOn": "5"}, ""),
    ],
)
async def test_schedulers_without_a_pending_job_are_found(
    bench: Bench, job: dict[str, str] | None, is_lost: str
) -> None:
    seed: dict[str, Any] = {"repeat": Zset({"a": 5}), "repeat:a": RECORD}
    await bench.seed(seed | ({"repeat:a:5": job} if job else {}))
    ran = await bench.run("find_broken_schedulers", limit=10)
    assert ran.reply[:3] == (["a", "5", is_lost] if is_lost else [])
    assert ran.keys == {}


async def test_a_removed_scheduler_takes_its_delayed_job_along(bench: Bench) -> None:
    seed = {"repeat": Zset({"a": 5}), "repeat:a": RECORD, "repeat:a:5": {"name": "n"}, "repeat:a:5:logs": ["x"]}
    await bench.seed({**seed, "delayed": Zset({"repeat:a:5": 9})})
    ran = await bench.run("remove_scheduler", scheduler_id="a")
    assert (ran.reply, ran.keys) == (1, dict.fromkeys([*seed, "delayed"]))
    assert ran.events == [{"event": "removed", "jobId": "repeat:a:5", "prev": "delayed"}]


async def test_a_job_that_is_ready_or_running_stays(bench: Bench) -> None:
    await bench.seed(
        {"repeat": Zset({"a": 5}), "repeat:a": RECORD, "repeat:a:5": {"name": "n"}, "wait": ["repeat:a:5"]}
    )
    ran = await bench.run("remove_scheduler", scheduler_id="a")
    assert (ran.reply, ran.keys, ran.events) == (1, {"repeat": None, "repeat:a": None}, [])
    assert (await bench.run("remove_scheduler", scheduler_id="a")).reply == 0
