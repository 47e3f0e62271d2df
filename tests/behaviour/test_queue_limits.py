"""queue.limits, queue.meta, queue.is_maxed: limits that hold over all workers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from pyqueue import ConfigurationError, Queue, RateLimit
from pyqueue._store.settling import ClaimRequest, ExchangeReply, settle_and_claim
from tests.support.by_hand import take

pytestmark = pytest.mark.anyio


async def claim(queue: Queue[Any, Any], count: int) -> ExchangeReply:
    return await settle_and_claim(queue._store, [], ClaimRequest(count, "t", 0))


async def test_without_limits_there_are_none(queue: Queue[Any, Any]) -> None:
    assert await queue.limits.get() == (None, None)
    assert not await queue.is_maxed()
    assert await queue.limits.ttl() == -2


async def test_the_concurrency_holds_over_all_workers(queue: Queue[Any, Any]) -> None:
    """E76, E9"""
    await queue.add_bulk([{"name": "a"}] * 5)
    await queue.limits.set_concurrency(2)

    job = await take(queue)
    assert not await queue.is_maxed()
    assert len((await claim(queue, 5)).claimed) == 1
    assert await queue.is_maxed()
    assert (await queue.limits.get()).concurrency == 2
    assert (await queue.meta()).limits.concurrency == 2

    await job.move_to_completed(1)
    assert not await queue.is_maxed()
    await queue.limits.remove_concurrency()
    assert len((await claim(queue, 5)).claimed) == 3


async def test_the_rate_holds_over_all_workers(queue: Queue[Any, Any]) -> None:
    """E9"""
    await queue.add_bulk([{"name": "a"}] * 5)
    await queue.limits.set_rate(2, timedelta(minutes=1))

    assert len((await claim(queue, 5)).claimed) == 2
    assert (await claim(queue, 5)).limit_ms > 50_000
    assert await queue.limits.ttl() > 50_000
    assert await queue.limits.ttl(3) == 0
    assert (await queue.limits.get()).rate == RateLimit(max=2, duration=60_000)

    await queue.limits.remove_rate()
    assert len((await claim(queue, 5)).claimed) == 3
    assert (await queue.limits.get()).rate is None


async def test_a_closed_limiter_is_opened_by_time_or_by_hand(queue: Queue[Any, Any]) -> None:
    await queue.add("a")
    await queue.limits.set_rate(100, 1000)

    await queue.limits.pause_for(timedelta(minutes=1))
    assert 50_000 < await queue.limits.ttl() <= 60_000
    assert (await claim(queue, 1)).claimed == []
    assert await queue.limits.resume()

    assert not await queue.limits.resume()
    assert len((await claim(queue, 1)).claimed) == 1


@pytest.mark.parametrize("concurrency", [0, -1, 1.5, True, "2"])
async def test_a_bad_concurrency_is_refused(queue: Queue[Any, Any], concurrency: Any) -> None:
    with pytest.raises(ConfigurationError, match="concurrency"):
        await queue.limits.set_concurrency(concurrency)


@pytest.mark.parametrize(("maximum", "duration", "match"), [(0, 1000, "max"), (1, 0, "duration"), (1, -1, "duration")])
async def test_a_bad_rate_is_refused(queue: Queue[Any, Any], maximum: Any, duration: Any, match: str) -> None:
    with pytest.raises(ConfigurationError, match=match):
        await queue.limits.set_rate(maximum, duration)


async def test_limits_that_another_client_stored_wrongly_count_as_none(
    queue: Queue[Any, Any], redis_client: Any
) -> None:
    meta = {"concurrency": "many", "max": "5", "duration": "-1", "opts.maxLenEvents": "x"}
    await redis_client.hset(f"{queue.options.prefix}:{queue.name}:meta", mapping=meta)

    assert await queue.limits.get() == (None, None)
    assert (await queue.meta()).max_len_events == 0
