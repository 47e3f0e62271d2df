"""How a closing worker ends: when it stops waiting for its processors, and when for Redis.

    open -> finishing (until the deadline, if there is one) -> cancelling (processors over the deadline; their jobs are
    handed back) -> settling (what has ended; bounded, because Redis may be down) -> over

`life` asks for it, once or again with an earlier deadline; `enforce` runs beside the engine.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Final

import anyio

from pyqueue._redis.outage import Outage
from pyqueue._worker.engine import Engine
from pyqueue._worker.held import CancelReason
from pyqueue._worker.slots import Slots

#: What a cancelled processor gets for its clean-up, and then Redis to take the outcomes, when there was a deadline.
GRACE_S: Final = 5.0
#: Without a deadline, outcomes are kept for Redis to come back until their locks may have run out, at most so long.
MAX_PATIENCE_S: Final = 30.0
#: How long an unanswered exchange without outcomes holds up the close while Redis is down.
EMPTY_HANDED_S: Final = 1.0
#: A processor that swallowed its cancellation is cancelled again as its grace ends; this long it has to heed that.
_LAST_CHANCE_S: Final = 0.5
_LOOK_S: Final = 0.1


class Closing:
    """The deadline of one worker. `stop_claiming` is called at the first request."""

    def __init__(self, stop_claiming: Callable[[], None]) -> None:
        self._stop_claiming = stop_claiming
        self._requested = asyncio.Event()
        self._deadline = math.inf  # on the clock of anyio.current_time()
        self._finishing: anyio.CancelScope | None = None

    @property
    def is_requested(self) -> bool:
        """Whether the worker is closing or closed."""
        return self._requested.is_set()

    def request(self, timeout_s: float | None) -> None:
        """Close; a further request can only bring the deadline forward."""
        if timeout_s is not None:
            self._deadline = min(self._deadline, anyio.current_time() + timeout_s)
            if self._finishing is not None:
                self._finishing.deadline = self._deadline
        if not self.is_requested:
            self._requested.set()
            self._stop_claiming()

    async def enforce(self, slots: Slots, engine: Engine, outage: Outage, lock_s: float) -> None:
        """Cancel what is over the deadline; return when the engine need not be waited for any longer."""
        await self._requested.wait()
        with anyio.CancelScope(deadline=self._deadline) as self._finishing:
            await slots.wait_empty()
        if slots.running:
            slots.cancel_all(CancelReason.CLOSING)
            with anyio.move_on_after(GRACE_S):
                await slots.wait_empty()
        waited_s = 0.0
        while waited_s < (EMPTY_HANDED_S if outage.is_down and not engine.unsettled else self._patience_s(lock_s)):
            if slots.running and not engine.unsettled and waited_s >= _LAST_CHANCE_S:
                return  # nothing is left but processors that swallow their cancellation
            await anyio.sleep(_LOOK_S)
            waited_s += _LOOK_S

    def _patience_s(self, lock_s: float) -> float:
        """For the outcomes; a deadline may have been set, or brought forward, since they are waited for."""
        return min(lock_s, MAX_PATIENCE_S) if self._deadline == math.inf else GRACE_S
