"""What a scenario found, against its bar; and the table of all."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from tests.chaos.ledger import Ledger
from tests.chaos.stage import Stage
from tests.chaos.worker_process import PREFIX, QUEUE


class Bar(NamedTuple):
    """One requirement in words, and whether it was met."""

    text: str
    is_met: bool


@dataclass(frozen=True, slots=True)
class Audit:
    """What became of the jobs whose add was acknowledged.

    lost: Redis has forgotten it, or calls it completed though nobody did it. stuck: neither completed nor failed.
    duplicates: done more than once. reruns: started more than once. unexcused: started again though its lock had not
    run out (Redis counts what it recovers). innocent_failed: failed and not meant to.
    """

    lost: frozenset[str]
    stuck: frozenset[str]
    duplicates: frozenset[str]
    reruns: frozenset[str]
    unexcused: frozenset[str]
    innocent_failed: frozenset[str]


@dataclass(slots=True)
class Report:
    """One row of the table. recovery: seconds, one per thing that had to recover."""

    scenario: str
    jobs: int
    faults: int
    audit: Audit
    bars: list[Bar]
    recovery: Sequence[float] = ()
    seconds: float = 0.0
    machine_late_s: float = 0.0
    """The longest that this machine let a thread wait that had nothing to do but wake up; every figure contains it."""

    @property
    def missed(self) -> list[str]:
        """The requirements that were not met."""
        return [bar.text for bar in self.bars if not bar.is_met]


def audit(stage: Stage, *, guilty: Collection[str] = (), kept: bool = True) -> Audit:
    """Judge every acknowledged job. guilty: jobs that ought to fail. kept: False when completed jobs are removed."""
    base = f"{PREFIX}:{QUEUE}:"
    jobs = frozenset(stage.acknowledged)
    with stage.server.client() as client:
        failed = frozenset(map(str, client.zrange(f"{base}failed", 0, -1)))
        completed = frozenset(map(str, client.zrange(f"{base}completed", 0, -1)))
        # Workers may still be at work. They write the ledger before they tell Redis, so it is read after Redis.
        started = Counter(record.job for record in stage.ledger.of("started"))
        finished = Counter(record.job for record in stage.ledger.of("finished"))
        ended = failed | (completed if kept else frozenset(finished))
        pending = jobs - ended
        existing = frozenset(job for job in pending if client.exists(base + job))
        reruns = frozenset(job for job, times in started.items() if times > 1)
        stalls = {job: int(client.hget(base + job, "stc") or 0) for job in reruns}
    undone = frozenset(job for job in jobs & ended if not finished[job] and job not in failed)
    return Audit(
        lost=(pending - existing) | undone,
        stuck=existing,
        duplicates=frozenset(job for job, times in finished.items() if times > 1),
        reruns=reruns,
        unexcused=frozenset(job for job in reruns if started[job] > stalls[job] + 1),
        innocent_failed=failed - frozenset(guilty),
    )


def nothing_lost(found: Audit) -> list[Bar]:
    """The bars that every fault has in common."""
    return [
        Bar("0 lost", not found.lost),
        Bar("0 stuck", not found.stuck),
        Bar("0 innocent failed", not found.innocent_failed),
    ]


def restarted_after(
    ledger: Ledger, faults: Iterable[tuple[float, int]], held: Sequence[tuple[float, frozenset[str]]] = ()
) -> list[float]:
    """For each job that ran in a process when that died: seconds until it was started again.

    held: when processes died, and the jobs that they held by their locks. A job that was claimed again by one that died
    before it started the job waits anew from then on.
    """
    waits: list[float] = []
    records = ledger.of("started", "finished")
    for at, pid in faults:
        cut_off = {r.job for r in records if r.pid == pid and r.kind == "started" and r.at <= at}
        cut_off -= {r.job for r in records if r.pid == pid and r.kind == "finished"}
        for job in cut_off:
            again = [r.at for r in records if r.job == job and r.kind == "started" and r.at > at]
            if again:
                hits = [when for when, jobs in held if job in jobs and at <= when < min(again)]
                waits.append(min(again) - max(hits, default=at))
    return waits


_HEADINGS: Final = (
    "scenario", "jobs", "faults", "lost", "stuck", "duplicates", "innocent failed", "recovery p50/max", "took",
    "machine late by", "bar", "verdict",
)  # fmt: skip


def table(reports: Iterable[Report]) -> str:
    """All reports as a Markdown table."""
    rows = [_HEADINGS, *(_row(report) for report in reports)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _row(report: Report) -> tuple[str, ...]:
    found = report.audit
    recovery = f"{statistics.median(report.recovery):.2f} / {max(report.recovery):.2f} s" if report.recovery else "-"
    return (
        report.scenario,
        str(report.jobs),
        str(report.faults),
        str(len(found.lost)),
        str(len(found.stuck)),
        str(len(found.duplicates)),
        str(len(found.innocent_failed)),
        recovery,
        f"{report.seconds:.0f} s",
        f"{report.machine_late_s:.2f} s",
        "; ".join(bar.text for bar in report.bars),
        "MISSED: " + "; ".join(report.missed) if report.missed else "met",
    )
