"""Read a flow back: a job, its children, theirs, level by level, a bounded number of jobs per call.

Child keys come from Redis; those of another prefix than the reader's are not followed. Called by `FlowProducer`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from pyqueue._flows.tree import JobNode
from pyqueue._store.children import KINDS, ChildPage, NodeRead, read_nodes, scan_children
from pyqueue._store.store import Store
from pyqueue.errors import ConfigurationError
from pyqueue.job import Job

#: Child keys that one call reads: 0.2 ms of Redis' time. Small families come as a whole, whatever is asked for.
_KEYS_PER_CALL: Final = 200
#: Jobs that one call reads.
_JOBS_PER_CALL: Final = 50

Stores: TypeAlias = Callable[[str], Store]
"""The store of a queue, by its name."""

_Place: TypeAlias = tuple[str, str]
"""Queue and id of a job."""


async def read_flow(stores: Stores, queue: str, job_id: str, depth: int, max_children: int) -> JobNode | None:
    """The tree below a job of a queue, `depth` levels of it; None if the job does not exist."""
    _check_positive(depth, "depth")
    _check_positive(max_children, "max_children")
    reader = _Reader(stores, stores(queue), max_children)
    level = await reader.read([(queue, job_id)], with_children=depth > 1)
    root = level[0].node
    for remaining in range(depth - 2, -1, -1):
        below = [(read.node, place) for read in level if read.node is not None for place in read.children]
        if not below:
            break
        level = await reader.read([place for _, place in below], with_children=remaining > 0)
        for (parent, _), child in zip(below, level, strict=True):
            if child.node is not None:
                parent.children.append(child.node)
    return root


class _Read(NamedTuple):
    node: JobNode | None
    """None: the job does not exist."""
    children: list[_Place]


class _Reader:
    """Reads one tree."""

    def __init__(self, stores: Stores, store: Store, max_children: int) -> None:
        """`store` is that of any queue of the tree: it names the prefix, and where to read."""
        self._stores = stores
        self._store = store
        self._prefix = f"{store.keys.prefix}:"
        self._max_children = max_children

    async def read(self, places: Sequence[_Place], *, with_children: bool) -> list[_Read]:
        """Jobs, each with the places of its children."""
        limit = min(self._max_children, _KEYS_PER_CALL) if with_children else 0
        size = max(1, _KEYS_PER_CALL // limit // len(KINDS)) if limit else _JOBS_PER_CALL
        level: list[_Read] = []
        for first in range(0, len(places), size):
            part = places[first : first + size]
            job_keys = [self._stores(queue).keys.job(job_id) for queue, job_id in part]
            for place, read in zip(part, await read_nodes(self._store, job_keys, limit=limit), strict=True):
                level.append(_Read(self._node(place, read), await self._children(place, read)))
        return level

    def _node(self, place: _Place, read: NodeRead) -> JobNode | None:
        if not read.fields:
            return None
        queue, job_id = place
        job: Job[Any, Any] = Job(self._stores(queue), job_id, read.fields)
        return JobNode(job)

    async def _children(self, place: _Place, read: NodeRead) -> list[_Place]:
        """Of each kind at most `max_children`, each child once."""
        found: dict[str, None] = {}
        for kind, page in zip(KINDS, read.children, strict=bool(read.children)):
            found |= dict.fromkeys(await self._keys_of_kind(place, kind, page))
        return [child for key in found if (child := self._split(key)) is not None]

    async def _keys_of_kind(self, place: _Place, kind: str, page: ChildPage) -> list[str]:
        queue, job_id = place
        found = dict.fromkeys(_keys(page))
        while page.cursor and len(found) < self._max_children:
            page = await scan_children(self._stores(queue), job_id, kind, page.cursor, count=_KEYS_PER_CALL)
            found |= dict.fromkeys(_keys(page))
        return list(found)[: self._max_children]

    def _split(self, job_key: str) -> _Place | None:
        """Queue and id of a job key, what stands before and behind its last colon; None under another prefix."""
        queue, colon, job_id = job_key.removeprefix(self._prefix).rpartition(":")
        is_own = job_key.startswith(self._prefix) and colon and ":" not in queue
        return (queue, job_id) if is_own else None


def _keys(page: ChildPage) -> Iterator[str]:
    return (key for key, _ in page.children)


def _check_positive(value: int, name: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(f"{name} is {value!r}: give an integer of at least 1")
