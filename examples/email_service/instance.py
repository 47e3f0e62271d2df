"""One instance of the service: its connections, its queue, the worker it may have, and how all of that starts and ends.

start:  heartbeats, then the worker (if it has one)
drain:  from the signal on: not ready any more, the worker claims nothing more and finishes what it sends
end:    worker closed, connections to the mail server closed, queue closed, heartbeat withdrawn, Redis closed
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from time import monotonic, process_time
from typing import Literal

import anyio
import redis.exceptions
from starlette.applications import Starlette

from examples.email_service.gate import Gate, GateState
from examples.email_service.heartbeats import Durations, Heartbeats, InstanceReport
from examples.email_service.jobs import open_queue
from examples.email_service.metrics import ServiceMetrics
from examples.email_service.queue_state import QueueSnapshot, read_queue
from examples.email_service.sender import Sender
from examples.email_service.settings import Settings
from examples.email_service.shared import ServiceKeys, open_redis
from pyqueue import RedisRefused

log = logging.getLogger(__name__)

Role = Literal["api", "worker", "api+worker"]

# Closing sends what was added and not yet sent. Nobody waits for that any more, so without Redis it is given up soon.
CLOSE_TIMEOUT_S = 1.0

# A probe that waited longer for Redis would itself time out in most orchestrators (Kubernetes: 1 s by default).
PING_TIMEOUT_S = 0.8


class Instance:
    """Everything of one process. `lifespan` is entered once."""

    def __init__(self, settings: Settings, role: Role) -> None:
        self.settings = settings
        self.role: Role = role
        self.is_draining = False
        self.metrics = ServiceMetrics(settings.queue_name, settings.instance_id)
        self.response_times = Durations()
        self._started = monotonic()
        self._cpu = _CpuMeter()
        self._closing: asyncio.Task[None] | None = None
        keys = ServiceKeys.of(settings)
        self.redis = open_redis(settings)
        self.queue = open_queue(settings)
        self.gate = Gate(self.redis, keys, self.queue, settings)
        self.heartbeats = Heartbeats(self.redis, keys, settings.instance_id)
        self.sender = None if role == "api" else Sender(settings, self.redis, self.gate, self.metrics)

    @contextlib.asynccontextmanager
    async def lifespan(self, _app: Starlette | None = None) -> AsyncGenerator[None]:
        """Start, serve, drain, end."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.heartbeats.run, self.report)
                async with self.sender.running() if self.sender else contextlib.nullcontext():
                    yield
                    self.begin_drain()
                    if self._closing is not None:
                        await self._closing
                tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await self._close_connections()
            log.info("instance closed")

    def begin_drain(self) -> None:
        """Take no more work; called by the signal handler, and again at the end. Returns at once."""
        if not self.is_draining:
            self.is_draining = True
            if self.sender is not None:
                self._closing = asyncio.create_task(self.sender.close())

    async def redis_answers(self) -> bool:
        """Whether Redis answers, soon enough for a probe."""
        try:
            with anyio.fail_after(PING_TIMEOUT_S):
                await self.redis.ping()
        except (TimeoutError, redis.exceptions.RedisError, RedisRefused):
            return False
        return True

    async def look(self) -> tuple[QueueSnapshot, GateState]:
        """The queue and the gate at this moment, for stats, metrics and the scaling signal."""
        return await read_queue(self.queue, self.redis), await self.gate.state()

    def report(self) -> InstanceReport:
        """The heartbeat of this instance."""
        return InstanceReport(
            instance_id=self.settings.instance_id,
            role=self.role,
            draining=self.is_draining,
            uptime_s=round(monotonic() - self._started, 1),
            cpu_percent=self._cpu.percent(),
            response_p95_ms=self.response_times.p95_ms(),
            worker=None if self.sender is None else self.sender.report(),
        )

    async def _close_connections(self) -> None:
        with anyio.move_on_after(CLOSE_TIMEOUT_S):
            await self.queue.close()
        with anyio.move_on_after(CLOSE_TIMEOUT_S), contextlib.suppress(redis.exceptions.RedisError):
            await self.heartbeats.forget()
        await self.redis.aclose()


class _CpuMeter:
    """CPU time of this process against the clock."""

    def __init__(self) -> None:
        self._at = monotonic()
        self._used = process_time()

    def percent(self) -> float:
        """Percent of one CPU since the last call."""
        at, used = monotonic(), process_time()
        share = (used - self._used) / max(at - self._at, 0.001)
        self._at, self._used = at, used
        return round(100 * share, 1)
