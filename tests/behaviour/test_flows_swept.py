"""Drain and clean meet flows: a parent goes with its last pending child, is kept, or runs; none is left hanging."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import pytest

from pyqueue import JobState, Queue
from tests.support.by_hand import complete, take
from tests.support.flow_bed import FlowBed, node

pytestmark = pytest.mark.anyio

Sweep: TypeAlias = Callable[[Queue[Any, Any]], Awaitable[object]]


async def drain(queue: Queue[Any, Any]) -> object:
    return await queue.drain()


async def clean(queue: Queue[Any, Any]) -> object:
    return await queue.jobs.clean(state="waiting")


SWEEPS = pytest.mark.parametrize("sweep", [drain, clean])


@SWEEPS
async def test_a_parent_goes_with_all_its_children_of_the_same_queue(bed: FlowBed, sweep: Sweep) -> None:
    """E27, E246."""
    await bed.producer.add(node("P", node("A"), node("M", node("B"), node("C"))))

    await sweep(bed.queue())

    assert sum((await bed.queue().jobs.counts()).values()) == 0
    keys = [key async for key in bed_keys(bed) if ":P" in key or ":M" in key]
    assert keys == []


@SWEEPS
async def test_a_parent_with_a_child_in_another_queue_stays(bed: FlowBed, sweep: Sweep) -> None:
    """E28, E246."""
    tree = await bed.producer.add(node("P", node("A"), node("B", queue="other")))

    await sweep(bed.queue())

    assert await tree.job.state() is JobState.WAITING_CHILDREN
    assert list((await tree.job.dependencies()).unprocessed) == [bed.key("B", "other")]
    await complete(bed.queue("other"), 1)
    assert await tree.job.state() is JobState.WAITING


@SWEEPS
async def test_a_parent_in_another_queue_runs_when_none_of_its_children_is_left(bed: FlowBed, sweep: Sweep) -> None:
    """E29, E246."""
    tree = await bed.producer.add(node("P", node("A", queue="c"), node("B", queue="c")))

    await sweep(bed.queue("c"))

    assert await tree.job.state() is JobState.WAITING
    assert await tree.job.dependencies_count() == (0, 0, 0, 0)


@SWEEPS
async def test_a_parent_that_runs_is_not_touched(bed: FlowBed, sweep: Sweep) -> None:
    """E246: its dependencies key goes with the children that it has added."""
    queue = bed.queue()
    await queue.add("P", job_id="P")
    parent = await take(queue)
    await queue.add("A", parent={"id": "P", "queue": f"{bed.prefix}:q"})

    await sweep(queue)

    assert (await parent.state(), (await queue.jobs.counts())[JobState.WAITING]) == (JobState.ACTIVE, 0)
    assert [key async for key in bed_keys(bed) if key.endswith(":dependencies")] == []
    await parent.move_to_completed("it may end")


async def bed_keys(bed: FlowBed) -> AsyncIterator[str]:
    cursor, seen = 0, False
    while cursor or not seen:
        seen = True
        reply = await bed.queue()._store.commands.execute("SCAN", cursor, "MATCH", f"{bed.prefix}:*", "COUNT", 1000)
        cursor = int(reply[0])
        for key in reply[1]:
            yield key.decode() if isinstance(key, bytes) else key
