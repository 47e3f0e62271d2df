"""Control of a whole queue: pause, limits, settings, and the operations on all jobs of a state.

One typed function per script or command, each a single call of bounded size: what takes several calls (drain, clean,
...) is repeated by `Queue` and its views, so that others get their turn between two calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pyqueue._redis.replies import number, text
from pyqueue._redis.scripts import load
from pyqueue._store.store import Store
from pyqueue.errors import QueueHasActiveJobs, QueueNotPaused
from pyqueue.names import RESERVED_IDS

#: BullMQ's counter value for "closed": beyond every limit.
_LIMITER_CLOSED = 2**53 - 1
_NOT_PAUSED, _HAS_ACTIVE_JOBS = -1, -2


async def pause(store: Store) -> None:
    """Let no job start until `resume`. O(1)."""
    await store.call(load("pause"))


async def resume(store: Store, *, is_first: bool, limit: int) -> int:
    """Let jobs start again; returns how many ids an old version set aside still wait to be moved. O(limit)."""
    return number(await store.call(load("resume"), is_first=int(is_first), limit=limit))


async def drain(store: Store, place: str, *, offset: int, limit: int) -> tuple[int, int]:
    """Remove up to `limit` jobs of one place; returns (removed, looked at). O(limit)."""
    removed, seen = await store.call(load("drain"), place=place, offset=offset, limit=limit)
    return number(removed), number(seen)


async def obliterate(store: Store, *, force: bool, limit: int) -> tuple[bool, int]:
    """Delete up to `limit` jobs of a paused queue, at last its own keys; returns (done, removed). O(limit)."""
    code, removed = await store.call(load("obliterate"), force=int(force), limit=limit)
    if number(code) == _NOT_PAUSED:
        raise QueueNotPaused(f"The queue {store.keys.queue!r} is not paused, so it cannot be obliterated. Pause it.")
    if number(code) == _HAS_ACTIVE_JOBS:
        raise QueueHasActiveJobs(
            f"The queue {store.keys.queue!r} has active jobs, so it cannot be obliterated. Wait, or use force=True."
        )
    return number(code) == 0, number(removed)


async def forget_senders(store: Store, cursor: int, *, limit: int) -> int:
    """Delete exchange records of this queue found in one step of a SCAN; returns the next cursor, 0 at the end."""
    following, found = await _scan(store, cursor, store.keys.exchange(""), limit)
    if found:
        await store.commands.execute("DEL", *found)
    return following


async def scan_job_ids(store: Store, cursor: int, *, limit: int) -> tuple[int, set[str]]:
    """Ids that keys begin with, found in one step of a SCAN over the queue's keys; before them the next cursor."""
    base = store.keys.base
    following, found = await _scan(store, cursor, base, limit)
    first_parts = {key.removeprefix(base).partition(":")[0] for key in found}
    return following, first_parts - RESERVED_IDS


async def remove_orphans(store: Store, job_ids: Sequence[str]) -> list[str]:
    """Delete the keys of those jobs that are in no state; returns their ids. O(n) in the wait list for each."""
    removed = await store.call(load("remove_orphans"), [(job_id,) for job_id in job_ids])
    return [text(job_id) for job_id in removed]


class Cleaned(NamedTuple):
    """What one call of `clean_jobs` did."""

    seen: int
    """Jobs looked at; fewer than the limit: the end."""
    is_announced: bool
    job_ids: list[str]


async def clean_jobs(
    store: Store, place: str, *, grace_ms: int, offset: int, limit: int, carried: int, announce: bool
) -> Cleaned:
    """Remove old jobs of one place. `carried` removals of earlier calls are announced with these. O(limit)."""
    seen, announced, *job_ids = await store.call(
        load("clean_jobs"),
        place=place,
        grace_ms=grace_ms,
        offset=offset,
        limit=limit,
        carried=carried,
        announce=int(announce),
    )
    return Cleaned(number(seen), number(announced) == 1, [text(job_id) for job_id in job_ids])


async def retry_jobs(store: Store, state: str, *, until_ms: int, limit: int) -> tuple[int, int]:
    """Run finished jobs again, oldest first; returns (moved, the time limit used: -1 becomes now). O(limit)."""
    moved, until = await store.call(load("retry_jobs"), state=state, until_ms=until_ms, limit=limit)
    return number(moved), number(until)


async def promote_jobs(store: Store, *, limit: int) -> int:
    """Make delayed jobs ready, those due first; returns how many. O(limit)."""
    return number(await store.call(load("promote_jobs"), limit=limit))


async def write_meta(store: Store, *, max_events: int, version: str, timeout_s: float | None = None) -> None:
    """Tell every client of the queue how long its event stream is, and who wrote that, if `version` is given. O(1)."""
    fields = ("opts.maxLenEvents", max_events, *(("version", version) if version else ()))
    await store.commands.execute("HSET", store.keys.meta, *fields, timeout_s=timeout_s)


async def set_concurrency(store: Store, concurrency: int) -> None:
    """Limit how many jobs of the queue run at once, over all workers. O(1)."""
    await store.commands.execute("HSET", store.keys.meta, "concurrency", concurrency)


async def remove_concurrency(store: Store) -> None:
    """Lift that limit. O(1)."""
    await store.commands.execute("HDEL", store.keys.meta, "concurrency")


async def set_rate(store: Store, max_jobs: int, duration_ms: int) -> None:
    """Limit how many jobs of the queue start per `duration_ms`, over all workers. O(1)."""
    await store.commands.execute("HSET", store.keys.meta, "max", max_jobs, "duration", duration_ms)


async def remove_rate(store: Store) -> None:
    """Lift that limit. O(1)."""
    await store.commands.execute("HDEL", store.keys.meta, "max", "duration")


async def close_limiter(store: Store, duration_ms: int) -> None:
    """Let no rate-limited worker start a job for `duration_ms`. O(1)."""
    await store.commands.execute("SET", store.keys.limiter, _LIMITER_CLOSED, "PX", duration_ms)


async def open_limiter(store: Store) -> bool:
    """Forget the running window of the limiter; False when there was none. O(1)."""
    return number(await store.commands.execute("DEL", store.keys.limiter)) == 1


async def free_deduplication_key(store: Store, deduplication_id: str) -> bool:
    """Give up a deduplication id whoever owns it; False when nobody did. O(1)."""
    return number(await store.commands.execute("DEL", store.keys.deduplication(deduplication_id))) == 1


async def trim_events(store: Store, max_events: int) -> int:
    """Cut the event stream to about `max_events` entries; returns how many went. O(removed)."""
    return number(await store.commands.execute("XTRIM", store.keys.events, "MAXLEN", "~", max_events))


def _glob(literal: str) -> str:
    """A text as a pattern that matches nothing else."""
    return "".join("\\" + letter if letter in "*?[]\\" else letter for letter in literal)


async def _scan(store: Store, cursor: int, base: str, limit: int) -> tuple[int, list[str]]:
    """The next cursor, and keys found in one step that begin with `base`; on a cluster on the queue's node."""
    pattern = _glob(base) + "*"
    following, found = await store.commands.execute("SCAN", cursor, "MATCH", pattern, "COUNT", limit, at=base)
    return number(following), [text(key) for key in found]
