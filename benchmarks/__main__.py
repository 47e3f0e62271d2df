"""Measure pyqueue and its peers on one Redis, in one run.

    python -m benchmarks                    every workload on every system that can be installed (about an hour)
    python -m benchmarks --quick            pyqueue, BullMQ for Node and its Python port, in under two minutes
    python -m benchmarks bars               what pyqueue promises of its speed, measured; exit code 1 if one is missed
    python -m benchmarks show [FILE]        the tables of a stored run
    python -m benchmarks page FILE          put a stored run into docs/explanation/benchmarks.md, with plots
    python -m benchmarks list               systems and workloads

It needs the extra `bench`; `make bench ARGS=...` makes an environment that has it, and runs this.

The first run installs the peers into benchmarks/.cache, each into an environment of its own. A redis-server is started
for the run and ended after it. Every run is stored in benchmarks/results/.
"""

from __future__ import annotations

import argparse
import math
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

try:
    from rich.console import Console
except ModuleNotFoundError:
    raise SystemExit("benchmarks: rich is not installed here; run `make bench`, or pip install '.[bench]'") from None

from benchmarks import bars, tables
from benchmarks.results import DIRECTORY, REFERENCE, Results, history_path, load
from benchmarks.runner import Plan, run
from benchmarks.systems import catalogue
from benchmarks.workloads import BY_NAME as WORKLOADS

COMPARED_IN_QUICK: Final = ("pyqueue", "bullmq", "bullmq-port")
COMPARED_IN_BARS: Final = ("pyqueue", "pyqueue-uvloop", "bullmq", "bullmq-port")
#: Left out of a quick run: they take minutes by themselves, or repeat what others show.
NOT_IN_QUICK: Final = frozenset(
    {"process_1_removed", "process_10_removed", "process_100_removed", "process_two", "latency_500",
     "memory_completed", "slow_log", "soak"}
)  # fmt: skip
QUICK_SCALE: Final = 0.3
#: Exit code of what Ctrl-C has ended.
INTERRUPTED: Final = 128 + signal.SIGINT

T = TypeVar("T")


def main() -> int:
    """Do what the command line says; 1 if bars were asked for and one is missed, 130 if Ctrl-C ended the run."""
    parser = _parser()
    options = parser.parse_args()
    if options.command == "list":
        return _list()
    if options.command == "show":
        return _show(_stored(options.file), bars_only=False)
    if options.command == "page":
        if options.file is None:  # the latest run may have measured little
            parser.error("page: name the run whose figures and plots the page shall have")
        return _update_page(_stored(options.file))
    try:
        plan = _plan(options)
    except KeyError as error:
        parser.error(str(error.args[0]))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that servers and programs end with us
    path = options.output or history_path()
    try:
        results = run(plan, keep=lambda so_far: so_far.save(path))
    except KeyboardInterrupt:  # while its server started or ended
        return INTERRUPTED
    results.save(path)
    code = _show(results, bars_only=options.command == "bars")
    print(f"stored in {path}; `python -m benchmarks show {path}` prints it again", file=sys.stderr)
    return INTERRUPTED if results.is_interrupted else code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", nargs="?", choices=("run", "bars", "show", "page", "list"), default="run")
    parser.add_argument("file", nargs="?", type=Path, help="show, page: a stored run (show: the latest by default)")
    parser.add_argument("--quick", action="store_true", help="fewer jobs, one repetition, three systems")
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAMES",
        help="only these systems and workloads, comma-separated (repeatable); see `list`",
    )  # fmt: skip
    parser.add_argument("--repetitions", type=_positive(int), help="per system, interleaved (default 3; quick: 1)")
    parser.add_argument("--scale", type=_positive(float), help="factor on the number of jobs (default 1; quick: 0.3)")
    parser.add_argument("--payload", type=_positive(int), default=200, help="bytes of data per job (default 200)")
    parser.add_argument("--output", type=Path, help="where the results go (default: a new file in benchmarks/results)")
    return parser


def _positive(number: type[int] | type[float]) -> Callable[[str], float]:
    """A type of argparse: a number above 0."""

    def parse(text: str) -> float:
        value = number(text)
        if not 0 < value < math.inf:
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value

    parse.__name__ = number.__name__  # argparse names it where the text is no number
    return parse


def _plan(options: argparse.Namespace) -> Plan:
    names = [name for text in options.only for name in text.split(",") if name]
    unknown = [name for name in names if name not in catalogue.BY_NAME and name not in WORKLOADS]
    if unknown:
        raise KeyError(f"there is no system or workload {', '.join(unknown)}; `python -m benchmarks list` lists them")
    return Plan(
        systems=_choose(catalogue.BY_NAME, names, _default_systems(options)),
        workloads=_choose(WORKLOADS, names, _default_workloads(options)),
        repetitions=options.repetitions or (1 if options.quick else 3),
        scale=options.scale or (QUICK_SCALE if options.quick else 1.0),
        quick=options.quick,
        payload_bytes=options.payload,
    )


def _default_systems(options: argparse.Namespace) -> Sequence[str]:
    if options.command == "bars":
        return COMPARED_IN_BARS
    return COMPARED_IN_QUICK if options.quick else tuple(catalogue.BY_NAME)


def _default_workloads(options: argparse.Namespace) -> Sequence[str]:
    if options.command == "bars":
        return [name for name in bars.needed_workloads() if not (options.quick and name in NOT_IN_QUICK)]
    return [name for name in WORKLOADS if not (options.quick and name in NOT_IN_QUICK)]


def _choose(known: dict[str, T], names: Sequence[str], default: Sequence[str]) -> list[T]:
    """Those that are named; where none is, the default. In the order of `known`."""
    chosen = [name for name in names if name in known] or default
    return [value for name, value in known.items() if name in chosen]


def _show(results: Results, *, bars_only: bool) -> int:
    console = Console(width=None if sys.stdout.isatty() else 170)
    # What a run with --only left out is no news; what failed is said below.
    verdicts = [verdict for verdict in bars.judge(results) if verdict.value is not None]
    if not bars_only:
        for grid in tables.grids(results):
            tables.show(grid, console)
        _show_notes(results, console)
    if verdicts:
        tables.show(tables.bars_grid(verdicts), console)
    for skipped in results.skipped:
        console.print(f"not measured: {skipped.workload or 'all'} on {skipped.system}: {skipped.reason}", markup=False)
    console.print(tables.about_line(results), style="dim", highlight=False)
    if tables.warning(results):
        console.print(tables.warning(results), style="yellow", highlight=False)
    return int(bars_only and any(verdict.word == "MISSED" for verdict in verdicts))


def _show_notes(results: Results, console: Console) -> None:
    for sample in results.samples:
        for note in sample.notes:
            console.print(f"{sample.workload}, {sample.system}: {note}", highlight=False, markup=False)


def _update_page(results: Results) -> int:
    from benchmarks import page, plots  # matplotlib is optional, and takes a second

    results.save(REFERENCE)
    for path in plots.draw_all(results, page.PLOTS):
        print(path)
    page.update(results)
    print(page.PAGE)
    return 0


def _list() -> int:
    for system in catalogue.SYSTEMS:
        print(f"{system.name:<20} {system.title}: {system.settings}")
    print()
    for workload in WORKLOADS.values():
        print(f"{workload.name:<20} {workload.title}")
    return 0


def _stored(path: Path | None) -> Results:
    path = path or _latest()
    try:
        return load(path)
    except FileNotFoundError:
        raise SystemExit(f"there is no stored run {path}: the runs are in {DIRECTORY}") from None


def _latest() -> Path:
    runs = sorted(DIRECTORY.glob("2*.json"))
    if not runs:
        raise SystemExit(f"there is no stored run in {DIRECTORY}: run `python -m benchmarks` first")
    return runs[-1]


if __name__ == "__main__":
    sys.exit(main())
