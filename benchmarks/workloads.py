"""The workloads: what is done to every system, and which figure of it matters most.

A workload is a function of a `Bench`, on an emptied server; it returns figures by name. Numbers of jobs are for one
repetition of a full run; `Bench.jobs` scales them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from benchmarks import growth, longer
from benchmarks.bench import Bench, Figures, figures, milliseconds
from benchmarks.importing import importing
from benchmarks.slow_log import slow_log
from benchmarks.soak import soak

#: A job may start this much before its due time by our clock: both sides round to milliseconds.
EARLY_TOLERANCE_S: Final = 0.001


@dataclass(frozen=True, slots=True)
class Workload:
    """One measurement."""

    name: str
    title: str
    run: Callable[[Bench], Figures]
    headline: str
    """The figure by which systems are compared."""
    columns: tuple[str, ...] = ()
    """Further figures of the table."""
    needs: frozenset[str] = frozenset()
    """Features without which a system is left out, aloud."""
    only: frozenset[str] = frozenset()
    """Names of the systems it is for; empty: all."""
    only_in_quick: frozenset[str] = frozenset()
    """The same in a quick run."""
    lower_is_better: bool = False
    repeats: bool = True
    """False: one repetition says it all."""
    together: bool = False
    """All systems at the same time, each on a server of its own: the work is waiting."""


THROUGHPUT: Final = ("client_cpu_us", "redis_cpu_us", "script_calls", "commands", "network_bytes")
LATENCY: Final = ("p95_ms", "p99_ms", "client_cpu_us", "redis_cpu_us", "commands")


def add_sequential(bench: Bench) -> Figures:
    """Each add awaits the one before."""
    return bench.add(bench.jobs(5_000), "sequential", skip=200)


def add_concurrent(bench: Bench) -> Figures:
    """64 adds are under way at any time."""
    return bench.add(bench.jobs(20_000), "concurrent", skip=bench.jobs(2_000), in_flight=64)


def add_bulk(bench: Bench) -> Figures:
    """1,000 jobs per call."""
    return bench.add(bench.jobs(30_000), "bulk", skip=bench.jobs(3_000))


def process(jobs: int, concurrency: int, *, keep: bool, prefetch: int = 0) -> Callable[[Bench], Figures]:
    """No-op jobs that wait already; one worker process."""

    def run(bench: Bench) -> Figures:
        number = bench.jobs(jobs)
        bench.add(number)
        return bench.work(number, concurrency, keep_results=keep, prefetch=prefetch)

    return run


def two_workers(bench: Bench) -> Figures:
    """The same shared by two processes; the rate is from the first measured job to the last job of both."""
    number = bench.jobs(30_000)
    skip = number // 20
    bench.add(number)
    with (
        bench.start("work", skip=skip, concurrency=100) as one,
        bench.start("work", skip=skip, concurrency=100) as other,
    ):
        before = bench.state()
        for worker in (one, other):
            worker.go()
        longer.await_total((one, other), number)
        for worker in (one, other):
            worker.stop()
        reports = [worker.report() for worker in (one, other)]
        return figures(reports, before, bench.state(), skip)


def latency(rate: float, jobs: int, concurrency: int) -> Callable[[Bench], Figures]:
    """From just before `add` to the start of the processor; open loop: adds do not wait for each other."""

    def run(bench: Bench) -> Figures:
        number = max(100, int(jobs * bench.scale))
        report, before = bench.intervals(concurrency, lambda: bench.add(number, "paced", rate=rate), number)
        longer.complete(report, number)
        costs = figures([report], before, bench.state(), skip=20)
        return {**milliseconds(report.offsets), **{name: costs[name] for name in THROUGHPUT}}

    return run


def delayed(bench: Bench) -> Figures:
    """Delayed jobs fall due evenly over 5 s; how late each starts, and whether one starts early."""
    number, span_s = bench.jobs(10_000), 5.0
    report, _ = bench.intervals(
        100, lambda: bench.add(number, "delayed", span_s=span_s, lead_s=longer.lead_s(bench)), number, delays=True
    )
    longer.complete(report, number)
    early = sum(offset < -EARLY_TOLERANCE_S for offset in report.offsets)
    return {**milliseconds(report.offsets), "early": early, "jobs": len(report.offsets)}


WORKLOADS: Final = (
    Workload("add_sequential", "add, one after another", add_sequential, "jobs_per_s", THROUGHPUT),
    Workload("add_concurrent", "add, 64 in flight", add_concurrent, "jobs_per_s", THROUGHPUT),
    Workload("add_bulk", "add in bulk, 1,000 per call", add_bulk, "jobs_per_s", THROUGHPUT, frozenset({"bulk"})),
    Workload(
        "process_1", "process, concurrency 1, results kept", process(6_000, 1, keep=True),
        "jobs_per_s", THROUGHPUT, frozenset({"keep"}),
    ),
    Workload(
        "process_1_prefetch", "process, concurrency 1, 50 jobs claimed ahead (an option; BullMQ has none)",
        process(20_000, 1, keep=True, prefetch=50), "jobs_per_s", THROUGHPUT,
        only=frozenset({"pyqueue", "pyqueue-uvloop", "bullmq"}),
    ),
    Workload(
        "process_10", "process, concurrency 10, results kept", process(20_000, 10, keep=True),
        "jobs_per_s", THROUGHPUT, frozenset({"keep", "concurrency"}),
    ),
    Workload(
        "process_100", "process, concurrency 100, results kept", process(30_000, 100, keep=True),
        "jobs_per_s", THROUGHPUT, frozenset({"keep", "concurrency"}),
    ),
    Workload(
        "process_1_removed", "process, concurrency 1, results removed", process(6_000, 1, keep=False),
        "jobs_per_s", THROUGHPUT, frozenset({"remove"}),
    ),
    Workload(
        "process_10_removed", "process, concurrency 10, results removed", process(20_000, 10, keep=False),
        "jobs_per_s", THROUGHPUT, frozenset({"remove", "concurrency"}),
    ),
    Workload(
        "process_100_removed", "process, concurrency 100, results removed", process(30_000, 100, keep=False),
        "jobs_per_s", THROUGHPUT, frozenset({"remove", "concurrency"}),
    ),
    Workload("process_two", "process, two worker processes, 100 each", two_workers, "jobs_per_s", THROUGHPUT,
             frozenset({"concurrency"})),
    Workload("limit_process", "the server alone: settle and claim", longer.limit_process, "jobs_per_s",
             ("redis_cpu_us", "redis_busy", "client_cpu_us"), only=frozenset({"pyqueue"})),
    Workload("limit_add", "the server alone: add", longer.limit_add, "jobs_per_s",
             ("redis_cpu_us", "redis_busy", "client_cpu_us"), only=frozenset({"pyqueue"})),
    Workload(
        "latency_idle", "latency add to start, idle worker (40 jobs/s)", latency(40, 400, 10), "p50_ms", LATENCY,
        lower_is_better=True,
    ),
    Workload(
        "latency_500", "latency add to start at 500 jobs/s", latency(500, 3_000, 100), "p50_ms", LATENCY,
        lower_is_better=True,
    ),
    Workload(
        "delayed", "lateness of delayed jobs, 10,000 within 5 s", delayed, "p50_ms", ("p95_ms", "p99_ms", "early"),
        frozenset({"delay"}), lower_is_better=True,
    ),
    Workload(
        "growth", "Redis CPU per job, added and processed, by jobs that wait", growth.growth, "worst_ratio",
        growth.COLUMNS, only_in_quick=frozenset({"pyqueue"}), lower_is_better=True, repeats=False,
    ),
    Workload(
        "memory_waiting", "Redis memory per waiting job", longer.memory_waiting, "bytes", lower_is_better=True,
        repeats=False,
    ),
    Workload(
        "memory_completed", "Redis memory per completed job", longer.memory_completed, "bytes",
        needs=frozenset({"keep"}), lower_is_better=True, repeats=False,
    ),
    Workload(
        "idle", "cost of an idle worker", longer.idle, "client_commands_per_s",
        ("script_commands_per_s", "cpu_percent", "redis_cpu_percent"), lower_is_better=True, repeats=False,
        together=True,
    ),
    Workload(
        "import", "import time", importing, "import_ms",
        ("module_ms", "import_cpu_ms", "dependencies", "extras_imported"), lower_is_better=True, repeats=False,
    ),
    Workload(
        "slow_log", "script calls with 1,000,000 jobs waiting, delayed, completed", slow_log, "slowest_each_time_ms",
        ("above_2_ms_each_time", "slowest_load_ms", "slowest_ms", "p999_ms", "above_2_ms", "calls",
        "above_2_ms_per_s", "control_slowest_ms", "control_p999_ms", "control_above_2_ms", "control_calls",
        "control_above_2_ms_per_s"),
        only=frozenset({"pyqueue"}), lower_is_better=True, repeats=False,
    ),
    Workload(
        "soak", "memory of a worker over 1,000,000 jobs", soak, "growth_mb", ("resident_mb",),
        only=frozenset({"pyqueue"}), lower_is_better=True, repeats=False,
    ),
)  # fmt: skip
BY_NAME: Final = {workload.name: workload for workload in WORKLOADS}
