"""Plan a flow: from the caller's tree to rows, parents before children, or a refusal before anything is written.

Pure: no Redis. Nodes go level by level, all roots first, as BullMQ inserts them; every node has its id when it leaves
here. What depends on jobs that exist already is checked by the scripts. Called by `FlowProducer`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias
from uuid import uuid4

from pyqueue._store.flows import FlowRow, flow_row
from pyqueue._store.record import AddRow, encode_job
from pyqueue.errors import ConfigurationError, PyqueueError
from pyqueue.names import check_job_name, check_queue_name
from pyqueue.options import JobOptions, ParentReference, given_options, merge_options, unknown_key
from pyqueue.validation import shown

#: Levels of one flow. Deeper trees are mistakes of a recursion rather than plans.
MAX_DEPTH: Final = 1_000
#: Nodes of one flow: about 200 MB in this process while they are added.
MAX_FLOW_NODES: Final = 100_000

#: What is taken for a node.
NODE_SHAPE: Final = "a FlowJob or a dictionary with name and queueName"

_FIELDS: Final = ("name", "queueName", "data", "opts", "children", "prefix")
_KNOWN: Final = frozenset({*_FIELDS, "queue_name", "options"})


def _no_data() -> Any:
    return {}


@dataclass(frozen=True, slots=True)
class FlowJob:
    """One node of a flow: a job, and the jobs it waits for. Dictionaries with BullMQ's names are accepted, too."""

    name: str
    queue_name: str
    data: Any = field(default_factory=_no_data)
    options: JobOptions | None = None
    children: Sequence[FlowJob | Mapping[str, Any]] = ()

    @classmethod
    def parse(cls, value: FlowTree, prefix: str) -> FlowJob:
        """A node as it is; a dictionary with name, queueName, data, opts, children as a node; its children as given.

        Raises ConfigurationError, UnknownOption; for a prefix that is not the producer's, too.
        """
        if isinstance(value, FlowJob):
            node = value
        elif isinstance(value, Mapping):
            node = _from_mapping(value, prefix)
        else:
            raise ConfigurationError(f"node is {shown(value)}: give {NODE_SHAPE}")
        if not (node.options is None or isinstance(node.options, JobOptions)):
            raise ConfigurationError(f"options of a FlowJob are {shown(node.options)}: give JobOptions(...)")
        check_job_name(node.name)
        check_queue_name(node.queue_name)
        if isinstance(node.children, (str, bytes, Mapping)) or not isinstance(node.children, Sequence):
            raise ConfigurationError(f"children is {shown(node.children)}: give a list of nodes")
        return node


FlowTree: TypeAlias = FlowJob | Mapping[str, Any]
"""The root of a flow."""


@dataclass(slots=True)
class PlannedNode:
    """A node that is ready to be added."""

    source: object
    queue: str
    row: AddRow
    parent: int
    """Number of its parent in the plan; -1 for the root."""
    position: int
    """Which child of its parent it is."""
    level: int
    has_given_id: bool


@dataclass(frozen=True, slots=True)
class FlowPlan:
    """A flow as it will be added: its nodes level by level, the root first."""

    prefix: str
    nodes: list[PlannedNode]

    def __len__(self) -> int:
        return len(self.nodes)

    @property
    def root_key(self) -> str:
        """Job key of the root."""
        return self.key(self.nodes[0])

    def key(self, node: PlannedNode) -> str:
        """Job key of a node."""
        return f"{self.prefix}:{node.queue}:{node.row.job_id}"

    def rows(self, tree: str) -> list[FlowRow]:
        """The rows of all nodes, in order; `tree` is their tree's name in a call."""
        return [
            flow_row(tree, f"{self.prefix}:{node.queue}:", node.row, is_new=not node.has_given_id)
            for node in self.nodes
        ]


def plan_flow(
    flow: FlowTree,
    prefix: str,
    defaults: Mapping[str, JobOptions],
    strict_queues: Collection[str] = (),
    name: str = "flow",
) -> FlowPlan:
    """Validate and encode a tree; nothing is sent. `defaults` are job options by queue name, `strict_queues` those that
    refuse integers beyond 2**53.

    Raises ConfigurationError (and its kind) or PayloadError, which name the node by its path from the flow,
    whose own name is `name`.
    """
    planner = _Planner(prefix, defaults, strict_queues, name)
    planner.take(flow, -1, 0)
    for number, children in planner.walk():
        for position, child in enumerate(children):
            planner.take(child, number, position)
    return FlowPlan(prefix, planner.nodes)


class _Planner:
    """One plan in the making."""

    def __init__(
        self, prefix: str, defaults: Mapping[str, JobOptions], strict_queues: Collection[str], name: str
    ) -> None:
        self.nodes: list[PlannedNode] = []
        self._name = name
        self._prefix = prefix
        self._defaults = defaults
        self._strict_queues = strict_queues
        self._keys: set[tuple[str, str]] = set()
        self._children: list[Sequence[FlowTree]] = []

    def walk(self) -> Iterator[tuple[int, Sequence[FlowTree]]]:
        """The children of each node by its number, while nodes are taken."""
        number = 0
        while number < len(self.nodes):
            yield number, self._children[number]
            number += 1

    def take(self, source: FlowTree, parent: int, position: int) -> None:
        """Plan one node."""
        level = self.nodes[parent].level + 1 if parent >= 0 else 0
        try:
            if level >= MAX_DEPTH:
                raise ConfigurationError(f"the flow has more than {MAX_DEPTH} levels: put parts of it into other flows")
            if len(self.nodes) >= MAX_FLOW_NODES:
                raise ConfigurationError(f"the flow has more than {MAX_FLOW_NODES} nodes: make several flows of it")
            job = FlowJob.parse(source, self._prefix)
            if job.children:
                self._check_circle(source, parent)
            options = self._options(job, parent)
            row = self._encode(job, options)
            self._check_id(job.queue_name, row.job_id)
        except PyqueueError as error:
            raise type(error)(f"{self._path(parent, position)}: {error}") from None
        has_given_id = bool(row.job_id)
        if not has_given_id:
            row = row._replace(job_id=str(uuid4()))
        self.nodes.append(PlannedNode(source, job.queue_name, row, parent, position, level, has_given_id))
        self._children.append(job.children)

    def _encode(self, job: FlowJob, options: JobOptions) -> AddRow:
        placement = "children" if job.children else ""
        is_strict = job.queue_name in self._strict_queues
        return encode_job(job.name, job.data, options, placement=placement, strict_ints=is_strict)

    def _options(self, job: FlowJob, parent: int) -> JobOptions:
        options = merge_options(self._defaults.get(job.queue_name), job.options) or JobOptions()
        if options.deduplication is not None and (job.children or parent >= 0):
            where = "with children" if job.children else "below a parent"
            raise ConfigurationError(f"deduplication cannot be used on a node {where}: give the node a job_id instead")
        if parent < 0:
            self._check_outside_parent(options.parent)
            return options
        if options.parent is not None:
            raise ConfigurationError("parent cannot be given below a root: a node's parent is the node above it")
        above = self.nodes[parent]
        reference = ParentReference(id=above.row.job_id, queue=f"{self._prefix}:{above.queue}")
        return options.model_copy(update={"parent": reference})

    def _check_outside_parent(self, reference: ParentReference | None) -> None:
        if reference is None:
            return
        prefix, _, queue = reference.queue.rpartition(":")
        if prefix != self._prefix:
            raise ConfigurationError(
                f"parent's prefix is {prefix!r} and the flow's is {self._prefix!r}: a flow lives under one prefix"
            )
        _check_no_colon(reference.id)
        self._keys.add((queue, reference.id))

    def _check_id(self, queue: str, job_id: str) -> None:
        """Before the node gets its number: the ids known are those of the nodes before, and of the root's parent."""
        if not job_id:
            return
        _check_no_colon(job_id)
        if (queue, job_id) in self._keys:
            raise ConfigurationError(
                f"job_id {job_id!r} of queue {queue!r} is in the flow twice: a job cannot wait for itself, nor for one "
                "of two parents; give each node an id of its own"
            )
        self._keys.add((queue, job_id))

    def _check_circle(self, source: FlowTree, parent: int) -> None:
        while parent >= 0:
            if self.nodes[parent].source is source:
                raise ConfigurationError("the node is below itself: a flow is a tree")
            parent = self.nodes[parent].parent

    def _path(self, parent: int, position: int) -> str:
        steps: list[str] = []
        while parent >= 0:
            steps.append(f".children[{position}]")
            parent, position = self.nodes[parent].parent, self.nodes[parent].position
        # The paths of deep trees are long; what is wrong stands at their end.
        shown_steps = steps if len(steps) <= _SHOWN_STEPS else [*steps[:_SHOWN_STEPS], "..."]
        return self._name + "".join(reversed(shown_steps))


_SHOWN_STEPS: Final = 10


def _from_mapping(value: Mapping[str, Any], prefix: str) -> FlowJob:
    for name in value:
        if name not in _KNOWN:
            raise unknown_key(name, _FIELDS, value[name], {"queue": "a node names its queue in 'queueName'"})
    given = value.get("prefix")
    if given is not None and given != prefix:
        raise ConfigurationError(f"prefix is {shown(given)} and the producer's is {prefix!r}: a flow lives under one")
    return FlowJob(
        name=value.get("name"),  # type: ignore[arg-type]  # checked by the caller, as that of a FlowJob
        queue_name=value.get("queue_name", value.get("queueName")),
        data=value["data"] if "data" in value else _no_data(),
        options=given_options(value),
        children=value.get("children") or (),
    )


def _check_no_colon(job_id: str) -> None:
    if ":" in job_id:
        raise ConfigurationError(
            f"job_id is {job_id!r}: ':' separates the parts of a key, so the jobs of a flow cannot have it in their ids"
        )
