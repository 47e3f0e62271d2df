"""Children of a job by position, with their jobs: what `queue.jobs.dependencies` returns.

A set has no order, so positions are those of a scan: the pages of one job fit together while its children stay.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, NamedTuple

from pyqueue import payload
from pyqueue._redis.keys import QueueKeys
from pyqueue._redis.replies import text
from pyqueue._store.children import IGNORED, PROCESSED, UNPROCESSED, count_children, read_nodes, scan_children
from pyqueue._store.store import Store
from pyqueue.errors import ConfigurationError, PayloadError
from pyqueue.job import Job
from pyqueue.types import Raw

#: Kinds that can be listed by position; BullMQ calls the pending ones so.
_KINDS: Final = {PROCESSED: PROCESSED, "pending": UNPROCESSED, UNPROCESSED: UNPROCESSED, IGNORED: IGNORED}
#: Children that one call scans, and jobs that one call reads.
_SCANNED: Final = 200
_READ: Final = 50


class Dependency(NamedTuple):
    """One child of a job."""

    key: str
    """Its job key."""
    value: Any
    """What it returned, if it completed; the reason, if its failure is ignored; None otherwise."""
    error: str
    """Why the value cannot be read; empty if it can."""
    job: Job[Any, Any] | None
    """The child; None if it was removed."""


class DependencyRange(NamedTuple):
    """Some children of a job."""

    items: list[Dependency]
    total: int
    """How many of this kind there are."""


async def list_dependencies(store: Store, job_id: str, kind: str, start: int, end: int) -> DependencyRange:
    """The children of one kind from `start` to `end`, inclusive; -1 is the last."""
    if kind not in _KINDS:
        raise ConfigurationError(f"kind is {kind!r}: only sets have positions; give {', '.join(_KINDS)}")
    for name, value, minimum in (("start", start, 0), ("end", end, -1)):
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            raise ConfigurationError(f"{name} is {value!r}: give an integer of at least {minimum}")
    counts = (await count_children(store, job_id))._asdict()
    found: list[tuple[str, Raw | None]] = []
    position = 0
    async for child in _children(store, job_id, _KINDS[kind]):
        if position >= start:
            found.append(child)
        position += 1
        if 0 <= end < position:
            break
    jobs = await _jobs(store, [key for key, _ in found])
    items = [_dependency(kind, key, raw, jobs.get(key)) for key, raw in found]
    return DependencyRange(items, counts[_KINDS[kind]])


async def _children(store: Store, job_id: str, kind: str) -> AsyncIterator[tuple[str, Raw | None]]:
    """All children of one kind, each once."""
    seen: set[str] = set()
    cursor, is_first = 0, True
    while cursor or is_first:
        page = await scan_children(store, job_id, kind, cursor, count=_SCANNED)
        for key, raw in page.children:
            if key not in seen:
                seen.add(key)
                yield key, raw
        cursor, is_first = page.cursor, False


async def _jobs(store: Store, job_keys: Sequence[str]) -> dict[str, Job[Any, Any]]:
    """The jobs that exist, by key; those of another prefix are not read."""
    jobs: dict[str, Job[Any, Any]] = {}
    prefix = f"{store.keys.prefix}:"
    own = [key for key in job_keys if key.startswith(prefix)]
    for first in range(0, len(own), _READ):
        keys = own[first : first + _READ]
        for key, node in zip(keys, await read_nodes(store, keys, limit=0), strict=True):
            queue, _, child_id = key.removeprefix(prefix).rpartition(":")
            if node.fields:
                child_store = Store(store.commands, QueueKeys(store.keys.prefix, queue), store.clock)
                jobs[key] = Job(child_store, child_id, node.fields)
    return jobs


def _dependency(kind: str, key: str, raw: Raw | None, job: Job[Any, Any] | None) -> Dependency:
    if raw is None:
        return Dependency(key, None, "", job)
    if kind != PROCESSED:
        return Dependency(key, text(raw), "", job)
    try:
        return Dependency(key, payload.decode(raw), "", job)
    except PayloadError as error:
        return Dependency(key, None, str(error), job)
