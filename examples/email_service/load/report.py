"""What a load test has shown: numbers from the mails and the samples, and the verdict. Pure; `plots` draws it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from examples.email_service.load.generator import Mail, Run
from examples.email_service.load.watcher import Sample, Watch

# A generator that posts later than this measures itself: its machine is too slow for the rate.
LATE_S = 0.1


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles in milliseconds."""

    count: int
    p50: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Latency":
        """Zeros when there is nothing to measure."""
        if not seconds:
            return cls(0, 0.0, 0.0, 0.0, 0.0)
        p50, p95, p99 = np.percentile(seconds, [50, 95, 99])
        return cls(len(seconds), *(round(1000 * float(value), 1) for value in (p50, p95, p99, max(seconds))))


@dataclass(frozen=True, slots=True)
class Report:
    """The numbers of a run."""

    arrivals: int
    """Requests that were due, duplicates included."""
    arrived_within_s: float
    accepted: int
    """Mails that an API took, each id once."""
    duplicates: int
    errors: dict[str, int]
    """By kind."""
    finished: int
    """Mails that the queue has done with since the start of the run."""
    delivered: int | None
    """Mails that the mail server took; None where we cannot see it."""
    doubled: int | None
    """Mails that it took more than once."""
    arrival_rate: float
    """Mails per second while they arrived."""
    finish_rate: float
    """Mails per second from the first to the last that was finished."""
    depth_max: int
    answer: Latency
    """From when a request was due to its answer."""
    mail: Latency
    """From when a mail was due to the mail server's acceptance."""
    generator_late: Latency
    """From when a request was due to when it was posted."""
    shares: dict[str, float]
    """Instance -> part of the mails that it has sent."""
    duration_s: float
    faults: tuple[str, ...]
    """Why the run is not good; empty when every mail that was accepted is done with."""
    notes: tuple[str, ...]
    """What to know before the numbers are believed."""

    def as_json(self) -> dict[str, Any]:
        """All numbers."""
        return asdict(self)


def summarise(run: Run, watched: Watch, *, sees_deliveries: bool) -> Report:
    """The report of a run that is over."""
    mails = run.mails
    answered = [mail for mail in mails if mail.answered_s is not None]
    accepted = run.accepted_ids()
    delivered = [mail for mail in mails if mail.delivered_s is not None]
    late = Latency.of([mail.sent_s - mail.due_s for mail in mails if mail.sent_s is not None])
    return Report(
        arrivals=len(mails),
        arrived_within_s=round(max((mail.due_s for mail in mails), default=0.0), 1),
        accepted=len(accepted),
        duplicates=sum(mail.is_duplicate for mail in mails),
        errors=dict(Counter(mail.error for mail in mails if mail.error is not None)),
        finished=watched.finished,
        delivered=len(delivered) if sees_deliveries else None,
        doubled=sum(mail.deliveries > 1 for mail in delivered) if sees_deliveries else None,
        arrival_rate=_rate([mail.due_s for mail in mails]),
        finish_rate=_finish_rate(watched.samples),
        depth_max=max((sample.depth for sample in watched.samples), default=0),
        answer=Latency.of([mail.answered_s - mail.due_s for mail in answered if mail.answered_s is not None]),
        mail=Latency.of([mail.delivered_s - mail.due_s for mail in delivered if mail.delivered_s is not None]),
        generator_late=late,
        shares=_shares(watched.processed),
        duration_s=round(run.now_s(), 1),
        faults=tuple(_faults(accepted, mails, watched.finished, sees_deliveries=sees_deliveries)),
        notes=tuple(_notes(late)),
    )


def _rate(times: Sequence[float]) -> float:
    return round(len(times) / times[-1], 1) if times and times[-1] else 0.0


def _finish_rate(samples: Sequence[Sample]) -> float:
    """Over the time in which anything was finished."""
    steps = [later for earlier, later in pairwise(samples) if later.finished > earlier.finished]
    if not steps or steps[-1].at_s <= samples[0].at_s:
        return 0.0
    begin = max((sample for sample in samples if sample.finished < steps[0].finished), key=lambda sample: sample.at_s)
    return round((steps[-1].finished - begin.finished) / (steps[-1].at_s - begin.at_s), 1)


def _shares(processed: dict[str, int]) -> dict[str, float]:
    total = sum(processed.values())
    return {name: round(count / total, 3) for name, count in sorted(processed.items()) if total}


def _faults(accepted: set[str], mails: Sequence[Mail], finished: int, *, sees_deliveries: bool) -> list[str]:
    faults = []
    errors = sum(mail.error is not None for mail in mails)
    if errors:
        faults.append(f"{errors} of {len(mails)} requests were not answered with 202")
    if finished < len(accepted):
        faults.append(f"{len(accepted) - finished} of {len(accepted)} accepted mails were not finished in time")
    if sees_deliveries:
        missing = accepted - {mail.job_id for mail in mails if mail.delivered_s is not None}
        doubled = sum(mail.deliveries > 1 for mail in mails)
        if missing:
            faults.append(f"{len(missing)} of {len(accepted)} accepted mails did not reach the mail server")
        if doubled:
            faults.append(f"{doubled} mails reached the mail server more than once")
    return faults


def _notes(late: Latency) -> list[str]:
    if late.p99 <= 1000 * LATE_S:
        return []
    return [f"1 % of the requests were posted {late.p99:.0f} ms late or more: this machine is too slow for the rate"]
