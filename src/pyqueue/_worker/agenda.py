"""What a worker has to say next: its outcomes, its free slots and what forbids to fill them, as the next exchange.

`batch.plan` decides about sizes; here is what it is told, and what becomes of its answer. No I/O.
"""

from __future__ import annotations

import time

from pyqueue._redis.outage import Outage
from pyqueue._store.settling import ClaimRequest, Settlement
from pyqueue._worker.batch import MAX_OUTCOMES, MAX_TRIMMING_OUTCOMES, Exchange, Situation, plan, share
from pyqueue._worker.dispatch import Dispatch
from pyqueue._worker.flights import Flight, Landing, next_exchange
from pyqueue._worker.outbox import Outbox
from pyqueue._worker.slots import Slots
from pyqueue._worker.standing import StandingClaim
from pyqueue._worker.supply import Supply


class Agenda:
    """The next exchange of one worker. `claim` is the request that every exchange repeats with other sizes."""

    def __init__(
        self,
        claim: ClaimRequest,
        *,
        slots: Slots,
        outbox: Outbox,
        supply: Supply,
        standing: StandingClaim,
        dispatch: Dispatch,
        outage: Outage,
    ) -> None:
        self.is_paused = False
        self.is_closing = False
        self.rearm = False
        """The base marker is to be put back: it was popped, and this worker cannot use it."""
        self.claiming = 0
        """Slots that exchanges without an answer may fill."""
        self._claim = claim
        self._slots = slots
        self._outbox = outbox
        self._supply = supply
        self._standing = standing
        self._dispatch = dispatch
        self._outage = outage
        self._claims = 0  # so many jobs were asked for: every one has a token of its own

    @property
    def is_stopped(self) -> bool:
        """Whether no job may start here."""
        return self.is_paused or self.is_closing

    @property
    def is_full(self) -> bool:
        """Whether there is enough to say for an exchange that follows another."""
        finished = len(self._outbox.waiting)
        return finished > 0 and finished >= self._share()

    @property
    def is_overbooked(self) -> bool:
        """Whether the standing claim may bring more than there are slots for, because some were taken away."""
        return self._standing.jobs > max(0, self._slots.free - self.claiming)

    def next_flight(self, landing: Landing | None) -> Flight | None:
        """The next exchange, its outcomes taken from the outbox; None if there is nothing to say.

        `landing` is what is still to be landed.
        """
        free_slots = self._free_slots(landing)
        if not (self._outbox.waiting or self.rearm or free_slots > 0):
            return None
        exchange = plan(self._situation(landing, free_slots))
        return None if exchange is None else self._prepare(exchange)

    def standing_claim(self) -> ClaimRequest | None:
        """A claim for all free slots, whether work is ready or not; None if there are none, or none may be filled."""
        planned = plan(self._situation(None, self._free_slots(None))._replace(is_ready=True))
        return self._request(planned) if planned is not None and planned.claim else None

    def why_idle(self) -> str:
        """Why no job is claimed now, or "" if jobs are."""
        if self._outage.is_down:
            return "Redis does not answer"
        if self.is_paused:
            return "the worker is paused"
        if self._supply.is_limited:
            return f"the rate limit allows the next job in {self._supply.limited_s:.3f} s"
        if self._slots.free <= 0:
            return "every slot is busy"
        if not self._supply.is_ready:
            return "there is nothing to claim: the queue is empty, paused or at its concurrency"
        return ""

    def _situation(self, landing: Landing | None, free_slots: int) -> Situation:
        alone = self._outbox.alone > 0
        finished = len(self._outbox.waiting)
        suspects = 0 if landing is None else landing.reply.suspects
        return Situation(
            finished=min(finished, 1) if alone else finished,
            max_outcomes=self._max_outcomes(),
            share=1 if alone else self._share(),
            free_slots=free_slots,
            may_claim=not (alone or self._is_held_back()),
            is_ready=self._supply.is_ready,
            rearm=self.rearm and not (self.is_closing and self._outage.is_down),
            suspects=self._slots.suspects + suspects,
        )

    def _share(self) -> int:
        return share(self._slots.capacity, pairs=self._dispatch.flying.come_in_pairs, max_outcomes=self._max_outcomes())

    def _max_outcomes(self) -> int:
        return MAX_TRIMMING_OUTCOMES if self._outbox.trims else MAX_OUTCOMES

    def _free_slots(self, landing: Landing | None) -> int:
        """Places that neither hold a job nor are meant for one that comes."""
        return self._slots.free - self.claiming - self._standing.jobs - (landing.reply.claims if landing else 0)

    def _is_held_back(self) -> bool:
        return self.is_stopped or self._outbox.closes_limit or self._supply.is_limited

    def _prepare(self, exchange: Exchange) -> Flight:
        decides = self._outbox.closes_limit or self._outbox.alone > 0
        batch = self._outbox.take(exchange.settle)
        request = self._request(exchange)
        self.claiming += exchange.claim
        self.rearm = False
        return Flight(
            batch,
            [Settlement(held.job.id, held.job.token, held.outcome) for held in batch if held.outcome],
            request,
            exchange.rearm,
            next_exchange(self._dispatch.sender, request.token),
            self._dispatch.sender,
            self._supply.wakes,
            time.monotonic(),
            decides,
        )

    def _request(self, exchange: Exchange) -> ClaimRequest:
        request = self._claim.sized(exchange.claim, self._claims, exchange.suspects)
        self._claims += exchange.claim
        return request
