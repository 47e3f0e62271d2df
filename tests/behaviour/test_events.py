"""QueueEvents: typed events in order, over broken entries and broken connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from pyqueue import ConfigurationError, Queue, QueueEvents, Unrecoverable
from pyqueue.events import (
    AddedEvent,
    AnyEvent,
    BrokenEvent,
    CompletedEvent,
    CustomEvent,
    DelayedEvent,
    Event,
    FailedEvent,
    MovedEvent,
    ProgressEvent,
    RetriesExhaustedEvent,
)
from pyqueue.queue import ConnectionSource
from tests.support.proxy import Mode, Proxy
from tests.support.server import RedisServer

pytestmark = [pytest.mark.anyio, pytest.mark.every_backend]

AnyQueue = Queue[Any, Any]


@pytest.fixture
async def events(source: ConnectionSource, prefix: str) -> AsyncIterator[QueueEvents]:
    """A reader of the queue `q`, from now on."""
    async with QueueEvents("q", connection=source, prefix=prefix) as events:
        yield events


async def take(events: QueueEvents, count: int) -> list[AnyEvent]:
    """The next events."""
    taken: list[AnyEvent] = []
    async with asyncio.timeout(10):
        async for event in events:
            taken.append(event)
            if len(taken) == count:
                return taken
    return taken


async def test_a_completed_job_tells_its_story_in_order(
    queue: AnyQueue, events: QueueEvents, start_worker: Any
) -> None:
    """E229."""

    async def process(job: Any) -> Any:
        await job.update_progress({"percent": 50})
        return {"sent": True}

    job = await queue.add("mail", {"to": "a"})
    await start_worker(process)

    story = await take(events, 6)

    assert [(event.name, event.job_id) for event in story] == [
        ("added", job.id),
        ("waiting", job.id),
        ("active", job.id),
        ("progress", job.id),
        ("completed", job.id),
        ("drained", ""),
    ]
    assert story[0] == AddedEvent(story[0].entry_id, "added", job.id, "mail")
    assert story[2] == MovedEvent(story[2].entry_id, "active", job.id, "waiting")
    assert story[3] == ProgressEvent(story[3].entry_id, "progress", job.id, {"percent": 50})
    assert story[4] == CompletedEvent(story[4].entry_id, "completed", job.id, {"sent": True})
    assert type(story[5]) is Event
    assert all(event.timestamp_ms > 1_700_000_000_000 for event in story)


async def test_a_failed_job_tells_why(queue: AnyQueue, events: QueueEvents, start_worker: Any) -> None:
    """E229."""

    async def process(job: Any) -> None:
        raise Unrecoverable("no such address")

    job = await queue.add("mail")
    await start_worker(process)

    story = {event.name: event for event in await take(events, 5)}

    assert story["failed"] == FailedEvent(story["failed"].entry_id, "failed", job.id, "no such address")
    exhausted = story["retries-exhausted"]
    assert exhausted == RetriesExhaustedEvent(exhausted.entry_id, "retries-exhausted", job.id, 1)


async def test_a_delayed_job_tells_when_it_is_due(queue: AnyQueue, events: QueueEvents) -> None:
    job = await queue.add("later", delay=60_000)

    delayed = (await take(events, 2))[1]

    assert isinstance(delayed, DelayedEvent)
    assert delayed.due_ms == job.timestamp + 60_000


async def test_reading_begins_where_it_is_told_to(queue: AnyQueue, source: ConnectionSource, prefix: str) -> None:
    await queue.add("one")
    await queue.add("two")

    async with QueueEvents("q", connection=source, prefix=prefix, last_event_id="0") as all_events:
        first = await take(all_events, 2)
        place = all_events.last_event_id
    async with QueueEvents("q", connection=source, prefix=prefix, last_event_id=place) as the_rest:
        second = await take(the_rest, 2)

    assert [getattr(event, "job_name", "") for event in first + second] == ["one", "", "two", ""]


async def test_a_broken_entry_is_handed_out_as_such_and_reading_goes_on(
    queue: AnyQueue, events: QueueEvents, redis_client: Redis, prefix: str
) -> None:
    stream = f"{prefix}:q:events"
    await redis_client.xadd(stream, {"event": "completed", "jobId": "1", "returnvalue": "{broken"})
    await redis_client.xadd(stream, {"nothing": "of ours"})
    await queue.pause()

    broken, foreign, paused = await take(events, 3)

    assert isinstance(broken, BrokenEvent)
    assert broken.fields["returnvalue"] == "{broken"
    assert isinstance(foreign, CustomEvent)
    assert paused.name == "paused"


async def test_custom_events_travel_with_their_fields(queue: AnyQueue, events: QueueEvents) -> None:
    """E233."""
    entry_id = await queue.publish_event("promoted", {"by": "ann", "jobId": "7"})

    assert await take(events, 1) == [CustomEvent(entry_id, "promoted", "7", {"by": "ann", "jobId": "7"})]


async def test_custom_events_are_capped(queue: AnyQueue, redis_client: Redis, prefix: str) -> None:
    """E233."""
    for number in range(300):
        await queue.publish_event("tick", {"n": str(number)}, max_events=10)

    assert await redis_client.xlen(f"{prefix}:q:events") < 300


@pytest.mark.parametrize(("name", "fields"), [("", {}), ("x", {"": "v"}), ("x", {"n": 1})])
async def test_custom_events_without_name_or_with_other_values_than_text_are_refused(
    queue: AnyQueue, name: str, fields: dict[str, Any]
) -> None:
    with pytest.raises((ConfigurationError, ValueError)):
        await queue.publish_event(name, fields)


async def test_closing_ends_the_reading(queue: AnyQueue, events: QueueEvents) -> None:
    """E235."""
    reading = asyncio.create_task(take(events, 1))
    await asyncio.sleep(0)

    await events.close()
    await events.close()

    async with asyncio.timeout(5):
        assert await reading == []


@pytest.mark.needs_server
async def test_a_broken_connection_loses_no_event(server: RedisServer, prefix: str) -> None:
    async with (
        Proxy.to(server.port) as proxy,
        Queue[Any, Any]("q", connection=server.url, prefix=prefix) as queue,
        QueueEvents("q", connection=proxy.url, prefix=prefix, blocking_timeout=200) as events,
    ):
        reading = asyncio.create_task(take(events, 8))
        await queue.add("a")
        proxy.cut()
        await queue.add("b")
        proxy.cut()
        proxy.mode = Mode.LOSE_REPLIES
        await queue.add("c")
        proxy.cut()
        proxy.mode = Mode.PASS
        await queue.add("d")

        names = [getattr(event, "job_name", None) for event in await reading]

    assert names == ["a", None, "b", None, "c", None, "d", None]
