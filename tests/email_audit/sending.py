"""Several worker processes empty one queue: how fast in any sliding window, and who sends how many."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from examples.email_service.jobs import enqueue_invite
from examples.email_service.payloads import Invite
from pyqueue import JobState
from tests.email_audit.stage import staged


@dataclass(slots=True)
class Sending:
    """What the mail server saw."""

    mails: int
    seconds: float
    """From the first acceptance to the last."""
    most_in_a_window: int
    """Mails accepted in the fullest window of the rate's duration, wherever it begins."""
    rate_max: int | None
    throughput_share: float
    """Of what the limit allows; 0 without a limit. See `share_of_the_limit`."""
    rate_limit_hits: int
    shares: dict[str, int]
    faults: list[str] = field(default_factory=list)

    @property
    def imbalance(self) -> float:
        """How far the share that is furthest from the equal one is from it: 0.2 = 20 %."""
        equal = self.mails / len(self.shares)
        return max(abs(number - equal) / equal for number in self.shares.values())


async def audit_sending(
    directory: Path,
    *,
    mails: int,
    workers: int = 4,
    rate_max: int | None = None,
    duration_ms: int = 1000,
    concurrency: int = 5,
    slow_s: float = 0.0,
    timeout: float = 300.0,
) -> Sending:
    """Queue the mails while the queue is paused, start the workers, let all begin at the same moment.

    `slow_s` is what the mail server takes for each mail: then slots and not the CPU are what workers wait for.
    """
    limits = {"email_rate_max": rate_max, "email_rate_duration": duration_ms, "email_concurrency": concurrency}
    async with staged(directory, slow_s=slow_s, **limits) as stage:
        await stage.queue.pause()
        to = "slow" if slow_s else "guest"
        for number in range(mails):
            await enqueue_invite(stage.queue, Invite(id=str(number), to=f"{to}-{number}@example.test"))
        await stage.start(apis=0, workers=workers)
        await stage.queue.resume()
        await stage.wait_finished(mails, timeout)
        jobs = await stage.queue.jobs.list(JobState.COMPLETED, 0, -1)
        await stage.end()
        hits = sum(line["rate_limit_hits"] for line in stage.logged("worker closed"))
    times = sorted(stage.sink.ledger.accepted_at)
    seen = Sending(
        mails=len(times),
        seconds=times[-1] - times[0],
        most_in_a_window=most_in_a_window(times, duration_ms / 1000),
        rate_max=rate_max,
        throughput_share=share_of_the_limit(times, rate_max, duration_ms / 1000) if rate_max else 0.0,
        rate_limit_hits=hits,
        shares=dict(sorted(Counter(job.processed_by or "" for job in jobs).items())),
        faults=stage.faults,
    )
    if len(times) != mails or max(stage.sink.ledger.accepted.values()) > 1:
        seen.faults.append(f"{mails} mails, {len(times)} acceptances")
    return seen


def most_in_a_window(times: Sequence[float], seconds: float) -> int:
    """Of sorted moments, those in the fullest window [t, t + seconds)."""
    most = first = 0
    for last, moment in enumerate(times):
        while moment - times[first] >= seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def share_of_the_limit(times: Sequence[float], rate_max: int, seconds: float) -> float:
    """Of sorted moments, how near they come to `rate_max` per `seconds`: 1 where each follows the one that many places
    before it exactly when it may. The first `rate_max` may go at once, and do not count."""
    cycles = [later - earlier for earlier, later in zip(times, times[rate_max:], strict=False)]
    return seconds * len(cycles) / sum(cycles)
