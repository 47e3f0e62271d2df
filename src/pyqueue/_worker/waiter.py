"""Wait until there may be work, and wake the engine.

    1. wait until the engine has found nothing ready, and has nothing to settle or to land (`Engine.wait_drained`)
    2. block on the queue's marker for the drain delay: that is what a lost marker costs
    3. the engine's claim behind the pop (`standing`) tells what there is; where no claim stood:
       popped the base marker, or nothing in time: the engine asks Redis for jobs
       popped the marker of a delayed job: nobody else will be woken for it, so the engine's timer is set

A pop is never cancelled except by `interrupt` (close, pause, fewer slots). What it popped is then unknown, so the
engine puts the marker back with its next exchange.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import anyio

from pyqueue._redis.commands import Commands
from pyqueue._redis.links import Link
from pyqueue._redis.outage import Outage
from pyqueue._worker.engine import Engine
from pyqueue._worker.marker import CUT_OFF_S, MAX_BLOCK_S, pop_marker

#: A busy worker sees so often to its connection, which a restarted server has forgotten. Slow enough to cost nothing.
_LISTED_S: Final = 15.0


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
        self._is_followed = False  # by a claim

    async def run(self) -> None:
        """Wait and wake until cancelled."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._stay_listed)
            while True:
                await asyncio.sleep(0)  # what a claim behind the last pop has brought starts first
                await self._engine.wait_drained()
                with anyio.CancelScope() as self._blocking:
                    await self._wait_for_marker()
                self._blocking = None

    def interrupt(self) -> None:
        """Stop blocking: the engine is closing, was paused, or has fewer slots now."""
        if self._blocking is not None:
            self._engine.recall()
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
        if self._is_followed:
            return
        if score is None:
            self._engine.supply.wake()
        elif 0 < score < math.inf:
            self._engine.supply.delayed_until(math.trunc(score))

    async def _pop(self) -> float | None:
        self._engine.is_blocking = True
        self._is_followed = False
        try:
            return await pop_marker(self._commands, self._marker, self._block_s, self._popped, self._follow)
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await anyio.sleep(CUT_OFF_S)
            self._engine.marker_lost()
            raise
        finally:
            self._engine.is_blocking = False
            self._engine.changed()

    def _follow(self, link: Link, block_s: float) -> None:
        self._is_followed = self._engine.stand_by(link, block_s)

    def _popped(self) -> None:
        if not self._is_followed:
            self._engine.marker_popped()
