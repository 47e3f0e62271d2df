"""Exchanges of one worker on their way: what left, what came back, and whether another may follow.

Values and bookkeeping of the engine, which decides what to send. No I/O.
"""

from __future__ import annotations

from typing import NamedTuple

from pyqueue._redis.links import Link
from pyqueue._store.sender import MAX_IN_FLIGHT, Sender
from pyqueue._store.settling import ClaimRequest, ExchangeReply, Settlement, Unanswered
from pyqueue._worker.held import Held


class Flight(NamedTuple):
    """An exchange that leaves or has left.

    batch: the jobs it settles. exchange: its number and sender's name, the same for every try. wakes: `Supply.wakes` as
    it left. decides: its reply may say that no more is to be claimed.
    """

    batch: list[Held]
    settlements: list[Settlement]
    request: ClaimRequest
    rearm: bool
    exchange: Unanswered
    sender: Sender
    wakes: int
    began: float
    decides: bool


class Landing(NamedTuple):
    """The reply to one exchange, before anything was done about it.

    lease_until: until when (monotonic seconds) the claimed jobs are locked.
    """

    flight: Flight
    reply: ExchangeReply
    lease_until: float


class Flights(dict[int, Link]):
    """Exchanges that were launched and whose replies are to come, by number: the connections that carry them."""

    def __init__(self) -> None:
        super().__init__()
        self._latest: Link | None = None
        self._is_first = True
        self._decides = False  # the last one

    @property
    def come_in_pairs(self) -> bool:
        """One can follow another, as far as is known."""
        return self._is_first or (self._latest is not None and self._latest.may_be_followed)

    @property
    def ahead(self) -> Link | None:
        """The connection of the one that the next would follow, if there is one."""
        return next(iter(self.values()), None)

    @property
    def decides(self) -> bool:
        """Whether the reply to one of these may say that no more is to be claimed."""
        return bool(self) and self._decides

    @property
    def may_be_followed(self) -> bool:
        """Whether one more may leave, without knowing the replies to these."""
        if len(self) >= MAX_IN_FLIGHT or self.decides:
            return False
        return all(link.is_followable for link in self.values())

    def took_off(self, flight: Flight, link: Link | None) -> bool:
        """Note a launch, and what carries it; returns whether something does."""
        self._is_first = False
        self._latest = link
        if link is None:
            return False
        self[flight.exchange.sequence] = link
        self._decides = flight.decides
        return True

    def landed(self, flight: Flight) -> None:
        """Its reply has come, or what came instead."""
        del self[flight.exchange.sequence]


def next_exchange(sender: Sender, token: str) -> Unanswered:
    """A new number of a sender, for an exchange whose claims have tokens that begin with this one."""
    number = sender.next_number()
    return Unanswered(sender.name_of(number), number, token)
