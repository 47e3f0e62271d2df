"""obliterate.lua"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.keyspace import dump
from tests.support.script_bench import Bench, Zset

pytestmark = pytest.mark.anyio

JOB = {"name": "a"}
PAUSED = {"meta": {"paused": "1"}}


def everything() -> dict[str, Any]:
    return {
        "meta": {"paused": "1", "version": "x"},
        "active": ["1"],
        "1:lock": "t",
        "delayed": Zset({"2": 1}),
        "repeat": Zset({"s": 500}),
        "repeat:s": {"ic": "1"},
        "completed": Zset({"3": 1}),
        "wait": ["repeat:s:500", "4"],
        "paused": ["5"],
        "prioritized": Zset({"6": 1}),
        "failed": Zset({"7": 1}),
        "7:logs": ["x"],
        "id": "7",
        "pc": "1",
        "marker": Zset({"0": 0}),
        "stalled": {"1"},
        "stalled-check": "1",
        "delay": "old",
        "metrics:completed": {"count": "1"},
        "metrics:completed:data": ["1"],
        "metrics:failed": {"count": "1"},
        "metrics:failed:data": ["1"],
        **dict.fromkeys(["1", "2", "3", "4", "5", "6", "7", "repeat:s:500"], JOB),
    }


async def test_nothing_is_left(bench: Bench) -> None:
    await bench.seed(everything())
    await bench.client.xadd(f"{bench.base}events", {"event": "x"})

    ran = await bench.run("obliterate", force=1, limit=100)

    assert ran.reply == [0, 9]  # eight jobs and a scheduler
    assert await dump(bench.client, bench.base) == {}


async def test_a_slice_removes_as_many_as_it_may_and_goes_on_later(bench: Bench) -> None:
    await bench.seed(everything())

    first = await bench.run("obliterate", force=1, limit=2)

    assert first.reply == [1, 2]
    assert first.keys == {"active": None, "1": None, "1:lock": None, "delayed": None, "2": None}
    replies = [(await bench.run("obliterate", force=1, limit=2)).reply for _ in range(4)]
    assert replies == [[1, 2], [1, 2], [1, 2], [0, 1]]
    assert await dump(bench.client, bench.base) == {}


async def test_what_upstream_leaves_is_left(bench: Bench) -> None:
    kept = {"waiting-children": Zset({"p": 1}), "p": JOB, "limiter": "1", "de:d": "9"}
    await bench.seed({**PAUSED, **kept})

    await bench.run("obliterate", force=0, limit=100)

    assert set(await dump(bench.client, bench.base)) == set(kept)


@pytest.mark.parametrize(
    ("keys", "force", "code"), [({"wait": ["1"]}, 1, -1), ({**PAUSED, "active": ["1"], "wait": ["2"]}, 0, -2)]
)
async def test_it_is_refused(bench: Bench, keys: dict[str, Any], force: int, code: int) -> None:
    await bench.seed({**keys, "1": JOB})

    ran = await bench.run("obliterate", force=force, limit=100)

    assert (ran.reply, ran.keys, ran.events) == ([code, 0], {}, [])
