"""A job that one language adds and the other one runs is read alike by both, whatever becomes of it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.interop.conftest import Pair
from tests.interop.sides import Failed, View
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.needs_server, pytest.mark.needs_node]

VALUES: list[Any] = [
    {"text": "Grüße, 世界 🎉 \u2028", "empty": {}, "none": None, "list": [1, -2.5, True, [], [[]]], "": "no name"},
    [], "", 0, False, None, "null", 1.5e300, 2**53, {"deep": {"er": {"est": [{"a": 1}]}}},
]  # fmt: skip

OPTIONS: list[dict[str, Any]] = [
    {},
    {"jobId": "own-id", "timestamp": 1_700_000_000_000},
    {"delay": 60_000, "attempts": 5, "backoff": {"type": "exponential", "delay": 2000, "jitter": 0.5}},
    {"priority": 7, "lifo": True, "backoff": {"type": "fixed", "delay": 10}},
    {"removeOnComplete": {"age": 3600, "count": 10, "limit": 5}, "removeOnFail": 100, "keepLogs": 3},
    {"removeOnComplete": True, "removeOnFail": False, "stackTraceLimit": 2, "sizeLimit": 1000},
    {"deduplication": {"id": "one", "ttl": 60_000, "extend": True, "replace": True}, "delay": 60_000},
    {"deduplication": {"id": "last", "keepLastIfActive": True}},
    {"parent": {"id": "the-parent", "queue": "PREFIX:parents"}, "failParentOnFailure": True},
    {"parent": {"id": "the-parent", "queue": "PREFIX:parents"}, "ignoreDependencyOnFailure": True},
    {"parent": {"id": "the-parent", "queue": "PREFIX:parents"}, "removeDependencyOnFailure": True},
    {"parent": {"id": "the-parent", "queue": "PREFIX:parents"}, "continueParentOnFailure": True},
    {"telemetry": {"metadata": "trace", "omitContext": True}},
]


async def same_view(pair: Pair, job_id: str, queue: str = "q") -> View:
    """What both sides read of a job, which must be the same."""
    first, other = [await side.look(job_id, queue) for side in pair]
    assert first == other
    assert first is not None, f"job {job_id} does not exist"
    return first


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
async def test_data_and_return_value_survive_the_way(cross: Pair, value: Any) -> None:
    adder, worker = cross
    await worker.work()

    job_id = await adder.add("echo", {"value": value})

    assert await adder.result(job_id) == {"value": value}
    view = await same_view(cross, job_id)
    assert (view.data, view.value, view.state) == ({"value": value}, {"value": value}, "completed")


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "+".join(options) or "none")
async def test_options_are_read_as_they_were_given(cross: Pair, prefix: str, options: dict[str, Any]) -> None:
    given = dict(options)
    if "parent" in given:
        given["parent"] = {**given["parent"], "queue": f"{prefix}:parents"}
        await cross.other.add("gather", queue="parents", jobId="the-parent")

    view = await same_view(cross, await cross.first.add("echo", **given))

    assert dict(view.options) == {"attempts": 0, **given}


async def test_the_same_job_added_by_each_side_is_stored_alike(cross: Pair) -> None:
    """Field by field, but for the times at which they were added."""
    views = []
    for number, side in enumerate(cross):
        job_id = await side.add(
            "echo", {"a": 1}, queue=f"q{number}", priority=3, attempts=2, timestamp=1_700_000_000_000
        )
        views.append(await same_view(cross, job_id, f"q{number}"))

    assert views[0] == views[1]


async def test_progress_and_logs_are_seen_by_the_other_side(cross: Pair) -> None:
    adder, worker = cross
    await worker.work(name="reporter")
    job_id = await adder.add("report")

    assert await adder.result(job_id) == "reported"

    view = await same_view(cross, job_id)
    assert (view.progress, view.logs, view.processed_by) == ({"step": 2}, ["one", "two"], "reporter")


async def test_a_failure_is_seen_with_its_reason_and_stack(cross: Pair) -> None:
    adder, worker = cross
    await worker.work()
    job_id = await adder.add("fail", {"reason": "the mailbox is full"})

    with pytest.raises(Failed, match="the mailbox is full"):
        await adder.result(job_id)

    view = await same_view(cross, job_id)
    assert (view.state, view.reason, view.attempts_made) == ("failed", "the mailbox is full", 1)
    assert len(view.stacks) == 1
    assert "the mailbox is full" in view.stacks[0]
    assert f"processors.{'py' if worker.language == 'python' else 'mjs'}" in view.stacks[0]


@pytest.mark.parametrize(
    ("backoff", "least_ms"),
    [
        ({"type": "fixed", "delay": 60}, 120),
        ({"type": "exponential", "delay": 40}, 120),
        ({"type": "custom", "delay": 5}, 30),
    ],
    ids=["fixed", "exponential", "custom"],
)
async def test_retries_wait_as_the_adder_said(cross: Pair, backoff: dict[str, Any], least_ms: int) -> None:
    adder, worker = cross
    await worker.work()
    job_id = await adder.add("flaky", {"failures": 2}, attempts=3, backoff=backoff)

    assert await adder.result(job_id) == 2

    view = await same_view(cross, job_id)
    assert (view.state, view.attempts_made, view.attempts_started) == ("completed", 3, 3)
    assert [f"attempt {n} broke" in stack for n, stack in enumerate(view.stacks)] == [True, True]
    assert view.finished_on is not None
    assert view.finished_on - view.timestamp >= least_ms


async def test_attempts_run_out(cross: Pair) -> None:
    adder, worker = cross
    await worker.work()
    job_id = await adder.add("flaky", {"failures": 9}, attempts=2, stackTraceLimit=1)

    with pytest.raises(Failed, match="attempt 1 broke"):
        await adder.result(job_id)

    view = await same_view(cross, job_id)
    assert (view.state, view.attempts_made, len(view.stacks)) == ("failed", 2, 1)


async def test_a_job_that_gives_up_is_not_retried(cross: Pair) -> None:
    adder, worker = cross
    await worker.work()
    job_id = await adder.add("give_up", {"reason": "no such address"}, attempts=5)

    with pytest.raises(Failed, match="no such address"):
        await adder.result(job_id)

    assert (await same_view(cross, job_id)).attempts_made == 1


async def test_a_job_that_is_moved_to_delayed_while_it_runs_runs_again_without_spending_an_attempt(cross: Pair) -> None:
    adder, worker = cross
    await worker.work()
    job_id = await adder.add("later", 80)

    assert await adder.result(job_id) == 2

    view = await same_view(cross, job_id)
    assert (view.attempts_made, view.attempts_started) == (1, 2)
    assert view.finished_on is not None
    assert view.finished_on - view.timestamp >= 80


async def test_a_delayed_job_is_not_early(cross: Pair) -> None:
    adder, worker = cross
    await worker.work()
    job_id = await adder.add("echo", delay=150)

    await adder.result(job_id)

    view = await same_view(cross, job_id)
    assert view.processed_on is not None
    assert view.processed_on - view.timestamp >= 150


async def test_priorities_hold_over_both_adders(cross: Pair) -> None:
    adder, worker = cross
    order = [("c", 5), ("a", 1), ("e", 2_097_151), ("b", 2), ("d", 5)]
    for number, (job_id, priority) in enumerate(order):
        await cross[number % 2].add("echo", jobId=job_id, priority=priority)
    await adder.add("echo", jobId="none")
    for side in cross:
        assert await side.ids("prioritized") == ["a", "b", "c", "d", "e"]
    await adder.listen()

    await worker.work()

    await wait_until(lambda: len([e for e in adder.heard() if e.name == "completed"]) == 6)
    assert [e.job_id for e in adder.heard() if e.name == "completed"] == ["none", "a", "b", "c", "d", "e"]


async def test_lifo_holds_over_both_adders(cross: Pair) -> None:
    adder, other = cross
    await adder.add("echo", jobId="a")
    await other.add("echo", jobId="b")
    await adder.add("echo", jobId="c", lifo=True)
    await other.add("echo", jobId="d", lifo=True)

    for side in cross:
        assert await side.ids("waiting") == ["d", "c", "a", "b"]


async def test_an_id_that_the_other_side_has_used_is_not_added_again(cross: Pair) -> None:
    first, other = cross
    await first.add("echo", {"by": "first"}, jobId="invite-42")
    await other.listen()

    await other.add("echo", {"by": "other"}, jobId="invite-42")

    assert (await same_view(cross, "invite-42")).data == {"by": "first"}
    await wait_until(lambda: [(e.name, e.job_id) for e in other.heard()] == [("duplicated", "invite-42")])


async def test_a_deduplicated_job_is_added_by_one_side_only(cross: Pair) -> None:
    first, other = cross
    await other.listen()
    deduplication = {"id": "daily"}
    ids = [await side.add("echo", deduplication=deduplication) for side in (first, other, first)]

    assert ids == [ids[0]] * 3
    assert (await first.counts())["waiting"] == 1
    await other.work()
    await other.result(ids[0])
    assert await first.add("echo", deduplication=deduplication) != ids[0], "a finished job frees its id"
    await wait_until(lambda: len([e for e in other.heard() if e.name == "deduplicated"]) == 2)


async def test_a_debounced_job_is_replaced_by_the_other_side(cross: Pair) -> None:
    first, other = cross
    options: dict[str, Any] = {"deduplication": {"id": "d", "ttl": 60_000, "extend": True, "replace": True}}
    options["delay"] = 50
    await first.add("echo", {"n": 1}, **options)
    last = await other.add("echo", {"n": 2}, **options)

    await first.work()

    assert await other.result(last) == {"n": 2}
    assert sum((await other.counts()).values()) == 1


async def test_what_is_kept_is_decided_by_the_adder(cross: Pair) -> None:
    adder, worker = cross
    await worker.work()
    await adder.listen()

    gone = await adder.add("echo", removeOnComplete=True)
    kept = [await adder.add("echo", removeOnComplete=2) for _ in range(4)]

    await wait_until(lambda: len([e for e in adder.heard() if e.name == "completed"]) == 5)
    assert await worker.look(gone) is None
    assert await worker.ids("completed") == kept[-2:]


async def test_a_bulk_is_added_in_order(cross: Pair) -> None:
    adder, worker = cross
    jobs = [{"name": "echo", "data": {"n": n}, "opts": {"jobId": f"job-{n:03}"}} for n in range(250)]

    ids = await adder.add_many(jobs)

    assert ids == [f"job-{n:03}" for n in range(250)]
    assert await worker.ids("waiting") == ids
    await adder.listen()
    await worker.work(concurrency=50)
    await wait_until(lambda: len([e for e in adder.heard() if e.name == "completed"]) == 250)
    assert sorted(e.job_id for e in adder.heard() if e.name == "completed") == ids
