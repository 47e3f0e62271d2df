"""RateLimiter: exact over any sliding window, over all instances, bounded in memory."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyqueue import ConfigurationError, RateLimiter, RateLimitExceeded
from pyqueue._redis.connection import Connection
from pyqueue.queue import ConnectionSource
from tests.support.waiting import wait_until

pytestmark = pytest.mark.anyio


class SteppingClock:
    """A clock that the test sets."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self.now = now_ms

    def now_ms(self) -> int:
        return self.now


@pytest.fixture
async def limiter(source: ConnectionSource, prefix: str) -> AsyncIterator[RateLimiter]:
    """Three per minute."""
    async with RateLimiter(3, timedelta(minutes=1), prefix, connection=source) as opened:
        yield opened


async def test_points_are_consumed_until_the_limit_and_the_error_tells_the_wait(limiter: RateLimiter) -> None:
    for _ in range(3):
        await limiter.consume("ada")

    with pytest.raises(RateLimitExceeded, match=r"limit of 3 per 60000 ms for 'ada' is reached. Wait") as refusal:
        await limiter.consume("ada")

    assert refusal.value.key == "ada"
    assert 0 < refusal.value.wait_ms <= 60_000


async def test_a_refused_call_consumes_nothing(limiter: RateLimiter) -> None:
    await limiter.consume("ada", 2)

    with pytest.raises(RateLimitExceeded):
        await limiter.consume("ada", 2)

    await limiter.consume("ada", 1)


async def test_after_the_wait_of_the_error_the_points_are_free(source: ConnectionSource, prefix: str) -> None:
    async with RateLimiter(2, 1000, prefix, connection=source) as limiter:
        await limiter.consume("ada", 2)
        with pytest.raises(RateLimitExceeded) as refusal:
            await limiter.consume("ada", 2)

        await anyio.sleep(refusal.value.wait_ms / 1000)
        await limiter.consume("ada", 2)


async def test_keys_and_prefixes_have_limits_of_their_own(
    limiter: RateLimiter, source: ConnectionSource, prefix: str
) -> None:
    await limiter.consume("ada", 3)
    await limiter.consume("bob", 3)
    async with RateLimiter(3, 1000, f"{prefix}-other", connection=source) as other:
        await other.consume("ada", 3)


async def test_instances_share_a_limit(limiter: RateLimiter, source: ConnectionSource, prefix: str) -> None:
    async with RateLimiter(3, 60_000, prefix, connection=source) as other:
        await limiter.consume("ada", 2)
        await other.consume("ada")

        with pytest.raises(RateLimitExceeded):
            await other.consume("ada")


async def test_renewed_points_count_from_then_on(redis_url: str, prefix: str) -> None:
    clock = SteppingClock()
    async with RateLimiter(2, 1000, prefix, connection=redis_url, clock=clock) as limiter:
        first = await limiter.consume("ada")
        clock.now += 100
        await limiter.consume("ada")
        clock.now += 400
        await limiter.renew(first)

        clock.now += 599  # a second after the second one, half a second after what became of the first
        with pytest.raises(RateLimitExceeded) as refusal:
            await limiter.consume("ada")
        assert refusal.value.wait_ms == 1
        clock.now += 1
        await limiter.consume("ada")
        with pytest.raises(RateLimitExceeded) as refusal:
            await limiter.consume("ada")
        assert refusal.value.wait_ms == 400


async def test_a_reset_forgets_what_was_consumed(limiter: RateLimiter) -> None:
    await limiter.consume("ada", 3)
    await limiter.reset("ada")

    await limiter.consume("ada", 3)


async def test_a_borrowed_client_stays_open(limiter: RateLimiter, redis_client: Any, prefix: str) -> None:
    async with RateLimiter(3, 60_000, prefix, connection=redis_client) as borrowed:
        await borrowed.consume("ada", 3)

    assert await redis_client.ping()
    with pytest.raises(RateLimitExceeded):
        await limiter.consume("ada")


async def test_an_unused_key_leaves_nothing_behind(source: ConnectionSource, prefix: str, redis_client: Any) -> None:
    async with RateLimiter(2, 50, prefix, connection=source) as limiter:
        await limiter.consume("ada")

        async def is_gone() -> bool:
            return not await redis_client.exists(f"{prefix}:ada")

        await wait_until(is_gone)


async def test_a_key_never_holds_more_entries_than_points(
    source: ConnectionSource, prefix: str, redis_client: Any
) -> None:
    clock = SteppingClock()
    async with RateLimiter(5, 1000, prefix, connection=source, clock=clock) as limiter:
        for _ in range(20):
            await limiter.consume("ada", 3)
            clock.now += 1000

    assert await redis_client.llen(f"{prefix}:ada") == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1000, "p"), "points is 0: give an integer from 1 to 100000"),
        ((100_001, 1000, "p"), "points is 100001"),
        ((True, 1000, "p"), "points is True"),
        ((1.5, 1000, "p"), "points is 1.5"),
        ((3, 0, "p"), "duration is 0: it must be between 1 and"),
        ((3, 1.5, "p"), "duration is 1.5: give a timedelta or an integer number of milliseconds"),
        ((3, 1000, ""), "prefix is empty"),
    ],
)
def test_bad_arguments_are_refused_with_the_remedy(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        RateLimiter(*arguments, connection="memory://refused")


@pytest.mark.parametrize(
    ("key", "points", "message"),
    [
        ("ada", 4, "points is 4: give an integer from 1 to 3"),
        ("ada", 0, "points is 0"),
        ("", 1, "key is empty"),
    ],
)
async def test_what_can_never_be_consumed_is_refused(limiter: RateLimiter, key: str, points: int, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        await limiter.consume(key, points)


Step = tuple[int, int]
"""Milliseconds that pass, then points to consume."""

_steps = st.lists(st.tuples(st.integers(0, 700), st.integers(1, 4)), min_size=1, max_size=40)


@given(steps=_steps)
@settings(max_examples=60)
def test_it_decides_as_a_list_of_all_that_was_consumed_would(steps: list[Step]) -> None:
    """Against a model with unlimited memory: neither a point too many in any window, nor one refused for nothing."""
    anyio.run(_compare_with_model, steps)


async def _compare_with_model(steps: list[Step]) -> None:
    points, window = 4, 1000
    clock = SteppingClock()
    consumed: list[int] = []
    connection = Connection.open(f"memory://model-{next(_names)}")
    limiter = RateLimiter(points, window, "model", connection=connection, clock=clock)
    for passed, wanted in steps:
        clock.now += passed
        recent = [at for at in consumed if at > clock.now - window]
        fits = len(recent) + wanted <= points
        if fits:
            await limiter.consume("key", wanted)
            consumed += [clock.now] * wanted
        else:
            with pytest.raises(RateLimitExceeded) as refusal:
                await limiter.consume("key", wanted)
            leaving = recent[len(recent) + wanted - points - 1]
            assert refusal.value.wait_ms == leaving + window - clock.now
    await connection.aclose()


_names = itertools.count()


@pytest.mark.needs_server
async def test_many_at_once_never_exceed_the_limit_in_any_window(source: ConnectionSource, prefix: str) -> None:
    """Ten instances that all try as fast as they can; the server's own times are the judge."""
    points, window_ms = 20, 100
    async with RateLimiter(points, window_ms, prefix, connection=source) as limiter:
        granted: set[int] = set()
        enough = 4 * points

        async def grab() -> None:
            while len(granted) < enough:
                try:
                    await limiter.consume("key")
                except RateLimitExceeded as refusal:
                    await anyio.sleep(refusal.wait_ms / 1000)
                else:
                    entries = await limiter._connection.commands.execute("LRANGE", f"{prefix}:key", 0, -1)
                    granted.update(int(entry) for entry in entries)

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(grab)

    times = sorted(granted)
    crowded = [times[i + points] - times[i] for i in range(len(times) - points)]
    assert len(times) >= enough
    assert all(distance >= window_ms * 1000 for distance in crowded)
