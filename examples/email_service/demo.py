"""The whole service on one machine: API and worker processes around one Redis and a mail server, and 500 invites.

    python -m examples.email_service.demo [--help]

1. Start an SMTP server (in this process), a Redis server (embedded, unless --redis names one), the API and the worker
   processes; wait until all are ready.
2. Post the invites through all APIs, every tenth to two of them at the same moment.
3. Show the progress until every job is completed or failed. With --kill, kill -9 a worker on the way.
4. Ask every API for its counts, read all jobs, end the children with SIGTERM.
5. Print the table. Exit status 0 only if no mail is lost or doubled and all books agree; 1 otherwise.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import uuid
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from time import monotonic

import anyio
import httpx
import redis.exceptions
from rich.console import Console

from examples.email_service.audit import JobRecord, Observations, Report, audit
from examples.email_service.display import Progress, ProgressDisplay, result_table
from examples.email_service.jobs import EmailJob, EmailQueue, open_queue
from examples.email_service.mail import message_id
from examples.email_service.processes import Child, ChildFailed, Crew
from examples.email_service.settings import Settings, load_settings
from examples.email_service.shared import ServiceKeys, open_redis
from examples.email_service.smtp_sink import SmtpSink
from examples.email_service.traffic import ApiInstances, plan_invites
from pyqueue import JobState, PyqueueError, embedded

API = "examples.email_service.api"
WORKER = "examples.email_service.worker"

POLL_S = 0.1

# SIGTERM to the end of a child. Nothing is in progress by then, so this only bounds a hang.
SHUTDOWN_S = 10.0

# With --kill, how long the mails of the killed worker stay its own, and how often the others look for such mails. The
# defaults (30 s each) are made for production; a demonstration should not take a minute.
KILL_LOCK_MS = 3000
KILL_STALLED_INTERVAL_MS = 1000


@dataclass(frozen=True, slots=True)
class Options:
    """The command line."""

    invites: int
    apis: int
    workers: int
    redis: str | None
    keep: bool
    kill: bool
    timeout: float


def parse_options(arguments: Sequence[str] | None = None) -> Options:
    """The options, or exit status 2 with the reason."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.email_service.demo",
        description="Run the e-mail service on this machine: APIs, workers, Redis and a mail server; then count.",
    )
    parser.add_argument("--invites", type=_positive, default=500, metavar="N", help="invites to post (default 500)")
    parser.add_argument("--apis", type=_positive, default=2, metavar="N", help="API processes (default 2)")
    parser.add_argument("--workers", type=_positive, default=2, metavar="N", help="worker processes (default 2)")
    parser.add_argument(
        "--redis", metavar="URL", help="use this Redis, under a prefix of our own, instead of an embedded one"
    )
    parser.add_argument("--keep", action="store_true", help="leave logs and Redis data behind and say where they are")
    parser.add_argument(
        "--kill", action="store_true", help="kill -9 one worker in the middle; its mails may arrive twice"
    )
    parser.add_argument(
        "--timeout", type=float, default=50.0, metavar="S", help="give up after so many seconds (default 50)"
    )
    return Options(**vars(parser.parse_args(arguments)))


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


async def perform(options: Options, environment: Settings, directory: Path, console: Console) -> Report:
    """One run from start to end, with its table; raises ChildFailed when a process does not come up or dies."""
    started = monotonic()
    async with SmtpSink() as sink:
        settings = settings_of_the_run(options, environment, directory, sink.port)
        async with shared_queue(settings, options, directory) as queue, Crew(directory) as crew:
            urls = await start_children(options, settings, crew)
            console.print(f"{len(urls)} APIs, {options.workers} workers are ready; posting {options.invites} invites")
            async with ApiInstances(urls) as apis:
                work = Work(options, settings, sink, crew, apis)
                with ProgressDisplay(console) as display:
                    await work.run(display)
                stats = {name: await apis.stats(name) for name in apis.names}
            jobs = await read_jobs(queue)
            work.faults += await crew.terminate(SHUTDOWN_S + 5)
    report = audit(
        Observations(
            invites=work.invites,
            ledger=sink.ledger,
            message_id=lambda job_id: message_id(job_id, settings.email_from),
            jobs=jobs,
            stats=stats,
            answers=apis.answers,
            faults=work.faults,
            takeovers_allowed=settings.email_concurrency if options.kill else 0,
        )
    )
    console.print(result_table(report, working_s=work.duration_s, total_s=monotonic() - started))
    return report


def settings_of_the_run(options: Options, settings: Settings, directory: Path, smtp_port: int) -> Settings:
    """What all children have in common: the environment's settings with the servers of this run."""
    stalling = {"lock_duration_ms": KILL_LOCK_MS, "stalled_interval_ms": KILL_STALLED_INTERVAL_MS}
    return settings.model_copy(
        update={
            "redis_url": options.redis or embedded.url(directory / "redis"),
            "queue_prefix": f"email-demo-{uuid.uuid4().hex[:8]}",
            "start_email_worker": False,
            "api_host": "127.0.0.1",
            "port": 0,
            "smtp_host": "127.0.0.1",
            "smtp_port": smtp_port,
            "shutdown_timeout": SHUTDOWN_S,
            **(stalling if options.kill else {}),
        }
    )


@asynccontextmanager
async def shared_queue(settings: Settings, options: Options, directory: Path) -> AsyncGenerator[EmailQueue]:
    """The queue as the demonstration sees it; the first to open it starts the embedded server, its close ends it."""
    queue = open_queue(settings, options.redis or f"embedded://{directory / 'redis'}")
    try:
        await queue.jobs.counts()
        yield queue
    finally:
        with anyio.move_on_after(SHUTDOWN_S, shield=True):  # also after Ctrl-C: the server must not outlive us
            if options.redis is not None and not options.keep:
                await queue.obliterate(force=True)
                await forget_shared_state(settings)
            await queue.close()


async def forget_shared_state(settings: Settings) -> None:
    """Delete what the instances kept beside the queue."""
    async with open_redis(settings) as client:
        async for key in client.scan_iter(f"{ServiceKeys.of(settings).base}*"):
            await client.delete(key)


async def start_children(options: Options, settings: Settings, crew: Crew) -> dict[str, str]:
    """Start all processes at once, wait until each is ready; returns the URL of each API."""
    apis = [await start_child(crew, f"api-{n}", API, settings) for n in range(1, options.apis + 1)]
    workers = [await start_child(crew, f"worker-{n}", WORKER, settings) for n in range(1, options.workers + 1)]
    for worker in workers:
        await worker.wait_for_event("worker ready")
    ports = {api.name: (await api.wait_for_event("listening"))["port"] for api in apis}
    return {name: f"http://{settings.api_host}:{port}" for name, port in ports.items()}


async def start_child(crew: Crew, name: str, module: str, settings: Settings) -> Child:
    """Start one instance with the settings of the run and its name as instance id."""
    return await crew.start(name, module, {**os.environ, **settings.environment(), "INSTANCE_ID": name})


class Work:
    """The part of a run in which mails travel: posts all invites and watches until every job is done with."""

    def __init__(self, options: Options, settings: Settings, sink: SmtpSink, crew: Crew, apis: ApiInstances) -> None:
        self.invites = plan_invites(options.invites)
        self.faults: list[str] = []
        self.duration_s = 0.0
        self._options = options
        self._settings = settings
        self._sink = sink
        self._crew = crew
        self._apis = apis

    async def run(self, display: ProgressDisplay) -> None:
        """Return when all is done or the timeout has passed; the faults say which."""
        started = monotonic()
        with anyio.move_on_after(self._options.timeout) as deadline:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._apis.post_invites, self.invites)
                if self._options.kill:
                    tasks.start_soon(self._kill_in_the_middle)
                await self._watch(display, started)
        self.duration_s = monotonic() - started
        if deadline.cancelled_caught:
            self.faults.append(f"not finished after {self._options.timeout:.0f} s")

    async def _watch(self, display: ProgressDisplay, started: float) -> None:
        """Ask the instances in turn, so that each is seen to answer while mails travel."""
        for name in cycle(self._apis.names):
            self._crew.check_alive()
            try:
                stats = await self._apis.stats(name)
            except httpx.HTTPError:
                await anyio.sleep(POLL_S)
                self._crew.check_alive()  # says more than a refused connection, if the instance is gone
                raise
            progress = self._progress(stats, monotonic() - started)
            display.show(progress)
            if progress.finished >= len(self.invites):
                return
            await anyio.sleep(POLL_S)

    def _progress(self, stats: dict[str, int], elapsed_s: float) -> Progress:
        ledger = self._sink.ledger
        return Progress(
            elapsed_s=elapsed_s,
            invites=len(self.invites),
            accepted=ledger.deliveries,
            deferred=ledger.deferred.total(),
            refused=ledger.refused.total(),
            stats=stats,
        )

    async def _kill_in_the_middle(self) -> None:
        """kill -9 the first worker when half the mails are out, and start another, as a supervisor would."""
        ledger = self._sink.ledger
        await ledger.until(lambda: ledger.deliveries >= len(self.invites) // 2, timeout=self._options.timeout)
        await self._crew.kill("worker-1")
        successor = await start_child(self._crew, "worker-1-again", WORKER, self._settings)
        await successor.wait_for_event("worker ready")


async def read_jobs(queue: EmailQueue) -> list[JobRecord]:
    """Every job of the queue, whatever its state."""
    states = [state for state in JobState if state is not JobState.UNKNOWN]
    return [record_of(job, state) for state in states async for job in queue.jobs.iterate(state)]


def record_of(job: EmailJob, state: JobState) -> JobRecord:
    """What the audit needs to know of a job."""
    return JobRecord(
        job_id=job.id,
        state=state,
        attempts_made=job.attempts_made,
        attempts_started=job.attempts_started,
        processed_by=job.processed_by or "nobody",
    )


async def run(options: Options, environment: Settings, console: Console) -> int:
    """Perform in a temporary directory, report what was wrong; returns the exit status."""
    directory = Path(tempfile.mkdtemp(prefix="pyqueue-email-"))
    faults: Sequence[str] = ()
    try:
        faults = (await perform(options, environment, directory, console)).faults
    except* (ChildFailed, PyqueueError, redis.exceptions.RedisError, httpx.HTTPError) as failures:
        faults = [str(failure) or repr(failure) for failure in leaves(failures)]
    finally:
        if options.keep:
            console.print(f"logs and data are in {directory}", soft_wrap=True)
        else:
            shutil.rmtree(directory, ignore_errors=True)
    for fault in faults:
        console.print(f"wrong: {fault}", style="red", markup=False, soft_wrap=True)
    return 1 if faults else 0


def leaves(group: BaseExceptionGroup[Exception]) -> Iterator[Exception]:
    """The errors in a group and in the groups in it."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from leaves(error)
        else:
            yield error


async def run_until_signalled(options: Options, environment: Settings, console: Console) -> int:
    """Run; SIGINT and SIGTERM end it early, children and server first."""
    status = 128 + signal.SIGTERM

    async def obey_signals(scope: anyio.CancelScope) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(obey_signals, tasks.cancel_scope)
        status = await run(options, environment, console)
        tasks.cancel_scope.cancel()
    return status


def main() -> None:
    """Entry point of the demonstration."""
    options = parse_options()
    # Where its own servers listen is decided by the run.
    settings = load_settings(redis_url=options.redis or "unix://", smtp_host="127.0.0.1")
    sys.exit(anyio.run(run_until_signalled, options, settings, Console()))


if __name__ == "__main__":
    main()
