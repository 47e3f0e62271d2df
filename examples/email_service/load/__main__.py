"""Load test of the e-mail service on this machine.

    python -m examples.email_service.load [--help]          (or: make email-load)

Starts the topology of `make email-up`, or uses a running one (--url), posts mails at a fixed rate whether or not the
answers come (open loop), shows the progress, waits until all accepted mails are done with, and writes a report with
plots. Exit status 0 if every request was answered well and every accepted mail was finished; 1 if not.
"""

import argparse
import shutil
import sys
import tempfile
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx
from rich.console import Console

from examples.email_service.demo import leaves
from examples.email_service.load import page
from examples.email_service.load.arrivals import MAX_DURATION_S, MAX_RATE, Profile
from examples.email_service.load.generator import Generator, Run, check_target
from examples.email_service.load.plots import draw
from examples.email_service.load.progress import LoadDisplay
from examples.email_service.load.report import Report, summarise
from examples.email_service.load.watcher import Watch, look, watch
from examples.email_service.local.__main__ import until_signalled
from examples.email_service.local.topology import Mode, Plan, Topology
from examples.email_service.processes import ChildFailed

# The instances say every few seconds what they have done.
_HEARTBEATS_S = 5.0

DEFAULT_REPORT = Path("build/email-load")


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options, with the `profile`, or exit status 2 with the reason."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.email_service.load",
        description="Load test of the e-mail service: open-loop arrivals against its APIs, on this machine only.",
    )
    parser.add_argument(
        "--rate", type=float, default=50.0, metavar="N", help=f"mails/s (default 50, at most {MAX_RATE:g})"
    )
    parser.add_argument(
        "--duration", type=float, default=20.0, metavar="S", help=f"seconds (default 20, at most {MAX_DURATION_S:g})"
    )
    parser.add_argument(
        "--ramp", type=float, default=5.0, metavar="S", help="seconds of --duration in which the rate rises (default 5)"
    )
    parser.add_argument(
        "--duplicate-every",
        type=_natural,
        default=10,
        metavar="N",
        help="post every Nth mail twice (default 10; 0: none)",
    )
    parser.add_argument(
        "--seed", type=int, default=1, metavar="N", help="equal seeds arrive at equal times (default 1)"
    )
    parser.add_argument(
        "--drain", type=_natural, default=60, metavar="S", help="wait so long for the rest (default 60)"
    )
    parser.add_argument(
        "--url",
        action="append",
        default=[],
        metavar="URL",
        help="use this running service (repeat it for several APIs)",
    )
    parser.add_argument(
        "--apis", type=int, choices=range(1, 9), default=2, metavar="N", help="without --url (default 2)"
    )
    parser.add_argument(
        "--workers", type=int, choices=range(1, 9), default=2, metavar="N", help="without --url (default 2)"
    )
    parser.add_argument("--mode", type=Mode, choices=list(Mode), default=Mode.DEDICATED, help="without --url")
    parser.add_argument(
        "--report", type=Path, default=DEFAULT_REPORT, metavar="DIR", help=f"where it goes (default {DEFAULT_REPORT})"
    )
    options = parser.parse_args(arguments)
    try:
        options.profile = Profile(options.rate, options.duration, min(options.ramp, options.duration))
        options.url = [check_target(url) for url in options.url]
    except ValueError as error:
        parser.error(str(error))
    return options


def _natural(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 600:
        raise argparse.ArgumentTypeError(f"{number} is not between 0 and 600")
    return number


class Service:
    """What is under load: a topology of our own, or one that runs already."""

    def __init__(self, urls: Sequence[str], topology: Topology | None) -> None:
        self.urls = list(urls)
        self.topology = topology

    @classmethod
    @asynccontextmanager
    async def started(cls, options: argparse.Namespace, directory: Path) -> "AsyncGenerator[Service]":
        """Start a topology unless --url names a service."""
        if options.url:
            yield cls(options.url, None)
            return
        plan = Plan(directory, options.apis, options.workers, options.mode, port=0, extras=False)
        async with Topology.started(plan) as topology:
            yield cls(
                [topology.balancer_url] if topology.balancer_url else [api.url for api in topology.apis], topology
            )


async def load(options: argparse.Namespace, service: Service, console: Console) -> tuple[Run, Watch]:
    """Post everything, wait for the rest, return what was seen; raises httpx.HTTPError when no API answers at first."""
    watched = Watch()
    async with httpx.AsyncClient(timeout=5.0, trust_env=False) as client:
        before = await look(client, service.urls[0])
    run = Run()
    watched.add(0.0, before)
    generator = Generator(run, service.urls, uuid.uuid4().hex[:6], options.duplicate_every)
    if service.topology is not None:
        service.topology.on_mail = generator.delivered
    with LoadDisplay(console, options.profile, options.duplicate_every) as display:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch, run, service.urls, watched)
            tasks.start_soon(display.follow, run, watched)
            await generator.post_all(options.profile.arrivals(options.seed))
            with anyio.move_on_after(options.drain):
                await watched.until(lambda: watched.finished >= len(run.accepted_ids()))
            with anyio.move_on_after(_HEARTBEATS_S):
                await watched.until(lambda: sum(watched.processed.values()) >= watched.finished)
            tasks.cancel_scope.cancel()
    return run, watched


async def perform(options: argparse.Namespace, directory: Path, console: Console) -> Report | None:
    """One load test with its report; None when it was interrupted."""
    report: Report | None = None
    async with until_signalled(), Service.started(options, directory) as service:
        profile: Profile = options.profile
        title = f"{profile.rate:g} mails/s for {profile.duration_s:g} s"
        console.print(f"{title} to {', '.join(service.urls)}", highlight=False, soft_wrap=True)
        run, watched = await load(options, service, console)
        report = summarise(run, watched, sees_deliveries=service.topology is not None)
        written = page.write(report, draw(run, watched), f"E-mail service, {title}", options.report)
        console.print(page.table(report))
        for note in report.notes:
            console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
        console.print(f"report: {written}", highlight=False, soft_wrap=True)
    return report


async def run_load(options: argparse.Namespace, directory: Path, console: Console) -> int:
    """Perform, say what was wrong; returns the exit status."""
    faults: Sequence[str] = ("interrupted",)
    try:
        report = await perform(options, directory, console)
        faults = report.faults if report is not None else faults
    except* (ChildFailed, httpx.HTTPError) as failures:
        faults = [str(failure) or repr(failure) for failure in leaves(failures)]
    for fault in faults:
        console.print(f"wrong: {fault}", style="red", markup=False, soft_wrap=True)
    return 1 if faults else 0


def main() -> None:
    """Entry point of `make email-load`."""
    options = parse_options()
    directory = Path(tempfile.mkdtemp(prefix="email-load-"))
    try:
        status = anyio.run(run_load, options, directory, Console())
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
