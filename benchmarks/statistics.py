"""Medians, spreads and percentiles. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Summary(NamedTuple):
    """Several repetitions of one figure."""

    median: float
    low: float
    high: float

    @property
    def spread(self) -> float:
        """(high - low) / median; 0 where the median is 0."""
        return (self.high - self.low) / abs(self.median) if self.median else 0.0


def summarize(values: Sequence[float]) -> Summary:
    """ValueError when there is none."""
    if not values:
        raise ValueError("no values to summarize")
    return Summary(statistics.median(values), min(values), max(values))


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of all values do not exceed (nearest rank)."""
    if not values:
        raise ValueError("no values to take a percentile of")
    if not 0 <= percent <= 100:
        raise ValueError(f"a percentile is between 0 and 100, not {percent}")
    ranked = sorted(values)
    return ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)]
