"""change_priority.lua"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.script_bench import Bench, Zset

pytestmark = pytest.mark.anyio

READY = [("0", 0.0)]
LINE = 2**32

#: what, keys before, arguments, keys written
MOVES: list[tuple[str, dict[str, Any], dict[str, int], dict[str, Any]]] = [
    (
        "wait to prioritized",
        {"wait": ["2", "1"], "1": {"priority": "0"}},
        {"priority": 3, "lifo": 0},
        {"wait": ["2"], "prioritized": [("1", 3 * LINE + 1)], "pc": "1", "marker": READY, "1": {"priority": "3"}},
    ),
    (
        "prioritized to wait",
        {"prioritized": Zset({"1": 3 * LINE}), "wait": ["2"], "1": {"priority": "3"}},
        {"priority": 0, "lifo": 0},
        {"wait": ["1", "2"], "prioritized": None, "marker": READY, "1": {"priority": "0"}},
    ),
    (
        "prioritized to the front of wait",
        {"prioritized": Zset({"1": 3 * LINE}), "wait": ["2"], "1": {"priority": "3"}},
        {"priority": 0, "lifo": 1},
        {"wait": ["2", "1"], "prioritized": None, "marker": READY, "1": {"priority": "0"}},
    ),
    (
        "to the front of another line, without a marker",
        {"prioritized": Zset({"1": 3 * LINE, "2": 5 * LINE + 7}), "pc": "8", "1": {"priority": "3"}},
        {"priority": 5, "lifo": 1},
        {"prioritized": [("1", 5 * LINE), ("2", 5 * LINE + 7)], "1": {"priority": "5"}},
    ),
    (
        "on a paused queue, without a marker",
        {"wait": ["1"], "meta": {"paused": "1"}, "1": {"priority": "0"}},
        {"priority": 3, "lifo": 0},
        {"wait": None, "prioritized": [("1", 3 * LINE + 1)], "pc": "1", "1": {"priority": "3"}},
    ),
    (
        "delayed: only the field",
        {"delayed": Zset({"1": 9}), "1": {"priority": "0"}},
        {"priority": 3, "lifo": 0},
        {"1": {"priority": "3"}},
    ),
    (
        "active: only the field",
        {"active": ["1"], "1": {"priority": "0"}},
        {"priority": 3, "lifo": 0},
        {"1": {"priority": "3"}},
    ),
    (
        "completed: only the field",
        {"completed": Zset({"1": 9}), "1": {"priority": "0"}},
        {"priority": 3, "lifo": 1},
        {"1": {"priority": "3"}},
    ),
]


@pytest.mark.parametrize(("keys", "args", "written"), [move[1:] for move in MOVES], ids=[move[0] for move in MOVES])
async def test_it_moves_a_ready_job(
    bench: Bench, keys: dict[str, Any], args: dict[str, int], written: dict[str, Any]
) -> None:
    await bench.seed(keys)

    ran = await bench.run("change_priority", job_id="1", **args)

    assert ran.reply == 0
    assert ran.keys == written
    assert ran.events == []


async def test_a_missing_job_is_an_error(bench: Bench) -> None:
    ran = await bench.run("change_priority", job_id="1", priority=3, lifo=0)

    assert (ran.reply, ran.keys, ran.events) == (-1, {}, [])
