"""is_finished.lua"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.script_bench import Bench, Zset

pytestmark = pytest.mark.anyio

CASES: list[tuple[str, dict[str, Any], list[Any]]] = [
    ("missing", {}, [-1]),
    ("waiting", {"1": {"name": "a"}, "wait": ["1"]}, [0]),
    ("completed", {"1": {"returnvalue": '{"a":1}'}, "completed": Zset({"1": 5})}, [1, '{"a":1}']),
    ("completed without value", {"1": {"name": "a"}, "completed": Zset({"1": 5})}, [1, "null"]),
    ("failed", {"1": {"failedReason": "boom"}, "failed": Zset({"1": 5})}, [2, "boom"]),
    ("failed without reason", {"1": {"name": "a"}, "failed": Zset({"1": 5})}, [2, ""]),
]


@pytest.mark.parametrize(("keys", "reply"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
async def test_it_says_how_the_job_ended(bench: Bench, keys: dict[str, Any], reply: list[Any]) -> None:
    await bench.seed(keys)

    ran = await bench.run("is_finished", job_id="1")

    assert ran.reply == reply
    assert (ran.keys, ran.events) == ({}, [])
