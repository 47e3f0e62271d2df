"""Job schedulers in Redis: create, remove, read them, and create the job that follows one that was taken.

One typed function per script. `views.schedulers` administers through them; `create_next` is called by whoever claims
jobs (the engine; by way of `follow` a worker's manual fetch and `Job` with `fetch_next`), `repair` by workers now and
then.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic_core import to_json
from redis.exceptions import RedisError

from pyqueue import payload
from pyqueue._redis.replies import number, pairs, text
from pyqueue._redis.scripts import load
from pyqueue._store.record import Field
from pyqueue._store.settling import Claimed
from pyqueue._store.store import Store
from pyqueue._store.stored_options import decode_options, stored_options
from pyqueue.errors import PyqueueError, SchedulerError, error_from_code
from pyqueue.lazy_modules import LazyModule
from pyqueue.options import JobOptions
from pyqueue.types import Raw

if TYPE_CHECKING:
    from pyqueue import repeat as rules
else:
    rules = LazyModule("pyqueue.repeat")

logger = logging.getLogger("pyqueue.schedulers")

#: Schedulers looked at by one search for broken ones, those due first: about 2 us of Redis' time each.
MAX_EXAMINED: Final = 500
#: What the script sets on every iteration itself, so that the next one must not inherit it.
_OWN_OPTIONS: Final = frozenset({"repeat", "jobId", "delay", "timestamp", "repeatJobKey", "prevMillis"})
_FAILED: Final = "error:"
#: Field that the claiming script adds to jobs of intervals whose next iteration it has made.
_FOLLOWED: Final = "pyq:followed"


class Template(NamedTuple):
    """What the jobs of a scheduler are made of."""

    name: str
    data: str
    options: JobOptions | None


class Upserted(NamedTuple):
    """The pending job of a scheduler that was created or changed."""

    job_id: str
    opts: str
    delay_ms: int
    now_ms: int


class StoredScheduler(NamedTuple):
    """A scheduler's id, the time of its pending job, and its record."""

    scheduler_id: str
    next_ms: int
    fields: dict[str, Raw]


class _Row(NamedTuple):
    """One row of `next_iteration`."""

    scheduler_id: str
    producer_id: str
    opts: str
    every: int
    offset: int
    start_ms: int
    slot: int
    priority: int
    lifo: int


async def server_time_ms(store: Store) -> int:
    """The time that counts: the caller's clock, or the server's. At most one round trip."""
    now_ms = store.clock.now_ms()
    if now_ms:
        return now_ms
    seconds, micros = await store.commands.execute("TIME")
    return number(seconds) * 1000 + number(micros) // 1000


async def upsert_scheduler(
    store: Store, scheduler_id: str, repeat: rules.Repeat, template: Template, *, slot: int
) -> Upserted:
    """Create or change a scheduler and its pending job in one round trip. Raises SchedulerError. O(log n)."""
    options = template.options or JobOptions()
    stored = {} if template.options is None else stored_options(template.options)
    extras = [(name, value) for name, value in repeat.stored.items() if name not in ("every", "pattern", "offset")]
    reply = await store.call(
        load("upsert_scheduler"),
        [(name, str(value)) for name, value in extras],
        scheduler_id=scheduler_id,
        name=template.name,
        data=template.data,
        template=_json(stored) if stored else "",
        opts=_json(stored | {"repeat": repeat.counted(1)}),
        every=repeat.every,
        pattern=repeat.pattern,
        slot=slot,
        offset=repeat.offset,
        start_ms=repeat.start_ms,
        priority=options.priority,
        lifo=int(options.lifo),
    )
    if isinstance(reply, int):
        raise error_from_code(reply, queue=store.keys.queue, command=f"upsert of scheduler {scheduler_id!r}")
    job_id, opts, delay_ms, now_ms = reply
    return Upserted(text(job_id), text(opts), number(delay_ms), number(now_ms))


async def remove_scheduler(store: Store, scheduler_id: str) -> bool:
    """Remove a scheduler and its delayed job; False when there was none. O(log n)."""
    return number(await store.call(load("remove_scheduler"), scheduler_id=scheduler_id)) == 1


async def get_scheduler(store: Store, scheduler_id: str) -> StoredScheduler | None:
    """One scheduler, or None. O(1)."""
    reply = await store.call(load("get_schedulers"), scheduler_id=scheduler_id, first=0, last=0, soonest_first=1)
    found = _schedulers(reply)
    return found[0] if found else None


async def list_schedulers(store: Store, first: int, last: int, *, soonest_first: bool) -> list[StoredScheduler]:
    """A range of schedulers by the time of their next jobs. O(log n + range)."""
    reply = await store.call(
        load("get_schedulers"), scheduler_id="", first=first, last=last, soonest_first=int(soonest_first)
    )
    return _schedulers(reply)


async def count_schedulers(store: Store) -> int:
    """How many schedulers there are. O(1)."""
    return number(await store.commands.execute("ZCARD", store.keys.schedulers))


def is_iteration(claimed: Claimed) -> bool:
    """Whether a scheduler made the job and its claim did not see to the next one: `create_next` has to."""
    return Field.SCHEDULER_ID in claimed.fields and _FOLLOWED not in claimed.fields


async def create_next(store: Store, claimed: Sequence[Claimed]) -> list[Exception]:
    """Create the jobs that follow the iterations among these jobs, in one round trip; none for other jobs.

    Returns what went wrong with single ones. Safe to repeat: a scheduler goes on once per iteration. The time that
    decides is that of the claims, on the server's clock.
    """
    errors: list[Exception] = []
    rows: list[_Row] = []
    for one in filter(is_iteration, claimed):
        try:
            row = _next_row(one)
        except (PyqueueError, ValueError, TypeError) as error:
            errors.append(_broken(store, text(one.fields[Field.SCHEDULER_ID]), error))
        else:
            rows += [row] if row else []
    return errors + await _iterate(store, rows)


async def follow(store: Store, claimed: Sequence[Claimed]) -> None:
    """`create_next` for jobs that are claimed by hand: what goes wrong is logged, for the jobs must reach the caller.

    A worker's search repairs it later.
    """
    try:
        errors = await create_next(store, claimed)
    except (PyqueueError, RedisError, OSError) as failure:
        errors = [failure]
    for error in errors:
        logger.warning("the next job of a scheduler was not created: %s", error)


async def repair(store: Store) -> list[Exception]:
    """Give schedulers without a pending job one. One round trip, two if there are any. O(schedulers), at most 500.

    A job that was lost before its time is made again; otherwise the next slot counts.
    """
    reply = await store.call(load("find_broken_schedulers"), limit=MAX_EXAMINED)
    if not reply:
        return []
    now_ms = await server_time_ms(store)
    errors: list[Exception] = []
    rows: list[_Row] = []
    for scheduler_id, slot, is_lost, fields in zip(*[iter(reply)] * 4, strict=True):
        try:
            row = _repair_row(text(scheduler_id), number(slot), number(is_lost) == 1, pairs(fields), now_ms)
        except (PyqueueError, ValueError, TypeError) as error:
            errors.append(_broken(store, text(scheduler_id), error))
        else:
            rows += [row] if row else []
    return errors + await _iterate(store, rows)


async def _iterate(store: Store, rows: Sequence[_Row]) -> list[Exception]:
    if not rows:
        return []
    created = [text(result) for result in await store.call(load("next_iteration"), rows)]
    errors: list[Exception] = []
    for row, result in zip(rows, created, strict=True):
        if result == "legacy":
            errors.append(
                SchedulerError(
                    f"{row.scheduler_id!r} of queue {store.keys.queue!r} is a repeatable job of an old version "
                    "and will not run again: create a job scheduler in its place"
                )
            )
        elif result.startswith(_FAILED):
            errors.append(_broken(store, row.scheduler_id, result.removeprefix(_FAILED)))
    return errors


def _next_row(claimed: Claimed) -> _Row | None:
    """What follows one iteration; None when the scheduler is over."""
    opts = payload.decode(claimed.fields.get(Field.OPTIONS, "{}"), what="opts")
    repeat = rules.Repeat.read(opts.get("repeat") or {})
    count, now_ms = repeat.count + 1, number(claimed.fields.get(Field.PROCESSED_ON))
    slot = repeat.next_slot(now_ms, number(opts.get("prevMillis")))
    if slot is None or repeat.is_over(count, now_ms):
        return None
    kept = {"attempts": 0} | {name: value for name, value in opts.items() if name not in _OWN_OPTIONS}
    return _row(text(claimed.fields[Field.SCHEDULER_ID]), claimed.job_id, kept, repeat, count, slot)


def _repair_row(scheduler_id: str, slot: int, is_lost: bool, fields: dict[str, Raw], now_ms: int) -> _Row | None:
    """What a scheduler without a pending job needs."""
    if "ic" not in fields:
        return None  # no scheduler of today's kind
    repeat = rules.Repeat.read(_rule_of(fields))
    made, again = number(fields.get("ic")), is_lost and slot > now_ms
    count = made if again else made + 1
    following = slot if again else repeat.next_slot(now_ms, slot)
    if following is None or repeat.is_over(count, now_ms):
        return None
    opts = payload.decode(fields.get("opts", "{}"), what="opts")
    return _row(scheduler_id, f"repeat:{scheduler_id}:{slot}", opts, repeat, count, following)


def _rule_of(fields: Mapping[str, Raw]) -> dict[str, Any]:
    """The rule in a scheduler's record, as its jobs carry it. The script knows the offset."""
    rule: dict[str, Any] = {name: text(fields[name]) for name in ("pattern", "tz") if name in fields}
    for name in ("every", "limit", "startDate", "endDate"):
        if name in fields:
            value = text(fields[name])
            rule[name] = int(value) if value.isdigit() else value
    return rule


def _row(
    scheduler_id: str, producer_id: str, opts: Mapping[str, Any], repeat: rules.Repeat, count: int, slot: int
) -> _Row:
    read = decode_options(_json(opts))
    return _Row(
        scheduler_id=scheduler_id,
        producer_id=producer_id,
        opts=_json({**opts, "repeat": repeat.counted(count)}),
        every=repeat.every,
        offset=repeat.offset,
        start_ms=repeat.start_ms,
        slot=slot,
        priority=read.priority,
        lifo=int(read.lifo),
    )


def _schedulers(reply: Sequence[Any]) -> list[StoredScheduler]:
    return [
        StoredScheduler(text(scheduler_id), int(float(text(score) or 0)), pairs(fields))
        for scheduler_id, score, fields in zip(*[iter(reply)] * 3, strict=True)
    ]


def _broken(store: Store, scheduler_id: str, reason: object) -> SchedulerError:
    return SchedulerError(f"scheduler {scheduler_id!r} of queue {store.keys.queue!r} cannot go on: {reason}")


def _json(value: Any) -> str:
    return to_json(value).decode()
