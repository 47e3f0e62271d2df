"""The live progress of a load test: a line that redraws itself on a terminal, a line per second anywhere else."""

from types import TracebackType
from typing import Self

import anyio
from rich.console import Console
from rich.live import Live
from rich.text import Text

from examples.email_service.load.arrivals import Profile
from examples.email_service.load.generator import Run
from examples.email_service.load.watcher import Watch

_LIVE_S = 0.25
_LINE_S = 1.0


class LoadDisplay:
    """Shows a run until it is left."""

    def __init__(self, console: Console, profile: Profile, duplicate_every: int) -> None:
        self._console = console
        self._requests = profile.expected * (1 + 1 / duplicate_every if duplicate_every else 1)
        self._profile = profile
        self._live = Live(console=console, transient=True) if console.is_terminal else None

    async def follow(self, run: Run, watched: Watch) -> None:
        """Show the state of the run again and again, until cancelled."""
        while True:
            line = self.line(run, watched)
            if self._live is not None:
                self._live.update(Text(line))
                await anyio.sleep(_LIVE_S)
            else:
                self._console.print(line, highlight=False, soft_wrap=True)
                await anyio.sleep(_LINE_S)

    def line(self, run: Run, watched: Watch) -> str:
        """Where the run stands."""
        last = watched.samples[-1]
        elapsed_s = run.now_s()
        phase = "posting " if elapsed_s < self._profile.duration_s else "draining"
        return (
            f"{elapsed_s:6.1f} s {phase}  posted {len(run.mails)} of about {self._requests:.0f}, "
            f"open {run.in_flight}, errors {run.errors}  |  queue {last.depth}, active {last.counts.get('active', 0)}, "
            f"finished {watched.finished}"
        )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
