"""get_logs.lua"""

from __future__ import annotations

import pytest

from tests.support.script_bench import Bench

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("first", "last", "rows"),
    [(0, -1, ["a", "b", "c"]), (1, 1, ["b"]), (-2, -1, ["b", "c"]), (5, 9, [])],
)
async def test_it_reads_a_range_and_the_length(bench: Bench, first: int, last: int, rows: list[str]) -> None:
    await bench.seed({"1:logs": ["a", "b", "c"]})

    ran = await bench.run("get_logs", job_id="1", first=first, last=last)

    assert ran.reply == [3, *rows]
    assert (ran.keys, ran.events) == ({}, [])


async def test_a_job_without_a_log_has_no_rows(bench: Bench) -> None:
    assert (await bench.run("get_logs", job_id="1", first=0, last=-1)).reply == [0]
