"""All processes of the service on this machine, and what keeps them: started in order, restarted when they die, ended.

1. Redis (unless one is named), the SMTP sink (in this process), the API and worker instances, the balancer, and where
   they are installed Prometheus and Bull Board.
2. `supervise` starts an instance again that ends by itself, as an orchestrator would, and says so.
3. The end: the balancer first, then all instances at once with SIGTERM and their shutdown timeout, Redis last.
"""

import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Collection, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import anyio

from examples.email_service.local.programs import (
    HOST,
    Program,
    bull_board_is_installed,
    find,
    free_port,
    launch,
    start_balancer,
    start_bull_board,
    start_prometheus,
    start_redis,
)
from examples.email_service.processes import Child, ChildFailed
from examples.email_service.smtp_sink import SmtpSink

API = "examples.email_service.api"
WORKER = "examples.email_service.worker"

_WATCH_S = 0.1
_RESTART_DELAY_S = 0.5

# The programs around the instances have nothing to finish; this only bounds a hang.
_PROGRAM_END_S = 10.0


class Mode(StrEnum):
    """The three ways to deploy."""

    DEDICATED = "dedicated"
    EVERYWHERE = "everywhere"
    HYBRID = "hybrid"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to start."""

    directory: Path
    apis: int = 2
    workers: int = 2
    mode: Mode = Mode.DEDICATED
    port: int = 8080
    """Of the balancer; of the first API where nginx is not installed. 0: any free one, for all programs."""
    redis_url: str | None = None
    """None: a Redis of our own, with its data in the directory."""
    extras: bool = True
    """Whether to start Prometheus and Bull Board where they are installed."""
    environment: dict[str, str] = field(default_factory=dict)
    """Variables for all instances, over those of this process."""
    shutdown_timeout: float = 10.0


@dataclass(slots=True)
class Instance:
    """One API or worker: the same name and port over all its restarts."""

    name: str
    module: str
    port: int
    environment: dict[str, str]
    starts: int = 0
    child: Program | None = None
    is_ready: bool = False

    @property
    def url(self) -> str:
        """Where it answers requests and probes."""
        return f"http://{HOST}:{self.port}"

    async def start(self, logs: Path) -> None:
        """Start it and wait until it is ready; its process id is in a file, the log of an earlier run stays."""
        self.starts += 1
        self.is_ready = False
        log = logs / (f"{self.name}.log" if self.starts == 1 else f"{self.name}.{self.starts}.log")
        self.child = await launch(self.name, [sys.executable, "-m", self.module], log, self.environment)
        await anyio.Path(logs / f"{self.name}.pid").write_text(f"{self.child.pid}\n")
        await self.child.wait_for_event("listening" if self.module == API else "worker ready")
        self.is_ready = True


class Topology:
    """The running processes; made by `started`."""

    def __init__(self, plan: Plan, say: Callable[[str], None]) -> None:
        self.plan = plan
        self.redis_url = plan.redis_url or ""
        self.on_mail: Callable[[str], None] = lambda _addresses: None
        """Called with the recipients of each mail that the SMTP sink accepts."""
        self.sink = SmtpSink(on_accepted=lambda addresses: self.on_mail(addresses))
        self.instances: list[Instance] = []
        self.balancer_url: str | None = None
        self.prometheus_url: str | None = None
        self.bull_board_url: str | None = None
        self.faults: list[str] = []
        """What was wrong with how processes ended."""
        self._say = say

    @classmethod
    @asynccontextmanager
    async def started(cls, plan: Plan, say: Callable[[str], None] = print) -> "AsyncGenerator[Topology]":
        """Start everything, and end everything on the way out; raises ChildFailed when something does not come up."""
        topology = cls(plan, say)
        async with AsyncExitStack() as stack:
            await topology._start(stack)
            yield topology

    @property
    def apis(self) -> list[Instance]:
        """The instances that take requests."""
        return [instance for instance in self.instances if instance.module == API]

    @property
    def workers(self) -> list[Instance]:
        """The standalone workers."""
        return [instance for instance in self.instances if instance.module == WORKER]

    @property
    def url(self) -> str:
        """Where clients post: the balancer, or the first API instance."""
        return self.balancer_url or self.apis[0].url

    async def supervise(self) -> None:
        """Start again what ends by itself, until cancelled."""
        async with anyio.create_task_group() as tasks:
            for instance in self.instances:
                tasks.start_soon(self._supervise, instance)

    async def _supervise(self, instance: Instance) -> None:
        while True:
            await anyio.sleep(_WATCH_S)
            if instance.child is not None and instance.child.has_ended:
                self._say(f"{instance.name} has ended; starting it again")
                await anyio.sleep(_RESTART_DELAY_S)
                await instance.start(self.plan.directory)
                self._say(f"{instance.name} is back")

    def table(self) -> Iterator[tuple[str, str]]:
        """Name and address of everything that runs."""
        if self.balancer_url is not None:
            yield "balancer", f"{self.balancer_url}  nginx over {len(self.apis)} APIs"
        for instance in self.instances:
            pid = instance.child.pid if instance.child is not None else "-"
            yield instance.name, f"{instance.url}  pid {pid}"
        yield "redis", self.redis_url
        yield "smtp", f"{self.sink.host}:{self.sink.port}  accepts everything, delivers nowhere"
        if self.prometheus_url is not None:
            yield "prometheus", self.prometheus_url
        if self.bull_board_url is not None:
            yield "bull board", self.bull_board_url
        yield "logs", str(self.plan.directory)

    async def _start(self, stack: AsyncExitStack) -> None:
        plan = self.plan
        if plan.redis_url is None:
            port = self._port(6390)
            self._end_with(stack, await start_redis(plan.directory, port))
            self.redis_url = f"redis://{HOST}:{port}"
        await stack.enter_async_context(self.sink)
        if plan.extras and bull_board_is_installed():
            await self._start_bull_board(stack)
        nginx = find("nginx")
        self.instances = list(self._planned(first_port=0 if nginx else plan.port))
        stack.push_async_callback(self._end_instances)
        async with anyio.create_task_group() as tasks:
            for instance in self.instances:
                tasks.start_soon(instance.start, plan.directory)
        if nginx is not None:
            port = plan.port or free_port()
            ports = [instance.port for instance in self.apis]
            self._end_with(stack, await start_balancer(nginx, plan.directory, port, ports))
            self.balancer_url = f"http://{HOST}:{port}"
        prometheus = find("prometheus")
        if plan.extras and prometheus is not None:
            await self._start_prometheus(stack, prometheus)

    def _planned(self, first_port: int) -> Iterator[Instance]:
        plan = self.plan
        common = {
            **os.environ,
            **plan.environment,
            "REDIS_URL": self.redis_url,
            "SMTP_HOST": self.sink.host,
            "SMTP_PORT": str(self.sink.port),
            "API_HOST": HOST,
            "SHUTDOWN_TIMEOUT": str(plan.shutdown_timeout),
            "START_EMAIL_WORKER": str(plan.mode is not Mode.DEDICATED).lower(),
        }
        workers = 0 if plan.mode is Mode.EVERYWHERE else plan.workers
        names = [(f"api-{n}", API) for n in range(1, plan.apis + 1)]
        names += [(f"worker-{n}", WORKER) for n in range(1, workers + 1)]
        for index, (name, module) in enumerate(names):
            port = first_port if index == 0 and first_port else free_port()
            yield Instance(
                name, module, port, {**common, "INSTANCE_ID": name, "PORT": str(port), "API_PORT": str(port)}
            )

    async def _start_prometheus(self, stack: AsyncExitStack, binary: str) -> None:
        port = self._port(9090)
        targets = [instance.port for instance in self.instances]
        self._end_with(stack, await start_prometheus(binary, self.plan.directory, port, targets))
        self.prometheus_url = f"http://{HOST}:{port}"

    async def _start_bull_board(self, stack: AsyncExitStack) -> None:
        port = self._port(3002)
        names = {**os.environ, **self.plan.environment}
        queue: dict[str, str] = {name: names[name] for name in ("QUEUE_NAME", "QUEUE_PREFIX") if name in names}
        self._end_with(stack, await start_bull_board(self.plan.directory, port, self.redis_url, queue))
        self.bull_board_url = f"http://{HOST}:{port}"

    def _port(self, usual: int) -> int:
        return free_port(usual if self.plan.port else 0)

    def _end_with(self, stack: AsyncExitStack, child: Child) -> None:
        stack.push_async_callback(self._end, child, _PROGRAM_END_S)

    async def _end_instances(self) -> None:
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as tasks:
                for instance in self.instances:
                    if instance.child is not None:
                        # One that was still starting may not know yet what to do at SIGTERM.
                        good = {0} if instance.is_ready else {0, -signal.SIGTERM}
                        tasks.start_soon(self._end, instance.child, self.plan.shutdown_timeout + 5, good)

    async def _end(self, child: Child, timeout: float, good: Collection[int] = (0,)) -> None:
        """SIGTERM and wait, also when we are cancelled; another status than the good ones is a fault."""
        with anyio.CancelScope(shield=True):
            try:
                status = await child.terminate(timeout)
            except ChildFailed as failure:
                self.faults.append(str(failure))
            else:
                if status not in good:
                    self.faults.append(f"{child.name} ended with exit status {status} after SIGTERM")
