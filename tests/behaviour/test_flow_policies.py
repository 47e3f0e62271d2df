"""What a child's failure does to its parent: the four policies, none, and what retention leaves of both."""

from __future__ import annotations

from typing import Any

import pytest

from pyqueue import Job, JobOptions, JobState, Queue
from tests.support.by_hand import complete, fail, take
from tests.support.flow_bed import FlowBed, node

pytestmark = pytest.mark.anyio

STALLED = "job stalled more than allowable limit"
FAIL_PARENT: dict[str, Any] = {"failParentOnFailure": True}
IGNORE: dict[str, Any] = {"ignoreDependencyOnFailure": True}
REMOVE: dict[str, Any] = {"removeDependencyOnFailure": True}
CONTINUE: dict[str, Any] = {"continueParentOnFailure": True}


def fails(*names: str) -> Any:
    """A processor that fails jobs of these names and completes others with the values of their children."""

    async def process(job: Job[Any, Any]) -> Any:
        if job.name in names:
            raise RuntimeError(f"{job.name} broke")
        return await job.children_values()

    return process


async def test_without_a_policy_the_parent_waits_until_the_child_is_retried(bed: FlowBed) -> None:
    """E171, E190."""
    tree = await bed.producer.add(node("P", node("A", queue="c")))
    await fail(bed.queue("c"))

    assert await bed.states("P") == ["waiting-children"]
    assert (await tree.job.dependencies()).unprocessed == [bed.key("A", "c")]
    explanation = await tree.job.explain()
    assert f"{bed.key('A', 'c')} (boom) failed without a policy for its parent" in str(explanation)

    await (await bed.job("A", "c")).retry()
    await complete(bed.queue("c"), 1)
    assert await bed.states("P") == ["waiting"]


async def test_a_failed_child_fails_its_parents_upwards(bed: FlowBed) -> None:
    """E172."""
    await bed.producer.add(
        node("G", node("P", node("A", queue="c", **FAIL_PARENT), node("B", queue="d"), **FAIL_PARENT))
    )
    await bed.work(fails("A"), "q", "c")

    grandparent = await bed.reach("G", JobState.FAILED)

    parent = await bed.job("P")
    assert parent.failed_reason == f"child {bed.key('A', 'c')} failed"
    assert grandparent.failed_reason == f"child {bed.key('P')} failed"
    assert (await parent.dependencies()).failed == [bed.key("A", "c")]
    assert (await parent.dependencies_count())._asdict() == {
        "processed": 0, "unprocessed": 1, "failed": 1, "ignored": 0,
    }  # fmt: skip


@pytest.mark.parametrize("options", [{"delay": 60_000}, {"priority": 5}], ids=["delayed", "prioritized"])
async def test_a_parent_that_is_delayed_or_prioritized_fails_too(bed: FlowBed, options: dict[str, Any]) -> None:
    """E172: the child fails after its parent has left waiting-children."""
    await bed.producer.add(node("P", node("A", queue="c", **CONTINUE), node("B", queue="d", **FAIL_PARENT), **options))
    await fail(bed.queue("c"))
    assert await bed.states("P") == ["delayed" if "delay" in options else "prioritized"]

    await fail(bed.queue("d"))
    await bed.work(fails())

    assert (await bed.reach("P", JobState.FAILED)).failed_reason == f"child {bed.key('B', 'd')} failed"


async def test_a_failed_parent_is_removed_if_it_says_so(bed: FlowBed) -> None:
    """E173."""
    await bed.producer.add(node("P", node("A", queue="c", **FAIL_PARENT), removeOnFail=True))
    await bed.work(fails("A"), "q", "c")

    await bed.gone("P")


@pytest.mark.parametrize("policy", [IGNORE, REMOVE], ids=["ignore", "remove"])
async def test_a_parent_that_fails_by_its_child_moves_the_grandparent_on(bed: FlowBed, policy: dict[str, Any]) -> None:
    """E173."""
    child = node("P", node("A", queue="c", **FAIL_PARENT), removeOnFail=True, **policy)
    tree = await bed.producer.add(node("G", child))
    await bed.work(fails("A"), "q", "c")

    assert await tree.job.result(timeout=15) == {}
    ignored = {bed.key("P"): f"child {bed.key('A', 'c')} failed"} if policy is IGNORE else {}
    assert await tree.job.ignored_children_failures() == ignored


async def test_an_ignored_failure_can_be_read_by_the_parent(bed: FlowBed) -> None:
    """E174."""

    async def process(job: Job[Any, Any]) -> Any:
        if job.id == "A":
            raise RuntimeError("A broke")
        return [await job.children_values(), await job.ignored_children_failures()] if job.id == "P" else 1

    tree = await bed.producer.add(node("P", node("A", queue="c", **IGNORE), node("B", queue="c")))
    await bed.work(process, "q", "c")

    assert await tree.job.result(timeout=15) == [{bed.key("B", "c"): 1}, {bed.key("A", "c"): "A broke"}]


async def test_a_removed_dependency_is_forgotten(bed: FlowBed) -> None:
    """E175."""
    tree = await bed.producer.add(node("P", node("A", queue="c", **REMOVE)))
    await bed.work(fails("A"), "q", "c")

    assert await tree.job.result(timeout=15) == {}
    assert sum(await tree.job.dependencies_count()) == 0


async def test_a_parent_that_continues_runs_at_once_and_later_failures_are_noted(bed: FlowBed) -> None:
    """E176."""
    tree = await bed.producer.add(node("P", node("A", queue="c", **CONTINUE), node("B", queue="d", **CONTINUE)))

    await fail(bed.queue("c"), "first")
    assert await bed.states("P") == ["waiting"]
    parent = await take(bed.queue())
    await fail(bed.queue("d"), "second")

    assert await bed.states("P") == ["active"]
    assert await tree.job.ignored_children_failures() == {bed.key("A", "c"): "first", bed.key("B", "d"): "second"}
    await parent.move_to_completed(None)


@pytest.mark.parametrize(("option", "state"), [("delay", "delayed"), ("priority", "prioritized")])
async def test_a_parent_that_continues_keeps_its_delay_and_priority(bed: FlowBed, option: str, state: str) -> None:
    """E176."""
    await bed.producer.add(
        node("P", node("A", queue="c", **CONTINUE), node("B", queue="d"), **dict[str, Any]({option: 50_000}))
    )

    await fail(bed.queue("c"))

    assert await bed.states("P") == [state]


async def test_the_last_child_leaves_no_parent_stuck_when_it_is_removed_on_failure(bed: FlowBed) -> None:
    """E177: also without a policy."""
    tree = await bed.producer.add(node("P", node("A", queue="c", removeOnFail=True)))
    await bed.work(fails("A"), "q", "c")

    assert await tree.job.result(timeout=15) == {}


@pytest.mark.parametrize("retention", [True, {"age": 1000}, {"count": 0}])
async def test_results_of_removed_children_stay_with_the_parent(bed: FlowBed, retention: Any) -> None:
    """E178."""
    tree = await bed.producer.add(node("P", node("A", queue="c", data=5, removeOnComplete=retention)))
    await bed.work(lambda job: job.data, "c")
    parent = await bed.reach("P", JobState.WAITING)

    assert await parent.children_values() == {bed.key("A", "c"): 5}
    is_kept = retention == {"age": 1000}
    assert (await bed.queue("c").jobs.get("A") is not None) is is_kept
    assert [child.job.id for child in tree.children] == ["A"]


async def test_a_parent_that_is_removed_on_completion_takes_its_childrens_values_along(
    bed: FlowBed, redis_client: Any
) -> None:
    """E179."""
    await bed.producer.add(node("P", node("A", queue="c"), removeOnComplete=True))
    await bed.work(fails(), "q", "c")

    await bed.gone("P")
    assert await redis_client.keys(f"{bed.key('P')}*") == []


async def test_many_children_settled_in_one_call_release_their_parents(bed: FlowBed) -> None:
    """E166, E174: some of them fail."""
    trees = [
        node(f"P{p}", *(node(f"{'bad' if n % 5 == 0 else 'good'}-{p}-{n}", queue="c", **IGNORE) for n in range(30)))
        for p in range(3)
    ]
    added = await bed.producer.add_bulk(trees)

    def process(job: Job[Any, Any]) -> int:
        if job.id.startswith("bad"):
            raise RuntimeError(job.id)
        return 1

    await bed.work(process, "c", concurrency=50)
    for tree in added:
        await bed.reach(tree.job.id, JobState.WAITING)
        counts = await tree.job.dependencies_count()
        assert (counts.processed, counts.ignored, counts.unprocessed) == (24, 6, 0)


async def test_policies_apply_to_jobs_that_stalled_too_often(bed: FlowBed) -> None:
    """A10: the child fails because its workers died."""
    await bed.producer.add(node("P", node("A", queue="c", **FAIL_PARENT)))
    queue: Queue[Any, Any] = bed.queue("c")
    await take(queue)
    await queue._store.commands.execute("HSET", bed.key("A", "c"), "defa", "job stalled more than allowable limit")
    await queue._store.commands.execute("DEL", bed.key("A:lock", "c"))

    await bed.work(fails(), "q", "c", stalled_interval=30)

    assert (await bed.reach("P", JobState.FAILED)).failed_reason == f"child {bed.key('A', 'c')} failed"


_IGNORED = {"A": STALLED}


@pytest.mark.parametrize(
    ("policy", "parent", "failures", "rule", "is_kept"),
    [
        ("failParentOnFailure", JobState.FAILED, {}, True, False),
        ("continueParentOnFailure", JobState.COMPLETED, _IGNORED, 0, False),
        ("removeDependencyOnFailure", JobState.COMPLETED, {}, 1, True),
        ("ignoreDependencyOnFailure", JobState.COMPLETED, _IGNORED, False, True),
        ("ignoreDependencyOnFailure", JobState.COMPLETED, _IGNORED, {"age": 60}, True),
        ("failParentOnFailure", JobState.FAILED, {}, {"count": 0}, False),
    ],
    ids=str,
)
async def test_a_child_whose_workers_died_too_often_fails_by_its_options(
    bed: FlowBed, policy: str, parent: JobState, failures: dict[str, str], rule: Any, is_kept: bool
) -> None:
    """E120."""
    await bed.producer.add(node("P", node("A", queue="c", removeOnFail=rule, **{policy: True})))
    queue: Queue[Any, Any] = bed.queue("c")
    await take(queue)
    await queue._store.commands.execute("DEL", bed.key("A:lock", "c"))

    await bed.work(lambda job: None, "q", "c", stalled_interval=30, max_stalled_count=0)

    ended = await bed.reach("P", parent)
    assert (await ended.ignored_children_failures()) == {bed.key(name, "c"): why for name, why in failures.items()}
    if is_kept:
        assert (await bed.reach("A", JobState.FAILED, "c")).failed_reason == STALLED
    else:
        await bed.gone("A", "c")


@pytest.mark.parametrize(
    ("policy", "kind"), [({}, ""), (IGNORE, "ignored"), (CONTINUE, "ignored"), (FAIL_PARENT, "failed")]
)
async def test_a_child_that_is_retried_is_waited_for_again(bed: FlowBed, policy: dict[str, Any], kind: str) -> None:
    """E190."""
    tree = await bed.producer.add(node("P", node("A", queue="c", **policy), node("B", queue="d")))
    await fail(bed.queue("c"))
    counts = (await tree.job.dependencies_count())._asdict()
    assert counts["unprocessed"] == (1 if kind else 2)
    assert not kind or counts[kind] == 1

    await (await bed.job("A", "c")).retry()

    assert await tree.job.dependencies_count() == (0, 2, 0, 0)


async def test_a_completed_child_that_is_retried_is_waited_for_again(bed: FlowBed) -> None:
    """E190."""
    tree = await bed.producer.add(node("P", node("A", queue="c"), node("B", queue="d")))
    await complete(bed.queue("c"))

    await (await bed.job("A", "c")).retry(JobState.COMPLETED)

    assert await tree.job.dependencies_count() == (0, 2, 0, 0)


def test_a_child_has_one_policy_at_most() -> None:
    """A10."""
    with pytest.raises(ValueError, match="cannot be used together"):
        JobOptions(fail_parent_on_failure=True, ignore_dependency_on_failure=True)
