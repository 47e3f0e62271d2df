"""Remove jobs, alone or with their families.

A family of up to 50 jobs is removed in one atomic call. A larger one is looked at first, then its root is removed and
its members follow, parents before children, a few per call. Called by `Job` and `queue.jobs`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from pyqueue._redis.keys import QueueKeys
from pyqueue._redis.replies import number
from pyqueue._redis.scripts import load
from pyqueue._store.children import KINDS, UNPROCESSED, ChildPage, key_page, scan_children
from pyqueue._store.store import Store
from pyqueue.errors import error_from_code

_LOCKED, _LARGE = 0, 2

#: Child keys of each kind that one call reads.
_PAGE: Final = 200
#: Members that one call looks at; most have no children.
_LOOKED_AT: Final = 25
#: Members that one call removes: each may have to be searched for in its wait list.
_REMOVED: Final = 10


async def remove_job(store: Store, job_id: str, *, with_children: bool = True) -> bool:
    """Remove a job and, by default, its children; False, and nothing removed, when one of them is locked by a worker.

    One round trip, O(n) in the wait list for a job waiting there; for a family of more than 50 jobs many.
    """
    code = number(await store.call(load("remove_job"), job_id=job_id, with_children=int(with_children)))
    if code < 0:
        raise error_from_code(code, job_id=job_id, queue=store.keys.queue, command="remove_job")
    return await _remove_large_family(store, job_id) if code == _LARGE else code != _LOCKED


class Member(NamedTuple):
    """One job of a family."""

    is_locked: bool
    children: list[ChildPage]
    """One page for each of KINDS, without values."""


async def scan_family(store: Store, job_keys: Sequence[str], *, limit: int) -> list[Member]:
    """Whether jobs run, and the keys of about `limit` of their children of each kind. O(jobs * limit)."""
    reply = await store.call(load("scan_family"), [(key,) for key in job_keys], limit=limit)
    return [Member(number(locked) == 1, [key_page(kind) for kind in kinds]) for locked, *kinds in reply]


async def remove_members(store: Store, job_keys: Sequence[str]) -> int:
    """Remove jobs one by one, save those that a worker has locked; returns how many. O(jobs), and as `remove_job`."""
    return number(await store.call(load("remove_members"), [(key,) for key in job_keys]))


async def _remove_large_family(store: Store, job_id: str) -> bool:
    """Look for locks, remove the root, then its members: no parent is left that would run without its children.

    Not one atomic change: a member that a worker takes meanwhile runs to its end, as the child of nobody.
    """
    members = await _members(store, store.keys.job(job_id))
    if members is None or not await remove_job(store, job_id, with_children=False):
        return False
    for first in range(0, len(members), _REMOVED):
        await remove_members(store, members[first : first + _REMOVED])
    return True


async def _members(store: Store, root_key: str) -> list[str] | None:
    """Job keys of all members but the root, parents first; None if the root or a job it waits for is locked."""
    is_awaited = {root_key: True}
    level = [root_key]
    while level:
        below: list[str] = []
        for first in range(0, len(level), _LOOKED_AT):
            part = level[first : first + _LOOKED_AT]
            for key, member in zip(part, await scan_family(store, part, limit=_PAGE), strict=True):
                if member.is_locked and is_awaited[key]:
                    return None
                for kind, page in zip(KINDS, member.children, strict=True):
                    for child in await _all_keys(store, key, kind, page):
                        if child not in is_awaited:
                            is_awaited[child] = is_awaited[key] and kind == UNPROCESSED
                            below.append(child)
        level = below
    return [key for key in is_awaited if key != root_key]


async def _all_keys(store: Store, job_key: str, kind: str, page: ChildPage) -> list[str]:
    """All children of one kind, of which the first page is known; those of another prefix are left alone."""
    own = f"{store.keys.prefix}:"
    found = dict.fromkeys(_keys(page))
    queue, _, job_id = job_key.removeprefix(own).rpartition(":")
    keys = QueueKeys(store.keys.prefix, queue)
    while page.cursor:
        page = await scan_children(Store(store.commands, keys), job_id, kind, page.cursor, count=_PAGE)
        found |= dict.fromkeys(_keys(page))
    return [key for key in found if key.startswith(own)]


def _keys(page: ChildPage) -> Iterator[str]:
    return (key for key, _ in page.children)
