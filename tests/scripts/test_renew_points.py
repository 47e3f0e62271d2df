"""renew_points.lua"""

from __future__ import annotations

import pytest

from tests.support.script_bench import NOW, Bench

pytestmark = pytest.mark.anyio

NOW_US = NOW * 1000


def ago(*milliseconds: float) -> list[str]:
    """Entries so long ago, oldest first."""
    return [str(NOW_US - round(ms * 1000)) for ms in milliseconds]


#: what, entries before, the one that is renewed, points, entries after
CASES: list[tuple[str, list[str], float, int, list[str]]] = [
    ("the oldest becomes the newest", ago(900, 20, 10), 900, 1, ago(20, 10, 0)),
    ("of equal ones only as many as points", ago(900, 900, 10), 900, 1, ago(900, 10, 0)),
    ("several at once", ago(900, 900, 10), 900, 2, ago(10, 0, 0)),
    ("one that has been trimmed is made again", ago(20, 10), 5000, 1, ago(20, 10, 0)),
    ("but never more than the limit", ago(30, 20, 10), 5000, 1, ago(20, 10, 0)),
    ("one whose key has run out is made again", [], 5000, 1, ago(0)),
    ("a clock that was set back goes on from the newest", ago(20, -5), 20, 1, ago(-5, -5)),
]


@pytest.mark.parametrize(
    ("before", "renewed", "points", "after"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
async def test_points_count_from_now_on(
    bench: Bench, before: list[str], renewed: float, points: int, after: list[str]
) -> None:
    await bench.seed({"limiter": before} if before else {})

    ran = await bench.run("renew_points", entry=ago(renewed)[0], points=points, max_points=3, duration_ms=1000)

    assert (ran.reply, ran.keys, ran.events) == (after[-1], {"limiter": after}, [])
    assert 0 < await bench.client.pttl(f"{bench.base}limiter") <= 1006
