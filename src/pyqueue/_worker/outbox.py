"""What a worker has to tell Redis: outcomes, in the order in which jobs ended, and claimed jobs that go back.

Data and their order: the engine sends. Outcomes are here until a reply confirms them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from pyqueue._worker.held import Held
from pyqueue.outcomes import Completed, Failed, RateLimited, Returned


class Outbox:
    """Outcomes of one worker that Redis has not confirmed."""

    __slots__ = ("_travelling", "alone", "closes_limit", "returning", "trims", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[Held] = deque()
        """Outcomes to be sent."""
        self.returning: list[Held] = []
        """Claimed jobs to be given back, the next one first."""
        self.alone = 0
        """So many outcomes are to be sent one by one, because something in a batch could not be sent."""
        self.closes_limit = False
        """An outcome that is to be sent closes the rate limit."""
        self.trims = False
        """An outcome that is to be sent may remove old jobs by its retention."""
        self._travelling = 0

    @property
    def unconfirmed(self) -> int:
        """Jobs that have ended or are to go back, and are still active in Redis as far as we know."""
        return len(self.waiting) + len(self.returning) + self._travelling

    def add(self, held: Held) -> None:
        """The outcome of a job that has ended."""
        self.waiting.append(held)
        self.trims = self.trims or _may_trim(held)

    def give_back(self, jobs: Sequence[Held], *, are_last: bool) -> None:
        """Return jobs that have not started to the front of their line, each in front of the one after it.

        Not before the last of them is known: what a claim in flight brings goes back first, because it goes behind.
        """
        self.returning += jobs
        if are_last:
            for held in reversed(self.returning):
                held.outcome = Returned()
                self.waiting.append(held)
            self.returning.clear()

    def take(self, count: int) -> list[Held]:
        """The next batch; it travels until it has `arrived`."""
        batch = [self.waiting.popleft() for _ in range(count)]
        self._travelling += count
        if not self.waiting:
            self.trims = False
        if self.closes_limit:
            self.closes_limit = _any_limit(self.waiting)
        return batch

    def arrived(self, batch: Sequence[Held]) -> None:
        """A batch travels no more."""
        self._travelling -= len(batch)

    def isolate(self, batch: Sequence[Held]) -> bool:
        """One of these cannot be sent: send them again, one by one. False for one that was alone."""
        if len(batch) == 1:
            self.tried_alone(batch)
            return False
        self.send_again(batch)
        self.alone = len(batch)
        return True

    def tried_alone(self, batch: Sequence[Held]) -> None:
        """These were answered, or let go: so many fewer have to be sent one by one."""
        self.alone -= min(self.alone, len(batch))

    def send_again(self, batch: Sequence[Held]) -> None:
        """These go before all others."""
        if batch:
            self.waiting.extendleft(reversed(batch))
            self.closes_limit |= _any_limit(batch)
            self.trims |= any(map(_may_trim, batch))


def _any_limit(outcomes: Sequence[Held] | deque[Held]) -> bool:
    return any(type(held.outcome) is RateLimited for held in outcomes)


def _may_trim(held: Held) -> bool:
    outcome = held.outcome
    return isinstance(outcome, Completed | Failed) and outcome.keep.is_bounded
