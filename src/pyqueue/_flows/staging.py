"""Stage a large flow: no call of the script adds more nodes than Redis handles in well under 2 ms.

Steps, each in slices: 1. check what can be refused, 2. store all nodes and their links, where nothing can run them,
3. give parents their places, 4. give leaves theirs, and work begins. A refusal in 1 to 3 takes back what was stored. A
producer that dies leaves nodes in no state: before step 4 nothing has run, in step 4 parents wait for the leaves that
have no place. Adding the same flow again (same ids) goes on where it stopped. Called by `FlowProducer`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final, NamedTuple, TypeAlias
from uuid import uuid4

from redis.exceptions import RedisError

from pyqueue._flows.plan import FlowPlan
from pyqueue._store.flows import (
    MAX_NODES,
    FlowRow,
    StageReply,
    discard_nodes,
    get_parent_key,
    place_nodes,
    stage_nodes,
)
from pyqueue._store.store import Store
from pyqueue.errors import FlowCycle, PyqueueError

#: Sends one call, again after a lost reply: the function gets the sender's uuid and the number of the call.
Post: TypeAlias = Callable[[Callable[[str, int], Awaitable[StageReply]]], Awaitable[StageReply]]

#: Ancestors of a root that are looked at, as in `lua/include/flow.lua`.
_MAX_ANCESTORS: Final = 1000


class Staged(NamedTuple):
    """A large flow that was added."""

    now_ms: int
    created: list[bool]
    """Per node; False for a job that existed before."""


class Staging:
    """One large flow on its way; `run` once."""

    def __init__(self, store: Store, plan: FlowPlan, post: Post) -> None:
        """`store` is that of the root's queue, which keeps the record of each call."""
        self._store = store
        self._plan = plan
        self._post = post
        self._rows = plan.rows("")
        self._root_key = plan.root_key
        self._flow = str(uuid4())
        self._stored = 0
        self._placed = 0
        self._is_discarded = False

    @property
    def is_left_over(self) -> bool:
        """Whether a part of a flow that was refused is in Redis."""
        return self._placed > 0 or (self._stored > 0 and not self._is_discarded)

    @property
    def progress(self) -> str:
        """How far it got, for the message of an error."""
        total = len(self._rows)
        if self._placed:
            return f"{self._placed} of {total} nodes have their place, the others wait for it; add the same flow again"
        return f"{self._stored} of {total} nodes are stored, none has a place yet; add the same flow again"

    async def run(self) -> Staged:
        """Add the flow. Raises the error of the first node that was refused; nothing of the flow is left then."""
        await self._check()
        try:
            staged = await self._store_all()
            await self._place([row for row in self._rows if row.placement == "children"])
        except PyqueueError:
            if not self._placed:
                await self._discard()
            raise
        await self._place([row for row in self._rows if row.placement != "children"])
        return staged

    async def _check(self) -> None:
        """Refuse what can be refused before anything is written. Only ids of the caller's choice can be taken."""
        root, *others = zip(self._rows, self._plan.nodes, strict=True)
        given = [root[0], *(row for row, node in others if node.has_given_id)]
        for rows in _slices(given):
            await self._stage(rows, check_only=True)
        keys = {row.key for row in self._rows}
        ancestor = root[0].parent_key or await get_parent_key(self._store, self._root_key)
        for _ in range(_MAX_ANCESTORS):
            if not ancestor:
                return
            if ancestor in keys:
                raise FlowCycle(job_id=self._rows[0].job_id, queue=self._rows[0].queue, command="add_flow")
            ancestor = await get_parent_key(self._store, ancestor)

    async def _store_all(self) -> Staged:
        """Store all nodes, with the time at which the first were stored."""
        reply = await self._stage(self._rows[:MAX_NODES])
        self._rows = [row._replace(timestamp_ms=row.timestamp_ms or reply.now_ms) for row in self._rows]
        created = _accepted(reply)
        for rows in _slices(self._rows[MAX_NODES:]):
            self._stored = len(created)
            created += _accepted(await self._stage(rows))
        self._stored = len(created)
        return Staged(reply.now_ms, created)

    async def _stage(self, rows: Sequence[FlowRow], *, check_only: bool = False) -> StageReply:
        async def attempt(sender: str, sequence: int) -> StageReply:
            return await stage_nodes(
                self._store,
                rows,
                self._root_key,
                flow=self._flow,
                check_only=check_only,
                sender=sender,
                sequence=sequence,
            )

        reply = await self._post(attempt)
        _accepted(reply)  # raises what the check has found
        return reply

    async def _place(self, rows: Sequence[FlowRow]) -> None:
        for part in _slices(rows):

            async def attempt(sender: str, sequence: int, part: Sequence[FlowRow] = part) -> StageReply:
                return await place_nodes(self._store, part, self._root_key, sender=sender, sequence=sequence)

            _accepted(await self._post(attempt))
            self._placed += len(part)

    async def _discard(self) -> None:
        """Take back what has no place; if that fails, too, the nodes stay as those of a producer that died."""
        with suppress(PyqueueError, RedisError):
            for rows in _slices(self._rows):
                await discard_nodes(self._store, rows, flow=self._flow)
            self._is_discarded = True


def _slices(rows: Sequence[FlowRow]) -> Iterator[Sequence[FlowRow]]:
    return (rows[first : first + MAX_NODES] for first in range(0, len(rows), MAX_NODES))


def _accepted(reply: StageReply) -> list[bool]:
    """Whether each node is new; raises the error of the first that was refused."""
    for result in reply.results:
        if isinstance(result, PyqueueError):
            raise result
    return [result is True for result in reply.results]
