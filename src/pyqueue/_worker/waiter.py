"""Wait until there may be work, and wake the engine.

    1. wait until the engine has found nothing ready (`Engine.wait_drained`)
    2. block on the queue's marker for the drain delay: that is what a lost marker costs
    3. popped the base marker, or nothing in time: the engine asks Redis for jobs
       popped the marker of a delayed job: nobody else will be woken for it, so the engine's timer is set

A pop is never cancelled except by `interrupt` (close, pause). What it popped is then unknown, so the engine puts the
marker back with its next exchange.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

import anyio

from pyqueue._redis.commands import Commands, NothingRan
from pyqueue._redis.links import Link
from pyqueue._redis.outage import Outage
from pyqueue._redis.replies import text
from pyqueue._worker.engine import Engine

#: Longest block, whatever the options say: BullMQ's cap, and the bound on noticing a connection that died silently.
MAX_BLOCK_S: Final = 10.0
#: Shortest block: what Redis is told is rounded to milliseconds, and 0 means for ever.
_MIN_BLOCK_S: Final = 0.001
#: A pop that has not returned so long after its block time is given up with its connection, as in BullMQ.
_OVERDUE_S: Final = 1.0
#: Redis must see the end of a connection that was cut off while blocking before the marker is put back, or it would
#: hand the marker to that connection. Generous for one loop of the server.
CUT_OFF_S: Final = 0.02
#: A busy worker sees so often to its connection, which a restarted server has forgotten. Slow enough to cost nothing.
_LISTED_S: Final = 15.0


async def pop_marker(
    commands: Commands, marker: str, block_s: float, popped: Callable[[], None] = lambda: None
) -> float | None:
    """Block for a marker; its score (0 = work is ready, else when a delayed job is due, in ms), or None in the end.

    `popped` is called when work is ready: a turn of the event loop before this returns, if the connection is open.
    """
    block_s = max(block_s, _MIN_BLOCK_S)
    command = ("BZPOPMIN", marker, f"{block_s:.3f}")
    link = commands.idle(marker)
    if link is not None:
        with suppress(NothingRan):
            return await _pop_on(link, commands, command, block_s + _OVERDUE_S, popped)
    score = _score(await commands.execute(*command, timeout_s=block_s + _OVERDUE_S))
    if score is not None and score <= 0:
        popped()
    return score


async def _pop_on(
    link: Link, commands: Commands, command: tuple[str, ...], timeout_s: float, popped: Callable[[], None]
) -> float | None:
    done: asyncio.Future[float | None] = asyncio.get_running_loop().create_future()
    commands.start_command(link, command, _score, partial(_told, done, popped), timeout_s=timeout_s)
    try:
        return await done
    finally:
        if done.cancelled():
            await link.drop()  # or its reply would come to the next command; after that it is another's


def _score(reply: Any) -> float | None:
    return None if not reply else float(text(reply[2]))


def _told(done: asyncio.Future[float | None], popped: Callable[[], None], answer: float | Exception | None) -> None:
    if done.done():  # cancelled
        return
    if isinstance(answer, Exception):
        done.set_exception(answer)
        return
    done.set_result(answer)
    if answer is not None and answer <= 0:
        popped()


class Waiter:
    """Blocks on the marker for one engine. `commands` is a connection of its own."""

    def __init__(
        self,
        engine: Engine,
        commands: Commands,
        marker: str,
        outage: Outage,
        *,
        drain_delay_s: float,
        report: Callable[[Exception], None],
    ) -> None:
        self._engine = engine
        self._commands = commands
        self._marker = marker
        self._outage = outage
        self._block_s = min(drain_delay_s, MAX_BLOCK_S)
        self._report = report
        self._blocking: anyio.CancelScope | None = None

    async def run(self) -> None:
        """Wait and wake until cancelled."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._stay_listed)
            while True:
                await self._engine.wait_drained()
                with anyio.CancelScope() as self._blocking:
                    await self._wait_for_marker()
                self._blocking = None

    def interrupt(self) -> None:
        """Stop blocking: the engine is closing or was paused."""
        if self._blocking is not None:
            self._blocking.cancel()

    async def _stay_listed(self) -> None:
        """Keep the connection open: its name is what shows the worker to others, and a busy one may not wait for long.

        A failure is no news: the engine reports outages, and the next wait opens the connection, too.
        """
        while True:
            if not self._engine.is_blocking:
                with suppress(Exception):
                    await self._commands.execute("EXISTS", self._marker)
            await anyio.sleep(_LISTED_S)

    async def _wait_for_marker(self) -> None:
        began = time.monotonic()
        try:
            score = await self._pop()
        except Exception as error:
            if not self._outage.is_known(began):
                self._report(error)
            await anyio.sleep(self._outage.failed(error, began))
            self._engine.supply.wake()
            return
        self._outage.recovered()
        if score is None:
            self._engine.supply.wake()
        elif 0 < score < math.inf:
            self._engine.supply.delayed_until(math.trunc(score))

    async def _pop(self) -> float | None:
        self._engine.is_blocking = True
        try:
            return await pop_marker(self._commands, self._marker, self._block_s, self._engine.marker_popped)
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await anyio.sleep(CUT_OFF_S)
            self._engine.marker_lost()
            raise
        finally:
            self._engine.is_blocking = False
            self._engine.changed()
