"""Flows: trees of jobs. A parent runs when its children are done, and can read what they returned.

`FlowProducer` adds trees and reads them back; what a job can say about its children is in `Job`. A tree of up to 50
nodes is added in one atomic step, a larger one in steps that end with its leaves, see `_flows.staging`.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import anyio
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pyqueue._flows.plan import NODE_SHAPE, FlowJob, FlowPlan, FlowTree, plan_flow
from pyqueue._flows.reading import read_flow
from pyqueue._flows.staging import Staged, Staging
from pyqueue._flows.tree import JobNode, job_nodes
from pyqueue._redis.connection import Connection
from pyqueue._redis.keys import QueueKeys
from pyqueue._redis.outage import Outage
from pyqueue._store.adding import Added, AddReply, AddStatus
from pyqueue._store.coalescing import AddBuffer
from pyqueue._store.flows import MAX_NODES, FlowRow, NodeSkipped, StageReply, add_flow
from pyqueue._store.listening import FinishListener
from pyqueue._store.producer import ADD_DEADLINE_S, ADD_TRY_S, Departure, add_failure, bulk_failure
from pyqueue._store.sender import Sender
from pyqueue._store.store import Store
from pyqueue.errors import AddOutcomeUnknown, PyqueueError
from pyqueue.names import check_id_is_text, check_prefix, check_queue_name
from pyqueue.options import JobOptions, QueueOptions
from pyqueue.queue import ConnectionSource
from pyqueue.types import SERVER_CLOCK, Clock
from pyqueue.validation import check_many

__all__ = ["FlowJob", "FlowProducer", "JobNode"]

T = TypeVar("T")

_NO_DEFAULTS: Final[Mapping[str, Any]] = {}
_NOTHING: Final = "nothing of the flow was added"


class FlowProducer:
    """Adds flows. Use it as an async context manager, or call `close` at the end; or keep it for the process.

    Errors of the network are redis-py's; refusals of the server are `RedisRefused`.
    """

    def __init__(
        self,
        *,
        connection: ConnectionSource = None,
        prefix: str = "bull",
        queues_options: Mapping[str, QueueOptions | Mapping[str, Any]] = _NO_DEFAULTS,
        clock: Clock = SERVER_CLOCK,
    ) -> None:
        """Nothing is opened before the first command. All queues of its flows have its `prefix`.

        `queues_options` are options by queue name, of which `default_job_options` count here (BullMQ:
        `{"email": {"defaultJobOptions": {...}}}`). Raises ConfigurationError as `Queue` does.
        """
        self.prefix: Final = check_prefix(prefix)
        self._options = {check_queue_name(n): QueueOptions.model_validate(o) for n, o in queues_options.items()}
        self._connection = Connection.open(connection)
        self._is_ours = not isinstance(connection, Connection)
        self._connection.check_prefix(self.prefix)
        self._clock = clock
        self._sender = Sender(Outage(f"flows: {self._connection.url_safe}"))
        self._buffer: AddBuffer[FlowRow] = AddBuffer(partial(_FlowCall, self), limit=MAX_NODES)
        self._staging_sender = Sender(Outage(f"large flows: {self._connection.url_safe}"))
        self._one_staging = anyio.Lock()
        self._tasks: set[asyncio.Task[Staged]] = set()
        self._trees = itertools.count()
        self._stores: dict[str, Store] = {}
        self._finishes: list[FinishListener] = []
        self._is_closed = False

    async def add(
        self, flow: FlowTree, *, queue_defaults: Mapping[str, JobOptions | Mapping[str, Any]] = _NO_DEFAULTS
    ) -> JobNode:
        """Add a tree: `FlowJob`s, or dictionaries with name, queueName, data, opts, children. Returns it with its jobs.

        `queue_defaults` are options by queue name for nodes that do not say otherwise. Nodes without a `job_id` get a
        UUID. Up to 50 nodes are one atomic call, about 20 us of Redis' time each; more are several calls, during which
        no child runs before its parent knows all its children. Cancelling does not stop a flow that is being added.

        Raises ConfigurationError or PayloadError before anything is sent; ParentNotFound, ParentNotReplaceable (an id
        of the flow belongs to another parent) or FlowCycle, then nothing of the flow was added; AddOutcomeUnknown when
        the connection stayed broken: add it again, with the same ids.
        """
        plan = self._plan(flow, queue_defaults)
        if len(plan) > MAX_NODES:
            return await self._add_staged(plan)
        node = (await self._add_together([plan]))[0]
        if isinstance(node, PyqueueError):
            raise node
        return node

    async def add_bulk(
        self, flows: Iterable[FlowTree], *, queue_defaults: Mapping[str, JobOptions | Mapping[str, Any]] = _NO_DEFAULTS
    ) -> list[JobNode]:
        """Add many trees in order; as many as have 50 nodes together travel in one call, larger ones by themselves.

        All are validated before the first is sent. Raises BulkAddError with a tree or an error for each, if not all
        were added; otherwise as `add`.
        """
        check_many(flows, "flows", FlowJob, NODE_SHAPE)
        plans = [self._plan(flow, queue_defaults, f"flows[{index}]") for index, flow in enumerate(flows)]
        results: list[JobNode | PyqueueError] = []
        for group in _groups(plans):
            results += await self._add_group(group)
        added = [result for result in results if isinstance(result, JobNode)]
        if len(added) == len(results):
            return added
        raise bulk_failure(results, what="flows")

    async def get_flow(
        self, queue_name: str, job_id: str, *, depth: int = 10, max_children: int = 20
    ) -> JobNode | None:
        """A job with its children, `depth` levels of it (1: the job alone), or None if it does not exist.

        Of each job at most `max_children` of each kind: completed, pending, failed, ignored failures, in this order.
        Children that were removed are left out. One round trip per 20 jobs, more for more children.
        """
        return await read_flow(self._store, check_queue_name(queue_name), check_id_is_text(job_id), depth, max_children)

    async def close(self) -> None:
        """Finish what was added, then close the connections that were opened here; a borrowed client stays open.

        Cancel it to give up what is not sent.
        """
        self._is_closed = True
        try:
            for finishes in self._finishes:
                await finishes.close()
            await self._buffer.close()
            if self._tasks:
                await asyncio.wait(self._tasks)
        finally:
            for task in self._tasks:
                task.cancel()
            if self._is_ours:
                with anyio.CancelScope(shield=True):
                    await self._connection.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<FlowProducer {self.prefix!r} at {self._connection.url_safe}>"

    def _plan(
        self, flow: FlowTree, queue_defaults: Mapping[str, JobOptions | Mapping[str, Any]], name: str = "flow"
    ) -> FlowPlan:
        defaults = {name: o.default_job_options for name, o in self._options.items() if o.default_job_options}
        defaults |= {check_queue_name(name): JobOptions.model_validate(o) for name, o in queue_defaults.items()}
        strict_queues = {name for name, options in self._options.items() if options.strict_ints}
        return plan_flow(flow, self.prefix, defaults, strict_queues, name)

    def _store(self, queue_name: str) -> Store:
        """One queue, with what waits for the results of its jobs."""
        if queue_name not in self._stores:
            store = Store(self._connection.commands, QueueKeys(self.prefix, queue_name), self._clock)
            outage = Outage(f"results of {queue_name}: {self._connection.url_safe}")
            finishes = FinishListener(store, lambda: self._connection.lane(blocking=True), outage)
            self._finishes.append(finishes)
            self._stores[queue_name] = replace(store, finishes=finishes)
        return self._stores[queue_name]

    async def _add_group(self, plans: Sequence[FlowPlan]) -> list[JobNode | PyqueueError]:
        """Part of a bulk: a tree or an error for each."""
        try:
            if len(plans[0]) > MAX_NODES:
                return [await self._add_staged(plans[0])]
            return await self._add_together(plans)
        except PyqueueError as error:
            return [error] * len(plans)

    async def _add_together(self, plans: Sequence[FlowPlan]) -> list[JobNode | PyqueueError]:
        """Add small trees in one call, level by level."""
        trees = [plan.rows(str(next(self._trees))) for plan in plans]
        order = sorted(
            ((number, index) for number, plan in enumerate(plans) for index in range(len(plan))),
            key=lambda place: plans[place[0]].nodes[place[1]].level,
        )
        try:
            reply = await self._buffer.add([trees[number][index] for number, index in order], len(order))
        except (RedisConnectionError, RedisTimeoutError) as error:
            queue = plans[0].nodes[0].queue
            raise add_failure(error, queue=queue, address=self._connection.url_safe, what="flow") from error
        results: list[dict[int, Added | PyqueueError]] = [{} for _ in plans]
        for (number, index), result in zip(order, reply.results, strict=True):
            results[number][index] = result
        return [
            self._added_tree(plan, reply.now_ms, [results[number][i] for i in range(len(plan))])
            for number, plan in enumerate(plans)
        ]

    def _added_tree(
        self, plan: FlowPlan, now_ms: int, results: Sequence[Added | PyqueueError]
    ) -> JobNode | PyqueueError:
        added = [result for result in results if isinstance(result, Added)]
        if len(added) == len(results):
            return job_nodes(plan, added, now_ms, self._store)
        errors = [r for r in results if isinstance(r, PyqueueError) and not isinstance(r, NodeSkipped)]
        if added:
            return _told(errors[0], f"{len(added)} of {len(results)} nodes were added; add the same flow again")
        return _told(errors[0], _NOTHING)

    async def _add_staged(self, plan: FlowPlan) -> JobNode:
        """Add a large tree, in a task of its own: a caller that is cancelled does not leave it half-way."""
        if self._is_closed:
            raise PyqueueError("it is closed: add before close(), or make another FlowProducer")
        task = asyncio.create_task(self._stage(plan), name="pyqueue-flow")
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        staged = await asyncio.shield(task)
        results = [
            Added(node.row.job_id, AddStatus.CREATED if is_new else AddStatus.DUPLICATE)
            for node, is_new in zip(plan.nodes, staged.created, strict=True)
        ]
        return job_nodes(plan, results, staged.now_ms, self._store)

    async def _stage(self, plan: FlowPlan) -> Staged:
        async def post(call: Callable[[str, int], Awaitable[StageReply]]) -> StageReply:
            return await self._staging_sender.send(call, timeout_s=ADD_DEADLINE_S, try_s=ADD_TRY_S)

        staging = Staging(self._store(plan.nodes[0].queue), plan, post)
        async with self._one_staging:
            try:
                return await staging.run()
            except (RedisConnectionError, RedisTimeoutError) as error:
                address = self._connection.url_safe
                message = f"The connection to {address} broke while adding a flow: {staging.progress} ({error})"
                raise AddOutcomeUnknown(message, queue=plan.nodes[0].queue) from error
            except PyqueueError as error:
                _told(error, staging.progress if staging.is_left_over else _NOTHING)
                raise

    def _forget(self, task: asyncio.Task[Staged]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen, also when the caller has gone


class _FlowCall:
    """One call of a producer's buffer. The queue of its first node keeps the record."""

    __slots__ = ("_deadline", "_producer", "_rows")

    is_followable = False

    def __init__(self, producer: FlowProducer, rows: Sequence[FlowRow], since: float) -> None:
        self._producer = producer
        self._rows = rows
        self._deadline = since + ADD_DEADLINE_S

    def launch(self, told: Callable[[AddReply | Exception], None], behind: object) -> bool:
        return False  # a flow is many jobs: a turn of the event loop more is nothing

    async def send(self, failure: Exception | None) -> AddReply:
        left_s = self._deadline - time.monotonic()
        departure = Departure(is_possible=False)
        attempt = partial(self._try, departure)
        return await departure.judge(
            self._producer._sender.send(attempt, failure=failure, timeout_s=left_s, try_s=ADD_TRY_S)
        )

    async def _try(self, departure: Departure, sender: str, sequence: int) -> AddReply:
        store = self._producer._store(self._rows[0].queue)
        return await departure.note(add_flow(store, self._rows, sender=sender, sequence=sequence))


def _told(error: PyqueueError, what: str) -> PyqueueError:
    """The error, which says in addition what was written."""
    error.args = (f"{error}: {what}", *error.args[1:])
    return error


def _groups(plans: Iterable[FlowPlan]) -> list[list[FlowPlan]]:
    """Neighbours that fit into one call; a large tree is a group of its own."""
    groups: list[list[FlowPlan]] = []
    room = 0
    for plan in plans:
        if len(plan) > room:
            groups.append([])
            room = MAX_NODES
        groups[-1].append(plan)
        room -= len(plan)
    return groups
