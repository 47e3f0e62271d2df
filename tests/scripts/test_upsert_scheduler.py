"""upsert_scheduler.lua"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.script_bench import NOW, Bench, Ran, Zset

pytestmark = pytest.mark.anyio

DEFAULTS: dict[str, Any] = {
    "scheduler_id": "s", "name": "n", "data": "{}", "template": "", "opts": '{"repeat":{"every":1000,"count":1}}',
    "every": 1000, "pattern": "", "slot": 0, "offset": 0, "start_ms": 0, "priority": 0, "lifo": 0,
}  # fmt: skip


async def upsert(bench: Bench, extras: list[tuple[str, str]] | None = None, **given: Any) -> Ran:
    return await bench.run("upsert_scheduler", extras or [], **DEFAULTS | given)


async def test_a_new_interval_starts_now(bench: Bench) -> None:
    await bench.seed()

    ran = await upsert(bench, [("limit", "5")], data='{"a":1}', template='{"attempts":2}')

    job_id = f"repeat:s:{NOW}"
    opts = {
        "repeat": {"every": 1000, "count": 1},
        "repeatJobKey": "s",
        "jobId": job_id,
        "delay": 0,
        "timestamp": NOW,
    }
    assert json.loads(ran.keys[job_id].pop("opts")) == opts
    assert ran.keys == {
        "id": "1",
        "repeat": [("s", NOW)],
        "repeat:s": {
            "name": "n", "ic": "1", "every": "1000", "offset": "0", "data": '{"a":1}', "opts": '{"attempts":2}',
            "limit": "5",
        },
        job_id: {
            "name": "n", "data": '{"a":1}', "timestamp": str(NOW), "delay": "0", "priority": "0", "rjk": "s",
        },
        "wait": [job_id],
        "marker": [("0", 0.0)],
    }  # fmt: skip
    assert ran.events == [
        {"event": "added", "jobId": job_id, "name": "n"},
        {"event": "waiting", "jobId": job_id},
    ]


async def test_a_pattern_is_delayed_until_its_slot(bench: Bench) -> None:
    await bench.seed()

    ran = await upsert(bench, [("tz", "UTC")], every=0, pattern="* * * * *", slot=NOW + 500)

    job_id = f"repeat:s:{NOW + 500}"
    assert json.loads(ran.keys[job_id]["opts"])["prevMillis"] == NOW + 500
    assert ran.keys["repeat:s"] == {"name": "n", "ic": "1", "pattern": "* * * * *", "offset": "0", "tz": "UTC"}
    assert ran.keys["delayed"] == [(job_id, (NOW + 500) * 4096)]
    assert ran.reply[0] == job_id
    assert ran.reply[2:] == [500, NOW]


@pytest.mark.parametrize("place", ["wait", "paused", "delayed", "prioritized"])
async def test_a_pending_job_is_replaced_in_its_slot(bench: Bench, place: str) -> None:
    slot = NOW + 300
    job_id = f"repeat:s:{slot}"
    member: Any = Zset({job_id: 5}) if place in ("delayed", "prioritized") else [job_id, "other"]
    await bench.seed(
        {
            place: member,
            "repeat": Zset({"s": slot}),
            "repeat:s": {"name": "n", "ic": "4", "every": "1000", "offset": "300", "tz": "x"},
            job_id: {"name": "old", "data": "1"},
            f"{job_id}:logs": ["x"],
        }
    )

    ran = await upsert(bench)

    assert ran.keys["repeat:s"] == {"name": "n", "ic": "4", "every": "1000", "offset": "300"}
    assert ran.keys[job_id]["name"] == "n"
    assert ran.keys[f"{job_id}:logs"] is None
    assert ran.keys["delayed"] == [(job_id, slot * 4096)]
    assert "repeat" not in ran.keys  # the same slot
    assert [event["event"] for event in ran.events] == ["added", "delayed"]


async def test_another_interval_starts_anew(bench: Bench) -> None:
    job_id = f"repeat:s:{NOW + 300}"
    await bench.seed(
        {
            "delayed": Zset({job_id: 5}),
            "repeat": Zset({"s": NOW + 300}),
            "repeat:s": {"name": "n", "ic": "1", "every": "5000", "offset": "300"},
            job_id: {"name": "old"},
        }
    )

    ran = await upsert(bench)

    assert ran.keys["repeat"] == [("s", NOW)]
    assert ran.keys[job_id] is None


async def test_taken_slots_are_passed_over(bench: Bench) -> None:
    await bench.seed({f"repeat:s:{NOW + n * 1000}": {"name": "x"} for n in range(3)})
    assert (await upsert(bench)).keys["repeat"] == [("s", NOW + 3000)]


async def test_too_many_taken_slots_change_nothing(bench: Bench) -> None:
    await bench.seed({f"repeat:s:{NOW + n * 1000}": {"name": "x"} for n in range(33)})
    ran = await upsert(bench)
    assert (ran.reply, ran.keys, ran.events) == (-11, {}, [])


async def test_the_taken_slot_of_a_pattern_changes_nothing(bench: Bench) -> None:
    await bench.seed({f"repeat:s:{NOW + 500}": {"name": "x"}})
    ran = await upsert(bench, every=0, pattern="* * * * *", slot=NOW + 500)
    assert (ran.reply, ran.keys, ran.events) == (-10, {}, [])


async def test_a_priority_and_a_paused_queue_are_respected(bench: Bench) -> None:
    await bench.seed({"meta": {"paused": "1"}})
    ran = await upsert(bench, priority=2)
    assert ran.keys["prioritized"] == [(f"repeat:s:{NOW}", 2 * 2**32 + 1)]
    assert "marker" not in ran.keys
