"""Every operation of the vocabulary, as README.md lists them; `OPERATIONS` maps their names.

The consuming side is in `consuming`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

from pyqueue import BulkAddError, JobOptions, JobSpec, JobState
from pyqueue._store import inspecting
from pyqueue.errors import CODES
from tests.conformance import consuming, families, schedulers
from tests.conformance.job_view import job_view
from tests.conformance.normal_form import dump, js_string, plain
from tests.conformance.session import Op, Session

Operation: TypeAlias = Callable[[Session, Op], Awaitable[Any]]

_DEFAULT_STATES: Final = ("active", "completed", "delayed", "failed", "prioritized", "waiting", "waiting-children")


# ------------------------------------------------------------------------------------------------ clock and plumbing


async def advance(session: Session, op: Op) -> Any:
    session.clock.now += op["ms"]


async def worker(session: Session, op: Op) -> Any:
    session.set_worker_options(op)
    session.worker(op)


async def delete(session: Session, op: Op) -> Any:
    return await session.client.execute_command("DEL", *(f"{session.prefix}:{key}" for key in op["keys"]))


async def redis(session: Session, op: Op) -> Any:
    args = [js_string(arg).replace("{p}", session.prefix, 1) for arg in op["args"]]
    # ioredis gives commands in lower case the shapes of RESP2, and HGETALL becomes an object.
    client = session.client if args[:1] == [args[0].lower()] else session.resp3_client
    reply = plain(await client.execute_command(*args))
    return dict(zip(reply[::2], reply[1::2], strict=True)) if args[0] == "hgetall" else reply


async def dump_keys(session: Session, op: Op) -> Any:
    return await dump(session.client, session.prefix)


# --------------------------------------------------------------------------------------------------------- producers


async def add(session: Session, op: Op) -> Any:
    queue = await session.queue(op)
    spec = _spec(op)
    return (await queue.add(spec.name, spec.data, spec.options)).id


async def add_bulk(session: Session, op: Op) -> Any:
    queue = await session.queue(op)
    try:
        jobs = await queue.add_bulk([_spec(job) for job in op["jobs"]])
    except BulkAddError as error:
        # BullMQ returns the script's code as the id of such a job.
        return [code_of(result) if isinstance(result, Exception) else result.id for result in error.results]
    return [job.id for job in jobs]


def _spec(op: Op) -> JobSpec[Any]:
    options = op.get("opts")
    return JobSpec(
        op["name"],
        op.get("data", {}),
        None if options is None else JobOptions.model_validate(_without_nulls(options)),
    )


def _without_nulls(options: Op) -> Op:
    return {name: value for name, value in options.items() if value is not None}


def code_of(error: BaseException) -> int | None:
    """The code of an error as the script answered it."""
    return next((code for code, kind in CODES.items() if type(error) is kind), None)


# -------------------------------------------------------------------------------------------------------------- jobs


async def promote(session: Session, op: Op) -> Any:
    await (await session.job(op)).promote()


async def change_priority(session: Session, op: Op) -> Any:
    options = op.get("opts") or {}
    job = await session.job(op)
    await job.change_priority(options.get("priority") or 0, lifo=bool(options.get("lifo")))


async def change_delay(session: Session, op: Op) -> Any:
    await (await session.job(op)).change_delay(op["delay"])


async def update_data(session: Session, op: Op) -> Any:
    await (await session.job(op)).update_data(op.get("data"))


async def update_progress(session: Session, op: Op) -> Any:
    await (await session.queue(op)).jobs.update_progress(op["id"], op.get("progress"))


async def log(session: Session, op: Op) -> Any:
    return await (await session.queue(op)).jobs.add_log(op["id"], op["row"], keep=op.get("keepLogs") or 0)


async def clear_logs(session: Session, op: Op) -> Any:
    await (await session.job(op)).clear_logs(op.get("keepLogs") or 0)


async def get_logs(session: Session, op: Op) -> Any:
    queue = await session.queue(op)
    start, end = _range(op)
    rows, count = await queue.jobs.logs(op["id"], start, end, asc=op.get("asc", True))
    return {"logs": rows, "count": count}


async def retry(session: Session, op: Op) -> Any:
    options = op.get("opts") or {}
    await (await session.job(op)).retry(
        JobState(op.get("state") or "failed"),
        reset_attempts_made=bool(options.get("resetAttemptsMade")),
        reset_attempts_started=bool(options.get("resetAttemptsStarted")),
    )


async def remove(session: Session, op: Op) -> Any:
    queue = await session.queue(op)
    return int(await queue.jobs.remove(op["id"], remove_children=_removes_children(op)))


async def remove_job(session: Session, op: Op) -> Any:
    await (await session.job(op)).remove(remove_children=_removes_children(op))


def _removes_children(op: Op) -> bool:
    value = op.get("removeChildren")
    return True if value is None else bool(value)


async def remove_job_deduplication_key(session: Session, op: Op) -> Any:
    return await (await session.job(op)).remove_deduplication_key()


# ------------------------------------------------------------------------------------------------------------- queue


async def pause(session: Session, op: Op) -> Any:
    await (await session.queue(op)).pause()


async def resume(session: Session, op: Op) -> Any:
    await (await session.queue(op)).resume()


async def drain(session: Session, op: Op) -> Any:
    await (await session.queue(op)).drain(delayed=bool(op.get("delayed")))


async def clean(session: Session, op: Op) -> Any:
    queue = await session.queue(op)
    return await queue.jobs.clean(op["grace"], limit=op.get("limit") or 0, state=op.get("type") or "completed")


async def obliterate(session: Session, op: Op) -> Any:
    await (await session.queue(op)).obliterate(force=bool((op.get("opts") or {}).get("force")))


async def retry_jobs(session: Session, op: Op) -> Any:
    options = op.get("opts") or {}
    until = options.get("timestamp")
    await (await session.queue(op)).jobs.retry_all(
        JobState(options.get("state") or "failed"), until=session.clock.now if until is None else until
    )


async def promote_jobs(session: Session, op: Op) -> Any:
    await (await session.queue(op)).jobs.promote_all()


async def trim_events(session: Session, op: Op) -> Any:
    await (await session.queue(op)).trim_events(op["maxLength"])


async def publish_event(session: Session, op: Op) -> Any:
    fields = {name: str(value) for name, value in op["event"].items()}
    max_events = op.get("maxEvents", 1000)
    await (await session.queue(op)).publish_event(fields.pop("eventName"), fields, max_events=max_events)


async def remove_orphans(session: Session, op: Op) -> Any:
    return await (await session.queue(op)).jobs.remove_orphans()


async def set_concurrency(session: Session, op: Op) -> Any:
    await (await session.queue(op)).limits.set_concurrency(op["concurrency"])


async def remove_concurrency(session: Session, op: Op) -> Any:
    await (await session.queue(op)).limits.remove_concurrency()


async def set_rate(session: Session, op: Op) -> Any:
    await (await session.queue(op)).limits.set_rate(op["max"], op["duration"])


async def remove_rate(session: Session, op: Op) -> Any:
    await (await session.queue(op)).limits.remove_rate()


async def rate_limit(session: Session, op: Op) -> Any:
    await (await session.queue(op)).limits.pause_for(op["ms"])


async def remove_rate_limit_key(session: Session, op: Op) -> Any:
    return int(await (await session.queue(op)).limits.resume())


async def get_rate_limit_ttl(session: Session, op: Op) -> Any:
    ttl_ms = await (await session.queue(op)).limits.ttl(op.get("maxJobs"))
    return "<ttl>" if ttl_ms > 0 else ttl_ms


async def remove_deduplication_key(session: Session, op: Op) -> Any:
    return int(await (await session.queue(op)).jobs.remove_deduplication_key(op["id"]))


async def get_deduplication_job_id(session: Session, op: Op) -> Any:
    return await (await session.queue(op)).jobs.deduplication_owner(op["id"])


# ----------------------------------------------------------------------------------------------------------- getters


async def get_job(session: Session, op: Op) -> Any:
    return job_view(await (await session.queue(op)).jobs.get(op["id"]))


async def get_state(session: Session, op: Op) -> Any:
    return (await (await session.queue(op)).jobs.state(op["id"])).value


async def is_finished(session: Session, op: Op) -> Any:
    queue = await session.queue(op)
    finish = await inspecting.is_finished(queue._store, op["id"])
    if not op.get("value"):
        return finish.code
    if finish.code < 0:
        return [finish.code, f"Missing key for job {queue._store.keys.job(op['id'])}. isFinished"]
    return [finish.code, finish.value] if finish.code else [0]


async def get_counts(session: Session, op: Op) -> Any:
    places = await inspecting.count_jobs((await session.queue(op))._store)
    return {state: places.get(inspecting.PLACES.get(state, ""), 0) for state in op.get("types") or _DEFAULT_STATES}


async def get_delayed_count(session: Session, op: Op) -> Any:
    store = (await session.queue(op))._store
    if op.get("timestamp") is None:
        return (await inspecting.count_jobs(store))["delayed"]
    return await inspecting.count_delayed_until(store, op["timestamp"])


async def get_counts_per_priority(session: Session, op: Op) -> Any:
    counts = await (await session.queue(op)).jobs.counts_per_priority(op["priorities"])
    return {str(priority): count for priority, count in counts.items()}


async def get_ranges(session: Session, op: Op) -> Any:
    store = (await session.queue(op))._store
    start, end = op.get("start") or 0, op["end"] if op.get("end") is not None else 1
    ids: dict[str, None] = {}
    for place in _places(op):
        page = await inspecting.list_jobs(store, place, start, end, oldest_first=bool(op.get("asc")), limit=10_000)
        ids |= dict.fromkeys(job_id for job_id, _ in page.jobs)
    return list(ids)


async def get_jobs(session: Session, op: Op) -> Any:
    queue = await session.queue(op)
    start, end = _range(op)
    return [job.id for job in await queue.jobs.list(_states(op), start, end, asc=bool(op.get("asc")))]


def _range(op: Op) -> tuple[int, int]:
    return op.get("start") or 0, -1 if op.get("end") is None else op["end"]


def _states(op: Op) -> list[str]:
    types = op.get("types") or [*_DEFAULT_STATES]
    return [types] if isinstance(types, str) else types


def _places(op: Op) -> list[str]:
    return [inspecting.place_of(state) for state in _states(op)]


async def get_meta(session: Session, op: Op) -> Any:
    meta = await inspecting.get_meta((await session.queue(op))._store)
    shown = {"concurrency": "concurrency", "max": "max", "duration": "duration", "opts.maxLenEvents": "maxLenEvents"}
    numbers = {public: int(meta[name]) for name, public in shown.items() if name in meta}
    return {**numbers, "paused": "paused" in meta, "version": "<version>"}


async def is_paused(session: Session, op: Op) -> Any:
    return await (await session.queue(op)).is_paused()


async def is_maxed(session: Session, op: Op) -> Any:
    return await (await session.queue(op)).is_maxed()


async def get_metrics(session: Session, op: Op) -> Any:
    metrics = (await session.queue(op)).metrics
    start, end = _range(op)
    series = await (metrics.completed if op["type"] == "completed" else metrics.failed)(start, end)
    meta = {"count": series.count, "prevTS": series.previous_ms, "prevCount": series.previous_count}
    return {"meta": meta, "data": series.points, "count": series.size}


OPERATIONS: Final[dict[str, Operation]] = {
    "advance": advance,
    "worker": worker,
    "del": delete,
    "redis": redis,
    "dump": dump_keys,
    "add": add,
    "addBulk": add_bulk,
    "take": consuming.take,
    "complete": consuming.complete,
    "fail": consuming.fail,
    "process": consuming.process,
    "moveToDelayed": consuming.move_to_delayed,
    "moveToWait": consuming.move_to_wait,
    "moveToWaitingChildren": consuming.move_to_waiting_children,
    "extendLock": consuming.extend_lock,
    "extendLocks": consuming.extend_many_locks,
    "stalledCheck": consuming.stalled_check,
    "promote": promote,
    "changePriority": change_priority,
    "changeDelay": change_delay,
    "updateData": update_data,
    "updateProgress": update_progress,
    "log": log,
    "clearLogs": clear_logs,
    "getLogs": get_logs,
    "retry": retry,
    "remove": remove,
    "removeJob": remove_job,
    "removeJobDeduplicationKey": remove_job_deduplication_key,
    "pause": pause,
    "resume": resume,
    "drain": drain,
    "clean": clean,
    "obliterate": obliterate,
    "retryJobs": retry_jobs,
    "promoteJobs": promote_jobs,
    "trimEvents": trim_events,
    "setGlobalConcurrency": set_concurrency,
    "removeGlobalConcurrency": remove_concurrency,
    "setGlobalRateLimit": set_rate,
    "removeGlobalRateLimit": remove_rate,
    "rateLimit": rate_limit,
    "removeRateLimitKey": remove_rate_limit_key,
    "getRateLimitTtl": get_rate_limit_ttl,
    "removeDeduplicationKey": remove_deduplication_key,
    "getDeduplicationJobId": get_deduplication_job_id,
    "getJob": get_job,
    "getState": get_state,
    "isFinished": is_finished,
    "getCounts": get_counts,
    "getDelayedCount": get_delayed_count,
    "getCountsPerPriority": get_counts_per_priority,
    "getRanges": get_ranges,
    "getJobs": get_jobs,
    "upsertJobScheduler": schedulers.upsert,
    "removeJobScheduler": schedulers.remove,
    "getJobScheduler": schedulers.get,
    "getJobSchedulers": schedulers.get_all,
    "getMeta": get_meta,
    "isPaused": is_paused,
    "isMaxed": is_maxed,
    "getMetrics": get_metrics,
    "publishEvent": publish_event,
    "removeOrphanedJobs": remove_orphans,
    "flow": families.flow,
    "flowBulk": families.flow_bulk,
    "getFlow": families.get_flow,
    "getDependencies": families.get_dependencies,
    "getDependenciesCount": families.get_dependencies_count,
    "getChildrenValues": families.get_children_values,
    "getIgnoredChildrenFailures": families.get_ignored_children_failures,
    "removeChildDependency": families.remove_child_dependency,
    "removeUnprocessedChildren": families.remove_unprocessed_children,
}
