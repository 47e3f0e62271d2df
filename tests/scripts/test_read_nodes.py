"""read_nodes.lua"""

from __future__ import annotations

import pytest

from tests.support.script_bench import Bench, Zset

pytestmark = pytest.mark.anyio


async def test_jobs_come_with_the_keys_of_their_children(bench: Bench) -> None:
    kinds = {
        "p:processed": {"a": "1"},
        "p:dependencies": {"b"},
        "p:unsuccessful": Zset(c=1, d=2),
        "p:failed": {"e": "why"},
    }
    await bench.seed({"p": {"name": "p"}, **kinds})

    ran = await bench.run("read_nodes", [(f"{bench.base}p",), (f"{bench.base}gone",)], limit=20)

    assert ran.reply == [
        [["name", "p"], ["0", "a"], ["0", "b"], ["0", "c", "d"], ["0", "e"]],
        [[], ["0"], ["0"], ["0"], ["0"]],
    ]
    assert ran.keys == {}


async def test_without_a_limit_only_the_jobs_are_read(bench: Bench) -> None:
    await bench.seed({"p": {"name": "p"}, "p:dependencies": {"b"}})

    assert (await bench.run("read_nodes", [(f"{bench.base}p",)], limit=0)).reply == [[["name", "p"]]]


async def test_a_cursor_says_that_there_are_more(bench: Bench) -> None:
    many = {f"child-{i}" for i in range(2000)}
    kinds = {"p:dependencies": many, "p:unsuccessful": Zset(dict.fromkeys(sorted(many), 1))}
    await bench.seed({"p": {"name": "p"}, **kinds})

    _, _, pending, failed, _ = (await bench.run("read_nodes", [(f"{bench.base}p",)], limit=20)).reply[0]

    assert pending[0] != "0"
    assert set(pending[1:]) < many
    assert (failed[0], len(failed)) == ("20", 21)
