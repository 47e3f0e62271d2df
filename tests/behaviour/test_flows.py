"""Flows: what is added, in which order it runs, and children that come later."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pyqueue import (
    AddStatus,
    BulkAddError,
    FlowJob,
    FlowProducer,
    Job,
    JobFailed,
    JobNode,
    JobOptions,
    JobState,
    ParentNotFound,
    ParentNotReplaceable,
    PyqueueError,
    WaitForChildren,
)
from pyqueue.queue import ConnectionSource
from tests.support.by_hand import complete, take
from tests.support.flow_bed import FlowBed, node, shape

pytestmark = pytest.mark.anyio


@pytest.mark.every_backend
async def test_children_run_first_and_the_parent_sees_what_they_returned(bed: FlowBed) -> None:
    """E166."""
    order: list[str] = []

    async def process(job: Job[Any, Any]) -> Any:
        order.append(job.id)
        return await job.children_values() if job.id == "P" else job.data * 2

    tree = await bed.producer.add(node("P", node("A", queue="c", data=1), node("B", queue="c", data=2)))
    await bed.work(process, "q", "c")

    values = await tree.job.result(timeout=15)

    assert values == {bed.key("A", "c"): 2, bed.key("B", "c"): 4}
    assert order == ["A", "B", "P"]


async def test_a_chain_runs_from_its_end(bed: FlowBed) -> None:
    """E167."""
    order: list[str] = []

    async def process(job: Job[Any, Any]) -> None:
        order.append(job.id)

    tree = await bed.producer.add(node("A", node("B", node("C", node("D")))))
    assert await bed.states("A", "B", "C", "D") == ["waiting-children"] * 3 + ["waiting"]
    await bed.work(process)

    await tree.job.result(timeout=15)
    assert order == ["D", "C", "B", "A"]


@pytest.mark.parametrize("children", [[], (), None])
async def test_a_node_without_children_is_a_plain_job(bed: FlowBed, children: Any) -> None:
    """E167."""
    tree = await bed.producer.add({"name": "alone", "queueName": "q", "children": children})

    assert (tree.children, await tree.job.state()) == ([], JobState.WAITING)


async def test_flow_jobs_and_dictionaries_mix_and_ids_are_made(bed: FlowBed) -> None:
    """E168: nodes without an id get a UUID, the root included."""
    leaf = {"name": "leaf", "queue_name": "c", "options": JobOptions(priority=3)}
    tree = await bed.producer.add(FlowJob("root", "q", {"x": 1}, children=[FlowJob("middle", "q", children=[leaf])]))

    root, middle = tree.job, tree.children[0].job
    read = await bed.queue("c").jobs.list("prioritized")
    assert [len(job.id) for job in (root, middle, *read)] == [36] * 3
    assert (root.data, root.add_status, middle.parent) == (
        {"x": 1},
        AddStatus.CREATED,
        middle.parent and middle.parent.model_copy(update={"id": root.id, "queue": f"{bed.prefix}:q"}),
    )
    assert read[0].parent is not None
    assert (read[0].parent.id, read[0].priority) == (middle.id, 3)


async def test_options_come_from_the_node_the_call_and_the_producer_in_this_order(
    bed: FlowBed, source: ConnectionSource
) -> None:
    """E168, E194: defaults per queue; what the caller gave is not changed."""
    given = {"c": {"defaultJobOptions": {"attempts": 2, "priority": 7, "keepLogs": 5}}}
    defaults = {"c": {"priority": 3}}
    async with FlowProducer(connection=source, prefix=bed.prefix, queues_options=given) as producer:
        tree = await producer.add(node("P", node("A", queue="c", attempts=9)), queue_defaults=defaults)

    options = tree.children[0].job.options
    assert (options.attempts, options.priority, options.keep_logs) == (9, 3, None)
    assert tree.job.options.attempts == 0
    assert (given, defaults) == (
        {"c": {"defaultJobOptions": {"attempts": 2, "priority": 7, "keepLogs": 5}}},
        {"c": {"priority": 3}},
    )


async def test_a_root_may_have_a_parent_of_its_own(bed: FlowBed) -> None:
    """E168."""
    await bed.queue().add("grandparent", job_id="G")
    grandparent = await take(bed.queue())

    parent = {"id": "G", "queue": f"{bed.prefix}:q"}
    await bed.producer.add(node("P", node("A", queue="c"), queue="c", parent=parent))
    assert await grandparent.move_to_waiting_children()
    await complete(bed.queue("c"))
    assert await bed.states("G") == ["waiting-children"]
    await complete(bed.queue("c"), "from P")

    assert await bed.states("G") == ["waiting"]
    assert await grandparent.children_values() == {bed.key("P", "c"): "from P"}


async def test_priorities_order_the_children(bed: FlowBed) -> None:
    """E168."""
    await bed.producer.add(node("P", node("A", priority=3), node("B", priority=1), node("C", priority=2)))

    assert [(await complete(bed.queue())).id for _ in range(3)] == ["B", "C", "A"]


async def test_delays_apply_to_children_at_once_and_to_a_parent_after_them(bed: FlowBed) -> None:
    """E169."""
    await bed.producer.add(node("P", node("A", delay=60_000), node("B"), delay=60_000))
    assert await bed.states("P", "A", "B") == ["waiting-children", "delayed", "waiting"]

    await (await bed.job("A")).promote()
    await complete(bed.queue())
    await complete(bed.queue())

    assert await bed.states("P") == ["delayed"]


async def test_a_parent_of_a_paused_queue_waits_for_its_queue(bed: FlowBed) -> None:
    """E170."""
    runs: list[str] = []
    tree = await bed.producer.add(node("P", node("A", queue="c")))
    await bed.queue().pause()

    await bed.work(lambda job: runs.append(job.id), "q", "c")
    await bed.reach("P", JobState.WAITING)
    assert runs == ["A"]
    assert "Its queue is paused" in str(await tree.job.explain())

    await bed.queue().resume()
    await tree.job.result(timeout=15)
    assert runs == ["A", "P"]


async def test_every_queue_of_a_flow_gets_its_settings(bed: FlowBed, redis_client: Any) -> None:
    """E195."""
    await bed.producer.add(node("P", node("A", queue="c", delay=1000), node("B", queue="d", priority=1)))

    keys = [f"{bed.prefix}:{queue}:meta" for queue in ("q", "c", "d")]
    assert [await redis_client.hgetall(key) for key in keys] == [{"opts.maxLenEvents": "10000"}] * 3


async def test_many_trees_are_added_together(bed: FlowBed) -> None:
    """E168: as one call; the roots of all trees come first."""
    trees = await bed.producer.add_bulk([node("P", node("A")), node("R", node("B")), node("X")])

    assert [shape(tree) for tree in trees] == [("P", ["A"]), ("R", ["B"]), "X"]
    assert [job.id for job in await bed.queue().jobs.list("waiting", asc=True)] == ["X", "A", "B"]


async def test_flows_added_at_the_same_time_do_not_disturb_each_other(bed: FlowBed) -> None:
    bad = {"id": "gone", "queue": f"{bed.prefix}:q"}
    adds = [bed.producer.add(node(f"P{i}", *(node(f"P{i}-{n}") for n in range(20)))) for i in range(7)]

    *trees, refused = await asyncio.gather(*adds, bed.producer.add(node("X", parent=bad)), return_exceptions=True)

    assert isinstance(refused, ParentNotFound)
    added = [tree for tree in trees if isinstance(tree, JobNode)]
    assert [len(tree.children) for tree in added] == [20] * 7
    assert (await bed.queue().jobs.counts())[JobState.WAITING] == 140


@pytest.mark.every_backend
async def test_children_added_by_a_processor_are_waited_for(bed: FlowBed) -> None:
    """E180: a step job; waiting spends no attempt."""

    async def process(job: Job[Any, Any]) -> Any:
        if job.name == "child":
            return job.data
        if job.data["step"] == 1:
            for number in range(3):
                parent = {"id": job.id, "queue": f"{bed.prefix}:q"}
                await bed.queue("c").add("child", number, parent=parent)
            await job.update_data({"step": 2})
            raise WaitForChildren
        return sorted((await job.children_values()).values())

    await bed.work(process, "q", "c")
    job = await bed.queue().add("parent", {"step": 1}, job_id="P")

    assert await job.result(timeout=15) == [0, 1, 2]
    done = await bed.job("P")
    assert (done.attempts_made, done.attempts_started) == (1, 2)


async def test_waiting_without_children_runs_the_job_again_at_once(bed: FlowBed) -> None:
    """E180."""

    async def process(job: Job[Any, Any]) -> Any:
        if job.attempts_started == 1:
            raise WaitForChildren
        return "done"

    await bed.work(process)

    assert await (await bed.queue().add("lonely")).result(timeout=15) == "done"


async def test_a_parent_cannot_complete_before_its_children(bed: FlowBed) -> None:
    """E181."""

    async def process(job: Job[Any, Any]) -> None:
        await bed.queue("c").add("child", parent={"id": job.id, "queue": f"{bed.prefix}:q"})

    await bed.work(process)
    job = await bed.queue().add("parent", job_id="P")

    with pytest.raises(JobFailed, match="unfinished children"):
        await job.result(timeout=15)


async def test_a_parent_that_fails_with_children_pending_keeps_its_error(bed: FlowBed) -> None:
    """E181."""

    async def process(job: Job[Any, Any]) -> None:
        await bed.queue("c").add("child", parent={"id": job.id, "queue": f"{bed.prefix}:q"})
        raise RuntimeError(f"run {job.attempts_started}")

    await bed.work(process)
    job = await bed.queue().add("parent", attempts=2)

    with pytest.raises(JobFailed, match="run 2"):
        await job.result(timeout=15)


async def test_a_parent_with_a_failed_child_fails_when_it_wants_to_wait_and_so_does_its_own(bed: FlowBed) -> None:
    """E182."""

    async def process(job: Job[Any, Any]) -> None:
        if job.id == "C":
            raise RuntimeError("child")
        if job.id == "P":
            parent = {"id": "P", "queue": f"{bed.prefix}:q"}
            child = await bed.queue("c").add("child", job_id="C", parent=parent, fail_parent_on_failure=True)
            with pytest.raises(JobFailed):
                await child.result(timeout=15)
            raise WaitForChildren

    await bed.producer.add(node("G", node("P", failParentOnFailure=True)))
    await bed.work(process, "q", "c", concurrency=2)

    grandparent = await bed.reach("G", JobState.FAILED)
    parent = await bed.job("P")
    assert grandparent.failed_reason == f"child {bed.key('P')} failed"
    assert parent.failed_reason is not None
    assert "failed child" in parent.failed_reason


async def test_children_may_be_added_again_and_again(bed: FlowBed) -> None:
    """E183."""
    parent = (await bed.producer.add(node("P", node("A0", queue="c")))).job
    for number in range(1, 4):
        await complete(bed.queue("c"), number)
        parent = await take(bed.queue())
        await bed.queue("c").add("child", job_id=f"A{number}", parent={"id": "P", "queue": f"{bed.prefix}:q"})
        assert await parent.move_to_waiting_children()

    await complete(bed.queue("c"), 4)
    assert sorted((await parent.children_values()).values()) == [1, 2, 3, 4]
    assert await bed.states("P") == ["waiting"]


async def test_a_job_that_runs_already_gets_a_parent(bed: FlowBed) -> None:
    """E183."""
    await bed.queue("c").add("early", job_id="A")
    running = await take(bed.queue("c"))

    tree = await bed.producer.add(node("P", node("A", queue="c")))
    assert tree.children[0].job.add_status is AddStatus.DUPLICATE
    await running.move_to_completed("value")

    assert await bed.states("P") == ["waiting"]
    assert await tree.job.children_values() == {bed.key("A", "c"): "value"}


@pytest.mark.every_backend
async def test_a_job_of_another_parent_refuses_the_whole_flow(bed: FlowBed, redis_client: Any) -> None:
    """E184: BullMQ adds the rest of the flow, whose parent then waits for ever."""
    await bed.producer.add(node("P", node("A", queue="c")))
    before = await bed.queue().jobs.counts()

    with pytest.raises(ParentNotReplaceable, match="nothing of the flow was added") as caught:
        await bed.producer.add(node("R", node("B", queue="c"), node("A", queue="c")))

    assert (caught.value.job_id, caught.value.queue) == ("A", "c")
    assert await bed.queue().jobs.counts() == before
    assert await bed.states("B", queue="c") == ["unknown"]


async def test_a_flow_added_again_releases_its_parent_if_its_children_are_complete(bed: FlowBed) -> None:
    """E184."""
    await bed.queue("c").add("done", job_id="A")
    await complete(bed.queue("c"), 7)

    tree = await bed.producer.add(node("P", node("A", queue="c")))

    assert await bed.states("P") == ["waiting"]
    assert await tree.job.children_values() == {bed.key("A", "c"): 7}


async def test_a_root_without_children_may_be_deduplicated(bed: FlowBed) -> None:
    """E192: also in bulk and at the same time."""
    root = {"name": "x", "queueName": "q", "opts": {"deduplication": {"id": "D"}}}
    first = await bed.producer.add(root)

    others = await bed.producer.add_bulk([root, node("Y"), root])
    racing = await asyncio.gather(*(bed.producer.add(root) for _ in range(5)))

    assert [tree.job.id for tree in others] == [first.job.id, "Y", first.job.id]
    assert {tree.job.id for tree in racing} == {first.job.id}
    assert others[0].job.add_status is AddStatus.DEDUPLICATED


async def test_a_missing_parent_is_an_error(bed: FlowBed) -> None:
    """E193."""
    with pytest.raises(ParentNotFound, match="nothing of the flow was added"):
        await bed.producer.add(node("P", node("A"), parent={"id": "gone", "queue": f"{bed.prefix}:q"}))

    assert await bed.states("P", "A") == ["unknown", "unknown"]


async def test_a_tree_that_is_refused_spoils_no_other_of_its_bulk(bed: FlowBed) -> None:
    """E192, E193: BullMQ raises nothing here; ids keep their places."""
    bad = node("P", node("A"), parent={"id": "gone", "queue": f"{bed.prefix}:q"})

    with pytest.raises(BulkAddError) as caught:
        await bed.producer.add_bulk([node("X"), bad, node("Y", node("B"))])

    first, refused, last = caught.value.results
    assert (shape(first), shape(last)) == ("X", ("Y", ["B"]))
    assert isinstance(refused, ParentNotFound)


async def test_nothing_is_added_after_close(source: ConnectionSource, prefix: str) -> None:
    """E194: BullMQ returns nothing."""
    producer = FlowProducer(connection=source, prefix=prefix)
    await producer.close()

    for size in (1, 60):
        with pytest.raises(PyqueueError, match="closed"):
            await producer.add(node("P", *(node(f"A{i}") for i in range(size))))


async def test_an_id_comes_back_as_it_was_given(bed: FlowBed) -> None:
    """E194."""
    tree = await bed.producer.add(node("ünï code/1", node("a b")))

    assert shape(tree) == ("ünï code/1", ["a b"])
    assert shape(await bed.producer.get_flow("q", "ünï code/1")) == shape(tree)


async def test_a_flow_can_be_added_while_its_workers_run(bed: FlowBed) -> None:
    """E166, E183: children may finish before the producer hears that they were added."""

    async def process(job: Job[Any, Any]) -> int:
        return len(await job.children_values())

    await bed.work(process, "q", "c", concurrency=10)
    trees = await asyncio.gather(
        *(bed.producer.add(node(f"P{i}", *(node(f"P{i}-{n}", queue="c") for n in range(9)))) for i in range(10))
    )

    assert await asyncio.gather(*(tree.job.result(timeout=15) for tree in trees)) == [9] * 10
