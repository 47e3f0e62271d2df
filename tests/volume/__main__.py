"""Run the operations on a million jobs and print two tables; exit code 1 if something is wrong."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import anyio

from tests.volume.bed import make_bed
from tests.volume.operations import OPERATIONS, Row, measure
from tests.volume.pages import Page, measure_pages

_FEW: Final = 1000
_HEADINGS: Final = (
    "operation", "jobs", "seconds", "calls", "median us", "99.9 % us", "slowest us", "above 2 ms", "control",
    "run beside", "verdict",
)  # fmt: skip


async def run(jobs: int, names: Sequence[str], directory: Path) -> tuple[list[Row], list[Page]]:
    """All rows; each operation is announced when it is done."""
    rows: list[Row] = []
    async with make_bed(directory) as bed:
        for operation in OPERATIONS:
            if not names or operation.name in names:
                rows.append(await measure(bed, operation, jobs))
                sys.stderr.write(" ".join(_cells(rows[-1])) + "\n")
        pages = await measure_pages(bed, _FEW, jobs) if not names or "pages" in names else []
    return rows, pages


def table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row is its head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _cells(row: Row) -> tuple[str, ...]:
    calls = row.calls
    numbers = (calls.calls, calls.median_us, calls.p999_us, calls.slowest_us, calls.too_slow)
    control = f"{calls.controls_too_slow} of {calls.controls:,}"
    verdict = "; ".join(row.problems) or "met"
    return (row.operation, f"{row.jobs:,}", f"{row.seconds:.1f}", *map(str, numbers), control, str(row.beside), verdict)


def _main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.volume", description=__doc__)
    known = [*(operation.name for operation in OPERATIONS), "pages"]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}; all if none is given")
    parser.add_argument("--jobs", type=int, default=1_000_000, help="jobs per operation (default 1,000,000)")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(known):
        parser.error(f"there is no operation {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="volume-") as directory:
        rows, pages = anyio.run(run, arguments.jobs, arguments.names, Path(directory))
    if rows:
        print(table([_HEADINGS, *(_cells(row) for row in rows)]))
        print("\nThe control is a script of constant work, called beside: its calls above 2 ms are the machine's.\n")
    if pages:
        head = ("one call", f"{_FEW:,} jobs, us", f"{arguments.jobs:,} jobs, us", "verdict")
        cells = [(p.what, str(p.few_us), str(p.many_us), "; ".join(p.problems) or "met") for p in pages]
        print(table([head, *cells]))
    return int(any(row.problems for row in rows) or any(page.problems for page in pages))


if __name__ == "__main__":
    sys.exit(_main())
