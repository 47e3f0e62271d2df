"""Put a run's figures into the page about benchmarks: only between its markers, so that the words around stay.

    <!-- begin: NAME -->   ...   <!-- end: NAME -->

NAME is one of `BLOCKS`. A test compares the page with the stored reference run, so its figures cannot drift from it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from benchmarks import bars, tables
from benchmarks.environments import CHECKOUT
from benchmarks.results import Results
from benchmarks.workloads import BY_NAME, Workload

PAGE: Final = CHECKOUT / "docs" / "explanation" / "benchmarks.md"
PLOTS: Final = PAGE.parent / "benchmarks"
_BLOCK: Final = re.compile(r"(<!-- begin: (\w+) -->\n).*?(<!-- end: \2 -->)", re.DOTALL)


def render(page: str, results: Results) -> str:
    """The page with every block made anew; KeyError names a block that does not exist."""

    def block(match: re.Match[str]) -> str:
        return f"{match[1]}{BLOCKS[match[2]](results).rstrip()}\n{match[3]}"

    return _BLOCK.sub(block, page)


def machine(results: Results) -> str:
    """Where and when, with which versions."""
    about = results.about
    lines = [
        f"- Run of {about['at']}, commit {about['commit']}{results.caveats}:"
        f" {tables.counted(about['repetitions'], 'repetition')},"
        f" {tables.counted(about['payload_bytes'], 'byte')} of data per job.",
        f"- {about['processor']}, {tables.counted(about['cores'], 'core')}, {about['memory_gib']} GiB;"
        f" {about['platform']}; Python {about['python']}; {about['server']};"
        f" load average {about['load_average']} at the start.",
    ]
    warning = tables.warning(results)
    return "\n".join([*lines, *([f"\n**{warning}**"] if warning else [])])


def verdicts(results: Results) -> str:
    """The bars."""
    measured = [verdict for verdict in bars.judge(results) if verdict.value is not None]
    return tables.markdown(tables.bars_grid(measured))


def figures(results: Results) -> str:
    """A table per workload."""
    return "\n\n".join(f"**{grid.title}**\n\n{tables.markdown(grid)}" for grid in tables.grids(results))


def losses(results: Results) -> str:
    """Where another system is ahead of pyqueue on the default loop: in the headline of a workload, or in a p99."""
    lines = [
        f"- {workload.title}, {tables.heading(figure)}: {results.systems[name]['title']} {lead}"
        for workload in BY_NAME.values()
        for figure in (workload.headline, *(column for column in workload.columns if column == "p99_ms"))
        for name in results.systems
        if not name.startswith("pyqueue") and (lead := _lead(results, workload, figure, name))
    ]
    return "\n".join(lines) or "None in this run."


def _lead(results: Results, workload: Workload, figure: str, peer: str) -> str:
    """Both figures and how far the peer is ahead; empty where it is not, or by less than half a per cent."""
    ours, theirs = (results.summary(workload.name, name, figure) for name in ("pyqueue", peer))
    if ours is None or theirs is None or not results.are_comparable(workload.name, "pyqueue", peer):
        return ""
    values = f"{tables.number(theirs.median)}, pyqueue {tables.number(ours.median)}"
    ratio = results.ratio(workload.name, figure, "pyqueue", peer)
    if ratio is None:  # theirs is 0
        return values if workload.lower_is_better and ours.median > 0 else ""
    factor = ratio if workload.lower_is_better else 1 / ratio if ratio else 0.0
    return f"{values}: {tables.number(factor)} times better" if tables.is_lead(factor) else ""


def systems(results: Results) -> str:
    """What is compared and how it was set."""
    rows = [
        (about["title"], about["version"], about["settings"], f"{about['scale']:g}")
        for about in results.systems.values()
    ]
    grid = tables.Grid("systems", ("system", "version", "settings", "number of jobs"), rows)
    return tables.markdown(grid)


def skipped(results: Results) -> str:
    """What was not measured."""
    lines = [f"- {_title(skip.workload)}, {skip.system}: {skip.short_reason}" for skip in results.skipped]
    return "\n".join(lines) or "Nothing was left out."


def _title(workload: str) -> str:
    """Of a workload; its name, where a stored run has one that is gone. That without a name is a whole system."""
    if not workload:
        return "everything"
    return BY_NAME[workload].title if workload in BY_NAME else workload


def notes(results: Results) -> str:
    """What workloads had to say."""
    lines = [f"- {note}" for sample in results.samples for note in sample.notes]
    return "\n".join(lines) or "None."


def plots(_: Results) -> str:
    """The drawn plots that the page shows."""
    return "\n\n".join(f"![{path.stem}](benchmarks/{path.name})" for path in sorted(PLOTS.glob("*.svg")))


BLOCKS: Final[dict[str, Callable[[Results], str]]] = {
    "machine": machine,
    "bars": verdicts,
    "figures": figures,
    "losses": losses,
    "systems": systems,
    "skipped": skipped,
    "notes": notes,
    "plots": plots,
}


def update(results: Results, page: Path = PAGE) -> None:
    """Rewrite the page."""
    page.write_text(render(page.read_text(), results))
