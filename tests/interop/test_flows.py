"""Flows whose nodes run in different languages: results, failures by policy, and what both read of the tree."""

from __future__ import annotations

from typing import Any

import pytest

from tests.interop.conftest import Pair
from tests.interop.sides import Failed, Side
from tests.support.flow_bed import node as flow_node
from tests.support.server import RedisServer
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.needs_server, pytest.mark.needs_node]


def job(job_id: str, name: str, *children: Any, queue: str, data: Any = None, **options: Any) -> dict[str, Any]:
    """A node of a flow whose job does what `name` says."""
    return {**flow_node(job_id, *children, queue=queue, data={} if data is None else data, **options), "name": name}


@pytest.fixture(params=["first", "other"])
def producer(request: pytest.FixtureRequest, cross: Pair) -> Side:
    """Who adds the flow: the side of the parent, or that of the children."""
    side: Side = getattr(cross, request.param)
    return side


async def test_a_parent_gathers_what_its_children_returned_in_the_other_language(
    cross: Pair, producer: Side, prefix: str
) -> None:
    parents, children = cross
    await producer.add_flow(
        job("P", "gather", *(job(f"C{n}", "echo", queue="c", data={"n": n}) for n in range(3)), queue="p")
    )
    for side in cross:
        assert await side.flow("P", "p") == [
            "P", "waiting-children", [[f"C{n}", "waiting", []] for n in range(3)],
        ]  # fmt: skip

    await children.work("c")
    await parents.work("p")

    values = {f"{prefix}:c:C{n}": {"n": n} for n in range(3)}
    for side in cross:
        assert await side.result("P", "p") == {"values": values, "ignored": {}}
        assert await side.flow("P", "p") == ["P", "completed", [[f"C{n}", "completed", []] for n in range(3)]]
        view = await side.look("C1", "c")
        assert view is not None
        assert view.parent == {"id": "P", "queueKey": f"{prefix}:p"}


async def test_three_generations_alternate_between_the_languages(cross: Pair, prefix: str) -> None:
    first, other = cross
    tree = job("G", "gather", job("P", "gather", job("C", "echo", queue="a", data=1), queue="b"), queue="a")
    await other.add_flow(tree)
    await first.work("a")
    await other.work("b")

    inner = {"values": {f"{prefix}:a:C": 1}, "ignored": {}}
    assert await first.result("G", "a") == {"values": {f"{prefix}:b:P": inner}, "ignored": {}}


async def test_a_failed_child_fails_its_parents_in_the_other_language(cross: Pair, producer: Side, prefix: str) -> None:
    parents, children = cross
    child = job("C", "fail", queue="c", data={"reason": "broken"}, failParentOnFailure=True)
    await producer.add_flow(job("P", "gather", child, job("D", "echo", queue="idle"), queue="p"))
    await children.work("c")
    await parents.work("p")

    for side in cross:
        with pytest.raises(Failed, match=f"child {prefix}:c:C failed"):
            await side.result("P", "p")
        assert await side.flow("P", "p") == ["P", "failed", [["C", "failed", []], ["D", "waiting", []]]]


async def test_an_ignored_failure_is_read_by_the_parent_in_the_other_language(
    cross: Pair, producer: Side, prefix: str
) -> None:
    parents, children = cross
    child = job("C", "fail", queue="c", data={"reason": "broken"}, ignoreDependencyOnFailure=True)
    await producer.add_flow(job("P", "gather", child, job("D", "echo", queue="c", data=2), queue="p"))
    await children.work("c")
    await parents.work("p")

    expected = {"values": {f"{prefix}:c:D": 2}, "ignored": {f"{prefix}:c:C": "broken"}}
    for side in cross:
        assert await side.result("P", "p") == expected


async def test_a_removed_dependency_is_forgotten_in_the_other_language(cross: Pair, producer: Side) -> None:
    parents, children = cross
    child = job("C", "fail", queue="c", data={"reason": "broken"}, removeDependencyOnFailure=True)
    await producer.add_flow(job("P", "gather", child, queue="p"))
    await children.work("c")
    await parents.work("p")

    for side in cross:
        assert await side.result("P", "p") == {"values": {}, "ignored": {}}


async def test_a_parent_continues_at_once_in_the_other_language(cross: Pair, producer: Side, prefix: str) -> None:
    parents, children = cross
    child = job("C", "fail", queue="c", data={"reason": "broken"}, continueParentOnFailure=True)
    await producer.add_flow(job("P", "go_on", child, job("D", "echo", queue="idle"), queue="p"))
    await children.work("c")
    await parents.work("p")

    for side in cross:
        assert await side.result("P", "p") == {"values": {}, "ignored": {f"{prefix}:c:C": "broken"}}
        assert await side.look("D", "idle") is None, "the parent has removed it"


async def test_without_a_policy_a_retry_by_the_other_side_lets_the_parent_go_on(cross: Pair, producer: Side) -> None:
    parents, children = cross
    await producer.add_flow(job("P", "gather", job("C", "flaky", queue="c", data={"failures": 1}), queue="p"))
    await children.work("c")
    await parents.work("p")
    with pytest.raises(Failed, match="attempt 0 broke"):
        await parents.result("C", "c")
    assert (await parents.flow("P", "p"))[1] == "waiting-children"

    await parents.retry("C", "c")

    assert list((await children.result("P", "p"))["values"].values()) == [1]


async def test_a_child_is_added_to_a_parent_that_the_other_side_has_stored(cross: Pair, prefix: str) -> None:
    parents, children = cross
    await parents.add_flow(job("P", "gather", job("C", "echo", queue="c", data=1), queue="p"))

    await children.add("echo", 2, queue="c", jobId="D", parent={"id": "P", "queue": f"{prefix}:p"})

    await children.work("c")
    await parents.work("p")
    assert await children.result("P", "p") == {"values": {f"{prefix}:c:C": 1, f"{prefix}:c:D": 2}, "ignored": {}}


async def test_a_parent_waits_for_children_that_it_adds_while_it_runs(
    cross: Pair, server: RedisServer, prefix: str
) -> None:
    parents, children = cross
    await parents.work("p")
    await children.work("c")
    where = {"port": server.port, "prefix": prefix, "queue": "c"}

    await children.add("split", where, queue="p", jobId="P")

    values = {f"{prefix}:c:child-1": 1, f"{prefix}:c:child-2": 2}
    for side in cross:
        assert await side.result("P", "p") == {"values": values, "ignored": {}}
    view = await children.look("P", "p")
    assert view is not None
    assert view.attempts_made == 1, "waiting spends no attempt"


async def test_removing_a_parent_removes_the_children_of_the_other_side(cross: Pair, producer: Side) -> None:
    admin, owner = cross
    tree = job("P", "gather", job("C", "gather", job("D", "echo", queue="d"), queue="c"), queue="p")
    await producer.add_flow(tree)

    await admin.remove("P", "p")

    for job_id, queue in (("P", "p"), ("C", "c"), ("D", "d")):
        assert await owner.look(job_id, queue) is None


async def test_removing_the_last_pending_child_lets_the_parent_of_the_other_side_run(cross: Pair) -> None:
    admin, parents = cross
    await parents.add_flow(job("P", "gather", job("C", "echo", queue="c"), queue="p"))
    await parents.work("p")

    await admin.remove("C", "c")

    assert await admin.result("P", "p") == {"values": {}, "ignored": {}}


async def test_a_wide_flow_is_worked_by_both(cross: Pair, prefix: str) -> None:
    """120 children: pyqueue adds them in several steps."""
    for side in cross:
        await side.work("c", concurrency=10)
    await cross.first.work("p")
    children = [job(f"C{n}", "echo", queue="c", data=n) for n in range(120)]

    await cross.first.add_flow(job("P", "gather", *children, queue="p"))

    expected = {f"{prefix}:c:C{n}": n for n in range(120)}
    assert await cross.other.result("P", "p") == {"values": expected, "ignored": {}}
    await wait_until(lambda: _nothing_pending(cross.other))


async def _nothing_pending(side: Side) -> bool:
    return (await side.counts("c"))["completed"] == 120
