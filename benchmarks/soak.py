"""A workload of a million jobs, for pyqueue alone: a worker's memory is flat."""

from __future__ import annotations

from typing import Final

from benchmarks.bench import Bench, Figures
from benchmarks.program import ProgramError

JOBS: Final = 1_000_000
#: They are added so many at a time, so that Redis stays small.
PORTION: Final = 50_000
WARM_UP_PORTIONS: Final = 2


def soak(bench: Bench) -> Figures:
    """A worker executes a million jobs; how much its resident memory grows after the first ones."""
    jobs = bench.jobs(JOBS)
    portion = min(PORTION, max(1, jobs // 10))
    resident: list[int] = []
    with bench.start("work", concurrency=100, keep_results=False) as worker:
        worker.go()
        for target in range(portion, jobs + 1, portion):
            bench.add(portion)
            if not worker.await_count(target):
                raise ProgramError(f"the worker executed {worker.count} of {target} jobs in time")
            resident.append(worker.resident_bytes())
        worker.stop()
        worker.report()
    megabytes = [round(size / 1e6, 1) for size in resident]
    bench.notes.append(f"resident MB after every {portion:,} jobs: {megabytes}")
    settled = resident[WARM_UP_PORTIONS:]
    return {"growth_mb": (max(settled) - settled[0]) / 1e6, "resident_mb": resident[-1] / 1e6, "jobs": jobs}
