"""scan_jobs.lua"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.script_bench import Bench, Zset

pytestmark = pytest.mark.anyio


async def page(bench: Bench, place: str, anchor: str = "", cursor: str = "", limit: int = 2) -> tuple[str, str]:
    """(cursor, ids) of one page, which must not write anything."""
    ran = await bench.run("scan_jobs", place=place, anchor=anchor, cursor=cursor, limit=limit)
    assert (ran.keys, ran.events) == ({}, [])
    return ran.reply[0], "".join(ran.reply[1::2])


@pytest.mark.parametrize("content", [list("abcde"), Zset(a=1, b=1, c=1, d=2, e=3)], ids=["list", "set"])
async def test_pages_follow_each_other(bench: Bench, content: Any) -> None:
    place = "wait" if isinstance(content, list) else "failed"
    await bench.seed({place: content})

    cursor, first = await page(bench, place)
    cursor, second = await page(bench, place, "b", cursor)
    _, third = await page(bench, place, "d", cursor)

    assert (first, second, third) == ("ab", "cd", "e")


async def test_a_page_has_the_fields_of_its_jobs(bench: Bench) -> None:
    await bench.seed({"failed": Zset({"1": 7, "2": 8}), "1": {"name": "a"}})

    ran = await bench.run("scan_jobs", place="failed", anchor="", cursor="", limit=10)

    assert ran.reply == ["8", "1", ["name", "a"], "2", []]


async def test_a_set_whose_seen_jobs_are_removed_goes_on_with_the_next(bench: Bench) -> None:
    await bench.seed(failed=Zset(a=1, b=1, c=1, d=2, e=3))

    cursor, _ = await page(bench, "failed")
    await bench.client.zrem(f"{bench.base}failed", "a", "b")
    _, second = await page(bench, "failed", "b", cursor)

    assert second == "cd"


async def test_a_set_whose_last_seen_job_moved_repeats_its_score(bench: Bench) -> None:
    await bench.seed(failed=Zset(a=1, b=1, c=1, d=2, e=3))

    cursor, _ = await page(bench, "failed")
    await bench.client.zadd(f"{bench.base}failed", {"b": 9})
    _, second = await page(bench, "failed", "b", cursor)

    assert second == "ac"


async def test_a_list_that_grows_at_its_head_goes_on_with_the_next(bench: Bench) -> None:
    await bench.seed(wait=list("abcde"))

    cursor, _ = await page(bench, "wait")
    await bench.client.lpush(f"{bench.base}wait", *"vwxyz")
    _, second = await page(bench, "wait", "b", cursor)

    assert second == "cd"


async def test_a_list_whose_seen_jobs_are_removed_goes_on_with_the_next(bench: Bench) -> None:
    await bench.seed(wait=list("abcde"))

    cursor, _ = await page(bench, "wait")
    await bench.client.lpop(f"{bench.base}wait", 2)
    _, second = await page(bench, "wait", "b", cursor)

    assert second == "cd"


@pytest.mark.parametrize("change", ["rpop", "rpush"])
async def test_a_list_that_changes_at_its_tail_is_found_again_by_its_anchor(bench: Bench, change: str) -> None:
    await bench.seed(wait=list("abcdef"))

    cursor, _ = await page(bench, "wait")
    if change == "rpop":
        await bench.client.rpop(f"{bench.base}wait", 2)
    else:
        await bench.client.rpush(f"{bench.base}wait", "y", "z")
    _, second = await page(bench, "wait", "b", cursor)

    assert second == "cd"


async def test_an_empty_place_ends_at_once(bench: Bench) -> None:
    assert (await page(bench, "wait"))[1] == ""
    assert (await page(bench, "failed"))[1] == ""
