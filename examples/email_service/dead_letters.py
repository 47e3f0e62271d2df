"""Dead letters: mails that the server refused, or that failed too often. They stay until somebody decides.

GET    /api/email-queue/dead-letters?page=1&per_page=50&reason=mailbox   200 {"total", "page", "per_page", "items"}
GET    /api/email-queue/dead-letters/reasons                             200 {"reasons": {reason: count}}
GET    /api/email-queue/dead-letters/export?reason=...                   200, one JSON object a line
POST   /api/email-queue/dead-letters/retry  {"per_second", "reason"?}    202; 409 while one runs on this instance
GET    /api/email-queue/dead-letters/retry                               200 how far that is
POST   /api/email-queue/dead-letters/{job_id}/retry                      202; 404 unknown, 409 not dead
DELETE /api/email-queue/dead-letters/{job_id}                            204; 404 unknown, 409 not dead
DELETE /api/email-queue/dead-letters?reason=...                          200 {"deleted"}

`reason` is a part of the failed reason, in any case; the oldest come first. A retried mail has all its attempts again.
"""

import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any

import anyio
from anyio.abc import TaskGroup
from pydantic import BaseModel, ConfigDict, Field
from redis.asyncio import Redis
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from examples.email_service.bodies import read_payload
from examples.email_service.jobs import EmailJob, EmailQueue
from pyqueue import JobError, JobState

PATH = "/api/email-queue/dead-letters"
MAX_PER_PAGE = 200

# Numbers, addresses and ids make every reason a different one; without them like ones count together.
_PARTICULARS = re.compile(r"<[^>]*>|\S+@\S+|\b[0-9a-f]{8,}\b")


class Page(BaseModel):
    """The query of a list."""

    model_config = ConfigDict(extra="forbid")

    page: int = Field(default=1, ge=1)
    per_page: int = Field(default=50, ge=1, le=MAX_PER_PAGE)
    reason: str = ""


class Selection(BaseModel):
    """The query of an export or a deletion."""

    model_config = ConfigDict(extra="forbid")

    reason: str = ""


class RetryOrder(BaseModel):
    """The body of a retry of many."""

    model_config = ConfigDict(extra="forbid")

    per_second: float = Field(gt=0, le=1000)
    reason: str = ""


@dataclass(slots=True)
class RetryRun:
    """A retry of many, as far as it has come."""

    per_second: float
    reason: str
    until_ms: int
    """Mails that died after this moment are left alone: those that fail again must not come round again."""
    retried: int = 0
    is_running: bool = True


class DeadLetters:
    """The endpoints. A retry of many runs in `tasks`; it ends with the instance, and the rest stays dead."""

    def __init__(self, queue: EmailQueue, redis: Redis) -> None:
        self._queue = queue
        self._redis = redis
        self._run: RetryRun | None = None
        self.tasks: TaskGroup | None = None

    def routes(self) -> list[Route]:
        """For the application of an API."""
        return [
            Route(PATH, self.get_page, methods=["GET"]),
            Route(PATH, self.delete_many, methods=["DELETE"]),
            Route(f"{PATH}/reasons", self.get_reasons, methods=["GET"]),
            Route(f"{PATH}/export", self.export, methods=["GET"]),
            Route(f"{PATH}/retry", self.retry_many, methods=["POST"]),
            Route(f"{PATH}/retry", self.get_retry, methods=["GET"]),
            Route(f"{PATH}/{{job_id}}/retry", self.retry_one, methods=["POST"]),
            Route(f"{PATH}/{{job_id}}", self.delete_one, methods=["DELETE"]),
        ]

    async def get_page(self, request: Request) -> JSONResponse:
        """One page. With a reason all dead letters are read, without only the page."""
        query = Page.model_validate(dict(request.query_params))
        first = (query.page - 1) * query.per_page
        if query.reason:
            total, jobs = await self._select(query.reason, first, query.per_page)
        else:
            total = (await self._queue.jobs.counts())[JobState.FAILED]
            jobs = await self._queue.jobs.list(JobState.FAILED, first, first + query.per_page - 1, asc=True)
        items = [describe(job) for job in jobs]
        return JSONResponse({"total": total, "page": query.page, "per_page": query.per_page, "items": items})

    async def get_reasons(self, _request: Request) -> JSONResponse:
        """How many died of what, the most frequent first."""
        reasons = Counter([kind_of(job.failed_reason or "") async for job in self._matching("")])
        return JSONResponse({"reasons": dict(reasons.most_common())})

    async def export(self, request: Request) -> Response:
        """All of them, each a line of JSON, read page by page as the client takes them."""
        query = Selection.model_validate(dict(request.query_params))

        async def lines() -> AsyncIterator[str]:
            async for job in self._matching(query.reason):
                yield json.dumps(describe(job), ensure_ascii=False) + "\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    async def retry_one(self, request: Request) -> JSONResponse:
        """Send one again."""
        job = await self._dead(request.path_params["job_id"])
        await job.retry(reset_attempts_made=True)
        return JSONResponse({"job_id": job.id}, status_code=202)

    async def retry_many(self, request: Request) -> JSONResponse:
        """Send all again, or those of a reason, so many per second."""
        order = await read_payload(request, RetryOrder)
        if self._run is not None and self._run.is_running:
            raise HTTPException(409, "a retry is running on this instance; its state is at GET .../retry")
        assert self.tasks is not None
        seconds, microseconds = await self._redis.time()
        self._run = RetryRun(order.per_second, order.reason, until_ms=1000 * seconds + microseconds // 1000)
        self.tasks.start_soon(self._retry, self._run)
        return JSONResponse(asdict(self._run), status_code=202)

    async def get_retry(self, _request: Request) -> JSONResponse:
        """How far the last retry of this instance has come."""
        if self._run is None:
            raise HTTPException(404, "nothing has been retried on this instance")
        return JSONResponse(asdict(self._run))

    async def delete_one(self, request: Request) -> Response:
        """Forget one."""
        job = await self._dead(request.path_params["job_id"])
        await job.remove()
        return Response(status_code=204)

    async def delete_many(self, request: Request) -> JSONResponse:
        """Forget all, or those of a reason."""
        query = Selection.model_validate(dict(request.query_params))
        deleted = 0
        async for job in self._matching(query.reason):
            await job.remove()
            deleted += 1
        return JSONResponse({"deleted": deleted})

    async def _retry(self, run: RetryRun) -> None:
        try:
            due = anyio.current_time()
            async for job in self._matching(run.reason):
                if (job.finished_on or 0) <= run.until_ms and await self._retry_if_dead(job):
                    run.retried += 1
                    due += 1 / run.per_second
                    await anyio.sleep_until(due)
        finally:
            run.is_running = False

    async def _retry_if_dead(self, job: EmailJob) -> bool:
        """False if somebody else has retried or deleted it meanwhile."""
        try:
            await job.retry(reset_attempts_made=True)
        except JobError:
            return False
        return True

    async def _dead(self, job_id: str) -> EmailJob:
        """The dead letter with this id, or 404 or 409."""
        job = await self._queue.jobs.get(job_id)
        if job is None:
            raise HTTPException(404, f"there is no job {job_id!r}")
        state = await job.state()
        if state != JobState.FAILED:
            raise HTTPException(409, f"job {job_id!r} is {state.value}, not failed")
        return job

    async def _matching(self, reason: str) -> AsyncIterator[EmailJob]:
        async for job in self._queue.jobs.iterate(JobState.FAILED):
            if reason.lower() in (job.failed_reason or "").lower():
                yield job

    async def _select(self, reason: str, first: int, count: int) -> tuple[int, list[EmailJob]]:
        """How many match, and those of the page."""
        total, page = 0, []
        async for job in self._matching(reason):
            if first <= total < first + count:
                page.append(job)
            total += 1
        return total, page


def describe(job: EmailJob) -> dict[str, Any]:
    """A dead letter as people see it."""
    data = job.data if isinstance(job.data, dict) else {}
    return {
        "job_id": job.id,
        "name": job.name,
        "to": data.get("to"),
        "reason": job.failed_reason,
        "attempts": job.attempts_made,
        "queued_at_ms": job.timestamp,
        "failed_at_ms": job.finished_on,
        "processed_by": job.processed_by,
        "data": job.data,
    }


def kind_of(reason: str) -> str:
    """A reason without what is particular to one mail, in at most 200 characters."""
    return _PARTICULARS.sub("...", reason.splitlines()[0] if reason else "")[:200]
