"""Looks at the queue through the APIs while the load runs: counts by state, and what each instance has processed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import anyio
import httpx

from examples.email_service.load.generator import Run

INTERVAL_S = 0.25

# What still has to be done with a mail.
_OPEN_STATES = ("waiting", "prioritized", "delayed", "active")


@dataclass(frozen=True, slots=True)
class Sample:
    """The queue at one moment, in seconds from the start of the run."""

    at_s: float
    counts: dict[str, int]

    @property
    def depth(self) -> int:
        """Mails that are queued and not done with."""
        return sum(self.counts.get(state, 0) for state in _OPEN_STATES)

    @property
    def finished(self) -> int:
        """Mails that are done with, one way or the other, since the queue exists."""
        return self.counts.get("completed", 0) + self.counts.get("failed", 0)


@dataclass(slots=True)
class Watch:
    """All samples of a run."""

    samples: list[Sample] = field(default_factory=list)
    processed: dict[str, int] = field(default_factory=dict)
    """Instance -> mails that it has sent since the first look."""
    missed: int = 0
    """Looks that no API answered."""
    _last: dict[str, int] = field(default_factory=dict)
    _looked: anyio.Event = field(default_factory=anyio.Event)

    @property
    def finished(self) -> int:
        """Mails that were finished since the first look."""
        return self.samples[-1].finished - self.samples[0].finished

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return once the condition holds, which is asked after each look."""
        while not condition():
            await self._looked.wait()

    def add(self, at_s: float, stats: dict[str, Any]) -> None:
        """One answer of the stats endpoint."""
        self.samples.append(Sample(at_s, {name: value for name, value in stats.items() if type(value) is int}))
        for instance in stats.get("instances", ()):
            worker = instance.get("worker")
            if worker is not None:
                self._count(instance["instance_id"], worker["processed"])
        self._looked.set()
        self._looked = anyio.Event()

    def _count(self, instance: str, processed: int) -> None:
        # Instances count from their start: what was there at the first look is not ours; a lower number is a restart.
        before = self._last.get(instance, processed if len(self.samples) == 1 else 0)
        self._last[instance] = processed
        gained = processed - before if processed >= before else processed
        self.processed[instance] = self.processed.get(instance, 0) + gained


async def look(client: httpx.AsyncClient, url: str) -> dict[str, Any]:
    """One answer of the stats endpoint; raises httpx.HTTPError."""
    stats: dict[str, Any] = (await client.get(f"{url}/api/email-queue/stats")).raise_for_status().json()
    return stats


async def watch(run: Run, urls: Sequence[str], result: Watch) -> None:
    """Look at the queue until cancelled, each time through another API."""
    async with httpx.AsyncClient(timeout=2.0, trust_env=False) as client:
        for url in cycle(urls):
            try:
                stats = await look(client, url)
            except httpx.HTTPError:
                result.missed += 1
            else:
                result.add(run.now_s(), stats)
            await anyio.sleep(INTERVAL_S)
