"""update_progress.lua"""

from __future__ import annotations

import pytest

from tests.support.script_bench import Bench

pytestmark = pytest.mark.anyio


async def test_it_stores_and_announces_the_text(bench: Bench) -> None:
    await bench.seed({"1": {"name": "a"}})

    ran = await bench.run("update_progress", job_id="1", progress='{"done":3}')

    assert ran.reply == 0
    assert ran.keys == {"1": {"name": "a", "progress": '{"done":3}'}}
    assert ran.events == [{"event": "progress", "jobId": "1", "data": '{"done":3}'}]


async def test_a_missing_job_is_an_error(bench: Bench) -> None:
    ran = await bench.run("update_progress", job_id="1", progress="1")

    assert (ran.reply, ran.keys, ran.events) == (-1, {}, [])


@pytest.mark.needs_server
async def test_the_stream_is_capped(bench: Bench, backend: str) -> None:
    """E53."""
    if backend == "fake":
        pytest.skip("fakeredis trims exactly, a server by whole nodes of about 100 entries")
    await bench.seed({"1": {"name": "a"}, "meta": {"opts.maxLenEvents": "1"}})
    for _ in range(250):
        await bench.client.xadd(f"{bench.base}events", {"event": "x"})

    await bench.run("update_progress", job_id="1", progress="1")

    assert await bench.client.xlen(f"{bench.base}events") < 150
