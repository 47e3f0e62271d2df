"""Add flows: trees of jobs whose parents wait for their children.

One typed function per script. A flow of up to MAX_NODES travels in one atomic call (`add_flow`). A larger one is
staged: all nodes are stored first, then parents get their places, then leaves, so that nothing runs before its parent
knows all its children. Called by `FlowProducer` only, which decides about the steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from pyqueue._redis.replies import codes, number, text
from pyqueue._redis.scripts import load
from pyqueue._store.adding import Added, AddReply, add_result
from pyqueue._store.record import AddRow, Field
from pyqueue._store.store import Store
from pyqueue.errors import PyqueueError, error_from_code
from pyqueue.types import Arg

#: Nodes per call. Measured on Redis 7 at 15 us of server time per child and 20 us per parent, more than a job alone
#: takes: what a child knows of its parent makes its hash a large one. With the first call's compiling below 2 ms.
MAX_NODES: Final = 50

#: Status of a node that was not added because another node of its tree was refused.
_SKIPPED: Final = 4
#: Status of a node that this call has stored.
_CREATED: Final = 0


class FlowRow(NamedTuple):
    """One node of a flow, in the order of `add_flow`'s rows."""

    tree: str
    """The same for all nodes of a tree, different for every tree of a call."""
    prefix: str
    """What the keys of the node's queue begin with."""
    data: str
    name: str
    opts: str
    job_id: str
    timestamp_ms: int
    delay_ms: int
    priority: int
    placement: str
    parent_key: str
    parent: str
    dedup: str
    is_new: int
    """1 if the id was made for this flow, so that no job can have it."""

    @property
    def key(self) -> str:
        """The node's job key."""
        return self.prefix + self.job_id

    @property
    def queue(self) -> str:
        """Name of the node's queue."""
        return self.prefix[:-1].rpartition(":")[2]


class NodeSkipped(PyqueueError):
    """The node was not added because another node of its flow was refused. Never leaves `FlowProducer`."""


class StageReply(NamedTuple):
    """What one step of a staged flow did, per node in order: whether it was stored or placed, or its error."""

    now_ms: int
    results: list[bool | PyqueueError]
    """False: the job exists, or has a place, already."""


def flow_row(tree: str, prefix: str, row: AddRow, *, is_new: bool) -> FlowRow:
    """A node from a job that is ready to be added."""
    return FlowRow(tree, prefix, *row, int(is_new))


async def add_flow(store: Store, rows: Sequence[FlowRow], *, sender: str = "", sequence: int = 0) -> AddReply:
    """Add trees with up to MAX_NODES nodes in one round trip; about 6 commands inside Redis per node.

    A tree is added whole or not at all: the refused node has its error, the others `NodeSkipped`. With a sequence the
    same call may be sent again after a lost reply; it is then answered from its record. Raises StaleExchange if a newer
    call of this sender was applied already.
    """
    reply = await store.call(load("add_flow"), rows, sender=sender, sequence=sequence)
    now_ms, job_ids, statuses = _answered(store, reply, "add_flow")
    return AddReply(
        number(now_ms),
        [
            _result(row, text(job_id), status)
            for row, job_id, status in zip(rows, job_ids, codes(statuses), strict=True)
        ],
    )


async def stage_nodes(
    store: Store,
    rows: Sequence[FlowRow],
    root_key: str,
    *,
    flow: str,
    check_only: bool = False,
    sender: str = "",
    sequence: int = 0,
) -> StageReply:
    """Store up to MAX_NODES nodes without a place, parents before children; about 6 commands inside Redis per node.

    `flow` is the uuid of this add, `root_key` the job key of the tree's root. With `check_only` nothing is written.
    """
    reply = await store.call(
        load("stage_nodes"),
        [_stage_row(row, root_key) for row in rows],
        flow=flow,
        check_only=int(check_only),
        sender=sender,
        sequence=sequence,
    )
    return _stage_reply(store, rows, reply, "stage_nodes")


async def place_nodes(
    store: Store, rows: Sequence[FlowRow], root_key: str, *, sender: str = "", sequence: int = 0
) -> StageReply:
    """Give up to MAX_NODES stored nodes their places; about 4 commands inside Redis per node."""
    packed = [_place_row(row, root_key) for row in rows]
    reply = await store.call(load("place_nodes"), packed, sender=sender, sequence=sequence)
    return _stage_reply(store, rows, reply, "place_nodes")


async def discard_nodes(store: Store, rows: Iterable[FlowRow], *, flow: str) -> int:
    """Delete nodes that this add of the flow has stored and not placed; returns how many. O(rows)."""
    packed = [(row.prefix, row.job_id, row.parent_key) for row in rows]
    return number(await store.call(load("discard_nodes"), packed, flow=flow))


async def get_parent_key(store: Store, job_key: str) -> str:
    """Job key of a job's parent; empty when it has none. O(1)."""
    return text(await store.commands.execute("HGET", job_key, Field.PARENT_KEY))


def _stage_row(row: FlowRow, root_key: str) -> tuple[Arg, ...]:
    return (
        row.prefix,
        row.job_id,
        row.name,
        row.data,
        row.opts,
        row.timestamp_ms,
        row.delay_ms,
        row.priority,
        row.parent_key,
        row.parent,
        int(row.key == root_key),
        row.is_new,
    )


def _place_row(row: FlowRow, root_key: str) -> tuple[Arg, ...]:
    return (
        row.prefix,
        row.job_id,
        row.name,
        row.timestamp_ms,
        row.delay_ms,
        row.priority,
        row.placement,
        row.parent_key if row.key == root_key else "",  # the others were linked when they were stored
    )


def _result(row: FlowRow, job_id: str, status: int | bytes | str) -> Added | PyqueueError:
    if status == _SKIPPED:
        return NodeSkipped()
    # A refused node has no id in the reply.
    return add_result(row.queue, job_id or row.job_id, status)


def _stage_reply(store: Store, rows: Sequence[FlowRow], reply: Any, command: str) -> StageReply:
    now_ms, statuses = _answered(store, reply, command)
    return StageReply(
        number(now_ms),
        [
            status == _CREATED
            if status >= 0
            else error_from_code(status, job_id=row.job_id, queue=row.queue, command="add_flow")
            for row, status in zip(rows, codes(statuses), strict=True)
        ],
    )


def _answered(store: Store, reply: Any, command: str) -> Any:
    if isinstance(reply, int):
        raise error_from_code(reply, queue=store.keys.queue, command=command)
    return reply
