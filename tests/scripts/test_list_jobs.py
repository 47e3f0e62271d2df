"""list_jobs.lua"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.script_bench import Bench, Zset

pytestmark = pytest.mark.anyio

LISTS = ["wait", "paused", "active"]
SETS = ["prioritized", "delayed", "waiting_children", "completed", "failed"]

#: first, last -> the range in positions, what is at those positions (a is at 0)
RANGES: list[tuple[int, int, list[int], str]] = [
    (0, -1, [0, 3], "abcd"),
    (0, 1, [0, 1], "ab"),
    (1, 2, [1, 2], "bc"),
    (-2, -1, [2, 3], "cd"),
    (-99, 0, [0, 0], "a"),
    (2, 99, [2, 3], "cd"),
    (9, 12, [9, 8], ""),
    (2, 1, [2, 1], ""),
    (0, -99, [0, -1], ""),
]


def ids(reply: list[Any]) -> str:
    return "".join(reply[2::2])


@pytest.mark.parametrize(("first", "last", "resolved", "expected"), RANGES)
@pytest.mark.parametrize("oldest_first", [0, 1])
@pytest.mark.parametrize("place", ["wait", "completed"])
async def test_a_range_means_positions_from_either_end(
    bench: Bench, place: str, oldest_first: int, first: int, last: int, resolved: list[int], expected: str
) -> None:
    # In both kinds the oldest is served first: the tail of a list, the lowest score of a set.
    oldest_to_newest = "abcd" if oldest_first else "dcba"
    content = (
        list(reversed(oldest_to_newest)) if place == "wait" else Zset(zip(oldest_to_newest, range(4), strict=True))
    )
    await bench.seed({place: content})

    ran = await bench.run("list_jobs", place=place, first=first, last=last, oldest_first=oldest_first, limit=10)

    assert ran.reply[:2] == resolved
    assert ids(ran.reply) == expected
    assert (ran.keys, ran.events) == ({}, [])


@pytest.mark.parametrize("place", [*LISTS, *SETS])
async def test_every_place_can_be_listed_with_the_fields_of_its_jobs(bench: Bench, place: str) -> None:
    content = ["2", "1"] if place in LISTS else Zset({"1": 1, "2": 2})
    await bench.seed({place.replace("_", "-"): content, "1": {"name": "a"}})

    ran = await bench.run("list_jobs", place=place, first=0, last=-1, oldest_first=1, limit=10)

    assert ran.reply == [0, 1, "1", ["name", "a"], "2", []]


async def test_a_page_ends_at_the_limit(bench: Bench) -> None:
    await bench.seed(wait=["d", "c", "b", "a"])

    ran = await bench.run("list_jobs", place="wait", first=0, last=-1, oldest_first=1, limit=3)

    assert ran.reply[:2] == [0, 3]
    assert ids(ran.reply) == "abc"


async def test_an_empty_place_has_no_range(bench: Bench) -> None:
    ran = await bench.run("list_jobs", place="wait", first=0, last=-1, oldest_first=1, limit=3)

    assert ran.reply == [0, -1]
