"""Finished jobs grow old on a queue where nothing finishes any more, and go all the same."""

from __future__ import annotations

from typing import Any

import pytest

from pyqueue import JobState, Retention
from tests.behaviour.conftest import AnyQueue, StartWorker
from tests.support.by_hand import complete, fail
from tests.support.waiting import wait_until

pytestmark = pytest.mark.anyio

#: Age is in seconds, so that nothing shorter can be tested against the server's clock.
SECOND = Retention(age=1)


async def counts(queue: AnyQueue) -> tuple[int, int]:
    found = await queue.jobs.counts()
    return found[JobState.COMPLETED], found[JobState.FAILED]


async def test_a_job_goes_when_it_is_too_old_by_the_rule_of_the_worker(
    queue: AnyQueue, start_worker: StartWorker, redis_client: Any
) -> None:
    """E58, without another finish."""

    async def process(job: Any) -> None:
        if job.name == "bad":
            raise RuntimeError

    ended: list[str] = []
    rules = {"remove_on_complete": SECOND, "remove_on_fail": Retention(age=1, limit=10)}
    worker = await start_worker(process, stalled_interval=100, **rules)
    worker.on("completed", lambda job, value: ended.append("good"))
    worker.on("failed", lambda job, error: ended.append("bad"))
    await queue.add_bulk([{"name": "good"}, {"name": "bad"}, {"name": "good"}])

    await wait_until(lambda: sorted(ended) == ["bad", "good", "good"])
    await wait_until(lambda: _is(queue, (0, 0)))

    assert not [key async for key in redis_client.scan_iter(f"{queue._store.keys.base}[0-9]*")]


async def test_a_job_goes_when_it_is_too_old_by_its_own_rule(queue: AnyQueue, start_worker: StartWorker) -> None:
    """Also if the worker that ran it is gone and the one that is here never saw it."""
    await queue.add("n", remove_on_complete=SECOND)
    await complete(queue)
    await queue.add("n", remove_on_fail=SECOND)
    await fail(queue)
    assert await counts(queue) == (1, 1)

    await start_worker(lambda job: None, stalled_interval=100)

    await wait_until(lambda: _is(queue, (0, 0)))


async def test_what_the_newest_job_wants_to_keep_stays(queue: AnyQueue, start_worker: StartWorker) -> None:
    await queue.add("n", remove_on_complete=SECOND)
    await complete(queue)
    newest = await queue.add("n", remove_on_complete=False)
    await complete(queue)
    await queue.add("n", remove_on_fail=SECOND)
    await fail(queue)

    await start_worker(lambda job: None, stalled_interval=100, remove_on_complete=SECOND)

    await wait_until(lambda: _is(queue, (2, 0)))
    assert await newest.state() == JobState.COMPLETED


@pytest.mark.timeout(60)
@pytest.mark.not_on("fake", reason="slow there, and what counts is the server")
async def test_a_backlog_goes_and_the_worker_works_meanwhile(queue: AnyQueue, start_worker: StartWorker) -> None:
    """Three workers with the same rule, of which one at a time removes."""
    await queue.add_bulk({"name": "n", "opts": {"removeOnComplete": {"age": 1}}} for _ in range(220))
    for _ in range(220):
        await complete(queue)

    for _ in range(3):
        await start_worker(lambda job: None, stalled_interval=200)
    worked = [await queue.add("n", remove_on_complete=True) for _ in range(20)]

    await wait_until(lambda: _is(queue, (0, 0)), timeout=40)
    assert [await job.state() for job in worked] == [JobState.UNKNOWN] * 20


async def _is(queue: AnyQueue, expected: tuple[int, int]) -> bool:
    return await counts(queue) == expected
