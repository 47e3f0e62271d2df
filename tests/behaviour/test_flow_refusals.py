"""Flows that cannot be: a clear error that names the node, before anything is written."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from pyqueue import (
    ConfigurationError,
    FlowCycle,
    FlowJob,
    FlowProducer,
    JobOptions,
    PayloadError,
    UnknownOption,
)
from pyqueue._flows.plan import MAX_DEPTH
from pyqueue.queue import ConnectionSource
from tests.support.by_hand import take
from tests.support.flow_bed import FlowBed, Tree, node

pytestmark = pytest.mark.anyio


def looped() -> Tree:
    inner: Tree = {"name": "inner", "queueName": "q"}
    tree = {"name": "outer", "queueName": "q", "children": [{"name": "x", "queueName": "q"}, inner]}
    inner["children"] = [tree]
    return tree


def deep(levels: int) -> Tree:
    tree: Tree = {"name": "leaf", "queueName": "q"}
    for _ in range(levels - 1):
        tree = {"name": "level", "queueName": "q", "children": [tree]}
    return tree


LEAF: Tree = {"name": "leaf", "queueName": "q"}
REFUSED: dict[str, tuple[Any, str]] = {
    "no node": ("tree", "give a FlowJob or a dictionary"),
    "no name": ({"queueName": "q"}, "flow: job name is None"),
    "no queue": ({"name": "x"}, "flow: queue name is None"),
    "a queue with a colon": ({"name": "x", "queueName": "a:b"}, "flow: queue name is 'a:b'"),
    "an unknown key": ({**LEAF, "childs": []}, "flow: unknown option 'childs': did you mean 'children'"),
    "BullMQ's word for something else": ({**LEAF, "queue": "q"}, "names its queue in 'queueName'"),
    "an option beside the name": (
        node("P", {**LEAF, "jobId": "x"}),
        r"flow.children\[0\]: 'jobId' is no key of a job's dictionary: .*'opts': \{'job_id': 'x'\}",
    ),
    "an unknown option": (
        node("P", {**LEAF, "opts": {"removeOnComplet": True}}),
        r"flow.children\[0\]: unknown option",
    ),
    "options that are no JobOptions": (FlowJob("P", "q", options={"delay": 1}), "flow: options of a FlowJob are"),  # type: ignore[arg-type]  # what is refused
    "children that are no list": ({**LEAF, "children": "abc"}, "flow: children is 'abc'"),
    "one child without a list": ({**LEAF, "children": LEAF}, "flow: children is"),
    "a child that is no node": (node("P", node("A"), 7), r"flow.children\[1\]: node is 7"),  # type: ignore[arg-type]  # what is refused
    "an id with a colon": (node("P", node("a:b:c")), r"flow.children\[0\]: job_id is 'a:b:c'"),
    "a number as id": (node("P", node("12")), r"flow.children\[0\]: job_id is '12'"),
    "the id of a key": (node("events"), "flow: job_id is 'events'"),
    "an id that is there twice": (
        node("P", node("A"), node("B", node("A"))),
        r"children\[1\].children\[0\]: job_id 'A'",
    ),
    "a root below itself": (node("P", node("A", node("P"))), r"children\[0\].children\[0\]: job_id 'P'"),
    "a node below itself": (looped(), r"flow.children\[1\].children\[0\]: the node is below itself"),
    "too many levels": (deep(MAX_DEPTH + 1), f"more than {MAX_DEPTH} levels"),
    "a foreign prefix": (node("P", {**LEAF, "prefix": "other"}), r"flow.children\[0\]: prefix is 'other'"),
    "a foreign parent": (node("P", parent={"id": "x", "queue": "other:q"}), "parent's prefix is 'other'"),
    "a parent below the root": (node("P", node("A", parent={"id": "x", "queue": "t:q"})), "parent cannot be given"),
    "deduplication with children": (node("P", LEAF, deduplication={"id": "D"}), "on a node with children"),
    "deduplication of a child": (node("P", node("A", deduplication={"id": "D"})), "on a node below a parent"),
    "two policies": (
        node("P", node("A", failParentOnFailure=True, ignoreDependencyOnFailure=True)),
        r"flow.children\[0\]: .*cannot be used together",
    ),
    "a negative delay": (node("P", node("A", delay=-1)), r"flow.children\[0\]: delay"),
}


@pytest.mark.parametrize(("tree", "message"), REFUSED.values(), ids=REFUSED.keys())
async def test_a_flow_that_cannot_be_is_refused(bed: FlowBed, redis_client: Any, tree: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        await bed.producer.add(tree)
    with pytest.raises(ConfigurationError, match=re.sub("^flow", r"^flows\\[1\\]", message)):
        await bed.producer.add_bulk([node("fine"), tree])

    assert await redis_client.keys("*") == []


@pytest.mark.parametrize("data", [math.nan, b"x", {1: 2}, {"a": {1, 2}}])
async def test_data_that_json_cannot_carry_names_its_node(bed: FlowBed, redis_client: Any, data: Any) -> None:
    with pytest.raises(PayloadError, match=r"flow.children\[0\]: "):
        await bed.producer.add({**LEAF, "children": [{**LEAF, "data": data}]})

    assert await redis_client.keys("*") == []


async def test_a_root_cannot_be_below_its_own_parent(bed: FlowBed) -> None:
    await bed.queue().add("x", job_id="X")
    parent = {"id": "X", "queue": f"{bed.prefix}:q"}

    with pytest.raises(ConfigurationError, match="in the flow twice"):
        await bed.producer.add(node("P", node("X"), parent=parent))


@pytest.mark.parametrize("size", [1, 100], ids=["small", "large"])
async def test_an_ancestor_of_the_root_cannot_be_below_it(bed: FlowBed, size: int) -> None:
    """A circle through jobs that exist: both would wait for ever."""
    await bed.queue().add("x", job_id="X")
    await take(bed.queue())
    await bed.queue().add("y", job_id="Y", parent={"id": "X", "queue": f"{bed.prefix}:q"})
    before = await bed.queue().jobs.counts()

    tree = node("P", node("X"), *(node(f"A{i}") for i in range(size)), parent={"id": "Y", "queue": f"{bed.prefix}:q"})
    with pytest.raises(FlowCycle, match="nothing of the flow was added"):
        await bed.producer.add(tree)

    assert await bed.queue().jobs.counts() == before
    assert await bed.states("P") == ["unknown"]


async def test_the_deepest_flow_is_added(bed: FlowBed) -> None:
    tree = await bed.producer.add(deep(MAX_DEPTH))

    levels, at = 1, tree
    while at.children:
        levels, at = levels + 1, at.children[0]
    assert levels == MAX_DEPTH
    assert await at.job.state() == "waiting"
    assert repr(tree) == f"<JobNode {tree.job!r}, 1 children>"


async def test_a_node_may_be_used_twice_if_it_has_no_id(bed: FlowBed) -> None:
    shared = FlowJob("leaf", "q", {"x": 1})

    tree = await bed.producer.add(FlowJob("root", "q", children=[shared, shared]))

    assert len({child.job.id for child in tree.children}) == 2


def test_options_of_the_producer_are_checked() -> None:
    with pytest.raises(UnknownOption):
        FlowProducer(queues_options={"q": {"defaultJobOption": {}}})
    with pytest.raises(ConfigurationError, match="queue name"):
        FlowProducer(queues_options={"a:b": {}})
    with pytest.raises(ConfigurationError, match="prefix"):
        FlowProducer(prefix="")


async def test_defaults_of_a_call_are_checked(bed: FlowBed) -> None:
    with pytest.raises(UnknownOption):
        await bed.producer.add(LEAF, queue_defaults={"q": {"attemps": 3}})


async def test_a_default_that_contradicts_a_node_is_refused(bed: FlowBed) -> None:
    defaults = {"q": JobOptions(fail_parent_on_failure=True)}
    with pytest.raises(ConfigurationError, match="cannot be used together"):
        await bed.producer.add(node("P", node("A", ignoreDependencyOnFailure=True)), queue_defaults=defaults)


async def test_large_integers_are_refused_in_queues_that_ask_for_it(bed: FlowBed, source: ConnectionSource) -> None:
    strict: Any = {"c": {"strictInts": True}}
    async with FlowProducer(connection=source, prefix=bed.prefix, queues_options=strict) as producer:
        await producer.add({**LEAF, "data": 2**60})
        with pytest.raises(PayloadError):
            await producer.add({**LEAF, "queueName": "c", "data": 2**60})


@pytest.mark.parametrize("flows", [None, "abc", LEAF, FlowJob("leaf", "q")], ids=["None", "text", "dict", "FlowJob"])
async def test_what_is_no_list_of_flows_is_refused_as_such(source: ConnectionSource, prefix: str, flows: Any) -> None:
    async with FlowProducer(connection=source, prefix=prefix) as producer:
        with pytest.raises(
            ConfigurationError, match=r"^flows is .*: (give a list of jobs, each a FlowJob|put a single)"
        ):
            await producer.add_bulk(flows)
