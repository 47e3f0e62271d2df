"""Worker processes that end: killed, restarted, or brought down by a job."""

from __future__ import annotations

import random
import statistics
import time
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

import anyio

from tests.chaos.report import Audit, Bar, Report, audit, nothing_lost, restarted_after
from tests.chaos.stage import Stage, durations, logger, set_up
from tests.chaos.worker_process import PREFIX, QUEUE

_TERM_MARGIN_S: Final = 0.5
_LONGEST_JOB_S: Final = 1.0
#: What a killed process has written to its socket, Redis still reads; after this long it has.
_LAST_WORDS_S: Final = 0.05


async def kill_workers(directory: Path, full: bool) -> Report:
    """kill -9 of random workers where `max_stalled_count` is high enough for it: no job may fail."""
    kills, jobs = (200, 4000) if full else (8, 120)
    return await _kill_workers(directory, kills, jobs, max_stalled_count=5)


async def kill_workers_by_default(directory: Path, full: bool) -> Report:
    """The same with the default of 1. A job whose worker is killed twice then fails, because nobody can tell it from
    one that kills; every other job must complete."""
    kills, jobs = (100, 2000) if full else (8, 120)
    return await _kill_workers(directory, kills, jobs, max_stalled_count=1)


async def kill_workers_with_jobs_ahead(directory: Path, full: bool) -> Report:
    """The same where each worker holds two jobs that it runs and two that wait; half as often, because each kill hits
    twice as many jobs, of which a worker takes one at a time."""
    kills, jobs = (40, 1200) if full else (6, 160)
    return await _kill_workers(directory, kills, jobs, max_stalled_count=5, prefetch=2)


async def _kill_workers(directory: Path, kills: int, jobs: int, *, max_stalled_count: int, prefetch: int = 0) -> Report:
    """Each victim is replaced at once. Whom a kill hits is read off the locks, not off the library's own counting."""
    workers, pause_s = (12, 0.45) if kills >= 100 else (8, 0.8 if prefetch else 0.4)
    async with set_up(directory, concurrency=2, max_stalled_count=max_stalled_count, prefetch=prefetch) as stage:
        await stage.add(durations(jobs, 0.2, _LONGEST_JOB_S))
        await stage.crew.assemble(workers)
        faults: list[tuple[float, int]] = []
        held: list[tuple[float, frozenset[str]]] = []
        for number in range(kills):
            await anyio.sleep(pause_s * random.uniform(0.5, 1.5))
            faults.append(stage.crew.kill_one())
            stage.crew.hire()
            await anyio.sleep(_LAST_WORDS_S)
            held.append((faults[-1][0], held_by(stage, faults[-1][1])))
            if number % 20 == 19:
                logger.info("%d kills, %d jobs done", number + 1, len(stage.ledger.of("finished")))
        await stage.until_done(60)
        hits = Counter(job for _, jobs_hit in held for job in jobs_hit)
        over_the_limit = {job for job, times in hits.items() if times > max_stalled_count}
        found = audit(stage, guilty=over_the_limit)
        waits = sorted(restarted_after(stage.ledger, faults, held)) or [0.0]
        return _judge_kills(stage, found, kills, hits, over_the_limit, waits)


def _judge_kills(
    stage: Stage,
    found: Audit,
    kills: int,
    hits: Collection[str],
    over_the_limit: Collection[str],
    waits: Sequence[float],
) -> Report:
    limit, prefetch = stage.crew.plan.max_stalled_count, stage.crew.plan.prefetch
    # As many jobs run as wait, so each waits for one; and a worker holds one at a time of those that were hit.
    usual_s, most_s = (2.6 + _LONGEST_JOB_S, 10) if prefetch else (2.6, 4)
    bars = [
        *nothing_lost(found),
        Bar("finished twice <= 2", len(found.duplicates) <= 2),
        Bar("reruns only after a lost lock", not found.unexcused),
        Bar(f"recovery p50 <= {usual_s} s", statistics.median(waits) <= usual_s),
        Bar(f"max <= {most_s} s", waits[-1] <= most_s),
        Bar(f"{len(hits)} jobs hit, {len(over_the_limit)} of them more than {limit} times, which may fail", bool(hits)),
    ]
    title = f"kill -9, max_stalled_count {limit}{f', prefetch {prefetch}' if prefetch else ''}"
    return Report(title, len(stage.acknowledged), kills, found, bars, waits)


def held_by(stage: Stage, pid: int) -> frozenset[str]:
    """The jobs that a worker which has just died holds by its locks."""
    workers = tuple(f"{r.note}:" for r in stage.ledger.of("ready") if r.pid == pid)
    base = f"{PREFIX}:{QUEUE}:"
    with stage.server.client() as client:
        active = [str(job) for job in client.lrange(f"{base}active", 0, -1)]
        tokens = client.mget([f"{base}{job}:lock" for job in active]) if active else []
    return frozenset(job for job, token in zip(active, tokens, strict=True) if str(token).startswith(workers))


async def restart_workers(directory: Path, full: bool) -> Report:
    """Rolling restarts with SIGTERM: the replacement starts first, then the old one finishes what it runs."""
    restarts, jobs, workers = (100, 2000, 8) if full else (6, 120, 4)
    longest_s = 0.5
    async with set_up(directory, concurrency=4) as stage:
        await stage.add(durations(jobs // 5, 0.1, longest_s))
        await stage.crew.assemble(workers)
        exits: list[tuple[float, int]] = []
        for number in range(restarts):
            await stage.add(durations(jobs * 4 // 5 // restarts, 0.1, longest_s))
            old = stage.crew.members[0]
            await stage.crew.assemble(1)
            exits.append(await stage.crew.dismiss(old))
            if number % 20 == 19:
                logger.info("%d restarts, %d jobs done", number + 1, len(stage.ledger.of("finished")))
        await stage.until_done(60)
        found = audit(stage)
        slowest_s = max(seconds for seconds, _ in exits)
        bars = [
            *nothing_lost(found),
            Bar("0 duplicates", not found.duplicates),
            Bar("0 reruns", not found.reruns),
            Bar("exit code 0", {code for _, code in exits} == {0}),
            Bar(f"exit within longest job + 0.5 s (took {slowest_s:.2f} s)", slowest_s <= longest_s + _TERM_MARGIN_S),
        ]
        ends = [seconds for seconds, _ in exits]
        return Report("rolling SIGTERM", len(stage.acknowledged), restarts, found, bars, ends)


async def poison_exit(directory: Path, full: bool) -> Report:
    """A job that calls os._exit."""
    return await _poison(directory, full, "exit")


async def poison_segfault(directory: Path, full: bool) -> Report:
    """A job that crashes the interpreter."""
    return await _poison(directory, full, "segfault")


async def _poison(directory: Path, full: bool, kind: str) -> Report:
    """One poison job among 200 others at concurrency 10; a supervisor replaces the workers that die."""
    others = 200
    async with set_up(directory, concurrency=10, max_stalled_count=1) as stage:
        before = durations(others // 2, 0.05, 0.5 if full else 0.2)
        await stage.add(before)
        (poison,) = await stage.add([(kind, 0.0)])
        await stage.add(durations(others - len(before), 0.05, 0.5 if full else 0.2))
        await stage.crew.assemble(2)
        deaths = 0
        began = time.monotonic()
        async with anyio.create_task_group() as group:

            async def supervise() -> None:
                nonlocal deaths
                while True:
                    for _ in range(stage.crew.bury_dead()):
                        deaths += 1
                        stage.crew.hire()
                    await anyio.sleep(0.02)

            group.start_soon(supervise)
            await stage.until_done(60)
            group.cancel_scope.cancel()
        ended_after_s = time.monotonic() - began
        return await _judge_poison(stage, kind, poison, deaths, ended_after_s)


async def _judge_poison(stage: Stage, kind: str, poison: str, deaths: int, seconds: float) -> Report:
    found = audit(stage, guilty=[poison])
    starts = sum(record.job == poison for record in stage.ledger.of("started"))
    job = await stage.queue.jobs.get(poison)
    reason = job.failed_reason if job is not None else None
    bars = [
        *nothing_lost(found),
        Bar(f"two starts (had {starts})", starts == 2),
        Bar(f"failed with a reason ({reason})", bool(reason) and deaths == 2),
    ]
    return Report(f"poison job: {kind}", len(stage.acknowledged), deaths, found, bars, [seconds])
