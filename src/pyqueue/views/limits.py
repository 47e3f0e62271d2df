"""`queue.limits`: how many jobs of the queue may run at once, and how many may start per time, over all workers.

The limits are stored in the queue's settings and enforced by the script that claims jobs.
"""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

from pyqueue._redis.replies import number
from pyqueue._store import controlling, inspecting
from pyqueue._store.store import Store
from pyqueue.durations import milliseconds
from pyqueue.errors import ConfigurationError
from pyqueue.options import RateLimit


class CurrentLimits(NamedTuple):
    """The limits in force."""

    concurrency: int | None
    """Jobs that may run at once; None = no limit."""
    rate: RateLimit | None
    """Jobs that may start per time; None = no limit of the queue (a worker may have its own)."""


class Limits:
    """Limits of one queue. Every method is one round trip, O(1)."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self) -> CurrentLimits:
        """The limits in force."""
        return limits_of(await inspecting.get_meta(self._store))

    async def set_concurrency(self, concurrency: int) -> None:
        """Let at most so many jobs (at least 1) run at once; those that run already are not stopped."""
        if not isinstance(concurrency, int) or isinstance(concurrency, bool) or concurrency < 1:
            raise ConfigurationError(f"concurrency is {concurrency!r}: give an integer of at least 1")
        await controlling.set_concurrency(self._store, concurrency)

    async def remove_concurrency(self) -> None:
        """Let any number of jobs run at once."""
        await controlling.remove_concurrency(self._store)

    async def set_rate(self, max: int, duration: timedelta | int) -> None:  # the name is BullMQ's
        """Let at most `max` jobs start per `duration` (timedelta or milliseconds); goes before the workers' own."""
        rate = RateLimit(max=max, duration=duration)
        await controlling.set_rate(self._store, rate.max, rate.duration)

    async def remove_rate(self) -> None:
        """Let workers start jobs at their own rate."""
        await controlling.remove_rate(self._store)

    async def pause_for(self, duration: timedelta | int) -> None:
        """Let no job start for so long (timedelta or milliseconds). Binds workers only where a rate limit is set."""
        await controlling.close_limiter(self._store, milliseconds(duration, "duration", minimum=1))

    async def resume(self) -> bool:
        """End the running window of the rate limit, or a `pause_for`; False if there was none."""
        return await controlling.open_limiter(self._store)

    async def ttl(self, max_jobs: int | None = None) -> int:
        """For how many ms the rate limit (of `max_jobs` per window, else the queue's) forbids to start jobs; 0 = not.

        Without any limit: the remaining life of a window in ms, -2 if there is none.
        """
        return await inspecting.get_rate_limit_ttl(self._store, max_jobs or 0)


def limits_of(meta: dict[str, str]) -> CurrentLimits:
    """The limits in a queue's settings; what another client stored wrongly counts as no limit."""
    concurrency, max_jobs, duration_ms = (number(meta.get(name)) for name in ("concurrency", "max", "duration"))
    rate = RateLimit(max=max_jobs, duration=duration_ms) if max_jobs > 0 and duration_ms > 0 else None
    return CurrentLimits(concurrency if concurrency > 0 else None, rate)
