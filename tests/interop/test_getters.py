"""What one side tells about a queue that the other one fills and works: counts, lists, metrics, workers."""

from __future__ import annotations

from functools import partial

import pytest

from tests.interop.conftest import Pair
from tests.interop.sides import NodeSide, PythonSide, Side
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.needs_server, pytest.mark.needs_node]


async def test_counts_and_lists_agree_in_every_state(cross: Pair) -> None:
    first, other = cross
    await first.work()
    for number in range(3):
        side = cross[number % 2]
        await side.result(await side.add("echo", jobId=f"completed-{number}"))
        await side.add("fail", {"reason": "x"}, jobId=f"failed-{number}")
    await wait_until(lambda: _has(first, "failed", 3))
    await other.add("sleep", 60_000, jobId="running")
    await wait_until(lambda: _has(first, "active", 1))
    for number in range(4):
        side = cross[number % 2]
        await side.add("echo", jobId=f"waiting-{number}")
        await side.add("echo", jobId=f"delayed-{number}", delay=60_000 + number)
        await side.add("echo", jobId=f"prioritized-{number}", priority=number + 1)
    children = [{"name": "echo", "queueName": "children"}]
    await first.add_flow({"name": "gather", "queueName": "q", "opts": {"jobId": "parent"}, "children": children})

    expected = {
        "waiting": 4, "active": 1, "delayed": 4, "prioritized": 4, "waiting-children": 1, "completed": 3, "failed": 3,
    }  # fmt: skip
    assert [await side.counts() for side in cross] == [expected, expected]
    for state, count in expected.items():
        lists = [await side.ids(state) for side in cross]
        assert lists[0] == lists[1]
        assert len(lists[0]) == count


@pytest.mark.parametrize("kind", ["completed", "failed"])
async def test_metrics_are_counted_by_both_and_read_by_both(cross: Pair, kind: str) -> None:
    for side in cross:
        await side.work(metrics={"maxDataPoints": 10}, concurrency=1)
    await cross.first.add_many([{"name": "echo" if kind == "completed" else "fail", "data": {"reason": "x"}}] * 30)

    await wait_until(lambda: _has(cross.first, kind, 30))

    read = [await side.metrics(kind) for side in cross]
    assert read[0] == read[1]
    assert read[0][0] == 30


async def test_a_worker_is_listed_from_its_start_even_if_it_never_waits(cross: Pair) -> None:
    """By the name of its blocking connection, as Bull Board looks for it."""
    worker, other = cross
    await other.add("sleep", 60_000)

    await worker.work(name="busy-from-the-start")

    await wait_until(lambda: _has(other, "active", 1))
    for side in cross:
        await wait_until(partial(_lists, side, ["busy-from-the-start"]))


async def test_workers_of_both_languages_are_listed_until_they_close(cross: Pair) -> None:
    for side in cross:
        await side.work(name=f"{side.language}-1")
    for side in cross:
        await wait_until(partial(_lists, side, ["node-1", "python-1"]))

    await cross.first.idle()

    for side in cross:
        await wait_until(partial(_lists, side, [f"{cross.other.language}-1"]))


async def test_settings_and_counts_are_read_by_bullmqs_own_getters(node: NodeSide, python: PythonSide) -> None:
    queue = python.queue()
    await python.work()
    await python.result(await python.add("echo"))
    await python.idle()
    for priority in (1, 1, 5):
        await python.add("echo", priority=priority)
    await python.add("echo", deduplication={"id": "daily"}, jobId="first")
    await queue.limits.set_concurrency(3)
    await queue.pause()

    meta = await node.queue_call("getMeta")
    assert (meta["paused"], meta["concurrency"], meta["maxLenEvents"]) == (True, 3, 10_000)
    assert (await queue.meta()).max_len_events == 10_000
    assert await node.queue_call("isPaused")
    assert await node.queue_call("getCountsPerPriority", [0, 1, 5]) == {"0": 1, "1": 2, "5": 1}
    assert await node.queue_call("getDeduplicationJobId", "daily") == "first"
    assert await node.queue_call("count") == await queue.jobs.count() == 4
    exported = await node.queue_call("exportPrometheusMetrics")
    for state, count in (("completed", 1), ("prioritized", 3)):
        assert f'bullmq_job_count{{queue="q", state="{state}"}} {count}' in exported


async def _has(side: Side, state: str, count: int) -> bool:
    return (await side.counts())[state] == count


async def _lists(side: Side, names: list[str]) -> bool:
    return sorted(await side.workers()) == names
