"""Send a worker's exchanges: at once where that needs no waiting, or the long way, again after a lost reply.

What is sent when, and what a reply means, is the engine's business.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from pyqueue._redis.outage import Outage, is_outage
from pyqueue._store.sender import MAX_IN_FLIGHT, Sender
from pyqueue._store.settling import ExchangeReply, settle_and_claim, start_settle_and_claim
from pyqueue._store.store import Store
from pyqueue._worker.flights import Flight, Flights
from pyqueue._worker.leases import Leases


class Dispatch:
    """The exchanges of one worker. `landed` hears what came of one that was launched, from the connection.

    `failed` hears of an outage, once.
    """

    def __init__(
        self,
        store: Store,
        outage: Outage,
        leases: Leases,
        *,
        landed: Callable[[Flight, ExchangeReply | Exception], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self.sender = Sender(outage, lanes=MAX_IN_FLIGHT)
        self.flying = Flights()
        """Those that were launched."""
        self._store = store
        self._outage = outage
        self._leases = leases
        self._landed = landed
        self._failed = failed

    def launch(self, flight: Flight) -> bool:
        """Send an exchange at once, behind the one in flight; False if that is impossible now."""
        if not self.sender.is_up:
            return False
        self._leases.expect(flight.exchange)
        link = start_settle_and_claim(
            self._store,
            flight.settlements,
            flight.request,
            partial(self._told, flight),
            rearm=flight.rearm,
            sender=flight.exchange.sender,
            sequence=flight.exchange.sequence,
            behind=self.flying.ahead,
        )
        return self.flying.took_off(flight, link)

    def _told(self, flight: Flight, answer: ExchangeReply | Exception) -> None:
        self.flying.landed(flight)
        self._landed(flight, answer)

    async def send(self, flight: Flight, failure: Exception | None) -> ExchangeReply:
        """Send an exchange until it is answered. `failure`: what came of its launch."""
        if failure is not None:
            self._report_outage(failure, flight.began)
        return await flight.sender.send(
            partial(self._attempt, flight), number=flight.exchange.sequence, failure=failure, began=flight.began
        )

    async def _attempt(self, flight: Flight, sender: str, sequence: int) -> ExchangeReply:
        self._leases.expect(flight.exchange)
        began = time.monotonic()
        try:
            return await settle_and_claim(
                self._store,
                flight.settlements,
                flight.request,
                rearm=flight.rearm,
                sender=sender,
                sequence=sequence,
            )
        except Exception as error:
            self._report_outage(error, began)
            raise

    def _report_outage(self, error: Exception, began: float) -> None:
        """Before it is noted."""
        if is_outage(error) and not self._outage.is_known(began):
            self._failed(error)
