"""What tests ask of jobs again and again: their state, and to wait for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pyqueue import Job, JobState, Queue
from tests.support.waiting import PATIENCE_S, wait_until


async def stored(queue: Queue[Any, Any], job: Job[Any, Any]) -> Job[Any, Any]:
    """The job as Redis has it now; it must exist."""
    found = await queue.jobs.get(job.id)
    assert found is not None, f"job {job.id} does not exist"
    return found


async def reach(
    queue: Queue[Any, Any], jobs: Job[Any, Any] | Iterable[Job[Any, Any]], state: JobState, timeout: float = PATIENCE_S
) -> None:
    """Wait until the job, or all jobs, are in a state."""
    expected = [jobs] if isinstance(jobs, Job) else list(jobs)

    async def all_there() -> bool:
        for job in expected:
            if await queue.jobs.state(job.id) is not state:
                return False
        return True

    await wait_until(all_there, timeout)
