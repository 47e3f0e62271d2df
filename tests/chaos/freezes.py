"""Worker processes that stand still: stopped as a whole, or with a blocked event loop."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Final

import anyio

from tests.chaos.report import Bar, Report, audit, nothing_lost
from tests.chaos.stage import Stage, durations, logger, set_up
from tests.chaos.worker_process import LOCK_MS
from tests.support.waiting import wait_until

_LOCK_S: Final = LOCK_MS / 1000
_STOPPED_S: Final = 2.25 * _LOCK_S
_BLOCKED_S: Final = 1.8 * _LOCK_S


async def stop_workers(directory: Path, full: bool) -> Report:
    """SIGSTOP for 2.25 locks, then SIGCONT: what others took meanwhile is not the zombie's any more.

    Half of the jobs end while their worker is stopped, so that it tries to complete them when it wakes; the others
    would run on, and are cancelled.
    """
    stopped, per_worker = (8, 4) if full else (2, 2)
    async with set_up(directory, concurrency=per_worker, max_stalled_count=3) as stage:
        zombies = await stage.crew.assemble(stopped)
        jobs = [("work", seconds) for _ in range(stopped * per_worker // 2) for seconds in (1.0, 6.5)]
        await stage.add(jobs)
        await wait_until(lambda: len(stage.running()) == len(jobs))
        pids = {member.pid for member in zombies}
        for member in zombies:
            stage.crew.signal(member, signal.SIGSTOP)
        stopped_at = time.monotonic()
        await stage.crew.assemble(stopped)
        await anyio.sleep(stopped_at + _STOPPED_S - time.monotonic())
        for member in zombies:
            stage.crew.signal(member, signal.SIGCONT)
        woken_at = time.monotonic()
        await stage.until_done(90)
        return await _judge_zombies(stage, pids, stopped, stopped_at, woken_at)


async def _judge_zombies(stage: Stage, zombies: set[int | None], stopped: int, began: float, woken_at: float) -> Report:
    found = audit(stage)
    records = stage.ledger.of("started", "cancelled", "lock_lost")
    stolen = {
        r.job for r in records if r.kind == "started" and r.at > began and r.pid not in zombies and r.at < woken_at
    }
    lost = {r.job for r in records if r.kind == "lock_lost" and r.pid in zombies}
    cancelled = [r for r in records if r.kind == "cancelled" and r.pid in zombies]
    owners: dict[str, int] = {}
    for record in stage.ledger.of("finished"):
        if record.pid not in zombies or record.job not in stolen:
            owners[record.job] = record.pid
    values = {job: await stage.queue.jobs.get(job) for job in stolen}
    waits = [r.at - began for r in records if r.kind == "started" and r.job in stolen and began < r.at < woken_at]
    slowest_s = max((r.at - woken_at for r in cancelled), default=0.0)
    bars = [
        *nothing_lost(found),
        Bar(f"jobs taken over ({len(stolen)})", len(stolen) >= stopped),
        Bar("the zombie learns that they are lost", stolen <= lost),
        Bar(f"processors cancelled ({len(cancelled)}) within 1.5 s", bool(cancelled) and slowest_s <= 1.5),
        Bar("the result is the new owner's", all(j and j.return_value == owners.get(i) for i, j in values.items())),
        Bar("reruns only after a lost lock", not found.unexcused),
    ]
    return Report("SIGSTOP 2.25 locks", len(stage.acknowledged), stopped, found, bars, waits)


async def block_loops(directory: Path, full: bool) -> Report:
    """Processors that block the event loop for 1.8 locks, sleeping and spinning, among jobs that behave."""
    blockers, jobs, workers = (50, 1000, 6) if full else (4, 80, 4)
    async with set_up(directory, concurrency=4) as stage:
        behaved = durations(jobs - blockers, 0.05, 0.3)
        step = max(1, len(behaved) // blockers)
        mixed: list[tuple[str, float]] = []
        for number in range(blockers):
            mixed.append(("block_sleeping" if number % 2 else "block_spinning", _BLOCKED_S))
            mixed += behaved[number * step : (number + 1) * step]
        mixed += behaved[blockers * step :]
        ids = await stage.add(mixed)
        await stage.crew.assemble(workers)
        logger.info("%d blocking jobs among %d", blockers, len(mixed))
        await stage.until_done(200)
        found = audit(stage)
        with stage.server.client() as client:
            stalls = sum(
                (entry or {}).get("event") == "stalled" for _, entry in client.xrange("chaos:work:events") or []
            )
        warnings = [r.note for r in stage.ledger.of("log") if "is blocked by" in r.note]
        unnamed = [
            job
            for job, (name, _) in zip(ids, mixed, strict=True)
            if name.startswith("block") and not any(f"job {job} ({name})" in w and f"_{name}\n" in w for w in warnings)
        ]
        bars = [
            *nothing_lost(found),
            Bar("0 duplicates", not found.duplicates and not found.reruns),
            Bar("0 stalls", stalls == 0),
            Bar("a warning with job and stack for each", not unnamed),
        ]
        return Report("loop blocked 1.8 locks", len(mixed), blockers, found, bars)
