"""consume_points.lua"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.script_bench import NOW, Bench

pytestmark = pytest.mark.anyio

NOW_US = NOW * 1000
WINDOW_MS = 1000


def ago(*milliseconds: float) -> list[str]:
    """Entries so long ago, oldest first."""
    return [str(NOW_US - round(ms * 1000)) for ms in milliseconds]


async def consume(bench: Bench, points: int = 1, max_points: int = 3) -> Any:
    return await bench.run("consume_points", points=points, max_points=max_points, duration_ms=WINDOW_MS)


#: what, entries before, points, wait, entries after (None: untouched)
CASES: list[tuple[str, list[str], int, int, list[str] | None]] = [
    ("an empty window", [], 1, 0, ago(0)),
    ("several points are as many entries", [], 3, 0, ago(0, 0, 0)),
    ("room for one more", ago(900, 10), 1, 0, ago(900, 10, 0)),
    ("a full window waits for its oldest entry", ago(900, 20, 10), 1, 100, None),
    ("two points wait for the second oldest", ago(900, 20, 10), 2, 980, None),
    ("all points wait for the newest", ago(900, 20, 10), 3, 990, None),
    ("two points do not fit where one would", ago(900, 10), 2, 100, None),
    ("a part of a millisecond is waited for whole", ago(999.999, 20, 10), 1, 1, None),
    ("the window is over exactly after its length", ago(1000, 20, 10), 1, 0, ago(20, 10, 0)),
    ("old entries beyond the limit go", ago(5000, 4000, 3000), 2, 0, ago(3000, 0, 0)),
    ("a clock that was set back a little goes on from the newest", ago(-1, -2, -5), 1, 1001, None),
    ("and fills the window there", ago(-1, -5), 1, 0, ago(-1, -5, -5)),
]


@pytest.mark.parametrize(
    ("before", "points", "wait", "after"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
async def test_points_are_consumed_or_the_wait_is_told(
    bench: Bench, before: list[str], points: int, wait: int, after: list[str] | None
) -> None:
    await bench.seed({"limiter": before} if before else {})

    ran = await consume(bench, points)

    entry = after[-1] if after is not None else ""
    assert (ran.reply, ran.keys, ran.events) == ([wait, entry], {} if after is None else {"limiter": after}, [])


async def test_a_clock_that_was_set_back_by_more_than_a_window_counts_everything_known_as_consumed_now(
    bench: Bench,
) -> None:
    await bench.seed({"limiter": ago(-3_600_000, -3_600_001)})

    ran = await consume(bench)

    assert (ran.reply, ran.keys) == ([0, *ago(0)], {"limiter": ago(0, 0, 0)})
    assert (await consume(bench)).reply == [WINDOW_MS, ""]


async def test_the_key_runs_out_when_its_last_entry_has_left_the_window(bench: Bench) -> None:
    await consume(bench)

    assert WINDOW_MS - 500 < await bench.client.pttl(f"{bench.base}limiter") <= WINDOW_MS + 1


async def test_more_points_than_fit_into_one_command_are_consumed(bench: Bench) -> None:
    ran = await consume(bench, points=10_000, max_points=10_000)

    assert ran.reply == [0, *ago(0)]
    assert ran.keys["limiter"] == ago(0) * 10_000
