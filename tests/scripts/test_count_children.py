"""count_children.lua"""

from __future__ import annotations

import pytest

from tests.support.script_bench import Bench, Zset

pytestmark = pytest.mark.anyio


async def test_children_are_counted_by_what_became_of_them(bench: Bench) -> None:
    kinds = {
        "p:processed": {"a": "1", "b": "2"},
        "p:dependencies": {"c"},
        "p:unsuccessful": Zset(d=1, e=1, f=1),
        "p:failed": {"g": "why", "h": "why", "i": "why", "j": "why"},
    }
    await bench.seed(kinds)

    assert (await bench.run("count_children", job_id="p")).reply == [2, 1, 3, 4]
    assert (await bench.run("count_children", job_id="gone")).reply == [0, 0, 0, 0]
