"""The service as processes: a Redis and a mail server of its own, APIs and workers that can be replaced on the way."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from examples.email_service.demo import API, WORKER, start_child
from examples.email_service.jobs import EmailQueue, open_queue
from examples.email_service.logs import read_line
from examples.email_service.processes import Child, Crew
from examples.email_service.settings import Settings
from examples.email_service.smtp_sink import SmtpSink
from pyqueue import JobState
from tests.support.server import RedisServer

SHUTDOWN_S = 15.0


class Stage:
    """What an audit works with. Names are those of the processes; a successor's name ends with a generation."""

    def __init__(self, settings: Settings, sink: SmtpSink, queue: EmailQueue, crew: Crew, directory: Path) -> None:
        self.settings = settings
        self.sink = sink
        self.queue = queue
        self.apis: dict[str, str] = {}
        """Name -> URL."""
        self.workers: list[str] = []
        self.faults: list[str] = []
        self._crew = crew
        self._directory = directory
        self._generations: dict[str, int] = {}

    async def start(self, apis: int, workers: int) -> None:
        """Start so many of each at once and wait until all are ready."""
        started = [(name, await self._launch(name, API)) for name in (f"api-{n}" for n in range(1, apis + 1))]
        working = [(name, await self._launch(name, WORKER)) for name in (f"worker-{n}" for n in range(1, workers + 1))]
        for name, child in started:
            self.apis[name] = await _url(child)
        for name, child in working:
            await child.wait_for_event("worker ready")
            self.workers.append(name)

    async def kill_worker(self, name: str) -> None:
        """kill -9, and another in its place, as a supervisor would."""
        self.workers.remove(name)
        await self._crew.kill(name)
        successor = self._successor(name)
        await (await self._launch(successor, WORKER)).wait_for_event("worker ready")
        self.workers.append(successor)

    async def restart_everything(self) -> None:
        """One process after another: the successor is ready before its predecessor gets SIGTERM, which must exit 0."""
        for name in list(self.apis):
            successor = self._successor(name)
            self.apis[successor] = await _url(await self._launch(successor, API))
            del self.apis[name]
            await self._retire(name)
        for name in list(self.workers):
            successor = self._successor(name)
            await (await self._launch(successor, WORKER)).wait_for_event("worker ready")
            self.workers.append(successor)
            self.workers.remove(name)
            await self._retire(name)

    async def end(self) -> None:
        """SIGTERM to all; every exit status but 0 is a fault."""
        self.faults += await self._crew.terminate(SHUTDOWN_S + 5)

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The log lines of all processes, dead ones included, with this event."""
        return [
            fields
            for path in sorted(self._directory.glob("*.log"))
            for line in path.read_text(errors="replace").splitlines()
            if (fields := read_line(line)).get("event") == event
        ]

    async def finished(self) -> int:
        """Jobs that are completed or failed."""
        counts = await self.queue.jobs.counts()
        return counts[JobState.COMPLETED] + counts[JobState.FAILED]

    async def wait_finished(self, count: int, timeout: float) -> None:
        """Wait until so many jobs are; a fault when it takes longer."""
        with anyio.move_on_after(timeout):
            while await self.finished() < count:  # noqa: ASYNC110 (other processes finish them)
                await anyio.sleep(0.1)
            return
        self.faults.append(f"{await self.finished()} of {count} jobs finished within {timeout:.0f} s")

    async def _launch(self, name: str, module: str) -> Child:
        return await start_child(self._crew, name, module, self.settings)

    async def _retire(self, name: str) -> None:
        status = await self._crew.retire(name, SHUTDOWN_S + 5)
        if status:
            self.faults.append(f"{name} ended with exit status {status} after SIGTERM")

    def _successor(self, name: str) -> str:
        base = name.partition("+")[0]
        self._generations[base] = self._generations.get(base, 0) + 1
        return f"{base}+{self._generations[base]}"


async def _url(api: Child) -> str:
    return f"http://127.0.0.1:{(await api.wait_for_event('listening'))['port']}"


@asynccontextmanager
async def staged(directory: Path, *, slow_s: float = 0.0, **more: Any) -> AsyncIterator[Stage]:
    """A stage without processes yet; all processes are gone afterwards.

    `more` are fields of the settings. A mail to `slow-...` takes the mail server `slow_s`.
    """
    logs = directory / "logs"
    logs.mkdir()
    with RedisServer.started(directory) as server:
        async with SmtpSink(slow_s=slow_s) as sink:
            settings = Settings(
                redis_url=server.url,
                smtp_host=sink.host,
                smtp_port=sink.port,
                start_email_worker=False,
                port=0,
                shutdown_timeout=SHUTDOWN_S,
                **more,
            )
            async with open_queue(settings) as queue, Crew(logs) as crew:
                yield Stage(settings, sink, queue, crew, logs)
