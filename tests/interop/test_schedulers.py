"""Schedulers that both languages define and work: the same slots to the millisecond, each run once."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import pytest

from tests.interop.conftest import Pair
from tests.interop.sides import Side
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.needs_server, pytest.mark.needs_node]

HOUR_MS = 3_600_000
TICK_MS = 1000
#: Far enough away that no slot passes while a test runs.
START_MS = (int(time.time()) // 86_400 + 2) * 86_400_000

RULES: list[dict[str, Any]] = [
    {"every": HOUR_MS, "startDate": START_MS},
    {"every": 7 * HOUR_MS + 1, "startDate": START_MS + 1, "limit": 5},
    {"every": 24 * HOUR_MS, "offset": 12_345, "endDate": START_MS + 1000 * HOUR_MS},
    {"pattern": "0 3 * * *", "tz": "Europe/Berlin"},
    {"pattern": "30 2 * * *", "tz": "America/New_York"},
    {"pattern": "15 10 1 * *", "tz": "Asia/Kolkata"},
    {"pattern": "0 0 29 2 *", "tz": "UTC"},
    {"pattern": "7 */6 * * 1-5", "tz": "Australia/Sydney", "startDate": START_MS},
    {"pattern": "20 15 14 L * *", "tz": "America/Sao_Paulo"},
    {"pattern": "0 9 * * 5#2", "tz": "Europe/London", "limit": 9},
    {"pattern": "0 12 1,15 jan,jul mon", "tz": "UTC"},
    {"pattern": "@weekly", "tz": "Pacific/Auckland", "endDate": START_MS + 100_000 * HOUR_MS},
]


async def stored(side: Side, scheduler_id: str, queue: str) -> dict[str, Any]:
    """A scheduler that must exist."""
    found = await side.scheduler(scheduler_id, queue)
    assert found is not None, f"no scheduler {scheduler_id}"
    return found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule.get("pattern", f"every {rule.get('every')}")))
async def test_both_compute_the_same_slots(cross: Pair, rule: dict[str, Any]) -> None:
    """Each side defines the scheduler in a queue of its own; the other one works it, run by run."""
    template = {"name": "echo", "data": {"a": ["ü", 1.5]}, "opts": {"attempts": 3, "removeOnComplete": True}}
    pending: dict[str, str] = {}
    for side, worker in (cross, (cross.other, cross.first)):
        queue = f"by-{side.language}"
        pending[queue] = await side.schedule("nightly", rule, template, queue)
        await worker.work(queue)

    runs = 3
    for run in range(1, runs + 1):
        seen = [await stored(side, "nightly", queue) for side in cross for queue in pending]
        assert all(one == seen[0] for one in seen)
        assert seen[0]["iterationCount"] == run
        assert {"name": seen[0]["name"], "data": seen[0]["data"], "opts": seen[0]["opts"]} == template
        for queue, job_id in pending.items():
            assert job_id == f"repeat:nightly:{seen[0]['next']}"
            pending[queue] = await next_job(cross.first, queue, job_id)


async def next_job(side: Side, queue: str, job_id: str) -> str:
    """Let the pending job run now; the id of the one that follows."""
    await side.promote(job_id, queue)

    async def following() -> list[str]:
        ids = await side.ids("delayed", queue)
        return ids if ids != [job_id] else []

    ids = await wait_until(following)
    assert len(ids) == 1
    return str(ids[0])


async def test_a_pending_job_is_read_alike(cross: Pair) -> None:
    first, other = cross
    job_id = await first.schedule(
        "s", {"every": HOUR_MS, "startDate": START_MS, "limit": 3}, {"name": "echo", "data": 1, "opts": {"priority": 4}}
    )

    views = [await side.look(job_id) for side in cross]

    assert views[0] is not None
    assert views[1] is not None
    assert (views[0].name, views[0].data, views[0].state, views[0].scheduler_id) == ("echo", 1, "delayed", "s")
    assert (views[0].name, views[0].data, views[0].state, views[0].delay, views[0].scheduler_id) == (
        views[1].name, views[1].data, views[1].state, views[1].delay, views[1].scheduler_id
    )  # fmt: skip
    assert views[0].priority == views[1].priority == 4
    assert await other.ids("delayed") == [job_id]


async def test_a_scheduler_is_changed_and_removed_by_the_other_side(cross: Pair) -> None:
    first, other = cross
    await first.schedule("s", {"every": HOUR_MS, "startDate": START_MS}, {"name": "old"})

    changed = await other.schedule("s", {"pattern": "0 4 * * *", "tz": "UTC"}, {"name": "new", "data": {"n": 1}})

    assert await first.ids("delayed") == [changed]
    found = await stored(first, "s", "q")
    assert (found["name"], found["pattern"], found.get("every"), found["data"]) == ("new", "0 4 * * *", None, {"n": 1})
    await other.unschedule("s")
    assert await first.scheduler("s") is None
    assert await first.ids("delayed") == []


async def test_every_slot_runs_once_while_both_define_and_work_the_schedulers(cross: Pair) -> None:
    """A slot is passed over only if the worker took the one before it when the next one was due already."""
    rules: dict[str, dict[str, Any]] = {
        "tick": {"every": TICK_MS},
        "tock": {"pattern": "* * * * * *", "tz": "Europe/Berlin"},
    }
    await cross.first.listen()
    for side in cross:
        await side.work(concurrency=3, name=side.language)
    for side in (*cross, *cross):  # as two instances of a service do at their start
        for scheduler_id, rule in rules.items():
            await side.schedule(scheduler_id, rule, {"name": "echo"})

    await wait_until(lambda: _has_completed(cross.other, 8), 15)

    for scheduler_id in rules:
        await cross.other.unschedule(scheduler_id)
        runs = [event.job_id for event in cross.first.heard() if event.name == "active"]
        starts = {job_id: runs.count(job_id) for job_id in runs if job_id.startswith(f"repeat:{scheduler_id}:")}
        assert set(starts.values()) == {1}
        slots = sorted(int(job_id.rpartition(":")[2]) for job_id in starts)
        assert {(slot - slots[0]) % TICK_MS for slot in slots} == {0}
        for slot, following in pairwise(slots):
            view = await cross.first.look(f"repeat:{scheduler_id}:{slot}")
            assert view is not None
            assert following == slot + TICK_MS or (view.processed_on or 0) >= slot + TICK_MS


async def _has_completed(side: Side, count: int) -> bool:
    return (await side.counts())["completed"] >= count
