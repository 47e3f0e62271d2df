"""The events of a queue and the results of jobs, followed in the language that does not work the queue."""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio
import pytest

from tests.interop.conftest import Pair
from tests.interop.sides import Failed, Heard, NodeSide, PythonSide, Side
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.needs_server, pytest.mark.needs_node]


async def events_of(side: Side, job_id: str, last: str) -> list[tuple[str, Any]]:
    """What was heard of a job, up to an event of this name."""

    def told() -> list[Heard]:
        return [event for event in side.heard() if event.job_id == job_id]

    await wait_until(lambda: told()[-1:] and told()[-1].name == last)
    return [(event.name, event.field) for event in told()]


async def test_a_life_is_heard_alike_on_both_sides(cross: Pair) -> None:
    adder, worker = cross
    for side in cross:
        await side.listen()
    await worker.work()
    job_id = await adder.add("report")

    expected = [
        ("added", "report"), ("waiting", None), ("active", "waiting"), ("progress", 50), ("progress", {"step": 2}),
        ("completed", "reported"),
    ]  # fmt: skip
    for side in cross:
        assert await events_of(side, job_id, "completed") == expected


async def test_a_failing_life_is_heard_alike_on_both_sides(cross: Pair) -> None:
    adder, worker = cross
    for side in cross:
        await side.listen()
    await worker.work()
    job_id = await adder.add("fail", {"reason": "gone"}, attempts=2)

    expected = [
        ("added", "fail"), ("waiting", None), ("active", "waiting"), ("waiting", "active"), ("active", "waiting"),
        ("failed", "gone"), ("retries-exhausted", 2),
    ]  # fmt: skip
    for side in cross:
        assert await events_of(side, job_id, "retries-exhausted") == expected


async def test_both_hear_the_same_of_a_queue_that_both_fill_and_work(cross: Pair) -> None:
    for side in cross:
        await side.listen()
        await side.work(concurrency=5)
    await cross.first.add_many([{"name": "echo"}, {"name": "report"}, {"name": "fail", "data": {"reason": "x"}}] * 20)
    await cross.other.add("echo", delay=20, priority=2)

    def ended(side: Side) -> bool:
        return sum(event.name in {"completed", "failed"} for event in side.heard()) == 61

    for side in cross:
        await wait_until(partial(ended, side))

    def ordered(side: Side) -> list[Heard]:
        return [event for event in side.heard() if event.name != "drained"]

    await wait_until(lambda: len(ordered(cross.first)) == len(ordered(cross.other)))
    assert ordered(cross.first) == ordered(cross.other)


async def test_results_are_awaited_before_while_and_after_the_other_side_works(cross: Pair) -> None:
    waiting, worker = cross
    before, during = [await waiting.add("sleep", 150) for _ in range(2)]
    results: list[Any] = []

    async def await_result(job_id: str) -> None:
        results.append(await waiting.result(job_id))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(await_result, before)
        await worker.work()
        await wait_until(lambda: _state_is(worker, during, "active"))
        tasks.start_soon(await_result, during)
    assert results == ["slept", "slept"]
    assert await waiting.result(before) == "slept"


async def test_a_result_that_is_removed_at_once_still_arrives(cross: Pair) -> None:
    waiting, worker = cross
    results: list[Any] = []
    job_id = await waiting.add("sleep", 1000, removeOnComplete=True)  # time for the other side to listen

    async def await_result() -> None:
        results.append(await waiting.result(job_id))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(await_result)
        await worker.work()
    assert results == ["slept"]
    assert await waiting.look(job_id) is None


async def test_a_failure_arrives_with_its_reason(cross: Pair) -> None:
    waiting, worker = cross
    job_id = await waiting.add("fail", {"reason": "Ätsch: %s {} \n second line"})
    await worker.work()

    with pytest.raises(Failed) as caught:
        await waiting.result(job_id)

    assert "Ätsch: %s {} \n second line" in str(caught.value)


async def test_a_custom_event_is_heard_in_the_other_language(node: NodeSide, python: PythonSide) -> None:
    await python.listen()
    await node.listen("q", also=["mail-bounced"])

    await node.publish("mail-bounced", {"address": "ada@example.org"})
    await python.queue().publish_event("mail-bounced", {"address": "grace@example.org"})

    expected = [("mail-bounced", "ada@example.org"), ("mail-bounced", "grace@example.org")]
    for side in (python, node):
        await wait_until(partial(_heard, side, 2))
        assert [(event.name, event.field["address"]) for event in side.heard()] == expected


def _heard(side: Side, count: int) -> bool:
    return len(side.heard()) == count


async def _state_is(side: Side, job_id: str, state: str) -> bool:
    view = await side.look(job_id)
    return view is not None and view.state == state
