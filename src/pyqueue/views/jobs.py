"""`queue.jobs`: find, count and list jobs, and administer many of them.

What takes many script calls (lists, `iterate`, `clean`, `retry_all`, `promote_all`) is made of calls of bounded size:
Redis serves others between two of them, workers may work meanwhile, and cancelling stops after the current one.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar

from pyqueue import payload
from pyqueue._store import changing, controlling, inspecting
from pyqueue._store.inspecting import PLACES, Cursor, FoundJob, place_of
from pyqueue._store.store import Store
from pyqueue.durations import milliseconds
from pyqueue.errors import ConfigurationError, JobNotFound
from pyqueue.job import Job
from pyqueue.lazy_modules import LazyModule
from pyqueue.names import RESERVED_IDS, check_id_is_text
from pyqueue.states import JobState

if TYPE_CHECKING:
    from pyqueue._flows import listing
    from pyqueue._store import removing
else:
    listing = LazyModule("pyqueue._flows.listing")
    removing = LazyModule("pyqueue._store.removing")

DataT = TypeVar("DataT")
ResultT = TypeVar("ResultT")

#: Keys looked at by one step of `remove_orphans`: few, because each id is looked up in the lists.
_ORPHANS_PER_CALL: Final = 100

Progress: TypeAlias = Callable[[int], object]
"""Told the total so far after each call of a long operation; may be slow or raise, which stops the operation."""

#: Jobs per script call: 0.3 to 0.6 ms of Redis' time with 200 bytes of data each (measured).
PAGE: Final = 100
#: Jobs that one call of `clean` looks at: removing one takes twice as long as moving it.
_CLEANED: Final = 25
#: Jobs that one call of `retry_all` or `promote_all` moves.
_MOVED: Final = 50
#: Jobs that one call of `iterate` reads: finished ones have twice as many fields, and results besides.
_ITERATED: Final = 50
#: Windows that a list reads to make up for ids without a hash, as upstream.
_WINDOWS: Final = 5
#: Removals that `clean` announces together: upstream's batch.
_ANNOUNCED: Final = 10_000

_CLEANABLE: Final = tuple(state for state in PLACES if state != JobState.WAITING_CHILDREN)
#: Places whose newest job is their first.
_LISTS: Final = frozenset({"wait", "paused", "active"})
_SCHEDULED_ID: Final = r"repeat:.+:\d+"

_JobList: TypeAlias = list[Job[DataT, ResultT]]


class Jobs(Generic[DataT, ResultT]):
    """The jobs of one queue."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, job_id: str) -> Job[DataT, ResultT] | None:
        """A job by its id, or None. One round trip."""
        if not _is_job_id(job_id):
            return None
        fields = await inspecting.get_job(self._store, job_id)
        return Job(self._store, job_id, fields) if fields else None

    async def state(self, job_id: str) -> JobState:
        """Where a job is; `unknown` if nowhere. One round trip, O(log n); O(n) in the wait list for a job there."""
        return await inspecting.get_state(self._store, check_id_is_text(job_id))

    async def counts(self) -> dict[str, int]:
        """Jobs in each state, by its `JobState` or name: `counts["failed"]`. One round trip, O(1).

        A dictionary, whose KeyError for another name tells the states that there are.
        """
        places = await inspecting.count_jobs(self._store)
        # Jobs that BullMQ before version 6 set aside while paused are waiting, too.
        places["wait"] += places.pop("paused")
        return _Counts({state: places[PLACES[state]] for state in JobState if state in PLACES})

    async def count(self) -> int:
        """Jobs that are still to run: waiting, prioritized, delayed, waiting for children. One round trip, O(1)."""
        counts = await self.counts()
        return sum(
            counts[state]
            for state in (JobState.WAITING, JobState.PRIORITIZED, JobState.DELAYED, JobState.WAITING_CHILDREN)
        )

    async def counts_per_priority(self, priorities: Iterable[int]) -> dict[int, int]:
        """Jobs ready to run per priority; 0 counts those without. One round trip."""
        wanted = list(dict.fromkeys(priorities))
        counts = await inspecting.count_priorities(self._store, wanted)
        return dict(zip(wanted, counts, strict=True))

    async def list(
        self,
        states: JobState | str | Iterable[JobState | str],
        start: int = 0,
        end: int = PAGE - 1,
        *,
        asc: bool = False,
    ) -> _JobList[DataT, ResultT]:
        """Jobs of one or more states by position: from `start` to `end` (inclusive, negative from the end) of each.

        Position 0 is the newest, with `asc` the oldest (of ready and delayed jobs: the next to run). `end` = -1 lists
        all; `iterate` is better for many. One round trip per 100 jobs, of equal cost however many the queue has.
        """
        wanted = [states] if isinstance(states, str) else states
        found: dict[str, Job[DataT, ResultT]] = {}
        for place in [place_of(state) for state in wanted]:
            for job_id, fields in await self._range(place, start, end, asc):
                found.setdefault(job_id, Job(self._store, job_id, fields))
        return list(found.values())

    async def iterate(self, state: JobState | str, *, page_size: int = _ITERATED) -> AsyncIterator[Job[DataT, ResultT]]:
        """All jobs of a state, while the queue changes; may be stopped at any time. One round trip per page.

        Sets go from the oldest (of delayed and prioritized jobs: the next to run), lists (waiting, active) from the
        newest. A job that stays in the state is seen once, also if jobs seen before are retried or removed; if more
        than a page of a list's older jobs leave between two pages, some are seen again.
        """
        place = place_of(state)
        cursor, seen = Cursor(), frozenset[str]()
        while True:
            cursor, page = await inspecting.scan_jobs(self._store, place, cursor, limit=page_size)
            for job_id, fields in page:
                if fields and job_id not in seen:
                    yield Job(self._store, job_id, fields)
            if len(page) < page_size:
                return
            seen = frozenset(job_id for job_id, _ in page)

    async def logs(self, job_id: str, start: int = 0, end: int = -1, *, asc: bool = True) -> tuple[_Rows, int]:
        """Rows of a job's log from `start` to `end` (inclusive), the oldest first or (not asc) the newest first; and
        how many there are. One round trip."""
        check_id_is_text(job_id)
        if asc:
            return await inspecting.get_logs(self._store, job_id, start, end)
        rows, total = await inspecting.get_logs(self._store, job_id, -(end + 1), -(start + 1))
        return rows[::-1], total

    async def add_log(self, job_id: str, row: str, *, keep: int = 0) -> int:
        """Append a row to a job's log, of which the newest `keep` stay (0 = all); returns how many. One round trip."""
        return await changing.add_log(self._store, self._existing(job_id), row, keep)

    async def update_progress(self, job_id: str, progress: Any) -> None:
        """Store and announce a job's progress, any JSON value. One round trip."""
        encoded = payload.encode(progress, what="progress")
        await changing.update_progress(self._store, self._existing(job_id), encoded)

    async def remove(self, job_id: str, *, remove_children: bool = True) -> bool:
        """Remove a job and, by default, its children; False, and nothing removed, if a worker has locked one of them.

        One round trip. A family of more than 50 jobs takes many, and is not one atomic change: what a worker takes
        meanwhile runs to its end, as the child of nobody.
        """
        return await removing.remove_job(self._store, self._existing(job_id), with_children=remove_children)

    async def remove_orphans(self, *, limit: int = 0, progress: Progress | None = None) -> int:
        """Delete what is left of jobs that are in no state, about `limit` (0: all); returns how many.

        Walks all keys of the database in steps (SCAN); O(n) in the wait list for each candidate. Safe beside running
        workers. Jobs of a large flow that is being added stay; what a producer left unfinished goes after ten minutes.
        """
        cursor, removed = 0, 0
        while True:
            cursor, candidates = await controlling.scan_job_ids(self._store, cursor, limit=_ORPHANS_PER_CALL)
            if candidates:
                removed += len(await controlling.remove_orphans(self._store, sorted(candidates)))
                _report(progress, removed)
            if not cursor or 0 < limit <= removed:
                return removed

    async def dependencies(self, job_id: str, kind: str, start: int = 0, end: int = -1) -> listing.DependencyRange:
        """Children of a job with their jobs, by position: `kind` is processed, pending or ignored; `end` is included.

        Two or more round trips, one more per 200 children up to `end` and per 50 jobs. Positions hold while the
        children of that kind stay.
        """
        return await listing.list_dependencies(self._store, check_id_is_text(job_id), kind, start, end)

    async def deduplication_owner(self, deduplication_id: str) -> str | None:
        """Id of the job that owns a deduplication id, or None. One round trip."""
        return await inspecting.get_deduplication_owner(self._store, deduplication_id) or None

    async def remove_deduplication_key(self, deduplication_id: str) -> bool:
        """Free a deduplication id, whoever owns it; False if it was free. One round trip."""
        return await controlling.free_deduplication_key(self._store, deduplication_id)

    async def clean(
        self,
        grace: timedelta | int = 0,
        *,
        state: JobState | str = JobState.COMPLETED,
        limit: int = 0,
        progress: Progress | None = None,
    ) -> _Ids:
        """Remove jobs of one state that are older than `grace` (timedelta or milliseconds), at most `limit` (0 = all).

        Age counts from the finish, else the start, else the creation. Active jobs go only without a lock. Returns the
        ids (of waiting and active jobs the newest first). One round trip per 25 jobs looked at.
        """
        place, grace_ms = place_of(state, _CLEANABLE), milliseconds(grace, "grace")
        _check_count(limit, "limit", 0)
        removed: list[str] = []
        offset = carried = 0
        while True:
            page = min(_CLEANED, limit - len(removed)) if limit else _CLEANED
            # Upstream announces batches of 10,000; with a limit this call may be the last.
            announce = page < _CLEANED or carried + page >= _ANNOUNCED or len(removed) + page == limit
            cleaned = await controlling.clean_jobs(
                self._store, place, grace_ms=grace_ms, offset=offset, limit=page, carried=carried, announce=announce
            )
            removed += cleaned.job_ids
            carried = 0 if cleaned.is_announced else carried + len(cleaned.job_ids)
            offset += cleaned.seen - len(cleaned.job_ids)
            _report(progress, len(removed))
            if cleaned.seen < page or len(removed) == limit > 0:
                return removed[::-1] if place in _LISTS else removed

    async def retry_all(
        self,
        state: JobState = JobState.FAILED,
        *,
        until: datetime | int | None = None,
        progress: Progress | None = None,
    ) -> int:
        """Run all failed (or completed) jobs again that finished up to `until` (now; aware datetime or unix ms).

        The oldest first, at the back of the wait list; priorities do not apply, counters stay. Returns how many. One
        round trip per 50 jobs.
        """
        place_of(state, inspecting.FINISHED)
        until_ms = -1 if until is None else _unix_ms(until)
        total = 0
        while True:
            moved, until_ms = await controlling.retry_jobs(self._store, state, until_ms=until_ms, limit=_MOVED)
            total += moved
            _report(progress, total)
            if moved < _MOVED:
                return total

    async def promote_all(self, *, progress: Progress | None = None) -> int:
        """Make all delayed jobs ready, those due first, at the back of the wait list; priorities do not apply.

        Returns how many. One round trip per 50 jobs.
        """
        total = 0
        while True:
            moved = await controlling.promote_jobs(self._store, limit=_MOVED)
            total += moved
            _report(progress, total)
            if moved < _MOVED:
                return total

    async def _range(self, place: str, start: int, end: int, asc: bool) -> Sequence[FoundJob]:
        """A range without ids that have no hash; later windows make up for those, if the range has an end."""
        jobs: list[FoundJob] = []
        for _ in range(_WINDOWS):
            last, found = await self._window(place, start, end, asc)
            present = [job for job in found if job[1]]
            jobs += present
            missing = len(found) - len(present)
            if not missing or end < 0:
                break
            start, end = last + 1, last + missing
        return jobs

    async def _window(self, place: str, start: int, end: int, asc: bool) -> tuple[int, Sequence[FoundJob]]:
        first, last, found = await inspecting.list_jobs(self._store, place, start, end, oldest_first=asc, limit=PAGE)
        for position in range(first + PAGE, last + 1, PAGE):
            page = await inspecting.list_jobs(self._store, place, position, last, oldest_first=asc, limit=PAGE)
            found += page.jobs
        return last, found

    def _existing(self, job_id: str) -> str:
        """The id, if a job can have it: other names are keys of the queue itself."""
        if not _is_job_id(job_id):
            raise JobNotFound(job_id=job_id, queue=self._store.keys.queue)
        return job_id


class _Counts(dict[str, int]):
    """Counts by state. Equal to, and written as, any other dictionary."""

    def __missing__(self, state: str) -> int:
        raise KeyError(f"{state!r} is no state that is counted: use one of {', '.join(self)}")


_Rows: TypeAlias = list[str]
_Ids: TypeAlias = list[str]


def _is_job_id(job_id: str) -> bool:
    """Whether a job can have this id; the keys of the queue itself and those below a job are none.

    ConfigurationError for what is no text.
    """
    first, *others = check_id_is_text(job_id).split(":")
    if not others:
        return bool(first) and first not in RESERVED_IDS
    return (len(others) == 2 and first not in RESERVED_IDS) or re.fullmatch(_SCHEDULED_ID, job_id) is not None


def _check_count(value: int, name: str, minimum: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise ConfigurationError(f"{name} is {value!r}: give an integer of at least {minimum}")


def _unix_ms(until: datetime | int) -> int:
    if isinstance(until, datetime):
        if until.tzinfo is None:
            raise ConfigurationError(f"until is {until!r}: it has no time zone; give an aware datetime")
        return round(until.timestamp() * 1000)
    _check_count(until, "until", 0)
    return until


def _report(progress: Progress | None, total: int) -> None:
    if progress is not None:
        progress(total)
