"""How long a failed job waits before it runs again: pure arithmetic, no I/O, no clock.

Custom backoffs are strategies of the worker, which the verdict on a run calls; they never come here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from pyqueue.durations import MAX_SAFE_INTEGER
from pyqueue.options import Backoff

#: Doublings after which any delay of 1 ms or more has passed MAX_SAFE_INTEGER.
_MAX_DOUBLINGS: Final = 53


def delay_ms(backoff: Backoff | None, attempts_made: int, random: Callable[[], float]) -> int:
    """Milliseconds before the next run; 0 = at once, at most 2**53.

    `attempts_made` counts the failed run: 1 after the first failure. `random` gives floats in [0, 1); it is called only
    if the backoff has jitter. ValueError for a custom backoff.
    """
    if backoff is None:
        return 0
    wait = _without_jitter(backoff, attempts_made)
    if backoff.jitter:
        wait = math.floor(random() * wait * backoff.jitter + wait * (1 - backoff.jitter))
    return max(0, min(wait, MAX_SAFE_INTEGER))


def _without_jitter(backoff: Backoff, attempts_made: int) -> int:
    if backoff.type == "fixed":
        return int(backoff.delay)
    if backoff.type != "exponential":
        raise ValueError(
            f"backoff type is {backoff.type!r}: only a worker with backoffs={{{backoff.type!r}: ...}} knows it"
        )
    doublings = min(max(attempts_made - 1, 0), _MAX_DOUBLINGS)
    # Rounds half up, as Node does; a producer there may have stored a fraction.
    return math.floor(2**doublings * backoff.delay + 0.5) if backoff.delay % 1 else int(2**doublings * backoff.delay)
