"""The arithmetic of backoffs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyqueue.backoff import delay_ms
from pyqueue.durations import MAX_SAFE_INTEGER
from pyqueue.options import Backoff


def never() -> float:
    raise AssertionError("drawn without need")


def test_without_a_backoff_the_retry_is_at_once() -> None:
    assert delay_ms(None, 1, never) == 0


@pytest.mark.parametrize("attempts_made", [1, 2, 10])
def test_a_fixed_backoff_is_the_same_each_time(attempts_made: int) -> None:
    assert delay_ms(Backoff.fixed(500), attempts_made, never) == 500


@pytest.mark.parametrize(
    ("attempts_made", "expected"), [(0, 100), (1, 100), (2, 200), (3, 400), (4, 800), (11, 102_400)]
)
def test_an_exponential_backoff_doubles(attempts_made: int, expected: int) -> None:
    assert delay_ms(Backoff.exponential(100), attempts_made, never) == expected


def test_no_wait_exceeds_what_redis_can_represent() -> None:
    assert delay_ms(Backoff.exponential(1), 5_000_000, never) == MAX_SAFE_INTEGER
    assert delay_ms(Backoff.exponential(0), 5_000_000, never) == 0


@pytest.mark.parametrize(("random", "expected"), [(0.0, 500), (0.5, 750), (0.999, 999)])
def test_jitter_spreads_the_wait_downwards(random: float, expected: int) -> None:
    assert delay_ms(Backoff.fixed(1000, jitter=0.5), 1, lambda: random) == expected


def test_full_jitter_reaches_down_to_nothing() -> None:
    assert delay_ms(Backoff.exponential(1000, jitter=1), 2, lambda: 0.0) == 0


def test_no_jitter_draws_nothing() -> None:
    assert delay_ms(Backoff.fixed(10, jitter=0), 1, never) == 10


@given(
    delay=st.integers(0, 10**9),
    jitter=st.floats(0, 1),
    attempts_made=st.integers(1, 100),
    random=st.floats(0, 1, exclude_max=True),
)
def test_a_jittered_wait_stays_in_its_range(delay: int, jitter: float, attempts_made: int, random: float) -> None:
    full = delay_ms(Backoff.exponential(delay), attempts_made, never)
    wait = delay_ms(Backoff.exponential(delay, jitter=jitter), attempts_made, lambda: random)

    # One unit for the floor, the rest for doubles near 2**53.
    assert full * (1 - jitter) - 1 - full * 1e-12 <= wait <= full + 1


def test_a_fraction_stored_by_another_client_is_multiplied_before_it_is_rounded() -> None:
    stored = Backoff.exponential(0).model_copy(update={"delay": 0.5})

    assert [delay_ms(stored, attempt, never) for attempt in (1, 2, 3)] == [1, 1, 2]


def test_a_custom_backoff_is_not_computed_here() -> None:
    with pytest.raises(ValueError, match="backoff type is 'moon'"):
        delay_ms(Backoff.custom("moon"), 1, never)
