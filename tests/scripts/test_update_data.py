"""update_data.lua"""

from __future__ import annotations

import pytest

from tests.support.script_bench import Bench

pytestmark = pytest.mark.anyio


async def test_it_replaces_the_data_text(bench: Bench) -> None:
    await bench.seed({"1": {"name": "a", "data": "{}"}})

    ran = await bench.run("update_data", job_id="1", data='{"a":[],"b":12345678901234567890}')

    assert ran.reply == 0
    assert ran.keys == {"1": {"name": "a", "data": '{"a":[],"b":12345678901234567890}'}}
    assert ran.events == []


async def test_a_missing_job_is_an_error(bench: Bench) -> None:
    ran = await bench.run("update_data", job_id="1", data="1")

    assert (ran.reply, ran.keys) == (-1, {})
