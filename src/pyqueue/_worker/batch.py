"""Plan the next exchange with Redis: how much to settle, how much to claim.

Pure: no I/O, no clock, no state of its own. The engine asks before every exchange; what does not fit now is still there
the next time it asks.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

#: Outcomes settled by one call. With as many claims a call takes 0.8 to 1.2 ms of Redis' time (7.0, 200 bytes of data),
#: which leaves room below 2 ms for promotions and for slower machines.
MAX_OUTCOMES: Final = 25
#: The same where one of them also removes old jobs by its retention, up to 32 in a call.
MAX_TRIMMING_OUTCOMES: Final = 16
#: Jobs claimed by one call.
MAX_CLAIMS: Final = 25
#: From so many slots on, half of them are enough for an exchange: then a second one is worth its cost.
_WORTH_HALVING: Final = 8
#: Jobs with a stalled count that may run at the same time: a poison job must meet its limit alone.
MAX_SUSPECTS: Final = 1


class Exchange(NamedTuple):
    """The sizes of one exchange."""

    settle: int
    claim: int
    suspects: int
    rearm: bool


class Situation(NamedTuple):
    """What the engine knows at the moment it could send an exchange.

    finished: outcomes that wait to be settled. max_outcomes: how many of them an exchange may settle. share: see
    there. free_slots: jobs that could be taken (negative after the concurrency was lowered). may_claim: neither paused,
    closing nor limited. is_ready: work may be ready, so a claim is worth a call of its own. rearm: a marker was popped
    that this worker cannot use. suspects: jobs in hand that stalled before.
    """

    finished: int
    max_outcomes: int
    share: int
    free_slots: int
    may_claim: bool
    is_ready: bool
    rearm: bool
    suspects: int


@lru_cache(maxsize=100)  # asked at the end of every job
def share(concurrency: int, *, pairs: bool, max_outcomes: int) -> int:
    """How many outcomes are worth an exchange that follows another; `pairs`: whether one can.

    Half of the slots, so that some jobs run while Redis works on the others. `max_outcomes` is what one may settle.
    """
    is_halved = pairs and concurrency >= _WORTH_HALVING
    return min(max_outcomes, (concurrency + 1) // 2 if is_halved else concurrency)


@lru_cache(maxsize=1000)  # a worker meets few situations, again and again
def plan(now: Situation) -> Exchange | None:
    """The next exchange, or None when there is nothing to say.

    Outcomes for two are divided, and each brings as many jobs as it settles. Every exchange fills free slots while it
    is at it: the settling worker is how a queue at its global concurrency goes on: nothing writes a marker then.
    """
    settle = now.share if now.finished >= 2 * now.share else min(now.finished, now.max_outcomes)
    most = max(settle, now.share) if settle else MAX_CLAIMS
    claim = max(0, min(now.free_slots, most)) if now.may_claim else 0
    if not settle and not now.rearm and not (claim and now.is_ready):
        return None
    return Exchange(settle, claim, max(0, MAX_SUSPECTS - now.suspects), now.rearm)
