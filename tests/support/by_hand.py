"""Workers' work done by hand, so that tests of queues and jobs can bring a job into any state without a worker."""

from __future__ import annotations

from typing import Any

from pyqueue._store.settling import ClaimRequest, settle_and_claim
from pyqueue.job import Job, Terms
from pyqueue.queue import Queue


async def take(queue: Queue[Any, Any], token: str = "t", *, lock_ms: int = 30_000) -> Job[Any, Any]:
    """Claim the next job; AssertionError if there is none."""
    request = ClaimRequest(1, token, lock_ms=lock_ms)
    reply = await settle_and_claim(queue._store, [], request)
    assert reply.claimed, "no job to take"
    claimed = reply.claimed[0]
    return Job(queue._store, claimed.job_id, claimed.fields, claimed.token, Terms(claim=request))


async def complete(queue: Queue[Any, Any], value: Any = None) -> Job[Any, Any]:
    """Take the next job and complete it."""
    job = await take(queue)
    await job.move_to_completed(value)
    return job


async def fail(queue: Queue[Any, Any], reason: str = "boom") -> Job[Any, Any]:
    """Take the next job and fail it."""
    job = await take(queue)
    await job.move_to_failed(reason)
    return job
