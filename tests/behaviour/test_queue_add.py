"""Adding jobs: what is stored, what comes back, what is merged from the queue's defaults."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from pyqueue import (
    AddStatus,
    Backoff,
    ConfigurationError,
    Deduplication,
    JobOptions,
    JobState,
    ParentNotFound,
    Queue,
    Retention,
)
from pyqueue.queue import ConnectionSource
from tests.support.by_hand import complete, take
from tests.support.keyspace import dump

pytestmark = pytest.mark.anyio


async def hash_of(redis_client: Any, queue: Queue[Any, Any], job_id: str) -> dict[str, str]:
    fields: dict[str, str] = await redis_client.hgetall(f"{queue.options.prefix}:{queue.name}:{job_id}")
    return fields


@pytest.mark.every_backend
async def test_a_job_is_stored_and_returned(queue: Queue[Any, Any], redis_client: Any) -> None:
    """E1"""
    job = await queue.add("send", {"to": "a@example.org"}, attempts=3)

    assert (job.id, job.name, job.data, job.queue) == ("1", "send", {"to": "a@example.org"}, queue.name)
    assert job.options.attempts == 3
    assert job.add_status is AddStatus.CREATED
    assert await job.state() == JobState.WAITING
    fields = await hash_of(redis_client, queue, "1")
    assert json.loads(fields.pop("opts")) == {"attempts": 3}
    assert fields == {
        "name": "send",
        "data": '{"to":"a@example.org"}',
        "timestamp": str(job.timestamp),
        "delay": "0",
        "priority": "0",
    }


async def test_the_servers_clock_is_the_time_of_creation(queue: Queue[Any, Any], redis_client: Any) -> None:
    before = await redis_client.time()

    job = await queue.add("a")

    after = await redis_client.time()
    assert before[0] * 1000 <= job.timestamp <= after[0] * 1000 + 1000


async def test_an_id_of_ones_own_is_used(queue: Queue[Any, Any]) -> None:
    """E2"""
    job = await queue.add("invite", 1, job_id="invite-42")

    assert job.id == "invite-42"


@pytest.mark.every_backend
async def test_a_second_job_with_the_same_id_is_not_added(queue: Queue[Any, Any]) -> None:
    await queue.add("invite", {"first": True}, job_id="invite-42")

    again = await queue.add("invite", {"first": False}, job_id="invite-42")

    assert (again.id, again.add_status) == ("invite-42", AddStatus.DUPLICATE)
    stored = await queue.jobs.get("invite-42")
    assert stored is not None
    assert stored.data == {"first": True}
    assert await queue.jobs.count() == 1


async def test_a_finished_job_still_holds_its_id(queue: Queue[Any, Any]) -> None:
    await queue.add("a", job_id="x")
    await complete(queue)

    assert (await queue.add("a", job_id="x")).add_status is AddStatus.DUPLICATE
    assert await queue.jobs.count() == 0


@pytest.mark.parametrize("options", [{}, {"priority": 1}, {"delay": 9000}])
async def test_ids_stay_decimal_beyond_300_million(
    queue: Queue[Any, Any], redis_client: Any, options: dict[str, Any]
) -> None:
    """E6"""
    await redis_client.set(f"{queue.options.prefix}:{queue.name}:id", "300000000000000")

    assert (await queue.add("a", 1, JobOptions(**options))).id == "300000000000001"


async def test_absent_data_is_an_empty_object_and_none_is_null(queue: Queue[Any, Any], redis_client: Any) -> None:
    absent, null = await queue.add("a"), await queue.add("a", None)

    assert (absent.data, null.data) == ({}, None)
    assert (await hash_of(redis_client, queue, absent.id))["data"] == "{}"
    assert (await hash_of(redis_client, queue, null.id))["data"] == "null"


@dataclass
class Point:
    x: int


class Model(BaseModel):
    when: datetime


VALUES: list[tuple[Any, Any]] = [
    (0, 0),
    (False, False),
    ("", ""),
    ([], []),
    ([1, {"a": None}], [1, {"a": None}]),
    ({"ü": "☃", "/": "\\"}, {"ü": "☃", "/": "\\"}),
    (1.5, 1.5),
    (2**60, 2**60),
    (Point(3), {"x": 3}),
    (Model(when=datetime(2026, 1, 2, tzinfo=UTC)), {"when": "2026-01-02T00:00:00Z"}),
    (UUID(int=5), str(UUID(int=5))),
]


@pytest.mark.parametrize(("value", "stored"), VALUES, ids=lambda value: type(value).__name__)
async def test_json_values_go_through_unchanged(queue: Queue[Any, Any], value: Any, stored: Any) -> None:
    """E16"""
    await queue.add("a", value)

    assert (await take(queue)).data == stored


async def test_a_delayed_job_waits(queue: Queue[Any, Any]) -> None:
    job = await queue.add("a", delay=timedelta(seconds=5))

    assert (await job.state(), job.delay) == (JobState.DELAYED, 5000)


async def test_a_job_with_priority_is_prioritized(queue: Queue[Any, Any]) -> None:
    """E81"""
    job = await queue.add("a", priority=3)

    assert (await job.state(), job.priority) == (JobState.PRIORITIZED, 3)


async def test_jobs_run_in_the_order_of_adding_and_lifo_ones_first(queue: Queue[Any, Any]) -> None:
    for name in ("first", "second"):
        await queue.add(name)
    await queue.add("last in", lifo=True)

    assert [(await take(queue)).name for _ in range(3)] == ["last in", "first", "second"]


async def test_a_creation_time_can_be_given(queue: Queue[Any, Any]) -> None:
    when = datetime(2026, 1, 2, tzinfo=UTC)

    jobs = [await queue.add("a", timestamp=when), await queue.add("a", timestamp=1_767_312_000_000)]

    assert [job.timestamp for job in jobs] == [1_767_312_000_000] * 2


async def test_every_option_is_stored_under_its_name_on_the_wire(queue: Queue[Any, Any], redis_client: Any) -> None:
    job = await queue.add(
        "a",
        job_id="x",
        delay=1000,
        priority=2,
        attempts=4,
        backoff=Backoff.exponential(2000, jitter=0.5),
        lifo=True,
        remove_on_complete=Retention(age=timedelta(hours=1), count=5),
        remove_on_fail=True,
        keep_logs=7,
        stack_trace_limit=2,
        deduplication=Deduplication(id="d", ttl=1000),
    )

    stored = json.loads((await hash_of(redis_client, queue, job.id))["opts"])
    assert stored == {
        "jobId": "x",
        "delay": 1000,
        "priority": 2,
        "attempts": 4,
        "backoff": {"type": "exponential", "delay": 2000, "jitter": 0.5},
        "lifo": True,
        "removeOnComplete": {"age": 3600, "count": 5},
        "removeOnFail": True,
        "kl": 7,
        "stackTraceLimit": 2,
        "de": {"id": "d", "ttl": 1000},
    }


async def test_options_may_be_given_as_one_object(queue: Queue[Any, Any]) -> None:
    options = JobOptions.model_validate({"removeOnComplete": True, "attempts": 3})

    job = await queue.add("a", 1, options)

    assert (job.options.remove_on_complete, job.options.attempts) == (True, 3)


async def test_options_may_not_be_given_twice(queue: Queue[Any, Any]) -> None:
    with pytest.raises(ConfigurationError, match="priority"):
        await queue.add("a", 1, JobOptions(attempts=3), priority=1)


async def test_the_queues_defaults_hold_unless_the_job_says_otherwise(source: ConnectionSource, prefix: str) -> None:
    """E19"""
    defaults = JobOptions(attempts=3, backoff=1000, job_id="never inherited")
    async with Queue[Any, Any]("q", connection=source, prefix=prefix, default_job_options=defaults) as queue:
        plain = await queue.add("a")
        other = await queue.add("a", attempts=1)

    assert (plain.id, plain.options.attempts, plain.options.backoff) == ("1", 3, Backoff.fixed(1000))
    assert (other.id, other.options.attempts, other.options.backoff) == ("2", 1, Backoff.fixed(1000))


async def test_a_child_is_linked_to_an_existing_parent(queue: Queue[Any, Any], redis_client: Any) -> None:
    parent = await queue.add("parent")

    child = await queue.add("child", parent={"id": parent.id, "queue": f"{queue.options.prefix}:{queue.name}"})

    assert child.parent is not None
    assert (child.parent.id, child.parent.queue) == ("1", f"{queue.options.prefix}:{queue.name}")
    base = f"{queue.options.prefix}:{queue.name}:"
    assert await redis_client.smembers(f"{base}1:dependencies") == {f"{base}2"}


async def test_a_parent_that_does_not_exist_is_an_error(queue: Queue[Any, Any]) -> None:
    """E11"""
    with pytest.raises(ParentNotFound):
        await queue.add("child", parent={"id": "missing", "queue": f"{queue.options.prefix}:{queue.name}"})

    assert await queue.jobs.count() == 0


async def test_a_deduplicated_add_returns_the_owner(queue: Queue[Any, Any]) -> None:
    first = await queue.add("a", 1, deduplication={"id": "d"})
    second = await queue.add("a", 2, deduplication={"id": "d"})

    assert (second.id, second.add_status) == (first.id, AddStatus.DEDUPLICATED)
    assert await queue.jobs.deduplication_owner("d") == first.id


async def test_a_replaced_job_says_so(queue: Queue[Any, Any]) -> None:
    options = JobOptions(delay=9000, deduplication=Deduplication(id="d", replace=True))
    await queue.add("a", 1, options)

    second = await queue.add("a", 2, options)

    assert second.add_status is AddStatus.REPLACED
    assert [job.data for job in await queue.jobs.list("delayed")] == [2]


async def test_the_first_use_describes_the_queue(queue: Queue[Any, Any]) -> None:
    """E8"""
    await queue.add("a")

    meta = await queue.meta()
    assert meta.max_len_events == 10_000
    assert meta.version.startswith("pyqueue:")


async def test_a_reading_tool_can_leave_the_description_alone(
    source: ConnectionSource, prefix: str, redis_client: Any
) -> None:
    """E8"""
    options: Mapping[str, Any] = {"connection": source, "prefix": prefix, "skip_metas_update": True}
    async with Queue[Any, Any]("q", **options) as queue:
        await queue.jobs.counts()
        await queue.pause()
        assert (await queue.meta()).version == ""

    assert (await dump(redis_client, f"{prefix}:q:meta"))[""].value == {"paused": "1"}


async def test_the_length_of_the_event_stream_can_be_chosen(source: ConnectionSource, prefix: str) -> None:
    async with Queue[Any, Any]("q", connection=source, prefix=prefix, max_len_events=5) as queue:
        await queue.add("a")
        assert (await queue.meta()).max_len_events == 5


async def test_options_may_be_a_dictionary_with_bullmqs_names(queue: Queue[Any, Any]) -> None:
    one = await queue.add("a", {}, {"attempts": 2, "removeOnComplete": True})

    assert one.options.attempts == 2
    assert one.options.remove_on_complete is True


async def test_a_bad_option_in_a_dictionary_is_named(queue: Queue[Any, Any]) -> None:
    with pytest.raises(ConfigurationError, match="attemps"):
        await queue.add("a", {}, {"attemps": 2})
