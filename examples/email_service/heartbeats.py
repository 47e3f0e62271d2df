"""Heartbeats: every instance tells the others, through Redis, how it is and what it has done.

A heartbeat is one JSON value that runs out by itself, so an instance that died is gone from the list some seconds
later, and no API needs to know where the others are.
"""

import logging
from collections import deque
from collections.abc import Callable
from typing import Literal

import anyio
import redis.exceptions
from pydantic import BaseModel, ConfigDict, ValidationError
from redis.asyncio import Redis

from examples.email_service.shared import ServiceKeys

log = logging.getLogger(__name__)

BEAT_S = 2.0

# Three beats may get lost before an instance counts as gone.
LIFE_S = 8

# Durations that the averages are made from: some minutes of an ordinary instance, 8 KiB.
SAMPLES = 1000


class Durations:
    """The last durations of one kind, in seconds: their average and 95th percentile."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=SAMPLES)

    def add(self, seconds: float) -> None:
        """One more."""
        self._recent.append(seconds)

    def average_ms(self) -> float:
        """0 while there is none."""
        return round(1000 * sum(self._recent) / len(self._recent), 1) if self._recent else 0.0

    def p95_ms(self) -> float:
        """The duration that 95 % do not exceed (nearest rank); 0 while there is none."""
        if not self._recent:
            return 0.0
        return round(1000 * sorted(self._recent)[-(-len(self._recent) * 95 // 100) - 1], 1)


class SmtpReport(BaseModel):
    """Connections of one instance to the mail server and what became of its mails."""

    model_config = ConfigDict(frozen=True)

    connections: int = 0
    """Open ones, in use or warm."""
    in_use: int = 0
    max_connections: int = 0
    opened: int = 0
    """Opened since start; far fewer than mails when the pool keeps them warm."""
    connect_failures: int = 0
    sent: int = 0
    """Mails that the server accepted."""
    deferred: int = 0
    refused: int = 0
    success_rate: float | None = None
    """Accepted of all that the server was asked to take; None before the first."""


class WorkerReport(BaseModel):
    """One worker as it sees itself."""

    model_config = ConfigDict(frozen=True)

    state: Literal["new", "running", "closing", "closed"]
    paused: bool
    running: int
    concurrency: int
    processed: int
    """Jobs completed since start."""
    failed: int
    """Attempts that failed since start."""
    stalled: int
    """Jobs of dead workers that this one took back."""
    average_ms: float
    p95_ms: float
    rate_limit_hits: int
    idle_because: str
    smtp: SmtpReport


class InstanceReport(BaseModel):
    """One instance as it sees itself: its heartbeat, and a row of the stats."""

    model_config = ConfigDict(frozen=True)

    instance_id: str
    role: Literal["api", "worker", "api+worker"]
    draining: bool
    uptime_s: float
    cpu_percent: float
    """Of one CPU, since the last heartbeat: an event loop cannot use more."""
    response_p95_ms: float
    """Of the API's recent answers; 0 for a worker without API."""
    worker: WorkerReport | None


class Heartbeats:
    """Sends the heartbeat of one instance and reads those of all."""

    def __init__(self, redis: Redis, keys: ServiceKeys, instance_id: str) -> None:
        self._redis = redis
        self._keys = keys
        self._instance_id = instance_id

    async def run(self, report: Callable[[], InstanceReport]) -> None:
        """Beat until cancelled; without Redis it goes on trying."""
        while True:
            try:
                await self.beat(report())
            except redis.exceptions.RedisError as error:
                log.debug("heartbeat not sent", extra={"error": repr(error)})
            await anyio.sleep(BEAT_S)

    async def beat(self, report: InstanceReport) -> None:
        """Send one. Two round trips."""
        seconds, _ = await self._redis.time()
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.set(self._keys.instance(self._instance_id), report.model_dump_json(), ex=LIFE_S)
            pipeline.zadd(self._keys.instances, {self._instance_id: seconds})
            pipeline.zremrangebyscore(self._keys.instances, "-inf", seconds - LIFE_S)
            pipeline.expire(self._keys.instances, 10 * LIFE_S)
            await pipeline.execute()

    async def forget(self) -> None:
        """Say that this instance is gone. One round trip."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.delete(self._keys.instance(self._instance_id))
            pipeline.zrem(self._keys.instances, self._instance_id)
            await pipeline.execute()

    async def all(self) -> list[InstanceReport]:
        """The instances that are alive, by their ids. Two round trips."""
        names = sorted(map(str, await self._redis.zrange(self._keys.instances, 0, -1)))
        values = await self._redis.mget([self._keys.instance(name) for name in names]) if names else []
        return [report for value in values if value is not None and (report := _parse(str(value))) is not None]


def _parse(value: str) -> InstanceReport | None:
    try:
        return InstanceReport.model_validate_json(value)
    except ValidationError:  # of a release with other fields, during a rolling restart
        return None
