"""Durations: timedelta or integer milliseconds; timeouts: seconds or timedelta."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest

from pyqueue.durations import MAX_SAFE_INTEGER, milliseconds, seconds, whole_seconds


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0),
        (1500, 1500),
        (timedelta(seconds=5), 5000),
        (timedelta(days=400), 34_560_000_000),
        (timedelta(microseconds=1499), 1),
        (MAX_SAFE_INTEGER, MAX_SAFE_INTEGER),
    ],
)
def test_a_duration_is_milliseconds(value: object, expected: int) -> None:
    assert milliseconds(value, "delay") == expected


@pytest.mark.parametrize("value", [True, 1.0, 0.5, math.nan, math.inf, "5", None, [1], -1, MAX_SAFE_INTEGER + 1])
def test_anything_else_is_refused_with_name_and_value(value: object) -> None:
    with pytest.raises(ValueError, match=r"^delay is ") as caught:
        milliseconds(value, "delay")
    assert repr(value) in str(caught.value)


def test_bounds_can_be_narrowed() -> None:
    assert milliseconds(-1, "delay", minimum=-1) == -1
    with pytest.raises(ValueError, match="between 1 and 10"):
        milliseconds(timedelta(), "delay", minimum=1, maximum=10)


def test_ages_are_whole_seconds() -> None:
    assert whole_seconds(timedelta(days=1), "age") == 86_400
    assert whole_seconds(10, "age") == 10
    with pytest.raises(ValueError, match=r"age is 1\.5"):
        whole_seconds(1.5, "age")
    assert whole_seconds(-1, "age") == -1
    with pytest.raises(ValueError, match=f"age is {2**53 + 1}"):
        whole_seconds(2**53 + 1, "age")


@pytest.mark.parametrize(("value", "expected"), [(None, None), (0, 0.0), (1.5, 1.5), (timedelta(minutes=1), 60.0)])
def test_timeouts_are_seconds(value: object, expected: float | None) -> None:
    assert seconds(value) == expected


@pytest.mark.parametrize("value", [-1, math.nan, True, "1", timedelta(seconds=-1)])
def test_a_bad_timeout_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="timeout is"):
        seconds(value)


def test_a_long_value_is_shortened_in_the_message() -> None:
    with pytest.raises(ValueError, match="delay is") as caught:
        milliseconds("x" * 1000, "delay")
    assert len(str(caught.value)) < 200
