"""What the queue looks like at one moment: mails in each state, whether it is paused, how long the oldest has waited.

One snapshot serves the stats, the metrics and the scaling signal, so that they agree.
"""

from dataclasses import dataclass

from redis.asyncio import Redis

from examples.email_service.jobs import EmailQueue
from pyqueue import JobState

# The states of the stats and of the metric email_queue_jobs; `due` are delayed jobs whose time has come.
STATES = (
    JobState.WAITING,
    JobState.PRIORITIZED,
    JobState.DELAYED,
    JobState.ACTIVE,
    JobState.WAITING_CHILDREN,
    JobState.COMPLETED,
    JobState.FAILED,
)

# Scores of the delayed set count 1/4096 ms (docs/reference/keyspace.md).
_SCORES_PER_MS = 4096


@dataclass(frozen=True, slots=True)
class QueueSnapshot:
    """The queue at one moment."""

    counts: dict[str, int]
    """By state; `due` is part of `delayed`."""
    is_paused: bool
    oldest_waiting_s: float
    """Age of the job that has waited longest since it was due; 0 when none waits."""

    @property
    def ready(self) -> int:
        """Jobs that could run now if a worker were free."""
        return self.counts["waiting"] + self.counts["prioritized"] + self.counts["due"]

    @property
    def backlog(self) -> int:
        """What workers have to do: ready and active jobs; 0 while paused, when more workers would not help."""
        return 0 if self.is_paused else self.ready + self.counts["active"]


async def read_queue(queue: EmailQueue, redis: Redis) -> QueueSnapshot:
    """Look. Six round trips, O(log n)."""
    seconds, microseconds = await redis.time()
    now_ms = seconds * 1000 + microseconds // 1000
    delayed_key = f"{queue.options.prefix}:{queue.name}:delayed"
    counts = await queue.jobs.counts()
    due = await redis.zcount(delayed_key, "-inf", (now_ms + 1) * _SCORES_PER_MS - 1)
    is_paused = await queue.is_paused()
    return QueueSnapshot(
        counts={**{state.value: counts[state] for state in STATES}, "due": due},
        is_paused=is_paused,
        oldest_waiting_s=await _oldest_waiting_s(queue, now_ms) if counts[JobState.WAITING] or due else 0.0,
    )


async def _oldest_waiting_s(queue: EmailQueue, now_ms: int) -> float:
    """Of the next waiting and the next delayed job; those with a priority overtake each other and are not asked."""
    waiting = await queue.jobs.list(JobState.WAITING, 0, 0, asc=True)
    delayed = await queue.jobs.list(JobState.DELAYED, 0, 0, asc=True)
    since_ms = [job.timestamp + (job.options.delay or 0) for job in [*waiting, *delayed]]
    return max((now_ms - since for since in since_ms), default=0) / 1000
