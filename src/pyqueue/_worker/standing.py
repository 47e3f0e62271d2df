"""A claim that stands behind the waiter's pop, on the same connection.

Redis executes it in the moment in which the pop ends, whatever ended it: a job that comes to an idle worker is locked
and read without a round trip in between. Meanwhile the slots that it may fill are reserved.

Its exchanges have a sender of their own, because those of the engine do not wait for it. When the connection is cut off
nobody knows whether the claim was executed; so it is recalled: sent again under its number, asking for no job. Either
it brings what was claimed, or the one that was cut off will find its number taken.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Final

from pyqueue._redis.links import Link
from pyqueue._redis.outage import Outage
from pyqueue._store.sender import Sender
from pyqueue._store.settling import ClaimRequest, ExchangeReply, start_settle_and_claim
from pyqueue._store.store import Store
from pyqueue._worker.flights import Flight, next_exchange
from pyqueue._worker.leases import Leases
from pyqueue._worker.marker import OVERDUE_S

#: What is claimed may start within a lock's time from when the claim was sent. The pop gets at most half of that.
_POPS_PER_LOCK: Final = 2


class StandingClaim:
    """At most one at a time. `landed` is told what comes of it, unless it was recalled."""

    def __init__(
        self,
        store: Store,
        outage: Outage,
        leases: Leases,
        landed: Callable[[Flight, ExchangeReply | Exception], None],
    ) -> None:
        self.jobs = 0
        """Slots that it may fill; 0 = none stands."""
        self.sender = Sender(outage)
        self._store = store
        self._leases = leases
        self._landed = landed
        self._flight: Flight | None = None

    def send(self, request: ClaimRequest, link: Link, block_s: float) -> bool:
        """Send it behind a pop that has just left here and blocks for up to `block_s`; False if that cannot be."""
        if not (self.sender.is_up and block_s * 1000 * _POPS_PER_LOCK <= request.lock_ms):
            return False
        exchange = next_exchange(self.sender, request.token)
        flight = Flight([], [], request, False, exchange, self.sender, 0, time.monotonic(), False)
        if not start_settle_and_claim(
            self._store,
            flight.settlements,
            request,
            partial(self._answered, flight),
            rearm=False,
            sender=exchange.sender,
            sequence=exchange.sequence,
            behind=link,
            timeout_s=block_s + OVERDUE_S,
        ):
            return False
        self._flight, self.jobs = flight, request.jobs
        self._leases.expect(exchange, after_s=block_s)
        return True

    def recall(self) -> Flight | None:
        """What tells whether it was executed, to be sent; None if none stands."""
        flight = self._flight
        self._flight, self.jobs = None, 0
        if flight is None:
            return None
        return flight._replace(request=flight.request.sized(0, flight.request.first_token, 0))

    def _answered(self, flight: Flight, answer: ExchangeReply | Exception) -> None:
        if flight is self._flight:
            self._flight, self.jobs = None, 0
            self._landed(flight, answer)
