"""Children of a job: reading them, counting them, letting go of them, and what holds a job back.

One typed function per script or command, each a single round trip. Children are named by their job keys,
`<prefix>:<queue>:<id>`, because they may be in other queues. Called by `Job`, `queue.jobs` and `FlowProducer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from pyqueue._redis.replies import number, pairs, text
from pyqueue._redis.scripts import load
from pyqueue._store.store import Store
from pyqueue.errors import ConfigurationError, error_from_code
from pyqueue.types import Raw

#: Kinds of children, in BullMQ's words and order: what became of them.
PROCESSED, UNPROCESSED, FAILED, IGNORED = "processed", "unprocessed", "failed", "ignored"
KINDS: Final = (PROCESSED, UNPROCESSED, FAILED, IGNORED)


class ChildCounts(NamedTuple):
    """How many children a job has, by what became of them."""

    processed: int
    """Completed."""
    unprocessed: int
    """Not finished, or failed without a policy: the job waits for them."""
    failed: int
    """Failed with the policy to fail the job."""
    ignored: int
    """Failed, and the job goes on all the same."""


class ChildPage(NamedTuple):
    """Some children of one kind."""

    cursor: int
    """Where to go on; 0: these are the last."""
    children: list[tuple[str, Raw | None]]
    """Job key; and of completed ones the return value as JSON, of ignored ones the reason."""


async def count_children(store: Store, job_id: str) -> ChildCounts:
    """Children by kind. O(1)."""
    return ChildCounts(*map(number, await store.call(load("count_children"), job_id=job_id)))


async def scan_children(store: Store, job_id: str, kind: str, cursor: int, *, count: int) -> ChildPage:
    """About `count` children of one kind (all, of a small family) from a cursor on, 0 at first. O(count).

    Children that stay are seen at least once, while others change. ConfigurationError for another kind.
    """
    keys, execute = store.keys, store.commands.execute
    if kind == FAILED:
        found = await execute("ZRANGE", keys.unsuccessful(job_id), cursor, cursor + count - 1)
        return ChildPage(cursor + count if len(found) == count else 0, [(text(key), None) for key in found])
    if kind == UNPROCESSED:
        position, found = await execute("SSCAN", keys.dependencies(job_id), cursor, "COUNT", count)
        return ChildPage(number(position), [(text(key), None) for key in found])
    if kind not in KINDS:
        raise ConfigurationError(f"kind is {kind!r}: it must be one of {', '.join(KINDS)}")
    key = keys.processed(job_id) if kind == PROCESSED else keys.failed_children(job_id)
    position, found = await execute("HSCAN", key, cursor, "COUNT", count)
    return ChildPage(number(position), list(pairs(found).items()))


def key_page(reply: Sequence[Any]) -> ChildPage:
    """A page of keys as scripts answer it: cursor, job key, ..."""
    cursor, *found = reply
    return ChildPage(number(cursor), [(text(key), None) for key in found])


class NodeRead(NamedTuple):
    """A job, and the job keys of its first children of each kind."""

    fields: dict[str, Raw]
    """Empty for a job that does not exist."""
    children: list[ChildPage]
    """One page for each of KINDS, without values; empty if no children were asked for."""


async def read_nodes(store: Store, job_keys: Sequence[str], *, limit: int) -> list[NodeRead]:
    """Jobs by their keys, with the keys of about `limit` children of each kind (0: none). O(jobs * limit)."""
    reply = await store.call(load("read_nodes"), [(key,) for key in job_keys], limit=limit)
    return [NodeRead(pairs(fields), [key_page(kind) for kind in kinds]) for fields, *kinds in reply]


async def remove_child_dependency(store: Store, job_id: str) -> bool:
    """Let a job's parent not wait for it; False if it did not. O(1). Raises JobNotFound, ParentNotFound."""
    code = number(await store.call(load("remove_child_dependency"), job_id=job_id))
    if code < 0:
        raise error_from_code(code, job_id=job_id, queue=store.keys.queue, command="remove_child_dependency")
    return code == 0


async def remove_unprocessed_children(store: Store, job_id: str, cursor: str, *, limit: int) -> tuple[str, int]:
    """Remove pending children, about `limit` of them from a cursor on, "0" at first; returns (cursor, removed jobs).

    The cursor "0" means that it is done. O(limit); O(n) in the wait list for each that waits there.
    """
    position, removed = await store.call(load("remove_unprocessed_children"), job_id=job_id, cursor=cursor, limit=limit)
    return text(position), number(removed)


class Facts(NamedTuple):
    """What `explain_job` knows, as it stands in Redis."""

    now_ms: int
    job: dict[str, str]
    queues: dict[str, dict[str, str]]
    """Key prefix of every queue that was met -> its facts; the job's own first."""
    children: dict[str, dict[str, str]]
    """Job key of pending children, about as many as asked for -> their facts."""


async def explain_job(store: Store, job_id: str, *, limit: int) -> Facts:
    """Where a job is and what holds it there; about `limit` pending children are looked at. O(limit * log n)."""
    now_ms, job, queues, children = await store.call(load("explain_job"), job_id=job_id, limit=limit)
    return Facts(number(now_ms), _texts(job), _by_key(queues), _by_key(children))


def _by_key(flat: Sequence[Any]) -> dict[str, dict[str, str]]:
    return {text(flat[i]): _texts(flat[i + 1]) for i in range(0, len(flat), 2)}


def _texts(flat: Sequence[Any]) -> dict[str, str]:
    return {name: text(value) for name, value in pairs(flat).items()}
