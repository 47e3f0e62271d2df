"""Start the service on this machine and keep it running until Ctrl-C.

    python -m examples.email_service.local [--help]          (or: make email-up)

The same topology as `deploy/compose.yaml`: Redis, an SMTP server that delivers nowhere, 2 API and 2 worker instances,
nginx as balancer, Prometheus and Bull Board, the last three only where they are installed. An instance that dies is
started again. Everything listens on 127.0.0.1.
"""

import argparse
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from rich.console import Console

from examples.email_service.demo import leaves
from examples.email_service.local.programs import free_port
from examples.email_service.local.topology import Mode, Plan, Topology
from examples.email_service.processes import ChildFailed


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options, or exit status 2 with the reason."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.email_service.local",
        description="Run the e-mail service on this machine as separate processes until Ctrl-C.",
    )
    parser.add_argument("--apis", type=_count, default=2, metavar="N", help="API instances (default 2)")
    parser.add_argument("--workers", type=_count, default=2, metavar="N", help="standalone workers (default 2)")
    parser.add_argument(
        "--mode",
        type=Mode,
        choices=list(Mode),
        default=Mode.DEDICATED,
        help="dedicated: APIs only queue (default); everywhere: APIs also send, no workers; hybrid: both send",
    )
    parser.add_argument(
        "--port", type=_port, default=8080, metavar="N", help="where clients post (default 8080; 0: any free port)"
    )
    parser.add_argument("--redis", metavar="URL", help="use this Redis instead of one of our own")
    parser.add_argument("--bare", action="store_true", help="neither Prometheus nor Bull Board, even if installed")
    parser.add_argument(
        "--directory", type=Path, metavar="DIR", help="keep logs, process ids and Redis data there (default: not)"
    )
    return parser.parse_args(arguments)


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 16:
        raise argparse.ArgumentTypeError(f"{number} is not between 1 and 16")
    return number


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{number} is no port; 0 to 65535")
    return number


async def run(options: argparse.Namespace, directory: Path, console: Console) -> int:
    """Start, show the addresses, supervise until a signal, end; returns the exit status."""
    if options.port and free_port(options.port) != options.port:
        console.print(f"port {options.port} is taken: end what listens there, or choose another with --port")
        return 1
    plan = Plan(
        directory=directory,
        apis=options.apis,
        workers=options.workers,
        mode=options.mode,
        port=options.port,
        redis_url=options.redis,
        extras=not options.bare,
    )
    faults: list[str] = []
    try:
        async with until_signalled(), Topology.started(plan, lambda text: print(text, flush=True)) as topology:
            faults = topology.faults  # filled at the end
            show(topology, console)
            await topology.supervise()
    except* ChildFailed as failures:
        faults = [str(failure) for failure in leaves(failures)]
    for fault in faults:
        console.print(f"wrong: {fault}", style="red", markup=False, soft_wrap=True)
    return 1 if faults else 0


@asynccontextmanager
async def until_signalled() -> AsyncGenerator[None]:
    """SIGINT and SIGTERM cancel the block, which then ends as if it had finished."""

    async def obey(scope: anyio.CancelScope) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(obey, tasks.cancel_scope)
        yield
        tasks.cancel_scope.cancel()


def show(topology: Topology, console: Console) -> None:
    """One line for each process."""
    for name, address in topology.table():
        console.print(f"{name:<12}{address}", highlight=False, soft_wrap=True)
    if topology.balancer_url is None:
        console.print("nginx is not installed: no balancer, post to any of the APIs", highlight=False)
    console.print("ready; Ctrl-C ends all", highlight=False)


def main() -> None:
    """Entry point of `make email-up`."""
    options = parse_options()
    directory = options.directory or Path(tempfile.mkdtemp(prefix="email-service-"))
    directory.mkdir(parents=True, exist_ok=True)
    try:
        status = anyio.run(run, options, directory.resolve(), Console())
    finally:
        if options.directory is None:
            shutil.rmtree(directory, ignore_errors=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
