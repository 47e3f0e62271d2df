"""Letting go of children, removing families, reading them back, and what a job says about why it waits."""

from __future__ import annotations

from typing import Any, cast

import pytest

from pyqueue import (
    ConfigurationError,
    FlowProducer,
    JobError,
    JobNotFound,
    JobState,
    ParentNotFound,
)
from pyqueue.queue import ConnectionSource
from tests.support.by_hand import complete, fail, take
from tests.support.flow_bed import FlowBed, Tree, node, shape

pytestmark = pytest.mark.anyio


async def test_a_parent_goes_on_when_the_last_child_is_let_go(bed: FlowBed) -> None:
    """E185."""
    tree = await bed.producer.add(node("P", node("A", queue="c"), node("B", queue="c")))
    first, last = (child.job for child in tree.children)

    assert await first.remove_child_dependency()
    assert await bed.states("P") == ["waiting-children"]
    assert await last.remove_child_dependency()
    assert await bed.states("P") == ["waiting"]
    assert (await bed.job("A", "c")).parent is None

    with pytest.raises(ParentNotFound):
        await first.remove_child_dependency()


async def test_a_child_that_was_let_go_changes_nothing_when_it_ends(bed: FlowBed) -> None:
    """E185: no phantom reference."""
    tree = await bed.producer.add(node("P", node("A", queue="c", failParentOnFailure=True)))
    await tree.children[0].job.remove_child_dependency()

    await fail(bed.queue("c"))

    assert sum(await tree.job.dependencies_count()) == 0
    assert (await bed.job("P")).deferred_failure == ""


async def test_only_a_child_can_be_let_go(bed: FlowBed) -> None:
    """E185."""
    tree = await bed.producer.add(node("P", node("A", queue="c"), node("B", queue="c")))
    await complete(bed.queue("c"))

    assert await tree.children[0].job.remove_child_dependency() is False  # completed: nobody waits for it
    with pytest.raises(ParentNotFound):
        await tree.job.remove_child_dependency()
    await tree.children[1].job.remove()
    with pytest.raises(JobNotFound):
        await tree.children[1].job.remove_child_dependency()


async def test_unprocessed_children_are_removed_and_others_stay(bed: FlowBed) -> None:
    """E186."""
    tree = await bed.producer.add(
        node(
            "P",
            *(node(name, queue="c") for name in ("done", "running", "broken", "unstarted")),
            node("M", node("leaf")),
        )
    )
    await complete(bed.queue("c"), 1)
    running = await take(bed.queue("c"))
    await fail(bed.queue("c"))

    assert await tree.job.remove_unprocessed_children() == 3

    assert await bed.states("done", "running", "broken", "unstarted", queue="c") == [
        "completed", "active", "failed", "unknown",
    ]  # fmt: skip
    assert await bed.states("P", "M", "leaf") == ["waiting-children", "unknown", "unknown"]
    await running.move_to_completed(2)
    assert await tree.job.children_values() == {bed.key("done", "c"): 1, bed.key("running", "c"): 2}


async def test_a_parent_without_children_left_goes_on(bed: FlowBed) -> None:
    """E186."""
    tree = await bed.producer.add(node("P", *(node(f"A{i}", queue="c") for i in range(40))))

    assert await tree.job.remove_unprocessed_children() == 40
    assert await bed.states("P") == ["waiting"]


async def test_removing_a_parent_removes_all_its_children_but_not_its_parent(bed: FlowBed, redis_client: Any) -> None:
    """E187."""
    policy = {"ignoreDependencyOnFailure": True}
    children = [node("done", queue="c"), node("ignored", queue="c", **policy), node("pending", queue="c")]
    tree = await bed.producer.add(node("G", node("P", *children)))
    await complete(bed.queue("c"))
    await fail(bed.queue("c"))

    await tree.children[0].job.remove()

    assert await bed.states("G", "P") == ["waiting", "unknown"]
    keys = await redis_client.keys(f"{bed.prefix}:c:*")
    assert {key.rpartition(":")[2] for key in keys} <= {"id", "meta", "events", "marker"}


async def test_children_may_be_kept(bed: FlowBed) -> None:
    """E187."""
    tree = await bed.producer.add(node("P", node("A", queue="c")))

    await tree.job.remove(remove_children=False)

    assert (await bed.states("P"), await bed.states("A", queue="c")) == (["unknown"], ["waiting"])
    await complete(bed.queue("c"))
    assert await bed.states("A", queue="c") == ["completed"]


def wide(middles: int) -> Tree:
    return node("P", *(node(f"M{i}", *(node(f"L{i}-{n}", queue="c") for n in range(9))) for i in range(middles)))


async def test_a_large_family_is_removed_in_steps(bed: FlowBed, redis_client: Any) -> None:
    """E187, E21: pending, completed and ignored children, in several queues and at several levels."""
    await bed.producer.add(node("G", wide(30), node("X")))
    for _ in range(20):
        await complete(bed.queue("c"))

    await (await bed.job("P")).remove()

    keys = [key async for key in redis_client.scan_iter(match=f"{bed.prefix}:*", count=1000)]
    assert {key.split(":")[2] for key in keys} <= {
        "id",
        "meta",
        "events",
        "marker",
        "wait",
        "waiting-children",
        "G",
        "X",
        "pyq",
    }
    assert await bed.states("G", "X") == ["waiting-children", "waiting"]
    assert (await bed.queue("c").jobs.counts())[JobState.WAITING] == 0


async def test_nothing_of_a_large_family_is_removed_while_a_job_of_it_is_locked(bed: FlowBed) -> None:
    """E188."""
    await bed.producer.add(wide(30))
    await take(bed.queue("c"))
    before = await bed.queue("c").jobs.counts()

    assert await bed.queue().jobs.remove("P") is False

    assert await bed.queue("c").jobs.counts() == before
    assert await bed.states("P", "M29") == ["waiting-children"] * 2


async def test_nothing_is_removed_while_a_job_of_the_tree_is_locked(bed: FlowBed) -> None:
    """E188."""
    tree = await bed.producer.add(node("P", node("M", node("A", queue="c")), node("B")))
    await take(bed.queue("c"))

    with pytest.raises(JobError, match="locked"):
        await tree.job.remove()
    assert await bed.queue().jobs.remove("P") is False
    assert await bed.states("P", "M", "B") == ["waiting-children", "waiting-children", "waiting"]


async def test_a_parent_goes_on_when_its_children_are_removed(bed: FlowBed) -> None:
    """E189."""
    tree = await bed.producer.add(node("P", node("A", queue="c"), node("B")))

    await tree.children[0].job.remove()
    assert await tree.job.dependencies_count() == (0, 1, 0, 0)
    await tree.children[1].job.remove()

    assert await bed.states("P") == ["waiting"]


async def test_a_flow_is_read_back(bed: FlowBed) -> None:
    """E191: whole, a part of it, and to a depth."""
    await bed.producer.add(node("G", node("P", node("A", queue="c"), node("B", queue="c")), node("X")))
    await complete(bed.queue("c"), 5)

    tree = await bed.producer.get_flow("q", "G")
    assert tree is not None
    children = {child.job.id: child for child in tree.children}
    assert set(children) == {"P", "X"}
    assert shape(children["P"]) == ("P", ["A", "B"])
    assert [child.job.return_value for child in children["P"].children] == [5, None]

    assert shape(await bed.producer.get_flow("q", "P")) == ("P", ["A", "B"])
    assert shape(await bed.producer.get_flow("q", "P", depth=1)) == "P"
    assert shape(await bed.producer.get_flow("q", "P", max_children=1)) == ("P", ["A", "B"])  # one of each kind
    assert await bed.producer.get_flow("q", "gone") is None
    with pytest.raises(ConfigurationError, match="job_id is 5: give a text"):
        await bed.producer.get_flow("q", cast(Any, 5))


@pytest.mark.not_on("cluster", reason="the default prefix has no hash tag")
async def test_a_flow_is_read_under_the_default_prefix(source: ConnectionSource) -> None:
    """E191."""
    async with FlowProducer(connection=source) as producer:
        await producer.add(node("P", node("A")))
        assert shape(await producer.get_flow("q", "P")) == ("P", ["A"])


async def test_children_of_every_kind_are_read_and_removed_ones_left_out(bed: FlowBed) -> None:
    """E191."""
    policies = {"A": {"ignoreDependencyOnFailure": True}, "B": {"continueParentOnFailure": True}, "C": {}, "D": {}}
    await bed.producer.add(node("P", *(node(name, queue="c", **policy) for name, policy in policies.items())))
    await fail(bed.queue("c"))
    await fail(bed.queue("c"))
    await complete(bed.queue("c"))
    await bed.queue("c")._store.commands.execute("DEL", bed.key("D", "c"))

    tree = await bed.producer.get_flow("q", "P")

    assert tree is not None
    assert sorted(child.job.id for child in tree.children) == ["A", "B", "C"]


@pytest.mark.parametrize("arguments", [{"depth": 0}, {"max_children": 0}, {"depth": True}])
async def test_a_flow_is_read_with_positive_bounds(bed: FlowBed, arguments: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match="at least 1"):
        await bed.producer.get_flow("q", "P", **arguments)


async def test_foreign_keys_among_the_children_are_not_followed(bed: FlowBed, redis_client: Any) -> None:
    """Whoever can write a set must not make us read other prefixes."""
    await bed.producer.add(node("P", node("A")))
    await redis_client.hset("other:q:secret", "name", "secret")
    await redis_client.sadd(bed.key("P:dependencies"), "other:q:secret", "nonsense", f"{bed.prefix}:q")

    assert shape(await bed.producer.get_flow("q", "P")) == ("P", ["A"])


async def test_dependencies_are_read_in_pages(bed: FlowBed) -> None:
    """E191: completed and pending ones."""
    children = [node(f"A{i:03}", queue="c") for i in range(600)]
    tree = await bed.producer.add(node("P", *children))
    for _ in range(3):
        await complete(bed.queue("c"), "x" * 100)

    seen: list[str] = []
    cursor, calls = 0, 0
    while cursor or not calls:
        page = await tree.job.dependencies_page("unprocessed", cursor, count=50)
        seen += page.children
        cursor, calls = page.cursor, calls + 1

    assert calls > 5
    assert set(seen) == {bed.key(f"A{i:03}", "c") for i in range(3, 600)}
    completed = await tree.job.dependencies_page("processed")
    assert completed == ({bed.key(f"A00{i}", "c"): "x" * 100 for i in range(3)}, 0)
    everything = await tree.job.dependencies()
    assert (len(everything.unprocessed), len(everything.processed)) == (597, 3)
    assert await tree.job.dependencies_count() == (3, 597, 0, 0)


@pytest.mark.not_on("fake", reason="slow there, and what counts is the server")
async def test_pages_hold_every_child_once(bed: FlowBed) -> None:
    """E257: of a set and of a hash, each large enough for many pages."""
    tree = await bed.producer.add(node("P", *(node(f"A{i:03}", queue="c") for i in range(700))))
    for number in range(350):
        await complete(bed.queue("c"), number)

    found: dict[str, list[str]] = {"processed": [], "unprocessed": []}
    for kind, keys in found.items():
        cursor = -1
        while cursor:
            page = await tree.job.dependencies_page(kind, max(cursor, 0), count=30)
            keys += page.children
            cursor = page.cursor

    assert sorted(found["processed"]) == [bed.key(f"A{i:03}", "c") for i in range(350)]
    assert sorted(found["unprocessed"]) == [bed.key(f"A{i:03}", "c") for i in range(350, 700)]


async def test_failed_and_ignored_dependencies_are_read_in_pages(bed: FlowBed) -> None:
    """E191."""
    policies = [{"failParentOnFailure": True}] * 3 + [{"ignoreDependencyOnFailure": True}]
    tree = await bed.producer.add(node("P", *(node(f"A{i}", queue="c", **p) for i, p in enumerate(policies))))
    for _ in policies:
        await fail(bed.queue("c"))

    first = await tree.job.dependencies_page("failed", count=2)
    second = await tree.job.dependencies_page("failed", first.cursor, count=2)
    assert ([*first.children, *second.children], second.cursor) == ([bed.key(f"A{i}", "c") for i in range(3)], 0)
    assert await tree.job.dependencies_page("ignored") == ({bed.key("A3", "c"): "boom"}, 0)


@pytest.mark.parametrize("arguments", [("other",), ("failed", -1), ("processed", 0, 0)])
async def test_pages_are_asked_for_by_kind_cursor_and_count(bed: FlowBed, arguments: Any) -> None:
    tree = await bed.producer.add(node("P", node("A")))
    with pytest.raises(ConfigurationError):
        await tree.job.dependencies_page(*arguments)


async def test_a_queue_lists_the_children_of_a_job_by_position(bed: FlowBed) -> None:
    """E191."""
    await bed.producer.add(node("P", *(node(f"A{i:03}", queue="c") for i in range(150))))
    await complete(bed.queue("c"), {"ok": 1})
    jobs = bed.queue().jobs

    first = await jobs.dependencies("P", "pending", 0, 99)
    rest = await jobs.dependencies("P", "pending", 100)
    done = await jobs.dependencies("P", "processed")

    assert (len(first.items), len(rest.items), first.total, rest.total) == (100, 49, 149, 149)
    assert {item.key for item in (*first.items, *rest.items)} == {bed.key(f"A{i:03}", "c") for i in range(1, 150)}
    assert [(item.key, item.value) for item in done.items] == [(bed.key("A000", "c"), {"ok": 1})]
    assert done.items[0].job is not None
    assert (done.items[0].job.id, done.items[0].job.queue) == ("A000", "c")
    assert await jobs.dependencies("gone", "processed") == ([], 0)


async def test_a_job_explains_what_it_waits_for(bed: FlowBed) -> None:
    await bed.producer.add(
        node(
            "P",
            node("broken", queue="c"),
            node("ready", queue="c"),
            node("later", queue="d", delay=60_000),
            node("gone", queue="d"),
        )
    )
    await fail(bed.queue("c"), "no such user")
    await bed.queue("d").pause()
    await bed.queue("d")._store.commands.execute("DEL", bed.key("gone", "d"))

    explanation = await (await bed.job("P")).explain()

    assert (explanation.state, explanation.pending) == (JobState.WAITING_CHILDREN, 4)
    assert {child.key: child.place for child in explanation.children} == {
        bed.key("broken", "c"): "failed",
        bed.key("ready", "c"): "waiting",
        bed.key("later", "d"): "delayed",
        bed.key("gone", "d"): "missing",
    }
    text = str(explanation)
    for part in (
        "It waits for 4 children.",
        "Of them: 1 delayed, 1 failed, 1 missing, 1 waiting.",
        f"{bed.key('broken', 'c')} (no such user) failed without a policy",
        f"{bed.key('gone', 'd')} does not exist",
        f"Paused queues of children: {bed.prefix}:d.",
    ):
        assert part in text


async def test_a_job_explains_every_other_state(bed: FlowBed) -> None:
    queue = bed.queue()

    async def explained(job_id: str) -> tuple[str, str]:
        explanation = await (await bed.job(job_id)).explain()
        return explanation.state, str(explanation)

    await queue.limits.set_concurrency(1)
    await queue.add("x", job_id="x", attempts=2, backoff=60_000)
    await queue.add("y", job_id="y", priority=3)
    running = await take(queue)
    await queue.pause()
    assert await explained("y") == (
        "prioritized",
        "It is ready: a worker takes it in its turn.\n"
        "Its queue is paused: no job starts before queue.resume().\n"
        "Its queue runs 1 jobs, as many as its concurrency of 1 allows.",
    )
    await queue._store.commands.execute("DEL", bed.key("x:lock"))
    state, text = await explained("x")
    assert (state, "It has run since" in text, "Its lock is gone" in text) == ("active", True, True)

    await queue._store.commands.execute("SET", bed.key("x:lock"), "t")
    await running.move_to_failed("boom")
    state, text = await explained("x")
    assert (state, "It is delayed until" in text, "Its last attempt failed: boom." in text) == ("delayed", True, True)

    await queue.resume()
    await complete(queue)
    assert await explained("y") == ("completed", "It is completed.")
    await (await bed.job("x")).promote()
    await fail(queue, "again")
    assert await explained("x") == ("failed", "It failed for good: again. job.retry() runs it again.")

    lost = await bed.job("x")
    await lost.remove()
    gone = await lost.explain()
    assert (gone.state, "No job has the id 'x'" in str(gone)) == (JobState.UNKNOWN, True)
