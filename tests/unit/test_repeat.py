"""The rule of a scheduler: what is read from jobs of any client, and which slot comes next."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pyqueue.errors import ConfigurationError
from pyqueue.repeat import DECIDED_BY_REDIS, Repeat, RepeatOptions

NOW = 1_700_000_000_000
HOUR_MS = 3_600_000


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def test_durations_and_moments_are_milliseconds() -> None:
    end = datetime(2030, 1, 1, tzinfo=UTC)
    options = RepeatOptions(every=timedelta(minutes=1), offset=timedelta(seconds=2), start_date=NOW, end_date=end)
    assert (options.every, options.offset, options.start_date) == (60_000, 2000, NOW)
    assert options.end_date == ms("2030-01-01")


def test_camel_case_is_accepted() -> None:
    assert RepeatOptions.model_validate({"pattern": "@daily", "startDate": NOW, "endDate": NOW + 1}).start_date == NOW


def test_the_rule_travels_as_it_was_given() -> None:
    given = Repeat.of(RepeatOptions(pattern="0 9 * * 1-5", tz="Europe/Berlin", limit=3, end_date=NOW))
    stored = {"pattern": "0 9 * * 1-5", "tz": "Europe/Berlin", "limit": 3, "endDate": NOW, "count": 1}
    assert given.counted(1) == stored
    read = Repeat.read({**stored, "count": 2, "jobKey": "other", "immediately": True})
    assert (read.pattern, read.tz, read.limit, read.end_ms, read.count) == ("0 9 * * 1-5", "Europe/Berlin", 3, NOW, 2)
    assert read.counted(3) == {**stored, "jobKey": "other", "count": 3}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (NOW, NOW),
        (str(NOW), NOW),
        (float(NOW), NOW),
        ("2023-11-14T22:13:20.000Z", NOW),
        ("2023-11-14T23:13:20+01:00", NOW),
        ("2023-11-14T22:13:20", NOW),
        ("nonsense", 0),
        (None, 0),
        ([], 0),
    ],
)
def test_moments_are_read_as_any_client_stores_them(value: Any, expected: int) -> None:
    assert Repeat.read({"every": 5, "startDate": value}).start_ms == expected


@pytest.mark.parametrize("stored", [{}, {"every": 0}, {"every": 5, "pattern": "* * * * *"}, {"every": "x"}])
def test_a_rule_without_a_rule_is_refused(stored: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="either every or pattern"):
        Repeat.read(stored)


def test_slots_of_an_interval_are_decided_by_redis() -> None:
    assert Repeat(every=1000).next_slot(NOW) == DECIDED_BY_REDIS


def test_the_next_slot_of_a_pattern_is_after_now_the_last_one_and_the_start() -> None:
    hourly = Repeat(pattern="0 * * * *", tz="UTC")
    assert hourly.next_slot(NOW) == ms("2023-11-14T23:00")
    assert hourly.next_slot(NOW, ms("2023-11-14T23:00")) == ms("2023-11-15T00:00")
    assert Repeat(pattern="0 * * * *", tz="UTC", start_ms=NOW + 5 * HOUR_MS).next_slot(NOW) == ms("2023-11-15T04:00")


def test_a_pattern_ends_at_its_end() -> None:
    at = ms("2023-11-14T23:00")
    assert Repeat(pattern="0 * * * *", tz="UTC", end_ms=at).next_slot(NOW) == at
    assert Repeat(pattern="0 * * * *", tz="UTC", end_ms=at - 1).next_slot(NOW) is None


def test_a_schedule_is_over_after_its_limit_or_end() -> None:
    assert not Repeat(every=5, limit=2).is_over(2, NOW)
    assert Repeat(every=5, limit=2).is_over(3, NOW)
    assert not Repeat(every=5, end_ms=NOW).is_over(9, NOW)
    assert Repeat(every=5, end_ms=NOW - 1).is_over(9, NOW)
