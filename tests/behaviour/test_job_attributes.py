"""What a job tells about itself, however it was stored."""

from __future__ import annotations

from typing import Any

import pytest

from pyqueue import Job, JobOptions, PayloadError, Queue

pytestmark = pytest.mark.anyio


async def stored(queue: Queue[Any, Any], redis_client: Any, **fields: Any) -> Job[Any, Any]:
    """A job with these fields in its hash."""
    key = f"{queue.options.prefix}:{queue.name}:1"
    await redis_client.hset(key, mapping={"name": "a", "data": "{}", "opts": "{}", "timestamp": "5", **fields})
    job = await queue.jobs.get("1")
    assert job is not None
    return job


async def test_a_new_job_has_not_begun(queue: Queue[Any, Any]) -> None:
    job = await queue.add("a", {"x": 1})

    assert (job.attempts_made, job.attempts_started, job.stalled_count) == (0, 0, 0)
    assert (job.processed_on, job.finished_on, job.processed_by) == (None, None, None)
    assert (job.return_value, job.failed_reason, job.stack_trace) == (None, None, [])
    assert (job.progress, job.delay, job.priority, job.deferred_failure) == (0, 0, 0, "")
    assert (job.parent, job.deduplication_id, job.scheduler_id) == (None, None, None)
    assert repr(job) == "<Job '1' 'a' of queue 'q'>"


async def test_every_field_is_decoded(queue: Queue[Any, Any], redis_client: Any) -> None:
    job = await stored(
        queue,
        redis_client,
        data='{"to":["ü"]}',
        opts='{"attempts":3,"backoff":{"type":"fixed","delay":10},"x":1}',
        delay="7",
        priority="2",
        atm="1",
        ats="2",
        stc="3",
        defa="stalled",
        processedOn="8",
        finishedOn="9",
        pb="worker-1",
        returnvalue='{"ok":true}',
        failedReason="boom",
        stacktrace='["Error: boom\\n    at x"]',
        progress='{"done":50}',
        parent='{"id":"p","queueKey":"bull:other","fpof":true}',
        parentKey="bull:other:p",
        deid="d",
        rjk="daily",
    )

    assert job.data == {"to": ["ü"]}
    assert job.options.attempts == 3
    assert (job.timestamp, job.delay, job.priority) == (5, 7, 2)
    assert (job.attempts_made, job.attempts_started, job.stalled_count) == (1, 2, 3)
    assert (job.deferred_failure, job.processed_on, job.finished_on, job.processed_by) == ("stalled", 8, 9, "worker-1")
    assert (job.return_value, job.failed_reason) == ({"ok": True}, "boom")
    assert job.stack_trace == ["Error: boom\n    at x"]
    assert job.progress == {"done": 50}
    assert job.parent is not None
    assert (job.parent.id, job.parent.queue) == ("p", "bull:other")
    assert (job.deduplication_id, job.scheduler_id) == ("d", "daily")


async def test_the_old_name_of_attempts_made_is_read(queue: Queue[Any, Any], redis_client: Any) -> None:
    assert (await stored(queue, redis_client, attemptsMade="4")).attempts_made == 4


async def test_a_fractional_delay_is_truncated(queue: Queue[Any, Any], redis_client: Any) -> None:
    assert (await stored(queue, redis_client, delay="0.20000000000000001")).delay == 0


async def test_data_is_decoded_once(queue: Queue[Any, Any]) -> None:
    job = await queue.add("a", {"x": []})

    job.data["x"].append(1)

    assert job.data == {"x": [1]}


async def test_unreadable_data_is_an_error_where_it_is_read(queue: Queue[Any, Any], redis_client: Any) -> None:
    job = await stored(queue, redis_client, data="{broken")

    assert job.name == "a"
    with pytest.raises(PayloadError, match="not JSON"):
        _ = job.data


async def test_unreadable_options_count_as_none(queue: Queue[Any, Any], redis_client: Any) -> None:
    job = await stored(queue, redis_client, opts="[1", stacktrace="{")

    assert job.options == JobOptions()
    assert job.stack_trace == []
