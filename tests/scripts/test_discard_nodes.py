"""discard_nodes.lua"""

from __future__ import annotations

import pytest

from tests.support.flow_rows import Flow
from tests.support.script_bench import NOW, Bench
from tests.support.script_rows import stored

pytestmark = pytest.mark.anyio


async def test_only_nodes_that_this_add_has_stored_and_not_placed_go(bench: Bench) -> None:
    flow = Flow(bench)
    own, other = {"pyq:staged": f"{NOW}:f"}, {"pyq:staged": f"{NOW}:g"}
    hashes = {"p": stored(**own), "a": stored(**own), "b": stored(**other), "c": stored()}
    await bench.seed({**hashes, "p:dependencies": {flow.key("a")}, "live:dependencies": {flow.key("a"), flow.key("c")}})

    rows = [
        (bench.base, "p", ""),
        (bench.base, "a", flow.key("live")),
        (bench.base, "b", flow.key("p")),
        (bench.base, "c", flow.key("live")),
        (bench.base, "gone", ""),
    ]
    ran = await bench.run("discard_nodes", rows, flow="f")

    assert ran.reply == 2
    assert ran.keys == {"p": None, "a": None, "p:dependencies": None, "live:dependencies": [flow.key("c")]}
