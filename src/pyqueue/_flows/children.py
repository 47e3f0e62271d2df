"""What a job can say about its children and do with them: the part of `Job` that is about flows.

Children are named by their job keys, `<prefix>:<queue>:<id>`. Large families are read in pages of bounded size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pyqueue import payload
from pyqueue._redis.replies import text
from pyqueue._store.snapshot import DataT, ResultT, Snapshot
from pyqueue.errors import ConfigurationError
from pyqueue.lazy_modules import LazyModule
from pyqueue.types import Raw

if TYPE_CHECKING:
    from pyqueue import explanation
    from pyqueue._store import children
else:
    explanation = LazyModule("pyqueue.explanation")
    children = LazyModule("pyqueue._store.children")

#: Children that one call reads: with return values of 1 kB about 0.3 ms of Redis' time.
_PAGE: Final = 200
#: Children that one call removes: each may have to be searched for in its wait list.
_REMOVALS: Final = 10
#: Pending children that an explanation looks at.
_EXPLAINED: Final = 50


class Dependencies(NamedTuple):
    """The children of a job, by what became of them."""

    processed: dict[str, Any]
    """Job key of a completed child -> its return value."""
    unprocessed: list[str]
    """Job keys of those that the job waits for."""
    failed: list[str]
    """Job keys of those that failed, with the policy to fail the job."""
    ignored: dict[str, str]
    """Job key of a child that failed, with the job going on all the same -> its reason."""


class DependencyPage(NamedTuple):
    """Some children of one kind, and where to go on."""

    children: dict[str, Any]
    """Job key -> return value of a completed child, reason of an ignored one, None of the others."""
    cursor: int
    """For the next page; 0: there is none."""


class ChildVerbs(Snapshot[DataT, ResultT]):
    """A job's attributes, and what it can do with its children. The base of `Job`."""

    __slots__ = ()

    async def children_values(self) -> dict[str, Any]:
        """What the completed children returned, by job key. One round trip per 200 children."""
        return await self._all(children.PROCESSED)

    async def ignored_children_failures(self) -> dict[str, str]:
        """Why children failed that this job need not mind, by job key. One round trip per 200 children."""
        return await self._all(children.IGNORED)

    async def dependencies(self) -> Dependencies:
        """All children, by what became of them. Four round trips, one more per 200 children."""
        return Dependencies(
            await self._all(children.PROCESSED),
            [*await self._all(children.UNPROCESSED)],
            [*await self._all(children.FAILED)],
            await self._all(children.IGNORED),
        )

    async def dependencies_page(self, kind: str, cursor: int = 0, count: int = 20) -> DependencyPage:
        """About `count` children of one kind (processed, unprocessed, failed, ignored), from a cursor on.

        A small family comes as a whole; while children change, one may come twice. One round trip.
        """
        for name, value, minimum in (("cursor", cursor, 0), ("count", count, 1)):
            if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
                raise ConfigurationError(f"{name} is {value!r}: give an integer of at least {minimum}")
        page = await children.scan_children(self._store, self.id, kind, cursor, count=count)
        return DependencyPage(_values(kind, page), page.cursor)

    async def dependencies_count(self) -> children.ChildCounts:
        """How many children of each kind it has. One round trip."""
        return await children.count_children(self._store, self.id)

    async def remove_child_dependency(self) -> bool:
        """Let its parent not wait for it any more; False if it did not. The parent runs if it waits for nothing else.

        Raises ParentNotFound if it has no parent, JobNotFound. One round trip.
        """
        return await children.remove_child_dependency(self._store, self.id)

    async def remove_unprocessed_children(self) -> int:
        """Remove the children that it waits for, with theirs; returns how many jobs went.

        Those that a worker has locked or that failed stay, as do completed ones. It runs if it then waits for nothing.
        One round trip per 10 children.
        """
        cursor, total = "0", 0
        while True:
            cursor, removed = await children.remove_unprocessed_children(self._store, self.id, cursor, limit=_REMOVALS)
            total += removed
            if cursor == "0":
                return total

    async def explain(self) -> explanation.Explanation:
        """Where it is now and what holds it there: time, pause, limits, children and their states. One round trip."""
        return explanation.explain(self.id, await children.explain_job(self._store, self.id, limit=_EXPLAINED))

    async def _all(self, kind: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        cursor, is_first = 0, True
        while cursor or is_first:
            page = await children.scan_children(self._store, self.id, kind, cursor, count=_PAGE)
            found |= _values(kind, page)
            cursor, is_first = page.cursor, False
        return found


def _values(kind: str, page: children.ChildPage) -> dict[str, Any]:
    decode: Callable[[Raw], Any] = payload.decode if kind == children.PROCESSED else text
    return {key: None if raw is None else decode(raw) for key, raw in page.children}
