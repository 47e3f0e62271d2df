"""remove_deduplication_key.lua"""

from __future__ import annotations

import pytest

from tests.support.script_bench import Bench

pytestmark = pytest.mark.anyio


async def test_the_owner_gives_it_up(bench: Bench) -> None:
    await bench.seed({"de:d": "1", "dn:d": {"name": "next"}})

    ran = await bench.run("remove_deduplication_key", deduplication_id="d", job_id="1")

    assert ran.reply == 1
    assert ran.keys == {"de:d": None}


@pytest.mark.parametrize("keys", [{}, {"de:d": "2"}])
async def test_another_owner_keeps_it(bench: Bench, keys: dict[str, str]) -> None:
    await bench.seed(keys)

    ran = await bench.run("remove_deduplication_key", deduplication_id="d", job_id="1")

    assert (ran.reply, ran.keys) == (0, {})
