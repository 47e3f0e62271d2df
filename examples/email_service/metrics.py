"""The metrics of one instance for Prometheus: its own counters, and the state of the queue at the moment of the scrape.

Every instance exports the whole queue's gauges, so any of them may be scraped; queries take the maximum over instances.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from examples.email_service.gate import GateState
from examples.email_service.queue_state import QueueSnapshot

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# From a server on the same network to one that greets slowly on purpose.
JOB_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
REQUEST_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2.5, 5)


class ServiceMetrics:
    """One registry per instance, so that tests may run several in one process."""

    def __init__(self, queue: str, instance: str) -> None:
        self._queue = queue
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._jobs = Gauge(
            "email_queue_jobs", "Jobs by state; due is part of delayed.", ["queue", "state"], registry=registry
        )
        self._paused = Gauge("email_queue_paused", "1 while the queue is paused.", ["queue"], registry=registry)
        self._oldest = Gauge(
            "email_queue_oldest_waiting_seconds",
            "Age of the job that has waited longest since it was due.",
            ["queue"],
            registry=registry,
        )
        self._backlog = Gauge(
            "email_queue_backlog",
            "Waiting, prioritized, due and active jobs; 0 while paused.",
            ["queue"],
            registry=registry,
        )
        self._smtp_up = Gauge(
            "email_smtp_up",
            "1 while mails may be handed to the mail server, 0 while the circuit is open.",
            registry=registry,
        )
        self.worker_jobs = Counter(
            "email_worker_jobs", "Jobs of this instance by outcome.", ["instance", "outcome"], registry=registry
        )
        self.job_seconds = Histogram(
            "email_worker_job_seconds",
            "Time that a mail took from start to settled.",
            ["instance"],
            buckets=JOB_BUCKETS_S,
            registry=registry,
        ).labels(instance)
        self._running = Gauge(
            "email_worker_running", "Mails that this instance sends now.", ["instance"], registry=registry
        ).labels(instance)
        self._concurrency = Gauge(
            "email_worker_concurrency", "Mails that it may send at a time.", ["instance"], registry=registry
        ).labels(instance)
        self.stalled = Counter(
            "email_worker_stalled",
            "Jobs of dead workers that this instance took back.",
            ["instance"],
            registry=registry,
        ).labels(instance)
        self.sent = Counter("email_sent", "Mails by what became of them.", ["result"], registry=registry)
        self.rate_limit_hits = Counter(
            "email_rate_limit_hits", "Jobs that went back because of the rate limit.", registry=registry
        )
        self.http_seconds = Histogram(
            "email_http_request_seconds",
            "Time that a request took.",
            ["method", "route", "status"],
            buckets=REQUEST_BUCKETS_S,
            registry=registry,
        )
        for result in ("accepted", "already_sent", "unsure", "deferred", "refused", "unavailable"):
            self.sent.labels(result)  # a rate() over a series that appears with its first event misses that event
        for outcome in ("completed", "failed", "returned"):
            self.worker_jobs.labels(instance, outcome)

    def observe_queue(self, snapshot: QueueSnapshot, gate: GateState) -> None:
        """Take over what the queue and the gate look like."""
        for state, count in snapshot.counts.items():
            self._jobs.labels(self._queue, state).set(count)
        self._paused.labels(self._queue).set(snapshot.is_paused)
        self._oldest.labels(self._queue).set(snapshot.oldest_waiting_s)
        self._backlog.labels(self._queue).set(snapshot.backlog)
        self._smtp_up.set(gate.circuit == "closed")

    def observe_worker(self, running: int, concurrency: int) -> None:
        """Take over what the worker is doing."""
        self._running.set(running)
        self._concurrency.set(concurrency)

    def render(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)
