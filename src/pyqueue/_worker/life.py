"""The life of one worker: the start of its parts, what ends them, and in which order.

    run:   leases, stalled check, slots, waiter, closing, engine; until the engine is closing and empty-handed
    close: stop claiming -> finish what runs -> at the deadline cancel the rest and hand it back -> settle -> end the
           engine, then the other parts, then the connections -> `closed`

A run that is cancelled from outside closes with a deadline of zero before it passes the cancellation on. What happens
between is in the parts, which `wiring` builds: `engine` claims and settles, `slots` and `executor` run jobs, `leases`
keep locks, `waiter` waits for work, `stalled` recovers, `closing` keeps the deadline. Called by `Worker` alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final, Protocol

import anyio
from anyio.abc import TaskGroup

from pyqueue._redis.connection import CHECK_AFTER_S, Connection
from pyqueue._worker.closing import Closing
from pyqueue._worker.wiring import Parts
from pyqueue.errors import ConfigurationError, PyqueueError
from pyqueue.worker_options import WorkerOptions

logger = logging.getLogger("pyqueue.worker")

#: Coroutine listeners that still run when everything else has ended get this long.
_LISTENERS_S: Final = 5.0


class BuildParts(Protocol):
    """Makes the parts; `stop` is called when a processor wants to end the program."""

    def __call__(self, *, stop: Callable[[BaseException], None]) -> Parts: ...


class Life:
    """Builds the parts of a worker and runs them once: new -> running -> closing -> closed."""

    def __init__(
        self,
        queue: str,
        connection: Connection,
        options: WorkerOptions,
        *,
        build: BuildParts,
        can_run: bool,
        owns_connection: bool,
    ) -> None:
        self.parts: Final = build(stop=self._stop_program)
        self._queue = queue
        self._connection = connection
        self._owns_connection = owns_connection
        self._options = options
        self._can_run = can_run
        self._closing = Closing(self._stop_claiming)
        self._started = False
        self._lived = False
        self._background: asyncio.Task[None] | None = None
        self._end_of_unlived: asyncio.Task[None] | None = None
        self._ending: BaseException | None = None
        self._engine_ended = asyncio.Event()
        self._closed = asyncio.Event()

    @property
    def state(self) -> str:
        """`new`, `running`, `closing` or `closed`."""
        if self._closed.is_set():
            return "closed"
        if self._closing.is_requested:
            return "closing"
        return "running" if self._started else "new"

    @property
    def is_running(self) -> bool:
        """Whether it has begun and has not ended; a closing worker runs."""
        return self._started and not self._closed.is_set()

    def begin(self) -> None:
        """Claim the one run that there is; `live` follows. Raises PyqueueError where there can be none."""
        if not self._can_run:
            raise ConfigurationError(f"worker of queue {self._queue!r} has no processor: pass one, or use get_next_job")
        if self._started:
            raise PyqueueError(f"worker of queue {self._queue!r} was started before, or closed: construct another one")
        self._started = True

    def begin_in_background(self) -> None:
        """Begin, and live in a task of its own; `leave` waits for its end. Raises as `begin` does."""
        self.begin()
        self._background = asyncio.create_task(self.live(), name=f"pyqueue worker {self._queue}")
        self._background.add_done_callback(self._background_ended)

    async def live(self) -> None:
        """Run the parts until the worker is closed."""
        self._lived = True
        try:
            async with anyio.create_task_group() as outer:
                outer.start_soon(self._close_when_cancelled)
                await self._run_parts()
                outer.cancel_scope.cancel()
        finally:
            await self._end()
        if self._ending is not None:
            raise self._ending

    async def close(self, timeout_s: float | None) -> None:
        """End it, within `timeout_s` if there is one, and wait for the end; also where it never began."""
        self._closing.request(timeout_s)
        if not self._started:
            self._started = True
            await self._end()
        await self._closed.wait()

    async def leave(self) -> None:
        """End it at once, and wait for the end of the background: some seconds, in which being cancelled again changes
        nothing. Raises what the background raised."""
        if self._background is None:
            await self.close(0.0)
            return
        self._closing.request(0.0)
        is_over = cancelled = False
        while not is_over:
            try:
                await self._closed.wait()
                await asyncio.wait([task for task in (self._background, self._end_of_unlived) if task is not None])
                is_over = True
            except asyncio.CancelledError:
                cancelled = True
        if cancelled:
            raise asyncio.CancelledError
        if not self._background.cancelled():
            self._background.result()

    async def _run_parts(self) -> None:
        cancelled = False
        async with anyio.create_task_group() as group:
            group.cancel_scope.shield = True
            self._start_parts(group)
            while not self._engine_ended.is_set():
                try:
                    await self._engine_ended.wait()
                except asyncio.CancelledError:  # Task.cancel() knows no shield; asyncio.run does it at Ctrl-C
                    self._closing.request(0.0)  # it ends within seconds, so that being cancelled again changes nothing
                    if group.cancel_scope.cancel_called:  # a part has crashed
                        raise
                    cancelled = True
            group.cancel_scope.cancel()
        if cancelled:
            raise asyncio.CancelledError

    def _start_parts(self, group: TaskGroup) -> None:
        parts = self.parts
        parts.confirmations.bind(group, parts.engine.finished)
        parts.slots.open()
        group.start_soon(parts.slots.run)
        if not self._options.skip_lock_renewal:
            group.start_soon(parts.keep_leases)
        if not self._options.skip_stalled_check:
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
            await self.parts.engine.run()
            group.cancel_scope.cancel()
        self._engine_ended.set()

    async def _lose_patience(self, engine_scope: anyio.CancelScope) -> None:
        parts = self.parts
        await self._closing.enforce(parts.slots, parts.engine, parts.outage, self._options.lock_duration / 1000)
        if parts.engine.unsettled:
            logger.error(
                "worker of queue %s closes with %d outcomes that Redis did not take: these jobs will run again",
                self._queue,
                parts.engine.unsettled,
            )
        engine_scope.cancel()

    def _background_ended(self, task: asyncio.Task[None]) -> None:
        if not self._lived:  # cancelled before its first step
            self._end_of_unlived = asyncio.create_task(self._end())
        if task.cancelled():
            logger.warning("the task of the worker of queue %s was cancelled: it is closed", self._queue)
        elif isinstance(task.exception(), Exception):
            logger.error("the worker of queue %s has crashed", self._queue, exc_info=task.exception())

    async def _close_when_cancelled(self) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            self._closing.request(0.0)

    async def _end(self) -> None:
        """Close what is open, and tell. Task.cancel() knows no shield and may hit any step: the others are taken."""
        with anyio.CancelScope(shield=True):
            async with AsyncExitStack() as last_first:
                last_first.push_async_callback(self._tell_closed)
                if self._owns_connection:
                    last_first.push_async_callback(self._connection.aclose)
                for lane in self.parts.lanes:
                    last_first.push_async_callback(lane.aclose)
                self.parts.leases.end()
                await self.parts.manual.end()

    async def _tell_closed(self) -> None:
        self._closed.set()
        self.parts.callbacks.emit("closed")
        await self.parts.callbacks.finish(_LISTENERS_S)

    def _stop_claiming(self) -> None:
        self.parts.engine.hold_back(closing=True)
        self.parts.waiter.interrupt()

    def _stop_program(self, error: BaseException) -> None:
        self._ending = self._ending or error
        self._closing.request(0.0)
