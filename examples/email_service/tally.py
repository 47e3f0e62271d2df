"""What one worker has done since it started: the numbers of its heartbeat and of its metrics, counted in one place."""

from time import monotonic
from typing import Literal

from examples.email_service.heartbeats import Durations, SmtpReport, WorkerReport
from examples.email_service.jobs import EmailWorker
from examples.email_service.metrics import ServiceMetrics
from examples.email_service.smtp_pool import SmtpPool

Result = Literal["accepted", "already_sent", "unsure", "deferred", "refused", "unavailable"]
Outcome = Literal["completed", "failed", "returned"]


class Tally:
    """Counts the events of one worker."""

    def __init__(self, metrics: ServiceMetrics, instance_id: str) -> None:
        self._metrics = metrics
        self._instance_id = instance_id
        self.durations = Durations()
        self.outcomes: dict[Outcome, int] = {"completed": 0, "failed": 0, "returned": 0}
        self.results: dict[Result, int] = dict.fromkeys(
            ("accepted", "already_sent", "unsure", "deferred", "refused", "unavailable"), 0
        )
        self.stalled = 0
        self.rate_limit_hits = 0

    def count_result(self, result: Result) -> None:
        """What became of a mail at the server."""
        self.results[result] += 1
        self._metrics.sent.labels(result).inc()

    def count_outcome(self, outcome: Outcome) -> None:
        """What became of a job's attempt."""
        self.outcomes[outcome] += 1
        self._metrics.worker_jobs.labels(self._instance_id, outcome).inc()

    def count_stalled(self) -> None:
        """A job of a dead worker was taken back."""
        self.stalled += 1
        self._metrics.stalled.inc()

    def count_rate_limit_hit(self) -> None:
        """A job went back because of the rate limit."""
        self.rate_limit_hits += 1
        self._metrics.rate_limit_hits.inc()

    def observe_since(self, started: float) -> None:
        """An attempt that began at that moment (monotonic) has ended."""
        seconds = monotonic() - started
        self.durations.add(seconds)
        self._metrics.job_seconds.observe(seconds)

    def totals(self) -> dict[str, int]:
        """Everything that was counted, for the log."""
        counts = dict[str, int]([*self.outcomes.items(), *self.results.items()])
        return {**counts, "stalled": self.stalled, "rate_limit_hits": self.rate_limit_hits}

    def report(self, worker: EmailWorker, pool: SmtpPool) -> WorkerReport:
        """The worker's part of a heartbeat."""
        health = worker.health()
        return WorkerReport(
            state=health.state,  # type: ignore[arg-type]  # one of the four words, says its documentation
            paused=health.is_paused,
            running=health.running,
            concurrency=health.concurrency,
            processed=self.outcomes["completed"],
            failed=self.outcomes["failed"],
            stalled=self.stalled,
            average_ms=self.durations.average_ms(),
            p95_ms=self.durations.p95_ms(),
            rate_limit_hits=self.rate_limit_hits,
            idle_because=health.reason,
            smtp=self._smtp(pool),
        )

    def _smtp(self, pool: SmtpPool) -> SmtpReport:
        sent, deferred, refused = (self.results[result] for result in ("accepted", "deferred", "refused"))
        asked = sent + deferred + refused
        return SmtpReport(
            connections=pool.connections,
            in_use=pool.in_use,
            max_connections=pool.size,
            opened=pool.opened,
            connect_failures=pool.connect_failures,
            sent=sent,
            deferred=deferred,
            refused=refused,
            success_rate=round(sent / asked, 4) if asked else None,
        )
