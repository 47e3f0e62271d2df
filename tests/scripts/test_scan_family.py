"""scan_family.lua"""

from __future__ import annotations

import pytest

from tests.support.script_bench import Bench, Zset

pytestmark = pytest.mark.anyio


async def test_members_tell_whether_they_run_and_whose_children_they_have(bench: Bench) -> None:
    kinds = {"p:processed": {"a": "1"}, "p:dependencies": {"b"}, "p:unsuccessful": Zset(c=1), "p:failed": {"d": "why"}}
    await bench.seed({**kinds, "b:lock": "t"})

    ran = await bench.run("scan_family", [(f"{bench.base}p",), (f"{bench.base}b",)], limit=20)

    assert ran.reply == [
        [0, ["0", "a"], ["0", "b"], ["0", "c"], ["0", "d"]],
        [1, ["0"], ["0"], ["0"], ["0"]],
    ]
    assert ran.keys == {}
