"""The two languages as a test sees them: the same verbs, done by real BullMQ or by pyqueue.

Options are given by BullMQ's names on both sides. What a side tells of a job is a `View`, of an event a `Heard`; two
sides agree if these are equal. Each side opens what it needs on demand, and `close` ends it all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias

import anyio
from anyio.abc import TaskGroup

from pyqueue import Backoff, FlowProducer, Job, JobFailed, JobNode, JobState, Queue, QueueEvents, Worker, events
from pyqueue.options import BUILT_IN_BACKOFFS
from tests.interop import processors
from tests.interop.node import NodeError, NodeProcess

Options: TypeAlias = Mapping[str, Any]
Tree: TypeAlias = dict[str, Any]

_RESULT_S = 14.0  # the driver answers within 15 s


class Failed(Exception):
    """The job that was waited for failed, with this reason."""


class Heard(NamedTuple):
    """An event of a queue, and its main field: the value, the reason, the progress, the state before."""

    name: str
    job_id: str
    field: Any


@dataclass(frozen=True, slots=True)
class View:
    """What one side reads of a job."""

    id: str
    name: str
    data: Any
    options: Mapping[str, Any]
    state: str
    progress: Any
    value: Any
    reason: str | None
    stacks: Sequence[str]
    logs: Sequence[str]
    attempts_made: int
    attempts_started: int
    stalled: int
    delay: int
    priority: int
    timestamp: int
    processed_on: int | None
    finished_on: int | None
    processed_by: str | None
    parent: Mapping[str, str] | None
    deduplication_id: str | None
    scheduler_id: str | None


class Side(Protocol):
    """One language. `queue` is a name; all queues of a test have one prefix."""

    language: ClassVar[str]

    async def add(self, name: str, data: Any = None, /, queue: str = "q", **options: Any) -> str:
        """Add a job with BullMQ's options; its id."""
        ...

    async def add_many(self, jobs: Sequence[Tree], queue: str = "q") -> list[str]:
        """Add jobs (name, data, opts) in bulk; their ids."""
        ...

    async def work(self, queue: str = "q", **options: Any) -> None:
        """Start a worker with BullMQ's options that runs the jobs of `processors`; one per queue and side."""

    async def idle(self, queue: str = "q") -> None:
        """Close that worker, when what runs has ended."""

    async def look(self, job_id: str, queue: str = "q") -> View | None:
        """A job as this side reads it."""
        ...

    async def result(self, job_id: str, queue: str = "q") -> Any:
        """Wait for a job's end through the queue's events: its value, or `Failed`."""
        ...

    async def listen(self, queue: str = "q") -> None:
        """Begin to hear the events of a queue."""

    def heard(self, queue: str = "q") -> list[Heard]:
        """What was heard since, in order."""
        ...

    async def counts(self, queue: str = "q") -> dict[str, int]:
        """Jobs by state."""
        ...

    async def ids(self, state: str, queue: str = "q") -> list[str]:
        """Ids of the jobs of a state, in order."""
        ...

    async def workers(self, queue: str = "q") -> list[str]:
        """Names of the connected workers."""
        ...

    async def pause(self, queue: str = "q") -> None: ...
    async def resume(self, queue: str = "q") -> None: ...
    async def drain(self, queue: str = "q") -> None: ...
    async def obliterate(self, queue: str = "q") -> None: ...
    async def clean(self, state: str, queue: str = "q") -> list[str]: ...
    async def retry_all(self, queue: str = "q") -> None: ...
    async def promote_all(self, queue: str = "q") -> None: ...
    async def set_concurrency(self, concurrency: int, queue: str = "q") -> None: ...
    async def set_rate(self, max: int, duration: int, queue: str = "q") -> None: ...

    async def retry(self, job_id: str, queue: str = "q") -> None: ...
    async def promote(self, job_id: str, queue: str = "q") -> None: ...
    async def remove(self, job_id: str, queue: str = "q") -> None: ...
    async def change_priority(self, job_id: str, priority: int, queue: str = "q") -> None: ...
    async def change_delay(self, job_id: str, delay: int, queue: str = "q") -> None: ...
    async def update_data(self, job_id: str, data: Any, queue: str = "q") -> None: ...
    async def log(self, job_id: str, row: str, queue: str = "q") -> None: ...

    async def add_flow(self, tree: Tree) -> str:
        """Add a flow, as a dictionary in BullMQ's form; the id of its root."""
        ...

    async def flow(self, job_id: str, queue: str = "q") -> Any:
        """A flow as (id, state, children), children sorted by id."""
        ...

    async def schedule(self, scheduler_id: str, repeat: Options, template: Tree, queue: str = "q") -> str:
        """Upsert a scheduler; the id of its pending job."""
        ...

    async def unschedule(self, scheduler_id: str, queue: str = "q") -> None:
        """Remove a scheduler."""

    async def scheduler(self, scheduler_id: str, queue: str = "q") -> dict[str, Any] | None:
        """A scheduler: next, iterations, and what was given."""
        ...

    async def metrics(self, kind: str, queue: str = "q") -> tuple[int, int, list[int]]:
        """Finished jobs of a kind: their count, how many points there are, and the points."""
        ...

    async def close(self) -> None:
        """End everything that was opened."""


class NodeSide:
    """BullMQ for Node, in the process of `driver.mjs`."""

    language: ClassVar[str] = "node"

    def __init__(self, process: NodeProcess, prefix: str) -> None:
        self.process = process
        self._prefix = prefix

    async def queue_call(self, method: str, *args: Any, queue: str = "q") -> Any:
        """Any method of BullMQ's Queue."""
        return await self._ask("queue", queue, method=method, args=args)

    async def job_call(self, job_id: str, method: str, *args: Any, queue: str = "q") -> Any:
        """Any method of BullMQ's Job."""
        return await self._ask("job", queue, job=job_id, method=method, args=args)

    async def flow_call(self, method: str, *args: Any) -> Any:
        """Any method of BullMQ's FlowProducer."""
        return await self._ask("flow", "", method=method, args=args)

    async def add(self, name: str, data: Any = None, /, queue: str = "q", **options: Any) -> str:
        return str((await self.queue_call("add", name, {} if data is None else data, options, queue=queue))["id"])

    async def add_many(self, jobs: Sequence[Tree], queue: str = "q") -> list[str]:
        return [job["id"] for job in await self.queue_call("addBulk", jobs, queue=queue)]

    async def work(self, queue: str = "q", **options: Any) -> None:
        await self._ask("work", queue, options=options)

    async def idle(self, queue: str = "q") -> None:
        await self._ask("idle", queue)

    async def look(self, job_id: str, queue: str = "q") -> View | None:
        seen = await self._ask("look", queue, job=job_id)
        return None if seen is None else _node_view(seen)

    async def result(self, job_id: str, queue: str = "q") -> Any:
        try:
            return await self._ask("result", queue, job=job_id, ttl=_RESULT_S * 1000)
        except NodeError as error:
            raise Failed(error.message) from error

    async def listen(self, queue: str = "q", *, also: Sequence[str] = ()) -> None:
        """`also`: names of custom events."""
        await self._ask("listen", queue, also=also)

    async def publish(self, event: str, fields: Mapping[str, str], queue: str = "q") -> None:
        """Publish a custom event."""
        await self._ask("publish", queue, event=event, fields=fields)

    def heard(self, queue: str = "q") -> list[Heard]:
        return [_node_heard(message) for message in self.process.events[f"events {self._prefix} {queue}"]]

    async def counts(self, queue: str = "q") -> dict[str, int]:
        counts: dict[str, int] = await self.queue_call("getJobCounts", queue=queue)
        counts["waiting"] = counts.pop("waiting", 0) + counts.pop("wait", 0) + counts.pop("paused", 0)
        return counts

    async def ids(self, state: str, queue: str = "q") -> list[str]:
        jobs = await self.queue_call("getJobs", [state], 0, -1, True, queue=queue)
        return [job["id"] for job in jobs]

    async def workers(self, queue: str = "q") -> list[str]:
        return [_worker_name(worker["rawname"]) for worker in await self.queue_call("getWorkers", queue=queue)]

    async def pause(self, queue: str = "q") -> None:
        await self.queue_call("pause", queue=queue)

    async def resume(self, queue: str = "q") -> None:
        await self.queue_call("resume", queue=queue)

    async def drain(self, queue: str = "q") -> None:
        await self.queue_call("drain", True, queue=queue)

    async def obliterate(self, queue: str = "q") -> None:
        await self.queue_call("obliterate", queue=queue)

    async def clean(self, state: str, queue: str = "q") -> list[str]:
        ids: list[str] = await self.queue_call("clean", 0, 1000, {"waiting": "wait"}.get(state, state), queue=queue)
        return ids

    async def retry_all(self, queue: str = "q") -> None:
        await self.queue_call("retryJobs", queue=queue)

    async def promote_all(self, queue: str = "q") -> None:
        await self.queue_call("promoteJobs", queue=queue)

    async def set_concurrency(self, concurrency: int, queue: str = "q") -> None:
        await self.queue_call("setGlobalConcurrency", concurrency, queue=queue)

    async def set_rate(self, max: int, duration: int, queue: str = "q") -> None:
        await self.queue_call("setGlobalRateLimit", max, duration, queue=queue)

    async def retry(self, job_id: str, queue: str = "q") -> None:
        await self.job_call(job_id, "retry", queue=queue)

    async def promote(self, job_id: str, queue: str = "q") -> None:
        await self.job_call(job_id, "promote", queue=queue)

    async def remove(self, job_id: str, queue: str = "q") -> None:
        await self.job_call(job_id, "remove", queue=queue)

    async def change_priority(self, job_id: str, priority: int, queue: str = "q") -> None:
        await self.job_call(job_id, "changePriority", {"priority": priority}, queue=queue)

    async def change_delay(self, job_id: str, delay: int, queue: str = "q") -> None:
        await self.job_call(job_id, "changeDelay", delay, queue=queue)

    async def update_data(self, job_id: str, data: Any, queue: str = "q") -> None:
        await self.job_call(job_id, "updateData", data, queue=queue)

    async def log(self, job_id: str, row: str, queue: str = "q") -> None:
        await self.job_call(job_id, "log", row, queue=queue)

    async def add_flow(self, tree: Tree) -> str:
        return str((await self.flow_call("add", tree))["job"]["id"])

    async def flow(self, job_id: str, queue: str = "q") -> Any:
        return await self._ask("tree", queue, job=job_id)

    async def schedule(self, scheduler_id: str, repeat: Options, template: Tree, queue: str = "q") -> str:
        return str((await self.queue_call("upsertJobScheduler", scheduler_id, repeat, template, queue=queue))["id"])

    async def unschedule(self, scheduler_id: str, queue: str = "q") -> None:
        await self.queue_call("removeJobScheduler", scheduler_id, queue=queue)

    async def scheduler(self, scheduler_id: str, queue: str = "q") -> dict[str, Any] | None:
        found = await self.queue_call("getJobScheduler", scheduler_id, queue=queue)
        if found is None:
            return None
        template = found.pop("template", None) or {}
        return {**found, "data": template.get("data"), "opts": template.get("opts") or {}}

    async def metrics(self, kind: str, queue: str = "q") -> tuple[int, int, list[int]]:
        found = await self.queue_call("getMetrics", kind, queue=queue)
        return found["meta"]["count"], found["count"], [int(point) for point in found["data"]]

    async def close(self) -> None:
        await self.process.ask("reset")

    async def _ask(self, op: str, queue: str, **fields: Any) -> Any:
        return await self.process.ask(op, prefix=self._prefix, queue=queue, **fields)


class PythonSide:
    """pyqueue, in this process. An async context manager."""

    language: ClassVar[str] = "python"

    def __init__(self, url: str, prefix: str) -> None:
        self._url = url
        self._prefix = prefix
        self._stack = AsyncExitStack()
        self._tasks: TaskGroup | None = None
        self._queues: dict[str, Queue[Any, Any]] = {}
        self._workers: dict[str, Worker[Any, Any]] = {}
        self._heard: dict[str, list[Heard]] = {}
        self._producer: FlowProducer | None = None

    async def __aenter__(self) -> PythonSide:
        self._tasks = await self._stack.enter_async_context(anyio.create_task_group())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def queue(self, name: str = "q") -> Queue[Any, Any]:
        """A queue of this side."""
        if name not in self._queues:
            queue: Queue[Any, Any] = Queue(name, connection=self._url, prefix=self._prefix)
            self._stack.push_async_callback(queue.close)
            self._queues[name] = queue
        return self._queues[name]

    async def job(self, job_id: str, queue: str = "q") -> Job[Any, Any]:
        """A job that must exist."""
        job = await self.queue(queue).jobs.get(job_id)
        assert job is not None, f"no job {job_id}"
        return job

    async def add(self, name: str, data: Any = None, /, queue: str = "q", **options: Any) -> str:
        if isinstance(options.get("backoff"), dict) and options["backoff"]["type"] not in BUILT_IN_BACKOFFS:
            options["backoff"] = Backoff.custom(options["backoff"]["type"], delay=options["backoff"].get("delay"))
        return (await self.queue(queue).add(name, {} if data is None else data, options)).id

    async def add_many(self, jobs: Sequence[Tree], queue: str = "q") -> list[str]:
        return [job.id for job in await self.queue(queue).add_bulk(jobs)]

    async def work(self, queue: str = "q", **options: Any) -> None:
        given: Any = {_snake(name): value for name, value in options.items()}
        custom: Any = {"backoffs": {"custom": lambda attempts, *_: attempts * 10}}
        worker: Worker[Any, Any] = Worker(
            queue,
            processors.run,
            connection=self._url,
            prefix=self._prefix,
            **{**custom, **given},
        )
        await worker.__aenter__()
        self._workers[queue] = worker

    async def idle(self, queue: str = "q") -> None:
        await self._workers.pop(queue).__aexit__(None, None, None)

    async def stop(self, queue: str = "q") -> None:
        """Close that worker at once; it hands back what runs."""
        await self._workers[queue].close(force=True)

    async def look(self, job_id: str, queue: str = "q") -> View | None:
        jobs = self.queue(queue).jobs
        job = await jobs.get(job_id)
        if job is None:
            return None
        return _python_view(job, str(await job.state()), (await jobs.logs(job_id))[0])

    async def result(self, job_id: str, queue: str = "q") -> Any:
        try:
            return await (await self.job(job_id, queue)).result(timeout=_RESULT_S)
        except JobFailed as error:
            raise Failed(str(error)) from error

    async def listen(self, queue: str = "q") -> None:
        reader = QueueEvents(queue, connection=self._url, prefix=self._prefix)
        self._stack.push_async_callback(reader.close)
        await reader.ready()
        self._heard[queue] = []
        assert self._tasks is not None
        self._tasks.start_soon(self._hear, reader, self._heard[queue])

    def heard(self, queue: str = "q") -> list[Heard]:
        return list(self._heard[queue])

    async def counts(self, queue: str = "q") -> dict[str, int]:
        return {str(state): count for state, count in (await self.queue(queue).jobs.counts()).items()}

    async def ids(self, state: str, queue: str = "q") -> list[str]:
        return [job.id for job in await self.queue(queue).jobs.list(state, 0, -1, asc=True)]

    async def workers(self, queue: str = "q") -> list[str]:
        return [_worker_name(worker["name"]) for worker in await self.queue(queue).workers()]

    async def pause(self, queue: str = "q") -> None:
        await self.queue(queue).pause()

    async def resume(self, queue: str = "q") -> None:
        await self.queue(queue).resume()

    async def drain(self, queue: str = "q") -> None:
        await self.queue(queue).drain(delayed=True)

    async def obliterate(self, queue: str = "q") -> None:
        await self.queue(queue).obliterate()

    async def clean(self, state: str, queue: str = "q") -> list[str]:
        return await self.queue(queue).jobs.clean(state=state)

    async def retry_all(self, queue: str = "q") -> None:
        await self.queue(queue).jobs.retry_all()

    async def promote_all(self, queue: str = "q") -> None:
        await self.queue(queue).jobs.promote_all()

    async def set_concurrency(self, concurrency: int, queue: str = "q") -> None:
        await self.queue(queue).limits.set_concurrency(concurrency)

    async def set_rate(self, max: int, duration: int, queue: str = "q") -> None:
        await self.queue(queue).limits.set_rate(max, duration)

    async def retry(self, job_id: str, queue: str = "q") -> None:
        await (await self.job(job_id, queue)).retry()

    async def promote(self, job_id: str, queue: str = "q") -> None:
        await (await self.job(job_id, queue)).promote()

    async def remove(self, job_id: str, queue: str = "q") -> None:
        await (await self.job(job_id, queue)).remove()

    async def change_priority(self, job_id: str, priority: int, queue: str = "q") -> None:
        await (await self.job(job_id, queue)).change_priority(priority)

    async def change_delay(self, job_id: str, delay: int, queue: str = "q") -> None:
        await (await self.job(job_id, queue)).change_delay(delay)

    async def update_data(self, job_id: str, data: Any, queue: str = "q") -> None:
        await (await self.job(job_id, queue)).update_data(data)

    async def log(self, job_id: str, row: str, queue: str = "q") -> None:
        await (await self.job(job_id, queue)).log(row)

    async def add_flow(self, tree: Tree) -> str:
        return (await self._flows().add(tree)).job.id

    async def flow(self, job_id: str, queue: str = "q") -> Any:
        found = await self._flows().get_flow(queue, job_id)
        return None if found is None else await _shape(found)

    async def schedule(self, scheduler_id: str, repeat: Options, template: Tree, queue: str = "q") -> str:
        given: Any = {_snake(name): value for name, value in repeat.items()}
        job = await self.queue(queue).schedulers.upsert(
            scheduler_id, name=template.get("name"), data=template.get("data"), options=template.get("opts"), **given
        )
        return job.id

    async def unschedule(self, scheduler_id: str, queue: str = "q") -> None:
        await self.queue(queue).schedulers.remove(scheduler_id)

    async def scheduler(self, scheduler_id: str, queue: str = "q") -> dict[str, Any] | None:
        found = await self.queue(queue).schedulers.get(scheduler_id)
        if found is None:
            return None
        told = {
            "key": found.id, "name": found.name, "next": found.next, "iterationCount": found.iteration_count,
            "every": found.every, "pattern": found.pattern, "tz": found.tz, "offset": found.offset,
            "limit": found.limit, "startDate": found.start_date, "endDate": found.end_date, "data": found.data,
        }  # fmt: skip
        opts = found.options.model_dump(by_alias=True, exclude_unset=True)
        return {name: value for name, value in told.items() if value is not None} | {"data": found.data, "opts": opts}

    async def metrics(self, kind: str, queue: str = "q") -> tuple[int, int, list[int]]:
        metrics = self.queue(queue).metrics
        series = await (metrics.completed() if kind == "completed" else metrics.failed())
        return series.count, series.size, series.points

    async def close(self) -> None:
        for worker in self._workers.values():
            await worker.close(force=True)
            await worker.__aexit__(None, None, None)
        self._workers.clear()
        if self._tasks is not None:
            self._tasks.cancel_scope.cancel()
        await self._stack.aclose()

    async def _hear(self, reader: QueueEvents, heard: list[Heard]) -> None:
        async for event in reader:
            heard.append(_python_heard(event))  # noqa: PERF401  # the list is read while it grows

    def _flows(self) -> FlowProducer:
        if self._producer is None:
            self._producer = FlowProducer(connection=self._url, prefix=self._prefix)
            self._stack.push_async_callback(self._producer.close)
        return self._producer


def _snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda letter: "_" + letter[0].lower(), name)


def _worker_name(client_name: str) -> str:
    return client_name.partition(":w:")[2]


def _node_view(seen: Mapping[str, Any]) -> View:
    return View(
        id=seen["id"],
        name=seen["name"],
        data=seen["data"],
        options=seen["opts"],
        state=seen["state"],
        progress=seen["progress"],
        value=seen["returnvalue"],
        reason=seen.get("failedReason"),
        stacks=seen["stacktrace"] or [],
        logs=seen["logs"],
        attempts_made=seen["attemptsMade"],
        attempts_started=seen["attemptsStarted"],
        stalled=seen["stalledCounter"],
        delay=seen.get("delay", 0),
        priority=seen["priority"],
        timestamp=seen["timestamp"],
        processed_on=seen.get("processedOn"),
        finished_on=seen.get("finishedOn"),
        processed_by=seen.get("processedBy"),
        parent=_reference(seen.get("parent")),
        deduplication_id=seen.get("deduplicationId"),
        scheduler_id=seen.get("repeatJobKey"),
    )


def _reference(parent: Mapping[str, Any] | None) -> Mapping[str, str] | None:
    """Where a parent is; BullMQ shows the child's policy beside it, pyqueue among the options."""
    return None if parent is None else {"id": parent["id"], "queueKey": parent["queueKey"]}


def _python_view(job: Job[Any, Any], state: str, logs: Sequence[str]) -> View:
    return View(
        id=job.id,
        name=job.name,
        data=job.data,
        options=job.options.model_dump(by_alias=True, exclude_unset=True),
        state=state,
        progress=job.progress,
        value=job.return_value,
        reason=job.failed_reason,
        stacks=job.stack_trace,
        logs=logs,
        attempts_made=job.attempts_made,
        attempts_started=job.attempts_started,
        stalled=job.stalled_count,
        delay=job.delay,
        priority=job.priority,
        timestamp=job.timestamp,
        processed_on=job.processed_on,
        finished_on=job.finished_on,
        processed_by=job.processed_by,
        parent=None if job.parent is None else {"id": job.parent.id, "queueKey": job.parent.queue},
        deduplication_id=job.deduplication_id,
        scheduler_id=job.scheduler_id,
    )


#: The main field of an event, by its name, in Node and in Python.
_FIELDS = {
    "added": ("name", "job_name"),
    "waiting": ("prev", "previous"),
    "active": ("prev", "previous"),
    "waiting-children": ("prev", "previous"),
    "removed": ("prev", "previous"),
    "delayed": ("delay", "due_ms"),
    "completed": ("returnvalue", "return_value"),
    "failed": ("failedReason", "reason"),
    "retries-exhausted": ("attemptsMade", "attempts_made"),
    "progress": ("data", "progress"),
    "deduplicated": ("deduplicationId", "deduplication_id"),
    "cleaned": ("count", "count"),
}


def _node_heard(message: Mapping[str, Any]) -> Heard:
    name = message["event"]
    told = message["args"][0] if message["args"] and isinstance(message["args"][0], dict) else {}
    if name not in _FIELDS:
        return Heard(name, told.get("jobId", ""), told if "jobId" not in told and told else None)
    field = told.get(_FIELDS[name][0])
    if name in {"retries-exhausted", "cleaned"}:  # text in BullMQ
        field = int(field or 0)
    return Heard(name, told.get("jobId", ""), field or None)


def _python_heard(event: events.AnyEvent) -> Heard:
    if isinstance(event, events.CustomEvent):
        return Heard(event.name, event.job_id, event.fields)
    field = getattr(event, _FIELDS[event.name][1]) if event.name in _FIELDS else None
    return Heard(event.name, event.job_id, field or None)


async def _shape(node: JobNode) -> Any:
    children = [await _shape(child) for child in node.children]
    state: JobState = await node.job.state()
    return [node.job.id, str(state), sorted(children)]
