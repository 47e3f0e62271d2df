"""A job as the oracle shows it: BullMQ's names, absent values left out."""

from __future__ import annotations

from typing import Any

from pyqueue import Job
from pyqueue._redis.replies import number, text
from pyqueue._store.record import Field
from pyqueue._store.stored_options import expand_options
from tests.conformance.normal_form import SCRIPTED, NotJson, parse_json, strip_frames


def job_view(job: Job[Any, Any] | None) -> Any:
    """The job's attributes; `delay`, `priority` and `timestamp` are null where Redis has no such field."""
    if job is None:
        return None
    view = {
        "id": job.id,
        "name": job.name or None,
        "data": job.data if Field.DATA in job._fields else {},
        "opts": _options(job),
        "progress": job.progress,
        "attemptsMade": job.attempts_made,
        "attemptsStarted": job.attempts_started,
        "stalledCounter": job.stalled_count,
        "failedReason": None if (job.failed_reason or "").startswith(SCRIPTED) else job.failed_reason or None,
        "stacktrace": [strip_frames(trace) for trace in job.stack_trace],
        "finishedOn": job.finished_on,
        "processedOn": job.processed_on,
        "parentKey": text(job._fields[Field.PARENT_KEY]) if Field.PARENT_KEY in job._fields else None,
        "parent": _json_field(job, Field.PARENT),
        "repeatJobKey": job.scheduler_id,
        "deduplicationId": job.deduplication_id,
        "deferredFailure": job.deferred_failure or None,
        "processedBy": job.processed_by,
    }
    shown = {name: value for name, value in view.items() if value is not None or name == "data"}
    numbers = {name: _number(job, name) for name in (Field.DELAY, Field.PRIORITY, Field.TIMESTAMP)}
    return {**shown, **numbers, "returnvalue": job.return_value}


def _number(job: Job[Any, Any], field: str) -> int | None:
    return number(job._fields[field]) if field in job._fields else None


def _options(job: Job[Any, Any]) -> Any:
    options = {"attempts": 0, **expand_options(job._fields.get(Field.OPTIONS, "{}"))}
    options.pop("repeatJobKey", None)  # BullMQ shows it as an attribute only
    return options


def _json_field(job: Job[Any, Any], field: str) -> Any:
    try:
        return parse_json(text(job._fields[field])) if field in job._fields else None
    except NotJson:
        return None
