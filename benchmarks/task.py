"""One task of one program, as the runner writes it and the program reads it. Standard library only: peers import it.

The conversation, one line of JSON or one word each way:

    runner  -> program   the task, as the program's first argument
    program -> runner    {"ready": true}              connected, everything imported
    runner  -> program   go
    program -> runner    {"count": n}                 a worker's executed jobs so far, every 50 ms if changed
    runner  -> program   mark                         answered by {"mark": CPU seconds since go}
    runner  -> program   stop                         a worker ends when told, or by itself after `jobs`
    program -> runner    {"count": n, "first": s, "last": s, "cpu_s": s, "offsets": [s, ...], "end": true}

Times are those of the machine's monotonic clock, which all processes share, so that intervals between a producer and a
worker are exact. What happens in Redis meanwhile the runner reads itself.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

#: Jobs per call where a system adds many at once.
BULK = 1000


@dataclass(frozen=True, slots=True)
class Task:
    """What one program does once."""

    role: str
    """produce | work"""
    port: int
    jobs: int = 0
    """produce: how many; work: end after so many, 0 = when told."""
    skip: int = 0
    """How many jobs come before the measured ones, to warm up."""
    payload_bytes: int = 200
    mode: str = "bulk"
    """produce: bulk | sequential | concurrent | paced | delayed"""
    in_flight: int = 64
    """produce concurrent: adds under way at the same time."""
    rate: float = 0
    """produce paced: jobs per second, open loop."""
    span_s: float = 0
    """produce delayed: the due times are spread evenly over this ..."""
    lead_s: float = 0
    """... beginning so long after the start."""
    concurrency: int = 1
    prefetch: int = 0
    """work: jobs that are claimed ahead, where a system can."""
    keep_results: bool = True
    timings: bool = False
    """work: report, per job, its start minus the time in its data ("at")."""
    delays: bool = False
    """work: delayed jobs will come."""
    uvloop: bool = False

    def to_json(self) -> str:
        """The form in which a program gets it."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Task:
        """The inverse of `to_json`."""
        return Task(**json.loads(text))
