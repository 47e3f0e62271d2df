"""How a worker is: a snapshot for health checks, with the reason why it is idle."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkerHealth:
    """What `Worker.health()` returns; reading it costs no round trip."""

    state: str
    """`new`, `running`, `closing` or `closed`."""
    reason: str
    """Why no job is being claimed, as a sentence; empty while the worker claims."""
    is_connected: bool
    """Whether the last exchange with Redis succeeded."""
    is_paused: bool
    """Whether this worker was paused; a paused queue is not known here."""
    running: int
    """Jobs whose processors run."""
    concurrency: int
    """How many may run."""
    prefetched: int
    """Jobs that were claimed and wait until one of those ends."""
    unsettled: int
    """Jobs that have ended and whose outcome Redis has not confirmed."""
    limited_for: float
    """Seconds until the rate limit allows to claim again; 0 = not limited."""
    last_error: str
    """The latest error that was reported, "" if there was none."""

    @property
    def is_healthy(self) -> bool:
        """Whether the worker runs and reaches Redis."""
        return self.state == "running" and self.is_connected
