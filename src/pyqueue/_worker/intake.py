"""Take in what claims bring: every job gets its lease and a slot, unless something has forbidden it meanwhile."""

from __future__ import annotations

from collections.abc import Callable

from pyqueue._store.settling import Claimed
from pyqueue._worker.batch import MAX_SUSPECTS
from pyqueue._worker.confirmations import Confirmations
from pyqueue._worker.flights import Landing
from pyqueue._worker.held import Held
from pyqueue._worker.leases import Leases
from pyqueue._worker.running_job import RunningJob
from pyqueue._worker.slots import Slots


class Intake:
    """Where the claimed jobs of one worker arrive."""

    def __init__(
        self,
        make_job: Callable[[Claimed], RunningJob],
        *,
        slots: Slots,
        leases: Leases,
        confirmations: Confirmations,
    ) -> None:
        self.is_busy = False
        """Jobs are being handed out: a slot's first step may run, and end, at once (eager tasks)."""
        self._make_job = make_job
        self._slots = slots
        self._leases = leases
        self._confirmations = confirmations
        self._closed_to = 0  # number of the last exchange whose claims are not wanted any more
        self._limited_until_ms = 0  # on the server's clock

    def close_to(self, number: int) -> None:
        """A job has closed the rate limit: what exchanges up to this number have claimed must not start."""
        self._closed_to = number

    def limit(self, until_ms: int) -> None:
        """The rate limit is closed until then, on the server's clock, by an outcome that was settled."""
        self._limited_until_ms = until_ms

    def is_open_to(self, number: int) -> bool:
        """Whether the rate limit lets start what the exchange with this number has claimed."""
        return number > self._closed_to

    def is_open_at(self, now_ms: int) -> bool:
        """Whether it lets start what was claimed at this time of the server, by a claim that stood."""
        return now_ms >= self._limited_until_ms

    def take(self, landing: Landing, *, are_wanted: bool) -> list[Held]:
        """Start what was claimed; returns what is to be given back."""
        any_suspect = landing.reply.suspects > 0
        unwanted: list[Held] = []
        self.is_busy = True
        try:
            for one in landing.reply.claimed:
                job = self._make_job(one)
                held = Held(job, landing.lease_until, is_suspect=any_suspect and job.stalled_count > 0)
                older = self._leases.add(held)
                if older is not None:
                    self._confirmations.superseded(older)
                # A second suspect can only have come with an exchange that followed another.
                if not are_wanted or (held.is_suspect and self._slots.suspects >= MAX_SUSPECTS):
                    unwanted.append(held)
                else:
                    self._slots.start(held)
        finally:
            self.is_busy = False
        return unwanted
