"""Limits of a queue that one side sets hold for the workers of both."""

from __future__ import annotations

import itertools
import math
from typing import Any, Final

import pytest

from pyqueue import RateLimit
from pyqueue.views.limits import CurrentLimits
from tests.interop.conftest import Pair
from tests.interop.sides import NodeSide, PythonSide, Side
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.needs_server, pytest.mark.needs_node]


#: The time of a script and the expiry of a key are whole milliseconds, for each window.
_ROUNDING_MS: Final = 10


async def start_both(cross: Pair, jobs: int, duration_ms: int, **options: Any) -> None:
    """A worker of each side, and jobs from each."""
    await cross.other.listen()
    for side in cross:
        await side.add_many([{"name": "sleep", "data": duration_ms}] * (jobs // 2))
    for side in cross:
        await side.work(**{"concurrency": 5, "name": side.language, **options})


async def until_completed(side: Side, count: int) -> None:
    """Wait until so many jobs were heard to be completed."""
    await wait_until(lambda: sum(event.name == "completed" for event in side.heard()) == count)


async def test_a_global_concurrency_holds_over_both(cross: Pair) -> None:
    """Neither worker alone could use it up: the one that began would keep all of it."""
    await cross.first.set_concurrency(3)

    await start_both(cross, 40, 20, concurrency=2)
    await until_completed(cross.other, 40)

    steps = [{"active": 1, "completed": -1}.get(event.name, 0) for event in cross.other.heard()]
    assert max(itertools.accumulate(steps)) == 3
    views = [await cross.first.look(job_id) for job_id in await cross.first.ids("completed")]
    assert {view.processed_by for view in views if view is not None} == {"node", "python"}, "one of them had nothing"


async def test_a_global_rate_limit_holds_over_both(cross: Pair) -> None:
    """Windows begin with their first job: as many as two of them may start within the length of one."""
    maximum, duration_ms, jobs = 5, 300, 30
    await cross.first.set_rate(maximum, duration_ms)

    await start_both(cross, jobs, 1)
    await until_completed(cross.other, jobs)

    views = [await cross.first.look(job_id) for job_id in await cross.first.ids("completed")]
    starts = sorted(view.processed_on or 0 for view in views if view is not None)
    assert starts[-1] - starts[0] >= (math.ceil(jobs / maximum) - 1) * duration_ms - _ROUNDING_MS
    for begin in starts:
        assert sum(begin <= start < begin + duration_ms for start in starts) <= 2 * maximum


async def test_a_rate_limit_of_the_workers_is_shared(cross: Pair) -> None:
    maximum, duration_ms, jobs = 5, 300, 20

    await start_both(cross, jobs, 1, limiter={"max": maximum, "duration": duration_ms})
    await until_completed(cross.other, jobs)

    views = [await cross.first.look(job_id) for job_id in await cross.first.ids("completed")]
    starts = sorted(view.processed_on or 0 for view in views if view is not None)
    assert starts[-1] - starts[0] >= (math.ceil(jobs / maximum) - 1) * duration_ms - _ROUNDING_MS


async def test_limits_are_read_as_the_other_side_set_them(node: NodeSide, python: PythonSide) -> None:
    limits = python.queue().limits
    await node.set_concurrency(7)
    await node.set_rate(100, 5000)
    assert await limits.get() == CurrentLimits(7, RateLimit(max=100, duration=5000))

    await limits.set_concurrency(2)
    await limits.set_rate(10, 1000)
    assert await node.queue_call("getGlobalConcurrency") == 2
    assert await node.queue_call("getGlobalRateLimit") == {"max": 10, "duration": 1000}

    await limits.remove_concurrency()
    await limits.remove_rate()
    assert await node.queue_call("getGlobalConcurrency") is None
    assert await node.queue_call("getGlobalRateLimit") is None


async def test_a_queue_that_one_side_closes_for_a_while_opens_for_both(cross: Pair, node: NodeSide) -> None:
    await cross.first.set_rate(1000, 1000)
    await node.queue_call("rateLimit", 2000)

    await start_both(cross, 10, 1)
    await until_completed(cross.other, 10)

    views = [await cross.first.look(job_id) for job_id in await cross.first.ids("completed")]
    starts = [view.processed_on or 0 for view in views if view is not None]
    added = [view.timestamp for view in views if view is not None]
    assert min(starts) - min(added) >= 1000, "closed before the first job was added, for 2 s"
