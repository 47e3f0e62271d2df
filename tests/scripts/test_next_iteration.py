"""next_iteration.lua"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.script_bench import NOW, Bench, Zset

pytestmark = pytest.mark.anyio

PRODUCER = f"repeat:s:{NOW - 100}"


def row(**given: Any) -> tuple[Any, ...]:
    fields = {
        "scheduler_id": "s", "producer_id": PRODUCER, "opts": '{"a":[],"repeat":{"every":1000,"count":2}}',
        "every": 1000, "offset": 0, "start_ms": 0, "slot": 0, "priority": 0, "lifo": 0,
    }  # fmt: skip
    return tuple((fields | given).values())


def scheduler(**fields: str) -> dict[str, Any]:
    record = {"name": "n", "ic": "1", "every": "1000", "offset": "0"} | fields
    return {"repeat": Zset({"s": NOW - 100}), "repeat:s": record}


async def test_the_next_job_has_name_and_data_of_the_scheduler_and_options_of_its_producer(bench: Bench) -> None:
    await bench.seed(scheduler(data='{"v":1}'))

    ran = await bench.run("next_iteration", [row()])

    job_id = f"repeat:s:{NOW + 900}"
    assert ran.reply == [job_id]
    opts = ran.keys[job_id].pop("opts")
    assert opts.startswith('{"a":[],"repeat":{"every":1000,"count":2},')
    assert json.loads(opts)["delay"] == 900
    assert ran.keys == {
        "id": "1",
        "repeat": [("s", NOW + 900)],
        "repeat:s": {"name": "n", "ic": "2", "every": "1000", "offset": "0", "data": '{"v":1}'},
        job_id: {"name": "n", "data": '{"v":1}', "timestamp": str(NOW), "delay": "900", "priority": "0", "rjk": "s"},
        "delayed": [(job_id, (NOW + 900) * 4096)],
        "marker": [("1", NOW + 900)],
    }
    assert ran.events == [
        {"event": "added", "jobId": job_id, "name": "n"},
        {"event": "delayed", "jobId": job_id, "delay": str(NOW + 900)},
    ]


@pytest.mark.parametrize(
    ("previous", "offset", "expected"),
    [
        (NOW - 1000, "0", NOW),  # the slot is now
        (NOW - 1001, "999", NOW + 999),  # it was a millisecond ago
        (NOW - 999, "1", NOW + 1),
        (NOW - 70_000, "0", NOW + 1000),  # on the next slot, not on this one
        (NOW - 70_500, "500", NOW + 500),
    ],
)
async def test_slots_that_have_passed_are_skipped(bench: Bench, previous: int, offset: str, expected: int) -> None:
    seed = scheduler(offset=offset)
    seed["repeat"] = Zset({"s": previous})
    await bench.seed(seed)
    ran = await bench.run("next_iteration", [row(producer_id=f"repeat:s:{previous}")])
    assert ran.reply == [f"repeat:s:{expected}"]


@pytest.mark.parametrize(
    ("every", "late_ms", "expected"),
    [
        (100, 350, NOW - 250),  # the next slot, although it is over
        (100, 5099, NOW - 4999),
        (100, 5100, NOW + 100),  # too long over: all that have passed are skipped
        (999, 2000, NOW - 1001),
        (1000, 1400, NOW + 1000),  # intervals from a second on follow upstream's rule
    ],
)
async def test_slots_of_short_intervals_are_made_up_for(bench: Bench, every: int, late_ms: int, expected: int) -> None:
    previous = NOW - late_ms
    seed = scheduler(every=str(every))
    seed["repeat"] = Zset({"s": previous})
    await bench.seed(seed)

    ran = await bench.run("next_iteration", [row(producer_id=f"repeat:s:{previous}", every=every)])

    assert ran.reply == [f"repeat:s:{expected}"]
    assert ("wait" in ran.keys) == (expected < NOW)


async def test_a_pattern_takes_the_slot_it_is_told(bench: Bench) -> None:
    await bench.seed({"repeat": Zset({"s": NOW - 100}), "repeat:s": {"name": "n", "ic": "1", "pattern": "x"}})
    ran = await bench.run("next_iteration", [row(every=0, slot=NOW + 7)])
    assert json.loads(ran.keys[f"repeat:s:{NOW + 7}"]["opts"])["prevMillis"] == NOW + 7


@pytest.mark.parametrize(
    ("seed", "answer"),
    [
        ({}, ""),
        ({**scheduler(), "repeat": Zset({"s": NOW})}, ""),  # it has gone on
        ({"repeat": Zset({"s": NOW - 100})}, ""),
    ],
)
async def test_a_scheduler_that_is_gone_or_has_gone_on_makes_nothing(
    bench: Bench, seed: dict[str, Any], answer: str
) -> None:
    await bench.seed(seed)
    ran = await bench.run("next_iteration", [row()])
    assert (ran.reply, ran.keys, ran.events) == ([answer], {}, [])


async def test_an_old_repeatable_is_told_apart(bench: Bench) -> None:
    await bench.seed({"repeat": Zset({"n:i::UTC:1000": NOW, "a:b:c:d:e": NOW})})
    ran = await bench.run("next_iteration", [row(scheduler_id="n:i::UTC:1000"), row(scheduler_id="a:b:c:d:e")])
    assert ran.reply == ["legacy", ""]


async def test_an_existing_job_is_only_announced(bench: Bench) -> None:
    await bench.seed({**scheduler(), f"repeat:s:{NOW + 900}": {"name": "x"}})
    ran = await bench.run("next_iteration", [row()])
    assert (ran.reply, ran.keys) == ([""], {})
    assert ran.events == [{"event": "duplicated", "jobId": f"repeat:s:{NOW + 900}"}]


async def test_one_damaged_scheduler_spoils_no_other(bench: Bench) -> None:
    await bench.seed({**scheduler(), "repeat:bad": "text"})
    await bench.client.zadd(bench.base + "repeat", {"bad": NOW})
    ran = await bench.run("next_iteration", [row(scheduler_id="bad"), row()])
    assert ran.reply[0].startswith("error:")
    assert ran.reply[1] == f"repeat:s:{NOW + 900}"
