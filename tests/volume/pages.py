"""Listing and counting: what one call costs Redis, with few jobs and with very many."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from pyqueue import JobState
from tests.volume.bed import Bed
from tests.volume.slow_log import SlowLog

#: Calls per figure; the tenth that is quickest counts.
_CALLS: Final = 60
_PAGE: Final = 100
_ROUNDS: Final = 6
#: How much more a page may cost with very many jobs: what a walk over a list's nodes to its middle takes.
ALLOWED: Final = 1.5


class Page(NamedTuple):
    """One kind of call: microseconds of Redis' time, with few and with many jobs."""

    what: str
    few_us: int
    many_us: int

    @property
    def problems(self) -> list[str]:
        """What is wrong."""
        ratio = self.many_us / max(self.few_us, 1)
        return [f"costs {ratio:.2f} times as much"] if ratio > ALLOWED else []

    def lowest(self, other: Page) -> Page:
        """Of two measurements."""
        return Page(self.what, min(self.few_us, other.few_us), min(self.many_us, other.many_us))


_Call = Callable[[Bed, int], Awaitable[Any]]


async def measure_pages(bed: Bed, few: int, many: int) -> list[Page]:
    """All kinds of calls, on sorted sets and on lists.

    Again where a busy machine has disturbed a figure; the lowest of each counts, because nothing makes one too low.
    """
    pages: list[Page] = []
    for place, state in (("completed", JobState.COMPLETED), ("wait", JobState.WAITING)):
        found = await _pages(bed, place, state, few, many)
        for _ in range(_ROUNDS - 1):
            if not any(page.problems for page in found):
                break
            again = await _pages(bed, place, state, few, many)
            found = [page.lowest(other) for page, other in zip(found, again, strict=True)]
        pages += found
    return pages


async def _pages(bed: Bed, place: str, state: JobState, few: int, many: int) -> list[Page]:
    figures = [await _figures(bed, place, state, jobs) for jobs in (few, many)]
    return [Page(f"{name}, {state.value}", figures[0][name], figures[1][name]) for name in figures[0]]


async def _figures(bed: Bed, place: str, state: JobState, jobs: int) -> dict[str, int]:
    bed.seed(place, jobs)
    view = bed.queue.jobs
    calls: dict[str, _Call] = {
        "counts()": lambda _bed, _n: view.counts(),
        "list, first page": lambda _bed, _n: view.list(state, 0, _PAGE - 1),
        "list, oldest page": lambda _bed, _n: view.list(state, 0, _PAGE - 1, asc=True),
        "list, page in the middle": lambda _bed, n: view.list(state, n // 2, n // 2 + _PAGE - 1),
        "iterate, first page": lambda _bed, _n: _first(bed, state),
    }
    return {name: await _low_us(bed, call, jobs) for name, call in calls.items()}


async def _first(bed: Bed, state: JobState) -> None:
    async for _ in bed.queue.jobs.iterate(state):
        return


async def _low_us(bed: Bed, call: _Call, jobs: int) -> int:
    log = SlowLog(bed.client)
    await call(bed, jobs)
    log.start()
    for _ in range(_CALLS):
        await call(bed, jobs)
    return log.read().low_us
