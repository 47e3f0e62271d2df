"""`queue.schedulers`: jobs that come again and again, by an interval or a cron pattern.

A scheduler always has one job pending; when a worker takes it, the next one is created. What its jobs run is the
workers' business; when they run is decided by `repeat` and the scripts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeAlias, TypeVar, Unpack

from pyqueue import payload
from pyqueue._redis.replies import number, text
from pyqueue._store import scheduling
from pyqueue._store.record import Field
from pyqueue._store.scheduling import StoredScheduler, Template, Upserted
from pyqueue._store.store import Store
from pyqueue._store.stored_options import decode_options
from pyqueue.errors import ConfigurationError
from pyqueue.job import Job
from pyqueue.lazy_modules import LazyModule
from pyqueue.names import check_job_name, check_text
from pyqueue.options import JobOptions, merge_options

if TYPE_CHECKING:
    from pyqueue import repeat as rules
else:
    rules = LazyModule("pyqueue.repeat")

DataT = TypeVar("DataT")
ResultT = TypeVar("ResultT")

_NO_DATA: Final[Any] = {}
#: Options of a job that its scheduler decides.
_DECIDED: Final = ("job_id", "delay", "deduplication", "parent", "timestamp")
#: The hash of such a scheduler could be that of another scheduler's job.
_LIKE_A_JOB: Final = r":[0-9]{10,}$"


class Scheduler(NamedTuple):
    """A job scheduler as Redis has it. Times are unix milliseconds; None stands for what was not given."""

    id: str
    name: str
    """Name of its jobs."""
    next: int
    """When its pending job is due; of a scheduler that is over, when its last one was."""
    iteration_count: int
    """How many jobs it has made."""
    every: int | None
    """Its interval in milliseconds, or None for a pattern."""
    pattern: str | None
    tz: str | None
    offset: int | None
    limit: int | None
    start_date: int | None
    end_date: int | None
    data: Any
    """Data of its jobs; None if they have none."""
    options: JobOptions
    """Options of its jobs."""


Page: TypeAlias = list[Scheduler]


class Schedulers(Generic[DataT, ResultT]):
    """The job schedulers of one queue."""

    def __init__(self, store: Store, default_options: JobOptions | None) -> None:
        self._store = store
        self._default_options = default_options

    async def upsert(
        self,
        id: str,  # the name is BullMQ's
        *,
        name: str | None = None,
        data: DataT = _NO_DATA,
        options: JobOptions | Mapping[str, Any] | None = None,
        **repeat: Unpack[rules.RepeatFields],
    ) -> Job[DataT, ResultT]:
        """Create or change the scheduler with this id; returns its pending job. Made to be called at every start.

        repeat: `every=` or `pattern=`, and the rest of `RepeatOptions`. name (default: the id), data and options are
        those of its jobs. A pending job that no worker has taken is replaced; with the same `every` it keeps its time.
        Raises ConfigurationError, also for a rule that never comes true, and SchedulerError when the slot has a job
        already. One round trip, with a pattern or an end two. O(log n).
        """
        rule = rules.Repeat.of(rules.RepeatOptions(**repeat))
        scheduler_id = _check_id(id)
        template = Template(
            check_job_name(scheduler_id if name is None else name), payload.encode(data), self._options(options)
        )
        slot = await self._first_slot(rule, immediately=repeat.get("immediately", False))
        pending = await scheduling.upsert_scheduler(self._store, scheduler_id, rule, template, slot=slot)
        return self._job(scheduler_id, template, pending)

    async def get(self, id: str) -> Scheduler | None:
        """One scheduler, or None. One round trip, O(1)."""
        found = await scheduling.get_scheduler(self._store, id)
        return None if found is None else _decoded(found)

    async def list(self, start: int = 0, end: int = -1, *, asc: bool = False) -> Page:
        """Schedulers at these positions by the time of their next jobs, the latest first (`asc`: the soonest first).

        One round trip, O(log n + range).
        """
        found = await scheduling.list_schedulers(self._store, start, end, soonest_first=asc)
        return [_decoded(one) for one in found]

    async def count(self) -> int:
        """How many there are. One round trip, O(1)."""
        return await scheduling.count_schedulers(self._store)

    async def remove(self, id: str) -> bool:
        """Remove one, and its pending job if that is delayed; False if there was none. One round trip, O(log n)."""
        return await scheduling.remove_scheduler(self._store, id)

    def _options(self, options: JobOptions | Mapping[str, Any] | None) -> JobOptions | None:
        given = None if options is None else JobOptions.model_validate(options)
        for name in _DECIDED:
            if given is not None and getattr(given, name):
                raise ConfigurationError(f"{name} is decided by the scheduler for each of its jobs: leave it out")
        merged = merge_options(self._default_options, given)
        decided = {name: JobOptions.model_fields[name].default for name in _DECIDED}
        return None if merged is None else _without(merged, decided)

    async def _first_slot(self, rule: rules.Repeat, *, immediately: bool) -> int:
        if rule.every and not rule.end_ms:
            return 0
        now_ms = await scheduling.server_time_ms(self._store)
        if rule.end_ms and rule.end_ms <= now_ms:
            raise ConfigurationError(f"end_date is {rule.end_ms}: it must be later than now ({now_ms})")
        slot = now_ms if immediately else rule.next_slot(now_ms)
        if slot is None:
            raise ConfigurationError(f"pattern is {rule.pattern!r}: it never comes true before end_date {rule.end_ms}")
        return slot

    def _job(self, scheduler_id: str, template: Template, pending: Upserted) -> Job[DataT, ResultT]:
        options = template.options or JobOptions()
        return Job(
            self._store,
            pending.job_id,
            {
                Field.NAME: template.name,
                Field.DATA: template.data,
                Field.OPTIONS: pending.opts,
                Field.TIMESTAMP: str(pending.now_ms),
                Field.DELAY: str(pending.delay_ms),
                Field.PRIORITY: str(options.priority),
                Field.SCHEDULER_ID: scheduler_id,
            },
        )


def _check_id(scheduler_id: str) -> str:
    checked = check_text(scheduler_id, "scheduler id")
    if re.search(_LIKE_A_JOB, checked):
        raise ConfigurationError(f"scheduler id is {checked!r}: it ends as the ids of its jobs do; add a letter")
    return checked


def _without(options: JobOptions, decided: dict[str, Any]) -> JobOptions:
    """Options without the queue's defaults for what the scheduler decides."""
    copy = options.model_copy(update=decided)
    copy.model_fields_set.difference_update(decided)
    return copy


def _decoded(found: StoredScheduler) -> Scheduler:
    fields = found.fields

    def whole(name: str) -> int | None:
        return number(fields[name]) if name in fields else None

    return Scheduler(
        id=found.scheduler_id,
        name=text(fields.get("name")),
        next=found.next_ms,
        iteration_count=number(fields.get("ic")),
        every=whole("every"),
        pattern=text(fields.get("pattern")) or None,
        tz=text(fields.get("tz")) or None,
        offset=whole("offset"),
        limit=whole("limit"),
        start_date=whole("startDate"),
        end_date=whole("endDate"),
        data=payload.decode(fields["data"]) if "data" in fields else None,
        options=decode_options(fields.get("opts")),
    )
