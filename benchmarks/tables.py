"""Tables of results: as rows of text, for the terminal (rich) and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks.bars import Bar, Verdict
from benchmarks.results import Results
from benchmarks.workloads import BY_NAME, Workload

#: Figure -> heading of its column.
HEADINGS: Final = {
    "jobs_per_s": "jobs/s",
    "client_cpu_us": "client CPU µs/job",
    "redis_cpu_us": "Redis CPU µs/job",
    "script_calls": "script calls/job",
    "commands": "commands/job",
    "network_bytes": "network bytes/job",
    "redis_busy": "Redis busy",
    "p50_ms": "p50 ms",
    "p95_ms": "p95 ms",
    "p99_ms": "p99 ms",
    "early": "early",
    "bytes": "bytes/job",
    "worst_ratio": "worst/1,000",
    "control_ratio": "the same of plain commands",
    "client_commands_per_s": "client commands/s",
    "script_commands_per_s": "inside scripts/s",
    "cpu_percent": "CPU %",
    "redis_cpu_percent": "Redis CPU %",
    "slowest_each_time_ms": "slowest each time ms",
    "above_2_ms_each_time": "above 2 ms each time",
    "slowest_load_ms": "slowest script load ms",
    "slowest_ms": "slowest at all ms",
    "p999_ms": "p99.9 ms",
    "above_2_ms": "above 2 ms at all",
    "calls": "calls at all",
    "above_2_ms_per_s": "per s of Redis' time",
    "control_slowest_ms": "slowest control ms",
    "control_p999_ms": "p99.9 of controls ms",
    "control_above_2_ms": "controls above 2 ms",
    "control_calls": "controls",
    "control_above_2_ms_per_s": "controls' per s",
    "growth_mb": "growth MB",
    "resident_mb": "resident MB",
    "module_ms": "module alone ms",
    "import_ms": "import ms",
    "import_cpu_ms": "CPU ms",
    "dependencies": "dependencies",
    "extras_imported": "extras imported",
}


class Grid(NamedTuple):
    """A table of text."""

    title: str
    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def heading(figure: str) -> str:
    """The heading of a figure's column; `add_us@1000` becomes `add µs @ 1,000`."""
    name, at, level = figure.partition("@")
    return f"{name.replace('_us', ' µs')} @ {int(level):,}" if at else HEADINGS.get(figure, figure)


def number(value: float) -> str:
    """Three significant digits, thousands separated."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def is_lead(factor: float) -> bool:
    """Whether one is ahead by it, by the three digits that are printed: a lead of less than half a per cent is none."""
    return float(f"{factor:.3g}") > 1


def counted(count: int, noun: str) -> str:
    """`1 repetition`, `3 repetitions`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def workload_grid(results: Results, workload: Workload) -> Grid | None:
    """Median, spread and the ratio to pyqueue of every system; None where nothing was measured."""
    measured = [name for name in results.systems if results.values(workload.name, name, workload.headline)]
    if not measured:
        return None
    columns = [c for c in workload.columns if any(results.values(workload.name, name, c) for name in measured)]
    headings = ("", heading(workload.headline), "low..high", "pyqueue is", *map(heading, columns))
    rows = [_row(results, workload, name, columns) for name in measured]
    return Grid(workload.title, headings, rows)


def _row(results: Results, workload: Workload, system: str, columns: Sequence[str]) -> tuple[str, ...]:
    summary = results.summary(workload.name, system, workload.headline)
    assert summary is not None
    cells = [results.systems[system]["title"], number(summary.median)]
    cells.append(f"{number(summary.low)}..{number(summary.high)}" if summary.low != summary.high else "")
    cells.append(_comparison(results, workload, system))
    for column in columns:
        figure = results.summary(workload.name, system, column)
        cells.append(number(figure.median) if figure else "")
    return tuple(cells)


def _comparison(results: Results, workload: Workload, system: str) -> str:
    if system.startswith("pyqueue") or not results.are_comparable(workload.name, "pyqueue", system):
        return ""
    ratio = results.ratio(workload.name, workload.headline, "pyqueue", system)
    if not ratio:
        return ""
    factor = 1 / ratio if workload.lower_is_better else ratio
    ahead, word = (factor, "better") if factor >= 1 else (1 / factor, "WORSE")
    return f"{number(ahead)}x {word}" if is_lead(ahead) else "equal"


def grids(results: Results) -> list[Grid]:
    """All workloads that were measured."""
    found = (workload_grid(results, workload) for workload in BY_NAME.values())
    return [grid for grid in found if grid]


def bars_grid(verdicts: Sequence[Verdict]) -> Grid:
    """The bars and how far they are met."""
    rows = [
        (
            verdict.bar.title,
            _with_unit(verdict.value, verdict.bar),
            f"{'>=' if verdict.bar.is_minimum else '<='} {_with_unit(verdict.bar.bar, verdict.bar)}",
            _with_unit(verdict.bar.moonshot, verdict.bar),
            verdict.word,
            _with_unit(verdict.on_uvloop, verdict.bar),
            _with_unit(verdict.by_cpu, verdict.bar),
        )
        for verdict in verdicts
    ]
    return Grid("bars", ("what", "measured", "bar", "moonshot", "", "on uvloop", "by CPU per job"), rows)


def _with_unit(value: float | None, bar: Bar) -> str:
    if value is None:
        return "-"
    return f"{number(value)} {bar.unit}".strip() if bar.unit in {"ms", "%", "MB"} else f"{number(value)}{bar.unit}"


def show(grid: Grid, console: Console) -> None:
    """On the terminal."""
    table = Table(title=grid.title, title_justify="left", title_style="bold")
    for index, text in enumerate(grid.headings):
        table.add_column(text, justify="right" if index else "left", no_wrap=not index)
    for row in grid.rows:
        missed = any(cell == "MISSED" or cell.endswith("WORSE") for cell in row)
        table.add_row(*row, style="yellow" if missed else "")
    console.print(table)


def markdown(grid: Grid) -> str:
    """As a Markdown table."""
    lines = [grid.headings, tuple("---" if i == 0 else "--:" for i in range(len(grid.headings))), *grid.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def warning(results: Results) -> str:
    """What to know about a run on a busy machine; empty for a quiet one."""
    load, cores = results.about["load_average"], results.about["cores"]
    if load <= cores / 4:
        return ""
    return (
        f"The machine was busy when this run began (load {load} on {counted(cores, 'core')}): rates and latencies are"
        " noise. CPU per job, calls, commands and bytes hold."
    )


def about_line(results: Results) -> str:
    """Machine, versions and options in one line."""
    about = results.about
    versions = ", ".join(f"{s['title']} {s['version']}" for n, s in results.systems.items() if n != "pyqueue-uvloop")
    return (
        f"{about['at']}, {about['processor']}, {counted(about['cores'], 'core')}, {about['memory_gib']} GiB,"
        f" {about['platform']}, Python {about['python']}, {about['server']}, load {about['load_average']},"
        f" commit {about['commit']}{results.caveats}; {counted(about['repetitions'], 'repetition')},"
        f" payload {counted(about['payload_bytes'], 'byte')}; {versions}"
    )
