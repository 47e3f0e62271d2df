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

EVERY_MS: Final = 100
SCHEDULERS: Final = 20
WORKERS: Final = 3


async def kill_schedules(directory: Path, full: bool) -> Report:
    """20 schedulers with a slot each 100 ms on 3 workers; kill -9 of one, replaced at once, every 3 s."""
    seconds, pause_s = (30.0, 3.0) if full else (5.0, 2.0)
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
        missing, passed_over, latest_ms = _judge(slots)
        # In the complete form none may be missing at all. The short one also runs on machines that stand still for
        # longer than a slot, and then what is over by the time that a worker comes is not made up for.
        gaps = missing + passed_over if full else missing
        excuse = f" but {passed_over} that were over" if passed_over else ""
        bars = [
            *nothing_lost(found),
            Bar("every schedule goes on", len(alive) == SCHEDULERS and len(slots) == SCHEDULERS),
            Bar(f"every slot has its job, none is missing{excuse} (taken up to {latest_ms} ms late)", not gaps),
            Bar("reruns only after a lost lock", not found.unexcused),
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
    """How many slots between the first and the last of a schedule have no job: without a reason, and because they were
    over when the job before was taken; and how late a job was taken at most: the one of the next slot is created then.
    """
    missing = passed_over = latest_ms = 0
    for found in slots.values():
        for (before, _), (slot, created) in itertools.pairwise(found):
            without_job = (slot - before) // EVERY_MS - 1
            excused = min(without_job, (created - before) // EVERY_MS)
            passed_over += excused
            missing += without_job - excused
            latest_ms = max(latest_ms, created - before)
    return missing, passed_over, latest_ms
