"""The report as files: `report.json`, one SVG per figure, and `index.html` with everything in one page."""

import html
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.table import Table

from examples.email_service.load.report import Latency, Report

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse } td { padding: .15rem 1rem .15rem 0; border-bottom: 1px solid #ddd }
svg { width: 100%; height: auto } .good { color: #176b2c } .bad { color: #a11 }
"""


def write(report: Report, figures: Mapping[str, str], title: str, directory: Path) -> Path:
    """Write all files; returns the page."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "report.json").write_text(json.dumps(report.as_json(), indent=2) + "\n")
    for name, svg in figures.items():
        (directory / f"{name}.svg").write_text(svg)
    page = directory / "index.html"
    page.write_text(_page(report, figures, title))
    return page


def rows(report: Report) -> Iterator[tuple[str, str]]:
    """What the numbers are called, and the numbers."""
    yield "arrivals", f"{report.arrivals} in {report.arrived_within_s:g} s, {report.arrival_rate:g}/s"
    yield "accepted by an API", f"{report.accepted}, and {report.duplicates} duplicates recognised"
    yield "errors", ", ".join(f"{count} {kind}" for kind, count in report.errors.items()) or "0"
    yield "finished", f"{report.finished}, {report.finish_rate:g}/s"
    if report.delivered is not None:
        yield "reached the mail server", f"{report.delivered}, {report.doubled} of them more than once"
    yield "deepest queue", str(report.depth_max)
    yield "answer (from when it was due)", _latency(report.answer)
    if report.mail.count:
        yield "mail, to the mail server", _latency(report.mail)
    yield "generator late", _latency(report.generator_late)
    for name, share in report.shares.items():
        yield f"share of {name}", f"{100 * share:.1f} %"


def table(report: Report) -> Table:
    """The numbers for the terminal."""
    shown = Table(show_header=False)
    for name, value in rows(report):
        shown.add_row(name, value)
    return shown


def _latency(latency: Latency) -> str:
    return f"p50 {latency.p50:g} ms, p95 {latency.p95:g} ms, p99 {latency.p99:g} ms, max {latency.max:g} ms"


def _page(report: Report, figures: Mapping[str, str], title: str) -> str:
    lines = "\n".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>" for name, value in rows(report)
    )
    faults = "".join(f'<p class="bad">{html.escape(fault)}</p>' for fault in report.faults)
    verdict = faults or '<p class="good">Every accepted mail was finished.</p>'
    verdict += "".join(f"<p>{html.escape(note)}</p>" for note in report.notes)
    drawn = "\n".join(f"<figure>{svg[svg.index('<svg') :]}</figure>" for svg in figures.values())
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style></head>
<body><h1>{html.escape(title)}</h1>
{verdict}
<table>{lines}</table>
{drawn}
</body></html>
"""
