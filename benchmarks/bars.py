"""The bars: what pyqueue promises of its speed, as ratios of one run, and how far each is met."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.results import Results

NODE: Final = "bullmq"
PORT: Final = "bullmq-port"
#: A figure of one system in one run; None where it was not measured.
Measure = Callable[[Results, str], float | None]


def cpu_ratio(results: Results, workload: str, system: str, peer: str) -> float | None:
    """CPU of client and Redis together per job, theirs by ours: how the rates compare, hardly touched by other load."""
    ours, theirs = _cpu_us(results, workload, system), _cpu_us(results, workload, peer)
    return theirs / ours if ours and theirs else None


def _cpu_us(results: Results, workload: str, system: str) -> float | None:
    parts = [results.summary(workload, system, figure) for figure in ("client_cpu_us", "redis_cpu_us")]
    return sum(part.median for part in parts if part) if all(parts) else None


@dataclass(frozen=True, slots=True)
class Bar:
    """One row of the table."""

    title: str
    measure: Measure
    bar: float
    moonshot: float | None
    is_minimum: bool
    unit: str
    workloads: tuple[str, ...]
    """What must run to measure it."""
    peer: str = ""
    """For a rate: whose."""

    def is_met(self, value: float) -> bool:
        """Whether the bar is reached, by the three digits that are printed."""
        return self._reaches(value, self.bar)

    def is_moonshot(self, value: float) -> bool:
        """Whether even the moonshot is."""
        return self.moonshot is not None and self._reaches(value, self.moonshot)

    def _reaches(self, value: float, bar: float) -> bool:
        printed = float(f"{value:.3g}")
        return printed >= bar if self.is_minimum else printed <= bar


def _ratio(workload: str, figure: str, peer: str = NODE) -> Measure:
    return lambda results, system: results.ratio(workload, figure, system, peer)


def _figure(workload: str, figure: str, factor: float = 1.0) -> Measure:
    def measure(results: Results, system: str) -> float | None:
        summary = results.summary(workload, system, figure)
        return summary.median * factor if summary else None

    return measure


def _share(workload: str, limit: str) -> Measure:
    """Of what the server alone sustains with the same scripts, in percent."""

    def measure(results: Results, system: str) -> float | None:
        ours = results.summary(workload, system, "jobs_per_s")
        alone = results.summary(limit, "pyqueue", "jobs_per_s")
        return ours.median / alone.median * 100 if ours and alone else None

    return measure


def _against_control(results: Results, system: str) -> float | None:
    """Calls above the bound per second of the server's time, ours by the control's: what is not the machine's."""
    both = [results.summary("slow_log", system, f"{whose}above_2_ms_per_s") for whose in ("", "control_")]
    ours, controls = (summary.median if summary else None for summary in both)
    if ours is None or controls is None:
        return None
    return ours / controls if controls else float("inf") if ours else 0.0


def _rate(title: str, workload: str, bar: float, moonshot: float, peer: str = NODE) -> Bar:
    return Bar(title, _ratio(workload, "jobs_per_s", peer), bar, moonshot, True, "x", (workload,), peer)


BARS: Final = (
    _rate("process, concurrency 100, against BullMQ Node", "process_100", 2, 3),
    _rate("process, concurrency 100, against the Python port", "process_100", 12, 25, PORT),
    _rate("process, concurrency 10, against BullMQ Node", "process_10", 1.5, 2),
    _rate("process, concurrency 1, against BullMQ Node", "process_1", 1.2, 1.5),
    _rate("the same with prefetch=50 (an option), against BullMQ Node", "process_1_prefetch", 1.2, 1.5),
    _rate("add_bulk, against BullMQ Node", "add_bulk", 3, 4),
    _rate("add, 64 in flight, against BullMQ Node", "add_concurrent", 1.5, 2.5),
    _rate("add, one after another, against BullMQ Node", "add_sequential", 1, 1.3),
    Bar("Redis CPU per job added in bulk, against BullMQ Node", _ratio("add_bulk", "redis_cpu_us"),
        0.5, 0.3, False, "x", ("add_bulk",)),
    Bar("Redis CPU per job processed, against BullMQ Node", _ratio("process_100", "redis_cpu_us"),
        0.5, 0.3, False, "x", ("process_100",)),
    Bar("share of the server's own limit, processing at 100", _share("process_100", "limit_process"),
        40, 60, True, "%", ("process_100", "limit_process")),
    Bar("share of the server's own limit, add_bulk", _share("add_bulk", "limit_add"),
        40, 60, True, "%", ("add_bulk", "limit_add")),
    Bar("latency, idle worker, p50, against BullMQ Node", _ratio("latency_idle", "p50_ms"),
        0.8, 0.5, False, "x", ("latency_idle",)),
    Bar("latency, idle worker, p99, against BullMQ Node", _ratio("latency_idle", "p99_ms"),
        1.0, 0.5, False, "x", ("latency_idle",)),
    Bar("lateness of 10,000 delayed jobs within 5 s, p50", _figure("delayed", "p50_ms"),
        10, 3, False, "ms", ("delayed",)),
    Bar("lateness of 10,000 delayed jobs within 5 s, p99", _figure("delayed", "p99_ms"),
        50, 15, False, "ms", ("delayed",)),
    Bar("delayed jobs that started early", _figure("delayed", "early"), 0, None, False, "", ("delayed",)),
    Bar("Redis memory per waiting job, against BullMQ Node", _ratio("memory_waiting", "bytes"),
        1, None, False, "x", ("memory_waiting",)),
    Bar("Redis CPU per job, most to fewest waiting jobs", _figure("growth", "worst_ratio"),
        1.15, None, False, "x", ("growth",)),
    Bar("script calls above 2 ms with 1,000,000 jobs, each of three times", _figure("slow_log", "above_2_ms_each_time"),
        0, None, False, "", ("slow_log",)),
    Bar("such calls at all, which the machine adds to", _figure("slow_log", "above_2_ms"),
        0, None, False, "", ("slow_log",)),
    Bar("the same per second of Redis' time, against a script of constant work", _against_control,
        1, None, False, "x", ("slow_log",)),
    Bar("growth of a worker's memory over 1,000,000 jobs", _figure("soak", "growth_mb"),
        5, None, False, "MB", ("soak",)),
    Bar("commands sent by an idle worker's client", _figure("idle", "client_commands_per_s"),
        0.5, 0.1, False, "/s", ("idle",)),
    Bar("CPU of an idle worker", _figure("idle", "cpu_percent"), 0.5, None, False, "%", ("idle",)),
    Bar("import pyqueue", _figure("import", "module_ms"), 200, 100, False, "ms", ("import",)),
    Bar("import Queue and Worker from it", _figure("import", "import_ms"), 200, 100, False, "ms", ("import",)),
    Bar("extras imported with them", _figure("import", "extras_imported"), 0, None, False, "", ("import",)),
)  # fmt: skip


def needed_workloads(bars: Sequence[Bar] = BARS) -> tuple[str, ...]:
    """What must run for these bars, each once."""
    return tuple(dict.fromkeys(name for bar in bars for name in bar.workloads))


@dataclass(frozen=True, slots=True)
class Verdict:
    """One bar in one run."""

    bar: Bar
    value: float | None
    on_uvloop: float | None
    by_cpu: float | None
    """For a rate: the same by CPU per job."""

    @property
    def word(self) -> str:
        """moonshot, met, MISSED or not measured."""
        if self.value is None:
            return "not measured"
        if self.bar.is_moonshot(self.value):
            return "moonshot"
        return "met" if self.bar.is_met(self.value) else "MISSED"


def judge(results: Results, bars: Sequence[Bar] = BARS) -> list[Verdict]:
    """Every bar."""
    return [
        Verdict(
            bar,
            bar.measure(results, "pyqueue"),
            bar.measure(results, "pyqueue-uvloop"),
            cpu_ratio(results, bar.workloads[0], "pyqueue", bar.peer) if bar.peer else None,
        )
        for bar in bars
    ]
