"""The thread in which leases are renewed, and from which the worker's event loop is watched.

A processor that blocks the loop would lose its job if its lock were renewed in that loop. This thread has a loop and a
connection of its own. It asks the worker's loop for a sign of life while jobs are held; when none comes it says which
job blocks and where, and in the end gives up:

    answering -> blocked (no sign of life for `WARN_AFTER_S`: one warning with job and stack)
              -> halted (none for `max_block_s`: locks run out, so that other workers take the jobs of a hung process)
              -> answering (as soon as a sign of life comes)

A C call that holds the GIL starves this thread like every other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, Final

import anyio

from pyqueue._redis.connection import Connection
from pyqueue._redis.keys import QueueKeys
from pyqueue._redis.outage import Outage
from pyqueue._store.store import Store
from pyqueue._worker.leases import Leases

logger = logging.getLogger("pyqueue.worker")

#: A loop that has not answered for so long is blocked: well above the pauses of a healthy busy loop.
WARN_AFTER_S: Final = 1.0
#: How often the loop is asked for a sign of life while jobs are held.
_ASK_EVERY_S: Final = 0.25


class LeaseThread:
    """Runs `leases` beside the loop that calls `run`. `describe` names the job that a task of that loop runs."""

    def __init__(
        self,
        leases: Leases,
        connection: Connection,
        keys: QueueKeys,
        outage: Outage,
        *,
        max_block_s: float,
        describe: Callable[[asyncio.Task[Any] | None], str],
    ) -> None:
        self._leases = leases
        self._connection = connection
        self._keys = keys
        self._outage = outage
        self._max_block_s = max_block_s
        self._describe = describe
        self._stopping = asyncio.Event()  # of the thread's loop
        self._asked_at: float | None = None
        self._warned = False

    async def run(self) -> None:
        """Renew until cancelled; returns only after the thread has ended."""
        self._loop = asyncio.get_running_loop()
        self._ident = threading.get_ident()
        ended = asyncio.Event()
        own_loop = asyncio.new_event_loop()
        # A daemon: an interpreter that exits without closing the worker must not wait for it.
        thread = threading.Thread(
            target=self._main, args=(own_loop, ended), daemon=True, name=f"pyqueue-leases-{self._keys.queue}"
        )
        thread.start()
        try:
            await ended.wait()
        finally:
            with contextlib.suppress(RuntimeError):  # it has ended by itself
                own_loop.call_soon_threadsafe(self._stopping.set)
            with anyio.CancelScope(shield=True):
                await ended.wait()

    def _main(self, own_loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: own_loop) as runner:
                runner.run(self._work())
        except Exception:
            logger.exception("the leases of queue %s stopped: a bug of pyqueue, please report it", self._keys.queue)
        finally:
            self._deliver(ended.set)

    async def _work(self) -> None:
        store = Store(self._connection.lane(deadline_s=self._leases.command_s), self._keys)
        async with anyio.create_task_group() as group:
            group.start_soon(self._leases.renew_forever, store, self._outage, self._deliver)
            group.start_soon(self._watch)
            await self._stopping.wait()
            group.cancel_scope.cancel()
        await self._connection.aclose()

    def _deliver(self, function: Callable[..., Any], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the worker's loop has been closed
            self._loop.call_soon_threadsafe(function, *arguments)

    async def _watch(self) -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(_ASK_EVERY_S)
            if time.monotonic() - began > _ASK_EVERY_S + WARN_AFTER_S:
                self._asked_at = None  # this thread stood still, too (SIGSTOP, a C call): nobody is to blame
            self._ask_or_judge()

    def _ask_or_judge(self) -> None:
        if self._asked_at is not None:
            self._judge(time.monotonic() - self._asked_at)
            return
        if self._warned:
            logger.warning("the event loop of the worker of queue %s answers again", self._keys.queue)
            self._warned = self._leases.is_halted = False
        if self._leases:
            self._asked_at = time.monotonic()
            self._deliver(self._answer)

    def _answer(self) -> None:
        self._asked_at = None

    def _judge(self, blocked_s: float) -> None:
        if blocked_s >= WARN_AFTER_S and not self._warned:
            self._warned = True
            logger.warning(
                "the event loop of the worker of queue %s is blocked by %s; locks are renewed meanwhile, other jobs "
                "stand still: await, use a plain def processor, or run it in a process\n%s",
                self._keys.queue,
                self._describe(_current_task(self._loop)),
                _stack_of(self._ident),
            )
        if blocked_s >= self._max_block_s and not self._leases.is_halted:
            self._leases.is_halted = True
            logger.error(
                "the event loop of the worker of queue %s has been blocked for %.0f s (max_loop_block): its locks are "
                "not renewed any more, other workers take its jobs",
                self._keys.queue,
                blocked_s,
            )


def _current_task(loop: asyncio.AbstractEventLoop) -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task(loop)
    except RuntimeError:
        return None


def _stack_of(ident: int) -> str:
    frame = sys._current_frames().get(ident)
    return "".join(traceback.format_stack(frame)) if frame is not None else ""
