"""What the demonstration shows: progress while it runs, one table at the end.

On a terminal the progress is a panel that redraws itself; anywhere else it is a plain line per second.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from examples.email_service.audit import Report

_LINE_INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the run stands."""

    elapsed_s: float
    invites: int
    accepted: int
    deferred: int
    refused: int
    stats: Mapping[str, int]

    @property
    def finished(self) -> int:
        """Jobs that are done with, one way or the other."""
        return self.stats["completed"] + self.stats["failed"]

    def __str__(self) -> str:
        states = "  ".join(f"{state} {count}" for state, count in self.stats.items())
        return f"{self.elapsed_s:5.1f} s  {states}  |  {self.mail_server}"

    @property
    def mail_server(self) -> str:
        """What the mail server has answered so far."""
        return f"SMTP: accepted {self.accepted}, 4xx {self.deferred}, 5xx {self.refused}"


class ProgressDisplay:
    """Shows each `Progress` that it is given, as often as is useful on this console."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, transient=True) if console.is_terminal else None
        self._next_line_s = 0.0

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, progress: Progress) -> None:
        """Redraw the panel, or write a line if the last one is a second old."""
        if self._live is not None:
            self._live.update(_panel(progress))
        elif progress.elapsed_s >= self._next_line_s:
            self._console.print(str(progress), soft_wrap=True, highlight=False)
            self._next_line_s = progress.elapsed_s + _LINE_INTERVAL_S


def _panel(progress: Progress) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, count in {"finished": progress.finished, **progress.stats}.items():
        table.add_row(name, ProgressBar(progress.invites, count, width=40), f"{count}/{progress.invites}")
    table.add_row(f"{progress.elapsed_s:.1f} s", progress.mail_server)
    return table


def result_table(report: Report, *, working_s: float, total_s: float) -> Table:
    """The closing table."""
    table = Table(title="e-mail service", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column()
    table.add_row("invites", str(report.invites), f"{report.posts} posts")
    table.add_row("delivered", str(report.delivered), "accepted by the mail server")
    table.add_row("duplicates", str(report.duplicates), "second posts that made no second job")
    table.add_row("retried", str(report.retried), "4xx, accepted later")
    table.add_row("dead", str(report.dead), "5xx, kept in failed")
    table.add_row("lost", str(len(report.lost)), "")
    table.add_row("doubled", str(len(report.doubled)), "accepted twice by the mail server")
    if report.taken_over:
        table.add_row("taken over", str(report.taken_over), "from a killed worker")
    for instance, jobs in report.per_instance.items():
        table.add_row(f"jobs of {instance}", str(jobs), "")
    table.add_row("time", f"{working_s:.1f} s", f"from the first post; {total_s:.1f} s with starting and stopping")
    return table
