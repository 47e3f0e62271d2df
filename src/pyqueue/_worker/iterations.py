"""Keep job schedulers going: the next job of a scheduler is created when this worker takes one of its jobs.

For intervals the claiming script does that itself, mostly; what it left is done here.

1. `follow` is awaited between a claim and the start of its jobs, and costs nothing unless a scheduler made one of them.
2. What fails because Redis does not answer is kept and tried again by `run`; the jobs start meanwhile. Trying twice is
   harmless, because a scheduler goes on once per job. What fails otherwise is left to 3.
3. At the start and then every `interval_ms` a search gives schedulers whose pending job was lost, or whose worker died
   in between, a new one. It is one short call per worker and interval; the search ends at once where there are none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

import anyio

from pyqueue._redis.outage import Outage, is_outage
from pyqueue._store.scheduling import create_next, is_iteration, repair
from pyqueue._store.settling import Claimed
from pyqueue._store.store import Store
from pyqueue.errors import RedisRefused

#: How long claimed jobs wait for their successors at most; a quarter of their lock's life if that is less.
_PATIENCE_S: Final = 2.0


class Iterations:
    """The scheduler part of one worker. `report` hears of what went wrong.

    outage: shared with the worker. refusals: for scripts that the server refuses while it accepts the worker's others.
    """

    def __init__(
        self,
        store: Store,
        interval_ms: int,
        lock_ms: int,
        *,
        outage: Outage,
        refusals: Outage,
        report: Callable[[Exception], None],
    ) -> None:
        self._store = store
        self._interval_s = interval_ms / 1000
        self._patience_s = min(_PATIENCE_S, lock_ms / 4000)
        self._outage = outage
        self._refusals = refusals
        self._report = report
        self._unfollowed: list[Claimed] = []
        self._wake = anyio.Event()

    async def follow(self, claimed: Sequence[Claimed]) -> None:
        """Create what follows the iterations among these jobs. Never raises; one round trip if there are any."""
        iterations = [one for one in claimed if is_iteration(one)]
        if not iterations:
            return
        try:
            with anyio.fail_after(self._patience_s):
                await self._create(iterations)
        except Exception as error:
            self._report(error)
            self._unfollowed += iterations
            self._wake.set()

    async def run(self) -> None:
        """Make up for what failed, and repair, until cancelled."""
        next_repair = 0.0
        while True:
            began = time.monotonic()
            try:
                if self._unfollowed:
                    await self._create(self._unfollowed.copy())
                elif next_repair <= time.monotonic():
                    next_repair = time.monotonic() + self._interval_s
                    self._report_all(await repair(self._store))
                self._outage.recovered()
                self._refusals.recovered()
            except Exception as error:
                await self._failed(error, began)
            if not self._unfollowed:
                self._wake = anyio.Event()
                with anyio.move_on_after(next_repair - time.monotonic()):
                    await self._wake.wait()

    async def _create(self, iterations: Sequence[Claimed]) -> None:
        self._report_all(await create_next(self._store, iterations))
        self._unfollowed = [one for one in self._unfollowed if one not in iterations]

    async def _failed(self, error: Exception, began: float) -> None:
        if is_outage(error):
            await anyio.sleep(self._outage.failed(error, began))
        elif isinstance(error, RedisRefused):
            await anyio.sleep(self._refusals.failed(error))
        else:
            self._report(error)
            self._unfollowed.clear()

    def _report_all(self, errors: Sequence[Exception]) -> None:
        for error in errors:
            self._report(error)
