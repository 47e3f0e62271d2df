"""Plots of results as SVG, for the page about benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib
import matplotlib.ticker

from benchmarks.results import Results

matplotlib.use("svg")
# Text stays text, and the same results give the same file.
matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "pyqueue", "font.size": 9})

from matplotlib import pyplot as plt  # noqa: E402 - the backend is chosen before

OURS: Final = ("#b7410e", "#e08e5b")
THEIRS: Final = "#8a949e"
#: File -> title, unit of the axis, workloads side by side, figure.
RATES: Final = {
    "process": ("Jobs processed per second, results kept", ("process_1", "process_10", "process_100"), "jobs_per_s"),
    "add": ("Jobs added per second", ("add_sequential", "add_concurrent", "add_bulk"), "jobs_per_s"),
    "latency": ("Milliseconds from add to start, idle worker (log scale)", ("latency_idle",), "p50_ms"),
    "memory": ("Bytes of Redis memory per job, 200 bytes of data", ("memory_waiting", "memory_completed"), "bytes"),
}
LABELS: Final = {
    "process_1": "concurrency 1",
    "process_10": "concurrency 10",
    "process_100": "concurrency 100",
    "add_sequential": "one after another",
    "add_concurrent": "64 in flight",
    "add_bulk": "in bulk",
    "latency_idle": "median",
    "memory_waiting": "waiting",
    "memory_completed": "completed",
}


def draw_all(results: Results, directory: Path) -> list[Path]:
    """Write every plot for which something was measured, and remove those of other runs; returns the files."""
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.glob("*.svg"):
        old.unlink()
    drawn = []
    for name, (title, workloads, figure) in RATES.items():
        measured = [w for w in workloads if any(results.values(w, system, figure) for system in results.systems)]
        if measured:
            drawn.append(_bars(results, directory / f"{name}.svg", title, measured, figure))
    if any(results.values("growth", system, "add_us@1000") for system in results.systems):
        drawn.append(_growth(results, directory / "growth.svg"))
    return drawn


def _bars(results: Results, path: Path, title: str, workloads: Sequence[str], figure: str) -> Path:
    systems = [s for s in results.systems if any(results.values(w, s, figure) for w in workloads)]
    shape, axes = plt.subplots(
        1, len(workloads), sharey=True, squeeze=False, layout="constrained", figsize=(9, 0.8 + 0.3 * len(systems))
    )
    for axis, workload in zip(axes[0], workloads, strict=True):
        _bars_of_one(axis, results, workload, systems, figure)
    axes[0][0].invert_yaxis()  # all of them, because they share it: the first system on top
    shape.suptitle(title)
    return _save(shape, path)


def _bars_of_one(axis: Any, results: Results, workload: str, systems: Sequence[str], figure: str) -> None:
    summaries = [results.summary(workload, system, figure) for system in systems]
    medians = [summary.median if summary else 0 for summary in summaries]
    below = [summary.median - summary.low if summary else 0 for summary in summaries]
    above = [summary.high - summary.median if summary else 0 for summary in summaries]
    positions = range(len(systems))
    axis.barh(positions, medians, xerr=(below, above), color=_colours(systems), error_kw={"linewidth": 0.8})
    axis.set_yticks(positions, [results.systems[system]["title"] for system in systems])
    axis.set_title(LABELS[workload], fontsize=9)
    axis.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4))
    if figure.endswith("_ms"):
        axis.set_xscale("log")
    axis.spines[["top", "right"]].set_visible(False)


def _colours(systems: Sequence[str]) -> list[str]:
    ours = iter(OURS)
    return [next(ours) if system.startswith("pyqueue") else THEIRS for system in systems]


def _growth(results: Results, path: Path) -> Path:
    shape, axis = plt.subplots(layout="constrained", figsize=(9, 3.2))
    for system, about in results.systems.items():
        costs = _costs_by_level(results, system)
        if costs:
            is_ours = system.startswith("pyqueue")
            axis.plot(
                list(costs), list(costs.values()), marker="o", label=about["title"],
                linewidth=2 if is_ours else 1, color=_colours([system])[0] if is_ours else None,
            )  # fmt: skip
    axis.set_xscale("log")
    axis.set_ylim(bottom=0)
    axis.set_xlabel("jobs waiting")
    axis.set_ylabel("µs")
    axis.set_title("Redis CPU per job, added and processed, by jobs that wait")
    axis.legend(fontsize=8, ncols=2)
    axis.spines[["top", "right"]].set_visible(False)
    return _save(shape, path)


def _costs_by_level(results: Results, system: str) -> dict[int, float]:
    costs = {}
    for level in (1_000, 10_000, 50_000, 100_000, 1_000_000):
        parts = [results.summary("growth", system, f"{kind}@{level}") for kind in ("add_us", "process_us")]
        if all(parts):
            costs[level] = sum(part.median for part in parts if part)
    return costs


def _save(shape: Any, path: Path) -> Path:
    shape.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close(shape)
    # matplotlib ends lines with blanks, which version control marks.
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")
    return path
