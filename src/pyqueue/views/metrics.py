"""`queue.metrics`: how many jobs finished, in total and per minute.

Workers count them when their option `metrics` is set; until then all is 0.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyqueue._store import inspecting
from pyqueue._store.store import Store
from pyqueue.states import JobState


@dataclass(frozen=True, slots=True)
class MetricSeries:
    """Finished jobs of one kind."""

    count: int
    """All that were counted."""
    previous_ms: int
    """When the last minute was closed, unix milliseconds; 0 before the first job."""
    previous_count: int
    """How many were counted by then."""
    points: list[int]
    """Counts per minute, newest first, without the minute that runs; a part of them if a range was asked for."""
    size: int
    """How many points are stored."""


class Metrics:
    """Counts of one queue."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def completed(self, start: int = 0, end: int = -1) -> MetricSeries:
        """Completed jobs; `start` and `end` (inclusive, negative from the end) choose points. One round trip."""
        return await self._series(JobState.COMPLETED, start, end)

    async def failed(self, start: int = 0, end: int = -1) -> MetricSeries:
        """Jobs that failed for good; `start` and `end` as for `completed`. One round trip."""
        return await self._series(JobState.FAILED, start, end)

    async def _series(self, state: JobState, start: int, end: int) -> MetricSeries:
        series = await inspecting.get_metrics(self._store, state, start, end)
        return MetricSeries(series.total, series.previous_ms, series.previous_count, series.points, series.size)
