"""add_log.lua"""

from __future__ import annotations

import pytest

from tests.support.script_bench import Bench

pytestmark = pytest.mark.anyio


async def test_it_appends_a_row(bench: Bench) -> None:
    await bench.seed({"1": {"name": "a"}, "1:logs": ["one"]})

    ran = await bench.run("add_log", job_id="1", row="two", keep=0)

    assert ran.reply == 2
    assert ran.keys == {"1:logs": ["one", "two"]}
    assert ran.events == []


async def test_it_keeps_the_newest_rows(bench: Bench) -> None:
    await bench.seed({"1": {"name": "a"}, "1:logs": ["one", "two", "three"]})

    ran = await bench.run("add_log", job_id="1", row="four", keep=2)

    assert ran.reply == 2
    assert ran.keys == {"1:logs": ["three", "four"]}


async def test_a_missing_job_is_an_error(bench: Bench) -> None:
    ran = await bench.run("add_log", job_id="1", row="x", keep=0)

    assert (ran.reply, ran.keys) == (-1, {})
