"""The worker as its users hold it: what it may be told and asked.

What happens when is decided in `life`, which runs the parts; this class checks arguments and passes them on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, Self, TypeAlias, TypeVar, Unpack, overload
from uuid import uuid4

import anyio

from pyqueue._redis.connection import AnyRedis, Connection
from pyqueue._redis.keys import QueueKeys
from pyqueue._store.settling import ExchangeReply
from pyqueue._worker.context import Context
from pyqueue._worker.events import Callback, CallbackT, check_event
from pyqueue._worker.executor import inspect_processor
from pyqueue._worker.life import Life
from pyqueue._worker.wiring import Parts
from pyqueue.durations import seconds
from pyqueue.errors import PyqueueError
from pyqueue.job import Job
from pyqueue.lazy_modules import LazyModule
from pyqueue.names import check_queue_name
from pyqueue.types import SERVER_CLOCK, Clock, Processor
from pyqueue.worker_options import WorkerOptionFields, WorkerOptions

if TYPE_CHECKING:
    from pyqueue._worker import health as snapshots
else:
    snapshots = LazyModule("pyqueue._worker.health")

DataT = TypeVar("DataT")
ResultT = TypeVar("ResultT")

WorkerEvent: TypeAlias = Literal[
    "completed", "failed", "active", "progress", "stalled", "drained", "error", "lock_lost", "ready", "closed"
]


class Worker(Generic[DataT, ResultT]):
    """Runs the jobs of one queue: up to `concurrency` at a time, in the event loop or, for plain functions, in threads.

    Construct it anywhere, then `await worker.run()` or `async with worker:`. A job's lock is kept while it runs; it
    runs a second time only if this process dies or loses that lock. Options are listed in docs/reference/options.md.
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
        options: the fields of `pyqueue.worker_options.WorkerOptions`, which tells unit and default of each.
        """
        self.options: Final = WorkerOptions(**options)
        self.queue: Final = check_queue_name(queue)
        self.id: Final = str(uuid4())
        """Unique for this object; its lock tokens are `<id>:<counter>`."""
        call = None if processor is None else inspect_processor(processor)
        connected = Connection.open(connection)
        connected.check_prefix(self.options.prefix)
        self._address = connected.url_safe
        keys = QueueKeys(self.options.prefix, self.queue)
        self._life = Life(
            self.queue,
            connected,
            self.options,
            build=partial(Parts, self.id, keys, connected, clock, self.options, call=call),
            can_run=call is not None,
            owns_connection=not isinstance(connection, Connection),
        )
        self._parts = self._life.parts

    # Life.

    async def run(self) -> None:
        """Run until closed. Raises PyqueueError when there is no processor or it runs, or ran, already.

        Connection errors never end it: they are logged once per outage, emitted as `error`, and waited out.
        """
        self._life.begin()
        await self._life.live()

    async def close(self, timeout: float | timedelta | None = None, *, force: bool = False) -> None:
        """Stop claiming, let running jobs finish, settle them, and end. May be called again, to shorten the wait.

        timeout: seconds or timedelta; jobs that still run then are cancelled and handed back to the queue, with no
        attempt spent. force: the same, now. Returns within seconds after that even if Redis is down.
        """
        self._check_caller()
        await self._life.close(0.0 if force else seconds(timeout))

    async def __aenter__(self) -> Self:
        """Start in the background."""
        # A task and not a task group: what enters and leaves a context (a test fixture, an application's lifespan) is
        # not always one task, which a group would need. It is awaited in __aexit__.
        self._life.begin_in_background()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close; running jobs may finish, or go back to the queue where the block, or this wait, is cancelled."""
        self._check_caller()
        try:
            if kind is None or issubclass(kind, Exception):
                await self._life.close(None)
        finally:
            with anyio.CancelScope(shield=True):
                await self._life.leave()

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
        return self._life.is_running

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
        state = self._life.state
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

    def __repr__(self) -> str:
        slots = self._parts.slots
        state = "paused" if self._life.state == "running" and self.is_paused else self._life.state
        return f"<Worker {self.queue!r} at {self._address}: {state}, {slots.running} of {slots.concurrency} jobs>"

    async def _fetch(self, token: str) -> ExchangeReply:
        return await self._parts.manual.fetch(token)

    def _slots_changed(self) -> None:
        if self._parts.engine.agenda.is_overbooked:
            self._parts.waiter.interrupt()
        self._parts.engine.changed()

    def _check_caller(self) -> None:
        if self._parts.slots.job_of(asyncio.current_task()) is not None:
            raise PyqueueError("close() in a processor would wait for that processor: call it from another task")
