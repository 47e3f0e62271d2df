"""retry_job.lua"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.script_bench import Bench, Zset

pytestmark = pytest.mark.anyio

FAILED = {
    "priority": "0",
    "opts": "{}",
    "atm": "3",
    "ats": "4",
    "stacktrace": '["x"]',
    "failedReason": "boom",
    "finishedOn": "9",
    "processedOn": "8",
}
KEPT = {"priority": "0", "opts": "{}", "atm": "3", "ats": "4", "stacktrace": '["x"]'}
READY = [("0", 0.0)]


def args(**more: Any) -> dict[str, Any]:
    return {"job_id": "1", "state": "failed", "reset_attempts_made": 0, "reset_attempts_started": 0, **more}


async def test_a_failed_job_goes_to_the_back_and_forgets_its_end(bench: Bench) -> None:
    await bench.seed({"failed": Zset({"1": 9, "2": 8}), "wait": ["3"], "1": FAILED})

    ran = await bench.run("retry_job", **args())

    assert ran.reply == 0
    assert ran.keys == {"failed": [("2", 8.0)], "wait": ["1", "3"], "marker": READY, "1": KEPT}
    assert ran.events == [{"event": "waiting", "jobId": "1", "prev": "failed"}]


async def test_a_completed_job_forgets_its_return_value(bench: Bench) -> None:
    await bench.seed({"completed": Zset({"1": 9}), "1": {"opts": "{}", "returnvalue": "1", "failedReason": "old"}})

    ran = await bench.run("retry_job", **args(state="completed"))

    assert ran.keys == {
        "completed": None,
        "wait": ["1"],
        "marker": READY,
        "1": {"opts": "{}", "failedReason": "old"},
    }
    assert ran.events == [{"event": "waiting", "jobId": "1", "prev": "completed"}]


async def test_counters_can_be_reset(bench: Bench) -> None:
    await bench.seed({"failed": Zset({"1": 9}), "1": {"name": "a", "atm": "3", "ats": "4"}})

    ran = await bench.run("retry_job", **args(reset_attempts_made=1, reset_attempts_started=1))

    assert ran.keys["1"] == {"name": "a"}


async def test_a_lifo_job_goes_to_the_front(bench: Bench) -> None:
    await bench.seed({"failed": Zset({"1": 9}), "wait": ["3"], "1": {"priority": "0", "opts": '{"lifo":true}'}})

    ran = await bench.run("retry_job", **args())

    assert ran.keys["wait"] == ["3", "1"]


async def test_a_priority_is_kept(bench: Bench) -> None:
    await bench.seed({"failed": Zset({"1": 9}), "1": {"priority": "2", "opts": '{"lifo":true}'}})

    ran = await bench.run("retry_job", **args())

    assert ran.keys["prioritized"] == [("1", 2 * 2**32 + 1)]


async def test_unreadable_options_do_not_hold_a_job_back(bench: Bench) -> None:
    await bench.seed({"failed": Zset({"1": 9}), "1": {"opts": "{", "name": "a"}})

    ran = await bench.run("retry_job", **args())

    assert ran.keys["wait"] == ["1"]


async def test_a_paused_queue_gets_no_marker(bench: Bench) -> None:
    await bench.seed({"failed": Zset({"1": 9}), "meta": {"paused": "1"}, "1": FAILED})

    ran = await bench.run("retry_job", **args())

    assert ran.keys == {"failed": None, "wait": ["1"], "1": KEPT}


#: state, keys of the parent before, keys of the parent after
SETTLED: list[tuple[str, str, Any, Any]] = [
    ("failed", "p:unsuccessful", Zset({"CHILD": 9}), None),
    ("failed", "p:failed", {"CHILD": "boom", "x": "y"}, {"x": "y"}),
    ("completed", "p:processed", {"CHILD": "1"}, None),
]


@pytest.mark.parametrize(("state", "key", "before", "after"), SETTLED, ids=[row[1] for row in SETTLED])
async def test_a_child_is_pending_again_for_its_parent(
    bench: Bench, state: str, key: str, before: dict[str, Any], after: Any
) -> None:
    child = f"{bench.base}1"
    before = type(before)({name.replace("CHILD", child): value for name, value in before.items()})
    await bench.seed({state: Zset({"1": 9}), "p": {"name": "p"}, key: before, "1": {"parentKey": f"{bench.base}p"}})

    ran = await bench.run("retry_job", **args(state=state))

    assert ran.keys == {
        state: None,
        "wait": ["1"],
        "marker": READY,
        key: after,
        "p:dependencies": [child],
    }


async def test_a_child_that_its_parent_does_not_know_stays_unknown_to_it(bench: Bench) -> None:
    await bench.seed({"failed": Zset({"1": 9}), "p": {"name": "p"}, "1": {"parentKey": f"{bench.base}p"}})

    ran = await bench.run("retry_job", **args())

    assert "p:dependencies" not in ran.keys


@pytest.mark.parametrize(("keys", "code"), [({}, -1), ({"1": {"name": "a"}, "completed": Zset({"1": 9})}, -3)])
async def test_a_job_in_another_state_is_left_alone(bench: Bench, keys: dict[str, Any], code: int) -> None:
    """E104."""
    await bench.seed(keys)

    ran = await bench.run("retry_job", **args())

    assert (ran.reply, ran.keys, ran.events) == (code, {}, [])
