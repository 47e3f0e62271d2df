"""recover_stalled.lua"""

from __future__ import annotations

from typing import Any

import pytest

from pyqueue.errors import RedisRefused
from tests.support.script_bench import NOW, Bench, Zset
from tests.support.script_rows import event, running

pytestmark = pytest.mark.anyio

READY = [("0", 0.0)]
DOOMED = "job stalled more than allowable limit"
CHECKED = {"stalled-check": str(NOW)}


def args(**more: Any) -> dict[str, Any]:
    return {"max_stalled_count": 1, "interval_ms": 30_000, "resume": 0, **more}


def marked(*job_ids: str, **fields: str) -> dict[str, Any]:
    """Active jobs without a lock that the check before has marked."""
    return {
        "active": list(reversed(job_ids)),
        "stalled": set(job_ids),
        **{job_id: running(**fields) for job_id in job_ids},
    }


async def test_the_first_check_marks_what_is_active(bench: Bench) -> None:
    await bench.seed({"active": ["2", "1"], "1": running(), "2": running(), "1:lock": "t"})

    ran = await bench.run("recover_stalled", **args())

    assert ran.reply == [[], 0]
    assert ran.keys == {**CHECKED, "stalled": ["1", "2"]}
    assert ran.ttls == {"stalled-check": 30}
    assert ran.events == []


async def test_a_marked_job_without_a_lock_is_first_in_line_again(bench: Bench) -> None:
    await bench.seed({**marked("1"), "wait": ["3", "2"]})

    ran = await bench.run("recover_stalled", **args())

    assert ran.reply == [["1"], 0]
    assert ran.keys == {
        **CHECKED,
        "1": running(stc="1"),
        "active": None,
        "stalled": None,
        "wait": ["3", "2", "1"],
        "marker": READY,
    }
    assert ran.events == [event("waiting", jobId="1", prev="active"), event("stalled", jobId="1")]


async def test_a_job_with_a_lock_is_marked_again(bench: Bench) -> None:
    await bench.seed({**marked("1", "2"), "2:lock": "t"})

    ran = await bench.run("recover_stalled", **args())

    assert ran.reply == [["1"], 0]
    assert (ran.keys["active"], ran.keys["stalled"], ran.keys["wait"]) == (["2"], ["2"], ["1"])
    assert "2" not in ran.keys


async def test_a_marked_job_that_has_left_active_is_forgotten(bench: Bench) -> None:
    await bench.seed({"stalled": {"1"}, "completed": Zset({"1": 5}), "1": running()})

    ran = await bench.run("recover_stalled", **args())

    assert (ran.reply, ran.keys) == ([[], 0], {**CHECKED, "stalled": None})


@pytest.mark.parametrize("fields", [{"priority": "3"}, {"opts": '{"lifo":true}'}, {"delay": "500"}])
async def test_a_recovered_job_goes_to_the_wait_list_whatever_its_options(bench: Bench, fields: dict[str, str]) -> None:
    await bench.seed({**marked("1"), "1": {**running(), **fields}})

    ran = await bench.run("recover_stalled", **args())

    assert ran.keys["wait"] == ["1"]
    assert not {"prioritized", "delayed", "pc"} & ran.keys.keys()


@pytest.mark.parametrize(("count", "limit", "doomed"), [("", 1, False), ("1", 1, True), ("1", 2, False), ("", 0, True)])
async def test_a_job_that_stalls_too_often_will_be_failed_by_its_next_worker(
    bench: Bench, count: str, limit: int, doomed: bool
) -> None:
    await bench.seed(marked("1", **({"stc": count} if count else {})))

    ran = await bench.run("recover_stalled", **args(max_stalled_count=limit))

    assert ran.keys["wait"] == ["1"]
    assert ran.keys["1"] == running(stc=str(int(count or 0) + 1), **({"defa": DOOMED} if doomed else {}))


SCHEDULERS: list[tuple[dict[str, Any], bool]] = [
    ({"repeat:s": {"ic": "1"}}, False),
    ({"repeat": Zset({"s": 5})}, False),
    ({"repeat": Zset({"other": 5})}, True),
]


@pytest.mark.parametrize(("keys", "doomed"), SCHEDULERS, ids=["hash", "set", "gone"])
async def test_iterations_of_a_living_scheduler_may_stall_without_limit(
    bench: Bench, keys: dict[str, Any], doomed: bool
) -> None:
    """E124."""
    await bench.seed({**marked("1", stc="9", rjk="s"), **keys})

    ran = await bench.run("recover_stalled", **args())

    assert ("defa" in ran.keys["1"]) is doomed


@pytest.mark.parametrize("keys", [{"meta": {"paused": "1"}}, {"meta": {"concurrency": "1"}, "active": ["2", "1"]}])
async def test_a_blocked_queue_gets_its_jobs_back_and_wakes_nobody(bench: Bench, keys: dict[str, Any]) -> None:
    await bench.seed({**marked("1"), **keys})

    ran = await bench.run("recover_stalled", **args())

    assert ran.keys["wait"] == ["1"]
    assert "marker" not in ran.keys


async def test_a_recovered_job_makes_room(bench: Bench) -> None:
    await bench.seed({**marked("1"), "meta": {"concurrency": "1"}})

    ran = await bench.run("recover_stalled", **args())

    assert ran.keys["marker"] == READY


async def test_only_one_check_runs_within_the_interval(bench: Bench) -> None:
    await bench.seed({**marked("1"), "stalled-check": "5"})

    ran = await bench.run("recover_stalled", **args())

    assert (ran.reply, ran.keys, ran.events) == ([[], 0], {}, [])


async def test_an_id_without_a_job_is_dropped(bench: Bench) -> None:
    keys = marked("1", "2")
    del keys["1"]
    await bench.seed(keys)

    ran = await bench.run("recover_stalled", **args())

    assert (ran.reply, ran.keys["wait"], ran.keys["active"]) == ([["2"], 0], ["2"], None)
    assert "1" not in ran.keys


async def test_a_job_with_a_damaged_counter_is_recovered(bench: Bench) -> None:
    await bench.seed(marked("1", stc="many"))

    ran = await bench.run("recover_stalled", **args())

    assert (ran.reply, ran.keys["wait"]) == ([["1"], 0], ["1"])


@pytest.mark.parametrize("key", ["wait", "events"])
async def test_a_queue_whose_key_was_overwritten_loses_no_job(bench: Bench, key: str) -> None:
    await bench.seed({**marked("1"), key: {"name": "not ours"}})
    before = await bench.dump()

    with pytest.raises(RedisRefused, match="WRONGTYPE"):
        await bench.run("recover_stalled", **args())

    assert await bench.dump() == before


async def test_a_check_of_many_marks_is_resumed_and_marks_at_the_end(bench: Bench) -> None:
    dead = [f"d{n:03}" for n in range(500)]
    await bench.seed({**marked(*dead), "active": ["alive", *dead]})

    calls = [await bench.run("recover_stalled", **args(resume=resume)) for resume in (0, 1, 1)]

    assert [ran.reply[1] for ran in calls] == [1, 1, 0]
    assert [len(ran.reply[0]) for ran in calls] == [200, 200, 100]
    assert sorted(job_id for ran in calls for job_id in ran.reply[0]) == dead
    assert ["alive" in ran.keys["stalled"] for ran in calls] == [False, False, True]
    assert await bench.client.lrange(f"{bench.base}active", 0, -1) == ["alive"]


async def test_many_active_jobs_are_marked(bench: Bench) -> None:
    await bench.seed({"active": [f"{n}" for n in range(2500)]})

    await bench.run("recover_stalled", **args())

    assert await bench.client.scard(f"{bench.base}stalled") == 2500


async def test_the_event_stream_is_capped(bench: Bench) -> None:
    await bench.seed({"meta": {"opts.maxLenEvents": "5"}})
    for _ in range(500):
        await bench.client.xadd(f"{bench.base}events", {"event": "old"})

    await bench.run("recover_stalled", **args())

    assert await bench.client.xlen(f"{bench.base}events") < 200


async def test_the_clock_of_the_server_is_used_where_the_caller_has_none(bench: Bench) -> None:
    ran = await bench.run("recover_stalled", **args(now_ms=0))

    assert abs(int(ran.keys["stalled-check"]) / 1000 - (await bench.client.time())[0]) < 60
