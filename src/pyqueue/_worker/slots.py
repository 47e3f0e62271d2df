"""Slots: a set of long-lived tasks that run claimed jobs, grown on demand up to the concurrency.

A task per job would cost more than everything else the worker does for a small job; handing a job to a waiting task
costs one future. For the same reason a processor is cancelled through its slot's task (`Task.cancel` and `uncancel`,
as `asyncio.timeout` does it) instead of a cancel scope per job, which measured 4.6 us against 2.6 us for the hand-over.
Jobs beyond the concurrency wait here for their turn: those that were claimed ahead (`prefetch`), and those that were
on their way when the concurrency was lowered.
The tasks are no children of a group, because a group waits for its children: a processor that swallows every
cancellation would keep a closing worker for ever. It is left behind instead.
Knows nothing of Redis. The engine starts jobs here and is told when they end; the worker and the leases cancel them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

import anyio

from pyqueue._worker.held import CancelReason, Held

#: A processor that swallowed its cancellation is cancelled again after this long: time enough for an orderly clean-up.
CANCEL_AGAIN_S: Final = 5.0
#: What slots get to end in, at last. Those of processors that ended before need none of it.
_END_S: Final = 0.5

logger = logging.getLogger("pyqueue.worker")


class Slots:
    """Runs up to `concurrency` jobs at once and keeps up to `prefetch` more.

    `run_job` must not raise; `started` is called as each job starts, `finished` as it ends.
    """

    def __init__(
        self,
        run_job: Callable[[Held], Awaitable[None]],
        *,
        started: Callable[[Held], None],
        finished: Callable[[Held], None],
        concurrency: int,
        prefetch: int = 0,
    ) -> None:
        self.prefetch = prefetch
        """Jobs that may wait for their turn."""
        self._concurrency = concurrency
        self._run_job = run_job
        self._started = started
        self._finished = finished
        self._running: dict[Held, None] = {}  # in the order in which they started
        self._waiting: deque[Held] = deque()
        self._suspects = 0
        self._idle: list[asyncio.Future[Held]] = []
        self._emptied: asyncio.Event | None = None  # while somebody waits for it
        self._tasks: set[asyncio.Task[None]] = set()
        self._crashed: asyncio.Future[None] | None = None  # needs a running event loop

    @property
    def concurrency(self) -> int:
        """Jobs that run at once. Where it is raised, jobs that wait start at once."""
        return self._concurrency

    @concurrency.setter
    def concurrency(self, value: int) -> None:
        self._concurrency = value
        self._start_waiting()

    @property
    def capacity(self) -> int:
        """Jobs that may be in this worker's hands at once."""
        return self._concurrency + self.prefetch

    @property
    def free(self) -> int:
        """Jobs that could be taken now; negative after the concurrency was lowered below what runs."""
        return self._concurrency + self.prefetch - len(self._running) - len(self._waiting)

    @property
    def running(self) -> int:
        """Jobs whose processors run."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Jobs that wait for their turn."""
        return len(self._waiting)

    @property
    def suspects(self) -> int:
        """Jobs here that were active when a worker died."""
        return self._suspects

    def open(self) -> None:
        """Take jobs from now on; `run` follows. In the event loop that runs them."""
        self._crashed = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Keep the slots alive until cancelled; raises what a slot raises, which is a defect."""
        assert self._crashed is not None, "open() comes first"
        try:
            await self._crashed
        finally:
            with anyio.CancelScope(shield=True):
                await self._end_all()

    def start(self, held: Held) -> None:
        """Hand a job to an idle slot, or to a new one; where all are busy it waits for its turn.

        A suspect waits in front: if this worker dies meanwhile, that counts against it.
        """
        self._suspects += held.is_suspect
        if len(self._running) < self._concurrency:
            self._run(held)
        elif held.is_suspect:
            self._waiting.appendleft(held)
        else:
            self._waiting.append(held)

    def withdraw(self) -> list[Held]:
        """Take back the jobs that wait for their turn, the next one first."""
        withdrawn = list(self._waiting)
        self._waiting.clear()
        for held in withdrawn:
            self._left(held)
        return withdrawn

    def _begin(self, held: Held) -> None:
        self._running[held] = None
        self._started(held)

    def _run(self, held: Held) -> None:
        self._begin(held)
        while self._idle:
            waiting = self._idle.pop()
            if not waiting.done():
                waiting.set_result(held)
                return
        assert self._crashed is not None, "open() comes first"
        task = asyncio.get_running_loop().create_task(self._slot(held), name="pyqueue slot")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _start_waiting(self) -> None:
        """Start jobs that wait, as far as there is room."""
        while self._waiting and len(self._running) < self._concurrency:
            self._run(self._waiting.popleft())

    def cancel(self, held: Held, reason: CancelReason) -> None:
        """Cancel the processor of a job, again and again until it ends; a job that waits for its turn is dropped."""
        if held.cancel_reason is None:
            held.cancel_reason = reason
            if held in self._running:
                self._deliver(held)
            elif held in self._waiting:
                self._waiting.remove(held)
                self._left(held)

    def cancel_all(self, reason: CancelReason) -> None:
        """Cancel every running processor, the last one first: where they clean up equally fast, the jobs that go back
        then stand in line as they did."""
        for held in tuple(reversed(self._running)):
            self.cancel(held, reason)

    async def wait_empty(self) -> None:
        """Wait until no processor runs."""
        if self._running or self._waiting:
            self._emptied = self._emptied or asyncio.Event()
            await self._emptied.wait()

    def job_of(self, task: asyncio.Task[Any] | None) -> Held | None:
        """The job that a task runs, if it is a slot's."""
        return next((held for held in self._running.copy() if held.task is task and task is not None), None)

    async def _slot(self, held: Held) -> None:
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        while True:
            held.task = task
            await self._run_job(held)
            held.task = None
            if held.cancels:
                await _absorb_cancellation(task, held.cancels)
            self._end(held)
            if task.cancelling():  # it is the slot that is to end, and not only its job
                if self._crashed is not None and not self._crashed.done():
                    self._start_waiting()
                return
            if self._waiting and len(self._running) < self._concurrency:
                held = self._waiting.popleft()
                self._begin(held)
                await asyncio.sleep(0)  # replies and other tasks have their turn, too
            else:
                waiting: asyncio.Future[Held] = loop.create_future()
                self._idle.append(waiting)
                held = await waiting

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._crashed is None or self._crashed.done() or task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self._crashed.set_exception(error)

    async def _end_all(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_END_S)
        for held in (one for one in self._running if one.task is not None):
            logger.error(
                "job %s (%s) of queue %s swallows its cancellation and is left running: its lock runs out, and another "
                "worker runs it again meanwhile; let CancelledError pass",
                held.job.id,
                held.job.name,
                held.job.queue,
            )

    def _end(self, held: Held) -> None:
        del self._running[held]
        self._left(held)
        self._finished(held)

    def _left(self, held: Held) -> None:
        self._suspects -= held.is_suspect
        if self._emptied is not None and not (self._running or self._waiting):
            self._emptied.set()
            self._emptied = None

    def _deliver(self, held: Held) -> None:
        # A job that has not begun yet has no task; it sees its cancel_reason when it begins.
        if held.task is not None:
            held.cancels += 1
            held.task.cancel(f"cancelled because {held.cancel_reason.value}" if held.cancel_reason else None)
            asyncio.get_running_loop().call_later(CANCEL_AGAIN_S, self._deliver, held)


async def _absorb_cancellation(task: asyncio.Task[Any], count: int) -> None:
    """Take back cancellations that were meant for the job, so that they do not reach the slot."""
    for _ in range(count):
        task.uncancel()
    # One that was asked for while the processor was just returning is still to come (before Python 3.13).
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0)
