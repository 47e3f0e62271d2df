"""The gate before the mail server: whether mails may be handed to it now, the same for every instance.

Two things close it. A *pause*: the server said 421, and for so long nobody sends. The *circuit breaker*: after some
failed connections in a row, over all instances, nobody sends; one instance at a time probes the server, at growing
intervals, and the first success opens the gate again.

Each state is a Redis key, so an instance that dies leaves nothing behind that others could not end:

    pause              why; runs out by itself
    breaker            hash {reason, since_ms, probes}; there while the circuit is open
    breaker:failures   failed connections since the last accepted mail; runs out after 30 s without another
    breaker:cooldown   who probes next may do so when it has run out; taking it is becoming the prober

A closed gate also stops the claiming of jobs, for all workers of the queue (`limits.pause_for`); those that were
claimed before ask here.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio
import redis.exceptions
from redis.asyncio import Redis

from examples.email_service.jobs import EmailQueue
from examples.email_service.settings import Settings
from examples.email_service.shared import ServiceKeys
from examples.email_service.smtp_pool import ServerUnavailable
from pyqueue import PyqueueError

log = logging.getLogger(__name__)

FAILURES_LIFE_S = 30
MAX_COOLDOWN_S = 60.0
LOOK_S = 0.5

# A probe that takes longer has failed.
PROBE_TIMEOUT_S = 5.0

# Jobs are held back a little longer than the prober, so that a probe that succeeds finds nobody knocking.
HEAD_START_MS = 1000


class GateClosed(Exception):
    """Nobody sends at the moment; come back after `wait_ms`."""

    def __init__(self, reason: str, wait_ms: int) -> None:
        super().__init__(reason)
        self.wait_ms = wait_ms


@dataclass(frozen=True, slots=True)
class GateState:
    """What the gate looks like from everywhere."""

    circuit: str
    """`closed` (mails pass) or `open`."""
    reason: str
    """Why nobody sends; empty while mails pass."""
    paused_ms: int
    """What is left of a pause that the server asked for."""
    probes: int
    """Probes that failed since the circuit opened."""

    @property
    def is_open_for_mails(self) -> bool:
        """Whether mails pass."""
        return not self.reason


class Gate:
    """The gate as one instance sees it."""

    def __init__(self, redis: Redis, keys: ServiceKeys, queue: EmailQueue, settings: Settings) -> None:
        self._redis = redis
        self._keys = keys
        self._queue = queue
        self._instance_id = settings.instance_id
        self._threshold = settings.smtp_breaker_failures
        self._cooldown_s = settings.smtp_breaker_cooldown
        self._default_pause_s = settings.smtp_pause
        self._has_failures = False

    async def check(self) -> None:
        """Return if mails pass; raises GateClosed. One round trip."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.get(self._keys.pause)
            pipeline.pttl(self._keys.pause)
            pipeline.hget(self._keys.breaker, "reason")
            pipeline.pttl(self._keys.cooldown)
            pipeline.exists(self._keys.failures)
            pause, pause_ms, broken, cooldown_ms, failures = await pipeline.execute()
        self._has_failures = bool(failures)
        if broken is not None:
            raise GateClosed(f"the circuit is open: {broken}", max(0, cooldown_ms) + HEAD_START_MS)
        if pause is not None:
            raise GateClosed(f"the mail server asked for a pause: {pause}", max(1, pause_ms))

    async def pause(self, reason: str, seconds: float | None) -> None:
        """Nobody sends for so long (None: SMTP_PAUSE). Two round trips."""
        pause_ms = max(1, round(1000 * (self._default_pause_s if seconds is None else seconds)))
        if await self._redis.set(self._keys.pause, reason, px=pause_ms, nx=True):
            log.warning("mail server asks for a pause", extra={"reply": reason, "pause_ms": pause_ms})
            await self._queue.limits.pause_for(pause_ms)

    async def succeeded(self) -> None:
        """A mail was accepted or refused: connections work. No round trip, unless some had failed."""
        if self._has_failures:
            self._has_failures = False
            await self._redis.delete(self._keys.failures)

    async def failed(self, reason: str) -> None:
        """A connection could not be had; the last of too many opens the circuit. One round trip, then three."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.incr(self._keys.failures)
            pipeline.expire(self._keys.failures, FAILURES_LIFE_S)
            failures, _ = await pipeline.execute()
        if failures < self._threshold or not await self._redis.hsetnx(self._keys.breaker, "reason", reason):
            return
        seconds, _ = await self._redis.time()
        await self._redis.hset(self._keys.breaker, mapping={"since_ms": seconds * 1000, "probes": 0})
        await self._hold_back(self._cooldown_s)
        log.error("circuit opened", extra={"reason": reason, "failures": failures})

    async def state(self) -> GateState:
        """How the gate is. One round trip."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.get(self._keys.pause)
            pipeline.pttl(self._keys.pause)
            pipeline.hgetall(self._keys.breaker)
            pause, pause_ms, breaker = await pipeline.execute()
        return GateState(
            circuit="open" if breaker else "closed",
            reason=breaker.get("reason", "") or pause or "",
            paused_ms=max(0, pause_ms),
            probes=int(breaker.get("probes", 0)),
        )

    async def run(self, probe: Callable[[], Awaitable[None]]) -> None:
        """Probe the server whenever it is this instance's turn, until cancelled. `probe` raises ServerUnavailable."""
        while True:
            try:
                await self.probe_if_due(probe)
            except (redis.exceptions.RedisError, PyqueueError) as error:
                log.debug("circuit not examined", extra={"error": repr(error)})
            await anyio.sleep(LOOK_S)

    async def probe_if_due(self, probe: Callable[[], Awaitable[None]]) -> None:
        """Do nothing while the circuit is closed. Otherwise probe, if the cooldown is over. One round trip or more."""
        probes = await self._redis.hget(self._keys.breaker, "probes")
        if probes is None:
            return
        probing_ms = round(1000 * PROBE_TIMEOUT_S)
        if not await self._redis.set(self._keys.cooldown, self._instance_id, px=probing_ms, nx=True):
            return
        try:
            with anyio.fail_after(PROBE_TIMEOUT_S):
                await probe()
        except (ServerUnavailable, TimeoutError) as error:
            failed = int(await self._redis.hincrby(self._keys.breaker, "probes", 1))
            cooldown_s = min(self._cooldown_s * 2**failed, MAX_COOLDOWN_S)
            await self._hold_back(cooldown_s)
            log.warning("mail server still unavailable", extra={"reason": str(error), "next_probe_s": cooldown_s})
        else:
            was_open = await self._redis.delete(self._keys.breaker)
            await self._redis.delete(self._keys.failures, self._keys.cooldown)
            await self._queue.limits.resume()
            if was_open:  # else another instance has probed at the same moment
                log.info("circuit closed", extra={"probes": int(probes) + 1})

    async def _hold_back(self, seconds: float) -> None:
        cooldown_ms = round(1000 * seconds)
        await self._redis.set(self._keys.cooldown, self._instance_id, px=cooldown_ms)
        await self._queue.limits.pause_for(cooldown_ms + HEAD_START_MS)
