"""Which part of a worker knows which: builds them all for one worker. No behaviour of its own.

connections: exchanges (one call at a time), blocking, leases (in `LeaseThread`), and the pool for the verbs of jobs
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import anyio

from pyqueue._redis.connection import Connection
from pyqueue._redis.keys import QueueKeys
from pyqueue._redis.outage import Outage
from pyqueue._store.settling import Claimed, ClaimRequest
from pyqueue._store.store import Store
from pyqueue._store.stored_options import keep_of
from pyqueue._worker.confirmations import Confirmations
from pyqueue._worker.engine import Engine
from pyqueue._worker.events import Callbacks
from pyqueue._worker.executor import Call, Executor
from pyqueue._worker.held import Held
from pyqueue._worker.iterations import Iterations
from pyqueue._worker.lease_thread import LeaseThread
from pyqueue._worker.leases import Leases
from pyqueue._worker.manual import ManualFetch
from pyqueue._worker.retention import RetentionCheck
from pyqueue._worker.running_job import RunningJob
from pyqueue._worker.slots import Slots
from pyqueue._worker.stalled import StalledCheck
from pyqueue._worker.waiter import Waiter
from pyqueue.job import Terms
from pyqueue.types import Clock
from pyqueue.verdict import Verdicts
from pyqueue.worker_options import WorkerOptions

logger = logging.getLogger("pyqueue.worker")

#: An exchange gets so many lock durations (and no more than any command): later, what it claimed is another's. Shorter,
#: and an event loop that was blocked for more than a lock would take a reply that waits to be read for a lost one.
_EXCHANGE_LOCKS: Final = 2
#: Pause before a lease thread that ended by itself is replaced.
_RESTART_LEASES_S: Final = 0.5


class Parts:
    """The parts of one worker. `stop` is called when a processor wants to end the program."""

    def __init__(
        self,
        worker_id: str,
        keys: QueueKeys,
        connection: Connection,
        clock: Clock,
        options: WorkerOptions,
        *,
        call: Call | None,
        stop: Callable[[BaseException], None],
    ) -> None:
        self._options = options
        self._keys = keys
        self._connection = connection
        self._label = f"{keys.queue}:{options.name}" if options.name else keys.queue
        self.callbacks = Callbacks(self._label)
        self.outage = Outage(f"worker {self._label}: {connection.url_safe}", cap_s=options.run_retry_delay / 1000)
        self.lanes = (
            connection.lane(deadline_s=_EXCHANGE_LOCKS * options.lock_duration / 1000),
            connection.lane(blocking=True, client_name=client_name(keys, options.name)),
        )
        self.verdicts = Verdicts(
            options.remove_on_complete, options.remove_on_fail, options.backoffs, options.max_started_attempts
        )
        self._claim = claim_request(worker_id, options)
        self._terms = Terms(self.verdicts, self._claim, partial(self.callbacks.emit, "progress"))
        self._jobs = Store(connection.commands, keys, clock)
        self._exchanges = Store(self.lanes[0], keys, clock)
        self.executor = Executor(call, self.verdicts, stop, worker_name=options.name, threads=options.concurrency)
        self.slots = Slots(
            self.executor.run,
            started=self._started,
            finished=self._finished,
            concurrency=options.concurrency,
            prefetch=options.prefetch,
        )
        self.leases = Leases(
            options.lock_duration, options.lock_renew_ms, lost=self._locks_lost, report=self.callbacks.report
        )
        self._wire_engine(options)
        self._wire_suppliers(options)
        self._wire_checks(options)

    def _wire_engine(self, options: WorkerOptions) -> None:
        """What settles and claims."""
        self.confirmations = Confirmations(
            self._keys.queue,
            slots=self.slots,
            leases=self.leases,
            callbacks=self.callbacks,
            verdicts=self.verdicts,
            outage=self.outage,
        )
        self.iterations = Iterations(
            self._exchanges,
            options.stalled_interval,
            options.lock_duration,
            outage=self.outage,
            refusals=Outage(f"schedulers of {self._label}: {self._connection.url_safe}"),
            report=self.callbacks.report,
        )
        self.engine = Engine(
            self._exchanges,
            self._claim,
            slots=self.slots,
            leases=self.leases,
            callbacks=self.callbacks,
            confirmations=self.confirmations,
            iterations=self.iterations,
            outage=self.outage,
            make_job=self._make_job,
            max_limit_ms=options.maximum_rate_limit_delay,
        )

    def _wire_suppliers(self, options: WorkerOptions) -> None:
        """What finds jobs: the marker, a fetch by hand."""
        self.waiter = Waiter(
            self.engine,
            self.lanes[1],
            self._keys.marker,
            self.outage,
            drain_delay_s=options.drain_delay / 1000,
            report=self.callbacks.report,
        )
        self.manual = ManualFetch(
            self._exchanges,
            self.lanes[1],
            self._claim,
            self._make_job,
            self.verdicts,
            drain_delay_s=options.drain_delay / 1000,
            max_limit_s=options.maximum_rate_limit_delay / 1000,
        )

    def _wire_checks(self, options: WorkerOptions) -> None:
        """What looks after the queue now and then: jobs of dead workers, finished jobs that have grown old."""
        self.stalled = StalledCheck(
            self._exchanges,
            options.max_stalled_count,
            options.stalled_interval,
            self.outage,
            recovered=lambda job_id: self.callbacks.emit("stalled", job_id),
            report=self.callbacks.report,
        )
        self.retention = RetentionCheck(
            self._exchanges,
            keep_of(options.remove_on_complete),
            keep_of(options.remove_on_fail),
            options.stalled_interval,
            self.outage,
            report=self.callbacks.report,
        )

    async def keep_leases(self) -> None:
        """Renew locks until cancelled, in a thread where the connection allows it."""
        if self._connection.can_derive:
            while True:
                await LeaseThread(
                    self.leases,
                    self._connection.derive_for_thread(),
                    self._keys,
                    self.outage,
                    max_block_s=self._options.max_loop_block / 1000,
                    describe=self._describe,
                ).run()
                # It ended by itself, which only a defect does: without renewal every long job would run twice.
                await anyio.sleep(_RESTART_LEASES_S)
        logger.warning(
            "the client of queue %s cannot be used from a thread: locks are renewed in the event loop of the worker, "
            "and a processor that blocks it for %d ms loses its jobs",
            self._keys.queue,
            self._options.lock_duration,
        )
        await self.leases.renew_forever(self._exchanges, self.outage, _call)

    def _started(self, held: Held) -> None:
        self.callbacks.emit("active", held.job)

    def _finished(self, held: Held) -> None:
        self.engine.finished(held)

    def _locks_lost(self, gone: list[Held]) -> None:
        self.confirmations.locks_lost(gone)

    def _make_job(self, claimed: Claimed) -> RunningJob:
        job_id, token, fields = claimed
        return RunningJob(self._jobs, job_id, fields, token, self._terms)

    def _describe(self, task: asyncio.Task[Any] | None) -> str:
        held = self.slots.job_of(task)
        return f"job {held.job.id} ({held.job.name})" if held is not None else "something that is not a job"


def client_name(keys: QueueKeys, worker_name: str) -> str:
    """The name of a worker's blocking connection, by which `queue.workers()` and Bull Board find it."""
    name = f"{keys.prefix}:{base64.b64encode(keys.queue.encode()).decode()}"
    return f"{name}:w:{worker_name}" if worker_name else name


def claim_request(worker_id: str, options: WorkerOptions) -> ClaimRequest:
    """What all claims of a worker have in common."""
    limiter = options.limiter
    return ClaimRequest(
        jobs=0,
        token=worker_id,
        lock_ms=options.lock_duration,
        worker_name=options.name,
        limiter_max=limiter.max if limiter else 0,
        limiter_duration_ms=limiter.duration if limiter else 0,
        metrics_points=options.metrics,
    )


def _call(function: Callable[..., Any], *arguments: Any) -> None:
    function(*arguments)
