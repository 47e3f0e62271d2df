"""Queue: puts jobs into Redis and controls them as a whole.

`queue.jobs`, `queue.limits` and `queue.metrics` look at it and administer it. Running jobs is `Worker`'s business.
The way of an add: options (validated) -> record (encoded) -> buffer (coalesced) -> `add_jobs` -> script.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Generic, NamedTuple, Self, TypeAlias, TypeVar, Unpack

import anyio
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pyqueue._redis.connection import CHECK_AFTER_S, AnyRedis, Connection
from pyqueue._redis.keys import QueueKeys
from pyqueue._redis.outage import Outage
from pyqueue._redis.replies import number
from pyqueue._store import controlling, inspecting
from pyqueue._store.adding import Added, AddReply, parts, weight
from pyqueue._store.coalescing import Answer
from pyqueue._store.listening import FinishListener, publish_event
from pyqueue._store.producer import Producer, add_failure, bulk_failure
from pyqueue._store.record import AddRow, Template, added_fields, encode_job, encode_template
from pyqueue._store.sender import MAX_IN_FLIGHT
from pyqueue._store.store import Store
from pyqueue.errors import AddOutcomeUnknown, ConfigurationError, PayloadError, PyqueueError
from pyqueue.job import Job
from pyqueue.names import check_queue_name, check_text
from pyqueue.options import (
    JOB_SHAPE,
    JobOptionFields,
    JobOptions,
    JobSpec,
    QueueOptionFields,
    QueueOptions,
    merge_options,
)
from pyqueue.types import SERVER_CLOCK, Clock
from pyqueue.validation import check_many
from pyqueue.views.jobs import Jobs, Progress
from pyqueue.views.limits import CurrentLimits, Limits, limits_of
from pyqueue.views.metrics import Metrics
from pyqueue.views.schedulers import Schedulers

DataT = TypeVar("DataT")
ResultT = TypeVar("ResultT")

ConnectionSource: TypeAlias = "str | AnyRedis | Connection | None"
"""A URL (None: redis://localhost:6379), or a `redis.asyncio` client, which stays the caller's."""

#: Jobs that one call removes: a tenth of 2 ms of Redis' time, because the machine can make it several times as long.
_SLICE: Final = 25
#: Ids that one call moves back from where old versions put them; only the ids are touched.
_RESUME_SLICE: Final = 5000

_NO_DATA: Final[Any] = {}
_NOT_SENT: Final = "The job was not sent: the connection stayed broken for those before it. Add it again."


class QueueMeta(NamedTuple):
    """The settings of a queue, as all its clients see them."""

    is_paused: bool
    limits: CurrentLimits
    max_len_events: int
    """About how many events the stream keeps; 0 if no client has said."""
    version: str
    """The client that wrote the settings last, such as `pyqueue:0.1.0` or `bullmq:6.7.0`; empty if none has."""


class Queue(Generic[DataT, ResultT]):
    """A queue of jobs. Use it as an async context manager, or call `close` at the end; or keep it for the process.

    `jobs` finds, counts, lists and administers jobs, `schedulers` adds them again and again, `limits` bounds all
    workers together, `metrics` counts per minute. Options are listed in docs/reference/options.md.
    Errors of the network are redis-py's; refusals of the server are `RedisRefused`.
    """

    def __init__(
        self,
        name: str,
        *,
        connection: ConnectionSource = None,
        clock: Clock = SERVER_CLOCK,
        **options: Unpack[QueueOptionFields],
    ) -> None:
        """Nothing is opened before the first command. `options` are those of `QueueOptions`.

        Raises ConfigurationError for a bad name or option, and for a cluster client without hash tag in the prefix.
        """
        self.name: Final = check_queue_name(name)
        self.options: Final = QueueOptions.model_validate(options)
        self._connection = Connection.open(connection)
        self._is_ours = not isinstance(connection, Connection)
        self._connection.check_prefix(self.options.prefix)
        keys = QueueKeys(self.options.prefix, self.name)
        self._finishes = FinishListener(
            Store(self._connection.commands, keys, clock),
            lambda: self._connection.lane(blocking=True),
            Outage(f"results of {self.name}: {self._connection.url_safe}"),
        )
        self._store = Store(self._connection.commands, keys, clock, self._finishes)
        self._producer = Producer(
            self._store,
            Outage(f"queue {self.name}: {self._connection.url_safe}"),
            max_events=self.options.max_len_events,
            is_described=self.options.skip_metas_update,
            described=self._described,
        )
        self._buffer = self._producer.buffer
        self._timer: asyncio.TimerHandle | None = None
        self._check: asyncio.Task[None] | None = None
        defaults = self.options.default_job_options
        inherited = merge_options(defaults, None)
        self._default_template = None if inherited is None else encode_template(inherited)
        self.jobs: Final[Jobs[DataT, ResultT]] = Jobs(self._store)
        """Find, count, list and administer jobs."""
        self.limits: Final = Limits(self._store)
        """Concurrency and rate over all workers."""
        self.metrics: Final = Metrics(self._store)
        """Finished jobs per minute."""
        self.schedulers: Final[Schedulers[DataT, ResultT]] = Schedulers(self._store, defaults)
        """Jobs that come again and again."""

    async def add(
        self,
        name: str,
        data: DataT = _NO_DATA,
        options: JobOptions | Mapping[str, Any] | None = None,
        **option_fields: Unpack[JobOptionFields],
    ) -> Job[DataT, ResultT]:
        """Add a job; its `add_status` says what that did.

        Options are keywords, or one `JobOptions`, or a dictionary with their names or BullMQ's.

        Adds issued at the same time travel in one script call, about 8 us of Redis' time each. Raises
        ConfigurationError or PayloadError before anything is written, JobError when the script refuses the job,
        AddOutcomeUnknown when the connection stayed broken for 9.5 s; its `may_be_stored` is False if it was not sent.
        """
        row = self._encode(name, data, _one_of(options, option_fields))
        reply = await self._reply(self._buffer.add([row], weight(row)))
        result = reply.results[0]
        if not isinstance(result, Added):
            raise result
        return self._job(row, result, reply.now_ms)

    async def add_bulk(self, specs: Iterable[JobSpec[DataT] | Mapping[str, Any]]) -> list[Job[DataT, ResultT]]:
        """Add many jobs in order: `JobSpec`s, or dictionaries with `name`, `data` and `opts` (the options).

        All are validated before the first is sent. 64 (32 where some are delayed) travel in one script call, which is
        atomic; a larger bulk is not.
        Raises ConfigurationError or PayloadError, which name the job by its index in `specs`, before anything is
        written; BulkAddError with a job or an error for each, if the server did not add all of them.
        """
        check_many(specs, "specs", JobSpec, JOB_SHAPE)
        rows = self._encode_all(specs)
        results: list[Job[DataT, ResultT] | PyqueueError] = []
        calls = list(parts(rows))
        sent: list[Answer] = []
        for index, part in enumerate(calls):
            # The calls in flight go on while the jobs of the last one are made, and one more is ready to leave.
            for following in calls[len(sent) : index + 1 + MAX_IN_FLIGHT]:
                sent.append(self._buffer.add(*following, after=sent[-1] if sent else None))
            if not await _is_answered(sent[index:]):
                if self._buffer.has_given_up:
                    raise asyncio.CancelledError
                unsent = AddOutcomeUnknown(_NOT_SENT, queue=self.name, may_be_stored=False)
                results += [unsent] * (len(rows) - len(results))
                break
            results += await self._results(part.rows, sent[index])
        added = [result for result in results if isinstance(result, Job)]
        if len(added) == len(results):
            return added
        raise bulk_failure(results, what="jobs")

    async def pause(self) -> None:
        """Let no worker take another job until `resume`, also after restarts. One round trip.

        Jobs that a worker runs, or has claimed ahead (`prefetch`), finish.
        """
        await self._producer.describe()
        await controlling.pause(self._store)

    async def resume(self) -> None:
        """Let workers start jobs again. One round trip; more if an old version of BullMQ set many jobs aside."""
        await self._producer.describe()
        is_first = True
        while await controlling.resume(self._store, is_first=is_first, limit=_RESUME_SLICE):
            is_first = False

    async def is_paused(self) -> bool:
        """Whether the queue is paused. One round trip."""
        return (await self.meta()).is_paused

    async def is_maxed(self) -> bool:
        """Whether as many jobs run as the queue's concurrency allows. Two round trips."""
        concurrency = (await self.meta()).limits.concurrency
        return concurrency is not None and await inspecting.count_active(self._store) >= concurrency

    async def meta(self) -> QueueMeta:
        """The settings of the queue. One round trip."""
        stored = await inspecting.get_meta(self._store)
        return QueueMeta(
            "paused" in stored, limits_of(stored), number(stored.get("opts.maxLenEvents")), stored.get("version", "")
        )

    async def drain(self, *, delayed: bool = False, progress: Progress | None = None) -> int:
        """Remove all jobs that wait to run (with `delayed`, also those), but no pending run of a scheduler.

        Returns how many. Jobs added meanwhile may be removed, too. At least one round trip per state, one per 25 jobs.
        """
        await self._producer.describe()
        removed = 0
        for place in ("wait", "paused", "delayed", "prioritized") if delayed else ("wait", "paused", "prioritized"):
            removed = await self._drain_place(place, removed, progress)
        return removed

    async def obliterate(self, *, force: bool = False, progress: Progress | None = None) -> int:
        """Pause the queue, then delete it with all its jobs; returns how many. One round trip per 25 jobs.

        Raises QueueHasActiveJobs while jobs run, unless `force`; the queue stays paused then. Parents that wait for
        children in other queues stay, as in BullMQ.
        """
        await self.pause()
        total, done = 0, False
        while not done:
            done, removed = await controlling.obliterate(self._store, force=force, limit=_SLICE)
            total += removed
            if progress is not None:
                progress(total)
        await self._forget_senders()
        self._producer.settings_gone()
        return total

    async def trim_events(self, max_events: int) -> int:
        """Cut the event stream to about so many entries (whole nodes of 100); returns how many went. One round trip."""
        return await controlling.trim_events(self._store, max_events)

    async def publish_event(self, name: str, fields: Mapping[str, str], *, max_events: int = 1000) -> str:
        """Append an event of your own to the queue's stream and cap it at about `max_events`; returns its id.

        Readers get a `CustomEvent`. ConfigurationError for an empty name or fields that are no text. One round trip.
        """
        check_text(name, "event name")
        for field, value in fields.items():
            check_text(field, "event field")
            if not isinstance(value, str):
                raise ConfigurationError(f"event field {field!r} is {value!r}: it must be a string")
        return await publish_event(self._store, name, fields, max_events=max_events)

    async def workers(self) -> list[dict[str, str]]:
        """Connected workers of this queue, as CLIENT LIST describes them (`name`, `addr`, `age`, ...). One round trip.

        A worker shows while its connection that waits for jobs is open; on a cluster that is on the queue's node.
        """
        own = f"{self.options.prefix}:{base64.b64encode(self.name.encode()).decode()}"
        clients = await inspecting.list_clients(self._store)
        return [c for c in clients if c.get("name") == own or c.get("name", "").startswith(f"{own}:w:")]

    async def close(self) -> None:
        """Send what was added, then close the connections that were opened here; a borrowed client stays open.

        While Redis does not answer that takes up to 10 s, as an add does; cancel it to give up what is not sent.
        """
        if self._timer is not None:
            self._timer.cancel()
        if self._check is not None:
            self._check.cancel()
        try:
            await self._finishes.close()
            await self._buffer.close()
        finally:
            if self._is_ours:
                with anyio.CancelScope(shield=True):
                    await self._connection.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<Queue {self.name!r} at {self._connection.url_safe}>"

    def _encode(self, name: str, data: DataT, options: JobOptions | None) -> AddRow:
        merged: JobOptions | Template | None = self._default_template
        if options is not None:
            merged = merge_options(self.options.default_job_options, options)
        return encode_job(name, data, merged, strict_ints=self.options.strict_ints)

    def _encode_all(self, specs: Iterable[JobSpec[DataT] | Mapping[str, Any]]) -> list[AddRow]:
        rows: list[AddRow] = []
        try:
            for spec in map(JobSpec[DataT].parse, specs):
                rows.append(self._encode(spec.name, spec.data, spec.options))  # noqa: PERF401  # their number is told
        except (ConfigurationError, PayloadError) as error:
            raise type(error)(f"specs[{len(rows)}]: {error}") from error  # it may come from the caller's generator
        return rows

    async def _reply(self, answer: Answer) -> AddReply:
        try:
            return await answer
        except (RedisConnectionError, RedisTimeoutError) as error:
            raise add_failure(error, queue=self.name, address=self._connection.url_safe) from error

    async def _results(self, rows: Sequence[AddRow], answer: Answer) -> list[Job[DataT, ResultT] | PyqueueError]:
        """Part of a bulk: a job or an error for each."""
        try:
            reply = await self._reply(answer)
        except PyqueueError as error:
            return [error] * len(rows)
        return [
            self._job(row, result, reply.now_ms) if isinstance(result, Added) else result
            for row, result in zip(rows, reply.results, strict=True)
        ]

    def _job(self, row: AddRow, added: Added, now_ms: int) -> Job[DataT, ResultT]:
        job: Job[DataT, ResultT] = Job(self._store, added.job_id, added_fields(row, now_ms))
        job.add_status = added.status
        return job

    def _described(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(CHECK_AFTER_S, self._check_server)

    def _check_server(self) -> None:
        self._check = asyncio.ensure_future(self._connection.check_server())

    async def _drain_place(self, place: str, removed: int, progress: Progress | None) -> int:
        """Remove what may go. Workers may take jobs that were let stay, so that others are passed over: look again."""
        while True:
            offset, before = 0, removed
            seen = _SLICE
            while seen == _SLICE:
                gone, seen = await controlling.drain(self._store, place, offset=offset, limit=_SLICE)
                offset += seen - gone
                removed += gone
                if progress is not None:
                    progress(removed)
            if not offset or removed == before:
                return removed

    async def _forget_senders(self) -> None:
        """Delete exchange records of this queue."""
        cursor = await controlling.forget_senders(self._store, 0, limit=1000)
        while cursor:
            cursor = await controlling.forget_senders(self._store, cursor, limit=1000)


async def _is_answered(answers: Sequence[Answer]) -> bool:
    """Wait for the first of some answers; False if the buffer has cancelled it."""
    try:
        await asyncio.wait(answers[:1])
    except asyncio.CancelledError:
        for answer in answers:
            answer.cancel()
        raise
    return not answers[0].cancelled()


def _one_of(options: JobOptions | Mapping[str, Any] | None, fields: JobOptionFields) -> JobOptions | None:
    if not fields:
        return options if options is None or isinstance(options, JobOptions) else JobOptions.model_validate(options)
    if options is not None:
        kind = type(options).__name__
        raise ConfigurationError(f"options were given as {kind} and as keywords {sorted(fields)}: choose one way")
    return JobOptions(**fields)
