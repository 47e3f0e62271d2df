"""The worker: its life from construction to close.

    run:   leases, stalled check, slots, waiter, closing, engine; until the engine is closing and empty-handed
    close: stop claiming -> finish what runs -> at the deadline cancel the rest and hand it back -> settle -> end the
           engine, then the other parts, then the connections -> `closed`

A run that is cancelled from outside closes with a deadline of zero before it passes the cancellation on. What happens
between is in the parts, which `wiring` builds: `engine` claims and settles, `slots` and `executor` run jobs, `leases`
keep locks, `waiter` waits for work, `stalled` recovers, `closing` keeps the deadline.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, Self, TypeAlias, TypeVar, Unpack, overload
from uuid import uuid4

import anyio
from anyio.abc import TaskGroup

from pyqueue._redis.connection import CHECK_AFTER_S, AnyRedis, Connection
from pyqueue._redis.keys import QueueKeys
from pyqueue._store.settling import ExchangeReply
from pyqueue._worker.closing import Closing
from pyqueue._worker.context import Context
from pyqueue._worker.events import Callback, CallbackT, check_event
from pyqueue._worker.executor import inspect_processor
from pyqueue._worker.wiring import Parts
from pyqueue.durations import seconds
from pyqueue.errors import ConfigurationError, PyqueueError
from pyqueue.job import Job
from pyqueue.lazy_modules import LazyModule
from pyqueue.names import check_queue_name
from pyqueue.types import SERVER_CLOCK, Clock, Processor
from pyqueue.worker_options import WorkerOptionFields, WorkerOptions

if TYPE_CHECKING:
    from pyqueue._worker import health as snapshots
else:
    snapshots = LazyModule("pyqueue._worker.health")

logger = logging.getLogger("pyqueue.worker")

DataT = TypeVar("DataT")
ResultT = TypeVar("ResultT")

WorkerEvent: TypeAlias = Literal[
    "completed", "failed", "active", "progress", "stalled", "drained", "error", "lock_lost", "ready", "closed"
]

#: Coroutine listeners that still run when everything else has ended get this long.
_LISTENERS_S: Final = 5.0


class Worker(Generic[DataT, ResultT]):
    """Runs the jobs of one queue: up to `concurrency` at a time, in the event loop or, for plain functions, in threads.

    Construct it anywhere, then `await worker.run()` or `async with worker:`. A job's lock is kept while it runs; it
    runs a second time only if this process dies or loses that lock.
    """

    def __init__(
        self,
        queue: str,
        processor: Processor[Job[DataT, ResultT], ResultT, Context] | None = None,
        *,
        connection: str | AnyRedis | Connection | None = None,
        clock: Clock = SERVER_CLOCK,
        **options: Unpack[WorkerOptionFields],
    ) -> None:
        """No I/O yet. ConfigurationError for a bad name, option or processor; UnknownOption for a wrong option name.

        processor: `process(job)` or `process(job, context)`, async or plain; None to fetch by hand. connection: a URL,
        or a `redis.asyncio` client, which stays the caller's. clock: for tests; otherwise the server's time counts.
        """
        self.options: Final = WorkerOptions(**options)
        self.queue: Final = check_queue_name(queue)
        self.id: Final = str(uuid4())
        """Unique for this object; its lock tokens are `<id>:<counter>`."""
        call = None if processor is None else inspect_processor(processor)
        self._can_run = call is not None
        self._connection = Connection.open(connection)
        self._owns_connection = not isinstance(connection, Connection)
        self._connection.check_prefix(self.options.prefix)
        self._parts = Parts(
            self.id,
            QueueKeys(self.options.prefix, self.queue),
            self._connection,
            clock,
            self.options,
            call=call,
            stop=self._stop_program,
        )
        self._closing = Closing(self._stop_claiming)
        self._started = False
        self._background: asyncio.Task[None] | None = None
        self._ending: BaseException | None = None
        self._engine_ended = asyncio.Event()
        self._closed = asyncio.Event()

    # Life.

    async def run(self) -> None:
        """Run until closed. Raises PyqueueError when there is no processor or it runs, or ran, already.

        Connection errors never end it: they are logged once per outage, emitted as `error`, and waited out.
        """
        self._begin()
        await self._live()

    async def close(self, timeout: float | timedelta | None = None, *, force: bool = False) -> None:
        """Stop claiming, let running jobs finish, settle them, and end. May be called again, to shorten the wait.

        timeout: seconds or timedelta; jobs that still run then are cancelled and handed back to the queue, with no
        attempt spent. force: the same, now. Returns within seconds after that even if Redis is down.
        """
        if self._parts.slots.job_of(asyncio.current_task()) is not None:
            raise PyqueueError("close() in a processor would wait for that processor: call it from another task")
        self._closing.request(0.0 if force else seconds(timeout))
        if not self._started:
            self._started = True
            await self._end()
        await self._closed.wait()

    async def __aenter__(self) -> Self:
        """Start in the background."""
        self._begin()
        # A task and not a task group: what enters and leaves a context (a test fixture, an application's lifespan) is
        # not always one task, which a group would need. It is awaited in __aexit__.
        self._background = asyncio.create_task(self._live(), name=f"pyqueue worker {self.queue}")
        self._background.add_done_callback(self._log_crash)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close; running jobs may finish unless the block is being cancelled."""
        with anyio.CancelScope(shield=True):
            await self.close(force=kind is not None and not issubclass(kind, Exception))
            if self._background is not None:
                await self._background

    def pause(self) -> None:
        """Claim no more jobs until `resume` and give back those claimed ahead; those that run go on. This worker only.

        `wait_idle` waits for them.
        """
        self._parts.engine.hold_back()
        self._parts.waiter.interrupt()

    def resume(self) -> None:
        """Claim jobs again."""
        self._parts.engine.resume()

    async def wait_idle(self) -> None:
        """Wait until no job is in this worker's hands: none runs, and every outcome is stored."""
        await self._parts.leases.wait_empty()

    # State.

    @property
    def name(self) -> str:
        """Its name, or ""."""
        return self.options.name

    @property
    def is_running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._started and not self._closed.is_set()

    @property
    def is_paused(self) -> bool:
        """Whether this worker is paused; a paused queue is `queue.is_paused()`."""
        return self._parts.engine.agenda.is_paused

    @property
    def concurrency(self) -> int:
        """How many jobs run at once. May be set while running: more start at once, fewer as jobs end."""
        return self._parts.slots.concurrency

    @concurrency.setter
    def concurrency(self, value: int) -> None:
        checked = WorkerOptions(concurrency=value).concurrency
        self._parts.slots.concurrency = checked
        self._parts.executor.resize(checked)
        self._slots_changed()

    @property
    def prefetch(self) -> int:
        """How many more jobs are claimed ahead. May be set while running."""
        return self._parts.slots.prefetch

    @prefetch.setter
    def prefetch(self, value: int) -> None:
        limiter = self.options.limiter
        self._parts.slots.prefetch = WorkerOptions(prefetch=value, limiter=limiter).prefetch
        self._slots_changed()

    def health(self) -> snapshots.WorkerHealth:
        """How it is, and why it is idle. No round trip."""
        parts, engine = self._parts, self._parts.engine
        state = self._state()
        return snapshots.WorkerHealth(
            state=state,
            reason=engine.agenda.why_idle() if state == "running" else f"the worker is {state}",
            is_connected=engine.was_connected and not parts.outage.is_down,
            is_paused=engine.agenda.is_paused,
            running=parts.slots.running,
            concurrency=parts.slots.concurrency,
            prefetched=parts.slots.waiting,
            unsettled=engine.unsettled,
            limited_for=engine.supply.limited_s,
            last_error=parts.callbacks.last_error,
        )

    # Events.

    @overload
    def on(self, event: WorkerEvent) -> Callable[[CallbackT], CallbackT]: ...
    @overload
    def on(self, event: WorkerEvent, callback: CallbackT) -> CallbackT: ...
    def on(self, event: WorkerEvent, callback: Callback | None = None) -> Any:
        """Call `callback`, plain or async, at an event; without it, a decorator. ConfigurationError: no such event.

        completed(job, value), failed(job, error) after each failed attempt, active(job), progress(job, progress),
        stalled(job_id), lock_lost(job), error(error), drained(), ready(), closed(). A callback that raises becomes an
        `error`; an `error` nobody listens to is logged.
        """
        check_event(event)
        if callback is None:
            return lambda function: self._parts.callbacks.add(event, function)
        return self._parts.callbacks.add(event, callback)

    def off(self, event: WorkerEvent, callback: Callback) -> None:
        """Forget a callback."""
        self._parts.callbacks.remove(event, callback)

    # By hand.

    async def get_next_job(self, token: str, *, block: bool = True) -> Job[DataT, ResultT] | None:
        """Claim one job under the caller's token; the caller settles it (`job.move_to_completed`) and keeps its lock.

        block: wait for a job; None then means that the worker was closed. Otherwise None means that there is none now,
        or that the queue is paused or limited. One round trip, or one per `drain_delay` while waiting.
        """
        return await self._parts.manual.next_job(token, block=block)

    async def _fetch(self, token: str) -> ExchangeReply:
        return await self._parts.manual.fetch(token)

    # How a run begins and ends.

    def _begin(self) -> None:
        if not self._can_run:
            raise ConfigurationError(f"worker of queue {self.queue!r} has no processor: pass one, or use get_next_job")
        if self._started:
            raise PyqueueError(f"worker of queue {self.queue!r} was started before: construct another one")
        self._started = True

    async def _live(self) -> None:
        try:
            async with anyio.create_task_group() as outer:
                outer.start_soon(self._close_when_cancelled)
                await self._run_parts()
                outer.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await self._end()
        if self._ending is not None:
            raise self._ending

    async def _run_parts(self) -> None:
        cancelled = False
        async with anyio.create_task_group() as group:
            group.cancel_scope.shield = True
            await self._start_parts(group)
            try:
                await self._engine_ended.wait()
            except asyncio.CancelledError:  # Task.cancel() knows no shield; asyncio.run does it at Ctrl-C
                cancelled = True
                self._closing.request(0.0)
                await self._engine_ended.wait()
            group.cancel_scope.cancel()
        if cancelled:
            raise asyncio.CancelledError

    async def _start_parts(self, group: TaskGroup) -> None:
        parts = self._parts
        parts.confirmations.bind(group, parts.engine.finished)
        await group.start(parts.slots.run)
        if not self.options.skip_lock_renewal:
            group.start_soon(parts.keep_leases)
        if not self.options.skip_stalled_check:
            group.start_soon(parts.stalled.run)
        group.start_soon(parts.retention.run)
        group.start_soon(parts.iterations.run)
        group.start_soon(parts.waiter.run)
        group.start_soon(self._check_server)
        group.start_soon(self._run_engine)

    async def _check_server(self) -> None:
        await self._connection.check_server(after_s=CHECK_AFTER_S)

    async def _run_engine(self) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self._lose_patience, group.cancel_scope)
            await self._parts.engine.run()
            group.cancel_scope.cancel()
        self._engine_ended.set()

    async def _lose_patience(self, engine_scope: anyio.CancelScope) -> None:
        parts = self._parts
        await self._closing.enforce(parts.slots, parts.engine, parts.outage, self.options.lock_duration / 1000)
        if parts.engine.unsettled:
            logger.error(
                "worker of queue %s closes with %d outcomes that Redis did not take: these jobs will run again",
                self.queue,
                parts.engine.unsettled,
            )
        engine_scope.cancel()

    async def _close_when_cancelled(self) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            self._closing.request(0.0)

    async def _end(self) -> None:
        await self._parts.manual.end()
        for lane in self._parts.lanes:
            await lane.aclose()
        if self._owns_connection:
            await self._connection.aclose()
        self._closed.set()
        self._parts.callbacks.emit("closed")
        await self._parts.callbacks.finish(_LISTENERS_S)

    def _slots_changed(self) -> None:
        if self._parts.engine.agenda.is_overbooked:
            self._parts.waiter.interrupt()
        self._parts.engine.changed()

    def _stop_claiming(self) -> None:
        self._parts.engine.hold_back(closing=True)
        self._parts.waiter.interrupt()

    def _stop_program(self, error: BaseException) -> None:
        self._ending = self._ending or error
        self._closing.request(0.0)

    def _state(self) -> str:
        if self._closed.is_set():
            return "closed"
        if self._closing.is_requested:
            return "closing"
        return "running" if self._started else "new"

    def _log_crash(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and isinstance(task.exception(), Exception):
            logger.error("the worker of queue %s has crashed", self.queue, exc_info=task.exception())
