"""The sending half of an instance: the queue's worker with everything that it needs to hand mails to the server."""

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncGenerator

import anyio
from redis.asyncio import Redis

from examples.email_service.gate import Gate
from examples.email_service.heartbeats import WorkerReport
from examples.email_service.jobs import EmailWorker
from examples.email_service.mail import Mailer
from examples.email_service.metrics import ServiceMetrics
from examples.email_service.send_ledger import SendLedger
from examples.email_service.sending import MailProcessor
from examples.email_service.settings import Settings
from examples.email_service.shared import ServiceKeys
from examples.email_service.tally import Tally
from pyqueue import RateLimit, RateLimiter, Worker

log = logging.getLogger(__name__)

# A worker obeys `limits.pause_for` only if it has a rate limit; without one of our own, this is none.
ANY_RATE = RateLimit(max=1_000_000, duration=1000)

# Jobs that may start, for each mail that may be sent: the limit on mails decides, this one only keeps jobs that would
# have to wait from being started over and over. In many slices of the
# window: a place that becomes free waits for a start, on average half a slice.
STARTS_PER_MAIL = 2
MAX_SLICES = 50
MIN_STARTS_PER_SLICE = 2

# How often a mail may be in the hands of a worker that dies before it counts as the reason. Mails are small and alike:
# rolling restarts and kills are far likelier than a mail that kills.
MAX_STALLED_COUNT = 5


def start_limit(rate_max: int | None, duration_ms: int) -> RateLimit:
    """The limit on jobs that start, from the limit on mails."""
    if rate_max is None:
        return ANY_RATE
    slices = min(MAX_SLICES, max(1, rate_max // MIN_STARTS_PER_SLICE), duration_ms)
    return RateLimit(max=math.ceil(STARTS_PER_MAIL * rate_max / slices), duration=duration_ms // slices)


class Sender:
    """The worker of one instance with its mailer, and the tasks beside it. Use `running` once."""

    def __init__(self, settings: Settings, redis: Redis, gate: Gate, metrics: ServiceMetrics) -> None:
        keys = ServiceKeys.of(settings)
        self._settings = settings
        self._gate = gate
        self._limiter = rate_limiter(settings, keys)
        self.mailer = Mailer.from_settings(settings)
        self.tally = Tally(metrics, settings.instance_id)
        ledger = SendLedger(redis, keys, settings.instance_id)
        processor = MailProcessor(self.mailer, gate, ledger, self._limiter, self.tally, settings, self._hold_back)
        self.worker = self._build_worker(processor)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Send mails while the block runs; at its end wait for the worker, then close all that was opened."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._gate.run, self.mailer.pool.probe)
            tasks.start_soon(self.mailer.pool.run)
            try:
                async with self.worker:
                    yield
                    await self.close()
            finally:
                tasks.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    await self.mailer.close()
                    if self._limiter is not None:
                        await self._limiter.close()

    async def close(self) -> None:
        """Claim nothing more, finish what is being sent, hand the rest back; within `worker_grace` seconds or so."""
        await self.worker.close(timeout=self._settings.worker_grace)

    def report(self) -> WorkerReport:
        """The worker's part of a heartbeat."""
        return self.tally.report(self.worker, self.mailer.pool)

    def _hold_back(self, seconds: float) -> None:
        self.worker.pause()
        asyncio.get_running_loop().call_later(seconds, self.worker.resume)

    def _build_worker(self, processor: MailProcessor) -> EmailWorker:
        settings = self._settings
        worker: EmailWorker = Worker(
            settings.queue_name,
            processor.process,
            connection=settings.redis_url,
            prefix=settings.queue_prefix,
            concurrency=settings.email_concurrency,
            limiter=start_limit(settings.email_rate_max, settings.email_rate_duration),
            lock_duration=settings.lock_duration_ms,
            stalled_interval=settings.stalled_interval_ms,
            max_stalled_count=MAX_STALLED_COUNT,
            name=settings.instance_id,
        )
        worker.on("ready", lambda: log.info("worker ready", extra={"concurrency": settings.email_concurrency}))
        worker.on("completed", lambda _job, _value: self.tally.count_outcome("completed"))
        worker.on("failed", lambda _job, _error: self.tally.count_outcome("failed"))
        worker.on("stalled", self._take_note_of_stalled)
        worker.on("lock_lost", lambda job: log.warning("mail lost to another worker", extra={"job_id": job.id}))
        worker.on("error", lambda error: log.error("worker error", extra={"error": repr(error)}))
        worker.on("closed", lambda: log.info("worker closed", extra=self.tally.totals()))
        return worker

    def _take_note_of_stalled(self, job_id: str) -> None:
        self.tally.count_stalled()
        log.warning("mail of a dead worker taken back", extra={"job_id": job_id})


def rate_limiter(settings: Settings, keys: ServiceKeys) -> RateLimiter | None:
    """The limit on mails over all instances; None without one."""
    if settings.email_rate_max is None:
        return None
    return RateLimiter(settings.email_rate_max, settings.email_rate_duration, keys.rate, connection=settings.redis_url)
