"""The scaling signal: whether there should be more workers, as many, or fewer, and why.

Pure: takes what `queue_state` and the heartbeats say, returns a `ScaleSignal`. An autoscaler may follow it, people can
read it.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from examples.email_service.heartbeats import InstanceReport
from examples.email_service.queue_state import QueueSnapshot

MANY_WAITING = 100
OLD_S = 30.0
SLOW_RESPONSE_MS = 200.0
BUSY_CPU_PERCENT = 70.0

# Far enough below the thresholds of "up" that a step down does not cause the next step up.
IDLE_SHARE = 0.3
IDLE_CPU_PERCENT = 30.0

Direction = Literal["up", "hold", "down"]


@dataclass(frozen=True, slots=True)
class Load:
    """What the decision is made from."""

    ready: int
    """Jobs that could run now."""
    active: int
    oldest_waiting_s: float
    is_paused: bool
    gate_reason: str
    """Why nobody sends, empty while mails pass."""
    workers: int
    """Worker instances that are alive and take jobs."""
    slots: int
    """Mails that they can send at a time, together."""
    average_job_s: float
    """0 while unknown."""
    response_p95_ms: float
    """Of the slowest API."""
    cpu_percent: float
    """Of the busiest instance."""
    rate_per_s: float | None
    """Mails per second that the rate limit allows; None without one."""

    @property
    def useful_workers(self) -> int | None:
        """Workers that the rate limit can keep busy; more would only wait. None without a limit, or unknown."""
        if self.rate_per_s is None or not self.workers or not self.average_job_s:
            return None
        per_worker_s = self.slots / self.workers / self.average_job_s
        return max(1, math.ceil(self.rate_per_s / per_worker_s))


@dataclass(frozen=True, slots=True)
class ScaleSignal:
    """The decision."""

    direction: Direction
    reasons: tuple[str, ...]
    useful_workers: int | None
    """The most workers that make sense under the rate limit."""
    load: Load

    def as_json(self) -> dict[str, Any]:
        """The answer of the API."""
        return {
            "direction": self.direction,
            "reasons": list(self.reasons),
            "useful_workers": self.useful_workers,
            "load": asdict(self.load),
        }


def load_of(
    snapshot: QueueSnapshot,
    instances: Sequence[InstanceReport],
    *,
    gate_reason: str,
    response_p95_ms: float,
    rate_per_s: float | None,
) -> Load:
    """Sum up the instances. `response_p95_ms` is that of the API that asks; the others' are in their heartbeats."""
    workers = [one.worker for one in instances if one.worker is not None and one.worker.state == "running"]
    taking = [worker for worker in workers if not worker.paused]
    timed = [worker.average_ms for worker in taking if worker.average_ms]
    return Load(
        ready=snapshot.ready,
        active=snapshot.counts["active"],
        oldest_waiting_s=snapshot.oldest_waiting_s,
        is_paused=snapshot.is_paused,
        gate_reason=gate_reason,
        workers=len(taking),
        slots=sum(worker.concurrency for worker in taking),
        average_job_s=sum(timed) / len(timed) / 1000 if timed else 0.0,
        response_p95_ms=max([response_p95_ms, *(one.response_p95_ms for one in instances)]),
        cpu_percent=max((one.cpu_percent for one in instances), default=0.0),
        rate_per_s=rate_per_s,
    )


def decide(load: Load) -> ScaleSignal:
    """The direction, and every reason for it."""
    host = _host_reasons(load)
    if load.is_paused:
        return _signal(load, "up" if host else "hold", (*host, "the queue is paused: workers have nothing to do"))
    if load.gate_reason:
        reason = f"nobody sends at the moment ({load.gate_reason}): more workers would wait, too"
        return _signal(load, "up" if host else "hold", (*host, reason))
    queue = _queue_reasons(load)
    useful = load.useful_workers
    if queue and useful is not None and load.workers >= useful:
        cap = f"the rate limit keeps {useful} workers busy and there are {load.workers}: more would not send faster"
        return _signal(load, "up" if host else "hold", (*host, *queue, cap))
    if host or queue:
        return _signal(load, "up", (*host, *queue))
    idle = _idle_reasons(load)
    return _signal(load, "down", idle) if idle else _signal(load, "hold", ("load and capacity match",))


def _host_reasons(load: Load) -> tuple[str, ...]:
    reasons = []
    if load.response_p95_ms > SLOW_RESPONSE_MS:
        reasons.append(f"the API answers in {load.response_p95_ms:.0f} ms (p95), above {SLOW_RESPONSE_MS:.0f}")
    if load.cpu_percent > BUSY_CPU_PERCENT:
        reasons.append(f"an instance uses {load.cpu_percent:.0f} % of a CPU, above {BUSY_CPU_PERCENT:.0f}")
    return tuple(reasons)


def _queue_reasons(load: Load) -> tuple[str, ...]:
    reasons = []
    if load.ready and not load.workers:
        reasons.append(f"{load.ready} mails wait and no worker takes them")
    if load.ready > MANY_WAITING:
        reasons.append(f"{load.ready} mails wait, more than {MANY_WAITING}")
    if load.ready and load.slots and load.active >= load.slots:
        reasons.append(f"all {load.slots} slots of the workers are busy")
    if load.oldest_waiting_s > OLD_S:
        reasons.append(f"the oldest mail has waited for {load.oldest_waiting_s:.0f} s, more than {OLD_S:.0f}")
    return tuple(reasons)


def _idle_reasons(load: Load) -> tuple[str, ...]:
    if load.workers <= 1 or load.ready or load.cpu_percent > IDLE_CPU_PERCENT:
        return ()
    if load.active > IDLE_SHARE * load.slots * (load.workers - 1) / load.workers:
        return ()
    return (f"no mail waits, and {load.active} of {load.slots} slots are busy",)


def _signal(load: Load, direction: Direction, reasons: tuple[str, ...]) -> ScaleSignal:
    return ScaleSignal(direction, reasons, load.useful_workers, load)
