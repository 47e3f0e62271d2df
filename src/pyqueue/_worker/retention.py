"""Remove finished jobs that have grown too old, once at start and then every `interval_ms`.

Each finish applies its rule of retention; on an idle queue nothing finishes, so workers do it now and then. Every
worker runs this; the script lets one trimming per interval and queue take effect. A backlog goes in short calls with
pauses between them, so that Redis has time for others.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import anyio

from pyqueue._redis.outage import Outage
from pyqueue._store.settling import trim_finished
from pyqueue._store.store import Store
from pyqueue.outcomes import Keep

#: Pause between two calls of 32 removals: about ten times what one keeps Redis, which makes some 9,000 a second.
_PAUSE_S: Final = 0.0035


class RetentionCheck:
    """The periodic trimming of one worker, with its rules for jobs that have none. `report` hears what went wrong."""

    def __init__(
        self,
        store: Store,
        completed: Keep,
        failed: Keep,
        interval_ms: int,
        outage: Outage,
        *,
        report: Callable[[Exception], None],
    ) -> None:
        self._store = store
        self._rules = (completed, failed)
        self._interval_ms = interval_ms
        self._outage = outage
        self._report = report

    async def run(self) -> None:
        """Trim until cancelled; errors are reported and the next trimming comes sooner."""
        while True:
            pause_s, began = self._interval_ms / 1000, time.monotonic()
            try:
                await self._trim()
            except Exception as error:
                if not self._outage.is_known(began):
                    self._report(error)
                pause_s = min(pause_s, self._outage.failed(error, began))
            else:
                self._outage.recovered()
            await anyio.sleep(pause_s)

    async def _trim(self) -> None:
        is_resumed = False
        while await trim_finished(self._store, *self._rules, self._interval_ms, is_resumed=is_resumed):
            is_resumed = True
            await anyio.sleep(_PAUSE_S)
