"""A flow as its jobs: what adding and reading a tree return."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyqueue._flows.plan import FlowPlan
from pyqueue._store.adding import Added
from pyqueue._store.record import added_fields
from pyqueue._store.store import Store
from pyqueue.job import Job


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class JobNode:
    """A job of a flow and its children, which are nodes, too."""

    job: Job[Any, Any]
    children: list[JobNode] = field(default_factory=list)

    def __repr__(self) -> str:  # not that of a dataclass: trees are too deep for its recursion
        return f"<JobNode {self.job!r}, {len(self.children)} children>"


def job_nodes(plan: FlowPlan, results: Sequence[Added], now_ms: int, store: Callable[[str], Store]) -> JobNode:
    """The tree of a plan that was added; `store` gives that of a queue."""
    stores = {name: store(name) for name in {node.queue for node in plan.nodes}}
    nodes: list[JobNode] = []
    for planned, added in zip(plan.nodes, results, strict=True):
        job: Job[Any, Any] = Job(stores[planned.queue], added.job_id, added_fields(planned.row, now_ms))
        job.add_status = added.status
        nodes.append(JobNode(job))
        if planned.parent >= 0:
            nodes[planned.parent].children.append(nodes[-1])
    return nodes[0]
