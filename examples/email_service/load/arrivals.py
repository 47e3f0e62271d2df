"""When mails arrive: a Poisson process whose rate rises to its full value during the ramp and then stays.

Open loop: the times are fixed before the first request, so a slow service does not slow its own load down, and a
latency counts from the moment at which the mail was due, however late it was posted.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

# Bounds of one run: what one generating process can do, and what a report can show.
MAX_RATE = 2000.0
MAX_DURATION_S = 600.0
MAX_MAILS = 200_000


@dataclass(frozen=True, slots=True)
class Profile:
    """The load over time; raises ValueError, with what would fit, when it is outside the bounds."""

    rate: float
    """Mails per second after the ramp."""
    duration_s: float
    """From the first to the last arrival, ramp included."""
    ramp_s: float = 0.0
    """Seconds during which the rate rises linearly from 0."""

    def __post_init__(self) -> None:
        if not 0 < self.rate <= MAX_RATE:
            raise ValueError(f"the rate is {self.rate:g} mails/s; it must be above 0 and at most {MAX_RATE:g}")
        if not 0 < self.duration_s <= MAX_DURATION_S:
            raise ValueError(
                f"the duration is {self.duration_s:g} s; it must be above 0 and at most {MAX_DURATION_S:g}"
            )
        if not 0 <= self.ramp_s <= self.duration_s:
            raise ValueError(f"the ramp is {self.ramp_s:g} s; it must be between 0 and the duration")
        if self.expected > MAX_MAILS:
            raise ValueError(f"that is about {self.expected:.0f} mails; a run has at most {MAX_MAILS}")

    @property
    def expected(self) -> float:
        """Mails that arrive on average."""
        return self.rate * (self.duration_s - self.ramp_s / 2)

    def arrivals(self, seed: int) -> Iterator[float]:
        """Seconds from the start, ascending. Equal seeds arrive at equal times."""
        # A Poisson process of rate 1, with its time stretched so that `expected` of it fit: inverse of the integral.
        generator = random.Random(seed)
        unit_time = generator.expovariate(1.0)
        while unit_time < self.expected:
            yield self._time_of(unit_time)
            unit_time += generator.expovariate(1.0)

    def _time_of(self, mails: float) -> float:
        """When so many mails have arrived on average."""
        in_ramp = self.rate * self.ramp_s / 2
        if mails < in_ramp:
            return math.sqrt(2 * mails * self.ramp_s / self.rate)
        return self.ramp_s + (mails - in_ramp) / self.rate
