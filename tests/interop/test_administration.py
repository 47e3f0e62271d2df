"""What one side does to the jobs and queues of the other one: retry, promote, remove, clean, pause, ..."""

from __future__ import annotations

from typing import Any

import pytest

from tests.interop.conftest import Pair
from tests.interop.sides import Failed, Side, View
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.needs_server, pytest.mark.needs_node]


async def seen(side: Side, job_id: str) -> View:
    """A job that must exist."""
    view = await side.look(job_id)
    assert view is not None, f"job {job_id} does not exist"
    return view


async def failed(adder: Side, worker: Side, **options: Any) -> str:
    """A job that one side added and the other one let fail."""
    job_id = await adder.add("fail", {"reason": "no answer"}, **options)
    with pytest.raises(Failed):
        await worker.result(job_id)
    return job_id


async def test_a_failed_job_is_retried_by_the_side_that_did_not_run_it(cross: Pair) -> None:
    admin, worker = cross
    await worker.work()
    job_id = await failed(admin, worker)
    await worker.listen()

    await admin.retry(job_id)

    await wait_until(lambda: "failed" in [e.name for e in worker.heard() if e.job_id == job_id])
    assert [e.name for e in worker.heard()][:2] == ["waiting", "active"]
    view = await seen(admin, job_id)
    assert (view.state, view.attempts_made, view.attempts_started) == ("failed", 2, 2)


async def test_all_failed_jobs_are_retried(cross: Pair) -> None:
    admin, worker = cross
    await worker.work()
    jobs = [await failed(admin, worker) for _ in range(3)]
    await worker.idle()

    await admin.retry_all()

    assert sorted(await worker.ids("waiting")) == sorted(jobs)


async def test_delayed_jobs_are_promoted_postponed_and_moved_in_line(cross: Pair) -> None:
    admin, owner = cross
    late = await owner.add("echo", jobId="late", delay=60_000)
    await owner.add("echo", jobId="later", delay=60_000)
    await owner.add("echo", jobId="latest", delay=60_000)
    urgent = await owner.add("echo", jobId="urgent", priority=9)
    await owner.add("echo", jobId="normal", priority=5)

    await admin.promote(late)
    await admin.change_delay("later", 120_000)
    await admin.change_priority(urgent, 1)

    assert await owner.ids("waiting") == ["late"]
    assert await owner.ids("delayed") == ["latest", "later"]
    assert (await seen(owner, "later")).delay == 120_000
    assert await owner.ids("prioritized") == ["urgent", "normal"]
    assert (await seen(owner, urgent)).priority == 1
    await admin.promote_all()
    assert await owner.ids("waiting") == ["late", "latest", "later"]


async def test_data_and_logs_are_changed(cross: Pair) -> None:
    admin, owner = cross
    job_id = await owner.add("echo", {"old": True}, keepLogs=2)

    await admin.update_data(job_id, {"new": ["ü", 1]})
    for row in ("one", "two", "three"):
        await admin.log(job_id, row)

    view = await seen(owner, job_id)
    assert (view.data, view.logs) == ({"new": ["ü", 1]}, ["two", "three"])
    await owner.work()
    assert await admin.result(job_id) == {"new": ["ü", 1]}


async def test_a_job_is_removed_unless_the_other_side_runs_it(cross: Pair) -> None:
    admin, worker = cross
    await admin.add("sleep", 60_000, jobId="running")
    await worker.work()
    await wait_until(lambda: _active(admin, 1))
    await worker.add("echo", jobId="waiting")

    await admin.remove("waiting")

    assert await worker.look("waiting") is None
    with pytest.raises(Exception, match=r"could not be removed|locked by a worker"):
        await admin.remove("running")
    assert (await seen(worker, "running")).state == "active"


@pytest.mark.parametrize("state", ["waiting", "delayed", "prioritized", "completed", "failed"])
async def test_a_state_is_cleaned(cross: Pair, state: str) -> None:
    admin, owner = cross
    options: dict[str, Any] = {"delayed": {"delay": 60_000}, "prioritized": {"priority": 1}}.get(state, {})
    if state in {"completed", "failed"}:
        await owner.work()
    jobs = [await owner.add("fail" if state == "failed" else "echo", {"reason": ""}, **options) for _ in range(3)]
    await wait_until(lambda: _counts(owner, {state: 3}))
    await owner.listen()

    assert sorted(await admin.clean(state)) == jobs

    assert sum((await owner.counts()).values()) == 0
    await wait_until(lambda: [(e.name, e.field) for e in owner.heard()] == [("cleaned", 3)])


async def test_a_queue_is_drained_and_obliterated(cross: Pair, server: Any, prefix: str) -> None:
    admin, owner = cross
    await owner.work()
    await owner.result(await owner.add("echo"))
    await owner.idle()
    await owner.add("echo")
    await owner.add("echo", delay=60_000)
    await owner.add("echo", priority=1)

    await admin.drain()
    assert {state: count for state, count in (await owner.counts()).items() if count} == {"completed": 1}

    await admin.obliterate()
    assert sum((await owner.counts()).values()) == 0
    with server.client() as client:
        assert [key for key in client.scan_iter(f"{prefix}:q:*") if ":pyq:" not in key] == []


async def test_a_paused_queue_rests_on_both_sides_until_it_is_resumed(cross: Pair) -> None:
    admin, other = cross
    for side in cross:
        await side.work()
    await admin.listen()
    await admin.pause()

    for side in cross:
        await side.add("echo")
        await side.add("echo", priority=1)
        await side.add("echo", delay=1)
    await wait_until(lambda: _counts(other, {"waiting": 4, "prioritized": 2}))
    assert not [e for e in admin.heard() if e.name == "active"]

    await other.resume()

    await wait_until(lambda: _counts(admin, {"completed": 6}))
    assert [e.name for e in admin.heard() if e.name in {"paused", "resumed"}] == ["paused", "resumed"]


async def _active(side: Side, count: int) -> bool:
    return (await side.counts())["active"] == count


async def _counts(side: Side, expected: dict[str, int]) -> bool:
    return {state: count for state, count in (await side.counts()).items() if count} == expected
