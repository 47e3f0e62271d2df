"""Schedules under fire: many short intervals, few workers, and one of them killed again and again."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Final

import anyio

from pyqueue import JobState
from tests.chaos.report import Bar, Report, audit, nothing_lost
from tests.chaos.stage import Stage, set_up
from tests.chaos.worker_process import LOCK_MS

EVERY_MS: Final = 100
SCHEDULERS: Final = 20
WORKERS: Final = 3


async def kill_schedules(directory: Path, full: bool) -> Report:
    """20 schedulers with a slot each 100 ms on 3 workers; kill -9 of one, replaced at once, every 3 s."""
    seconds, pause_s = (30.0, 3.0) if full else (8.0, 2.0)
    async with set_up(directory, concurrency=8, max_stalled_count=5) as stage:
        await stage.crew.assemble(WORKERS)
        for number in range(SCHEDULERS):
            await stage.queue.schedulers.upsert(f"s{number}", every=EVERY_MS, name="work", data=0)
        kills, end = 0, time.monotonic() + seconds
        while time.monotonic() + pause_s < end:
            await anyio.sleep(pause_s)
            stage.crew.kill_one()
            stage.crew.hire()
            kills += 1
        await anyio.sleep(end - time.monotonic())
        alive = [one.next for one in await stage.queue.schedulers.list()]
        for number in range(SCHEDULERS):
            await stage.queue.schedulers.remove(f"s{number}")
        await stage.until_done(15)
        slots = await _slots(stage)
        stage.acknowledged += [f"repeat:{name}:{slot}" for name, found in slots.items() for slot, _ in found]
        found = audit(stage)
        wrong, passed_over, longest_ms = _judge(slots)
        bars = [
            *nothing_lost(found),
            Bar("every schedule goes on", len(alive) == SCHEDULERS and len(slots) == SCHEDULERS),
            Bar("one job per slot, the next slot after each", not wrong),
            Bar(f"no schedule stands still until a lock runs out (longest {longest_ms} ms)", longest_ms < LOCK_MS),
            Bar("reruns only after a lost lock", not found.unexcused),
            Bar(f"slots over before their turn, because a job was taken late: {passed_over}", True),
        ]
        return Report("kill -9, schedules", len(stage.acknowledged), kills, found, bars)


async def _slots(stage: Stage) -> dict[str, list[tuple[int, int]]]:
    """Per scheduler: its slots in order, and when the job of each was created."""
    slots: dict[str, list[tuple[int, int]]] = {}
    async for job in stage.queue.jobs.iterate(JobState.COMPLETED):
        _, name, slot = job.id.split(":")
        slots.setdefault(name, []).append((int(slot), job.timestamp))
    return {name: sorted(found) for name, found in slots.items()}


def _judge(slots: dict[str, list[tuple[int, int]]]) -> tuple[int, int, int]:
    """Jobs in another slot than the next one that was not over when they were made, how many slots were over because
    their job was taken late, and the longest time between two slots."""
    wrong = passed_over = longest_ms = 0
    for found in slots.values():
        for (before, _), (slot, created) in itertools.pairwise(found):
            step = 1 if before + EVERY_MS >= created else (created - before) // EVERY_MS + 1
            wrong += slot != before + step * EVERY_MS
            passed_over += step - 1
            longest_ms = max(longest_ms, slot - before)
    return wrong, passed_over, longest_ms
