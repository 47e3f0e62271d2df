"""Reads: states, counts, pages of jobs, logs, metrics, settings. Nothing here changes the queue.

One typed function per script or command, each a single round trip of bounded size. Called by `Queue`, its views and
`Job`. Ranges of BullMQ's kind (positions, negative from the end) and cursors live here; which pages are read is
decided by the caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from pyqueue._redis.replies import number, pairs, text
from pyqueue._redis.scripts import load
from pyqueue._store.store import Store
from pyqueue.errors import ConfigurationError
from pyqueue.states import JobState
from pyqueue.types import Raw

#: State -> attribute of QueueKeys that holds its jobs. BullMQ's names of the two lists are accepted, too.
PLACES: Final[dict[str, str]] = {
    JobState.WAITING: "wait",
    "wait": "wait",
    "paused": "paused",
    JobState.ACTIVE: "active",
    JobState.DELAYED: "delayed",
    JobState.PRIORITIZED: "prioritized",
    JobState.WAITING_CHILDREN: "waiting_children",
    JobState.COMPLETED: "completed",
    JobState.FAILED: "failed",
}

#: States of jobs that can run again.
FINISHED: Final = (JobState.COMPLETED, JobState.FAILED)

FoundJob: TypeAlias = tuple[str, dict[str, Raw]]
"""Id and fields; no fields for an id without a hash."""


def place_of(state: JobState | str, allowed: Iterable[str] = PLACES) -> str:
    """Where the jobs of a state are kept; ConfigurationError for another name than the `allowed` ones."""
    if state not in allowed or state not in PLACES:
        raise ConfigurationError(f"state is {state!r}: it must be one of {', '.join(map(str, allowed))}")
    return PLACES[state]


async def get_job(store: Store, job_id: str) -> dict[str, Raw]:
    """All fields of a job; empty when it does not exist. O(fields)."""
    return pairs(await store.commands.execute("HGETALL", store.keys.job(job_id)))


async def get_state(store: Store, job_id: str) -> JobState:
    """Where a job is. O(log n); O(n) in the wait list for a job waiting there."""
    return JobState(text(await store.call(load("get_state"), job_id=job_id)))


#: `Finish.code` of a job that completed.
JOB_COMPLETED: Final = 1


class Finish(NamedTuple):
    """Whether and how a job ended."""

    code: int
    """-1 no such job, 0 not yet, 1 completed, 2 failed."""
    value: str
    """The return value as JSON, or the reason."""


async def is_finished(store: Store, job_id: str) -> Finish:
    """Whether and how a job ended. O(1)."""
    code, *value = await store.call(load("is_finished"), job_id=job_id)
    return Finish(number(code), text(value[0]) if value else "")


async def count_jobs(store: Store) -> dict[str, int]:
    """Jobs per place. O(1)."""
    counts = await store.call(load("count_jobs"))
    places = ("wait", "paused", "active", "prioritized", "delayed", "waiting_children", "completed", "failed")
    return {place: number(count) for place, count in zip(places, counts, strict=True)}


async def count_priorities(store: Store, priorities: Sequence[int]) -> list[int]:
    """Jobs ready to run per priority; 0 counts those without. O(priorities * log n)."""
    counts = await store.call(load("count_priorities"), [(priority,) for priority in priorities])
    return [number(count) for count in counts]


async def count_delayed_until(store: Store, until_ms: int) -> int:
    """Jobs due before a time in unix milliseconds. O(log n)."""
    return number(await store.commands.execute("ZCOUNT", store.keys.delayed, "-inf", until_ms * 4096 - 1))


class Page(NamedTuple):
    """One page of a range."""

    first: int
    last: int
    """Positions from 0 that the range means now; last < first: nothing."""
    jobs: list[FoundJob]


async def list_jobs(store: Store, place: str, first: int, last: int, *, oldest_first: bool, limit: int) -> Page:
    """Up to `limit` jobs of a range, with their fields. O(log n + limit); deep in a list O(n / 128)."""
    start, end, *found = await store.call(
        load("list_jobs"), place=place, first=first, last=last, oldest_first=int(oldest_first), limit=limit
    )
    return Page(number(start), number(end), _found(found))


class Cursor(NamedTuple):
    """Where a scan stands."""

    anchor: str = ""
    """Id of the last job seen."""
    position: str = ""
    """What the script made of it: a score, or a number of ids."""


async def scan_jobs(store: Store, place: str, cursor: Cursor, *, limit: int) -> tuple[Cursor, list[FoundJob]]:
    """The next `limit` jobs of a place; fewer mean the end. O(log n + limit); deep in a list O(n / 128)."""
    position, *found = await store.call(
        load("scan_jobs"), place=place, anchor=cursor.anchor, cursor=cursor.position, limit=limit
    )
    jobs = _found(found)
    return Cursor(jobs[-1][0] if jobs else cursor.anchor, text(position)), jobs


async def get_logs(store: Store, job_id: str, first: int, last: int) -> tuple[list[str], int]:
    """Rows of a job's log by position, oldest first, and how many there are. O(rows)."""
    total, *rows = await store.call(load("get_logs"), job_id=job_id, first=first, last=last)
    return [text(row) for row in rows], number(total)


class Series(NamedTuple):
    """One series of finished jobs per minute."""

    total: int
    previous_ms: int
    previous_count: int
    size: int
    points: list[int]


async def get_metrics(store: Store, state: str, first: int, last: int) -> Series:
    """One series by position, newest first. O(points)."""
    count, previous_ms, previous_count, size, *points = await store.call(
        load("get_metrics"), state=state, first=first, last=last
    )
    return Series(number(count), number(previous_ms), number(previous_count), number(size), [number(p) for p in points])


async def get_meta(store: Store) -> dict[str, str]:
    """The queue's settings as they are stored. O(1)."""
    return {
        name: text(value) for name, value in pairs(await store.commands.execute("HGETALL", store.keys.meta)).items()
    }


async def count_active(store: Store) -> int:
    """Jobs that run. O(1)."""
    return number(await store.commands.execute("LLEN", store.keys.active))


async def get_rate_limit_ttl(store: Store, max_jobs: int) -> int:
    """Milliseconds for which the rate limit forbids to start jobs; 0 when it does not. O(1)."""
    return number(await store.call(load("get_rate_limit_ttl"), max_jobs=max_jobs))


async def get_deduplication_owner(store: Store, deduplication_id: str) -> str:
    """Id of the job that owns a deduplication id; empty when nobody does. O(1)."""
    return text(await store.commands.execute("GET", store.keys.deduplication(deduplication_id)))


async def list_clients(store: Store) -> list[dict[str, str]]:
    """Connections of the server that has the queue, as CLIENT LIST describes them. O(clients)."""
    rows = text(await store.commands.execute("CLIENT", "LIST", at=store.keys.meta)).splitlines()
    # name=value pairs; only names of our own making are without spaces for certain, the rest of such a row is lost.
    return [{name: value for name, _, value in (pair.partition("=") for pair in row.split())} for row in rows]


def _found(flat: Sequence[Any]) -> list[FoundJob]:
    return [(text(flat[i]), pairs(flat[i + 1])) for i in range(0, len(flat), 2)]
