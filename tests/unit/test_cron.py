"""Cron patterns: what is read, what is refused, and the cases worth telling apart. The rest is in tests/cron."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from cronsim import CronSim, CronSimError
from hypothesis import given
from hypothesis import strategies as st

from pyqueue.cron import Cron
from pyqueue.errors import ConfigurationError
from pyqueue.time_zones import local_time_zone, time_zone


def firings(pattern: str, start: str, count: int = 3, zone: str = "UTC") -> list[str]:
    """Local times of the next firings after a local time."""
    tz = time_zone(zone)
    moment = round(datetime.fromisoformat(start).replace(tzinfo=tz).timestamp() * 1000)
    cron, found = Cron.parse(pattern), []
    for _ in range(count):
        following = cron.next_ms(moment, tz)
        assert following is not None
        found.append(datetime.fromtimestamp(following / 1000, tz).isoformat(timespec="minutes"))
        moment = following
    return found


@pytest.mark.parametrize(
    ("pattern", "part"),
    [
        ("", "0 fields"),
        ("* * * *", "4 fields"),
        ("* * * * * * *", "7 fields"),
        ("@noon", "the aliases are @yearly"),
        ("60 * * * *", "minute is '60'; give 0 to 59"),
        ("* 24 * * *", "hour is '24'; give 0 to 23"),
        ("* * 0 * *", "day of month is '0'; give 1 to 31"),
        ("* * * 13 *", "month is '13'; give 1 to 12 or jan feb"),
        ("* * * * 8", "day of week is '8'; give 0 to 7 or sun mon"),
        ("* * * * 6-1", "the range runs backwards"),
        ("*/0 * * * *", "the step is 0"),
        ("1,1 * * * *", "1 is given twice"),
        ("H * * * *", "H, a value chosen by hash, is not supported"),
        ("H/5 * * * *", "not supported"),
        ("* * LW * *", "day of month is 'LW'"),
        ("* * * * L", "day of week is 'L'"),
        ("* * * * 1#6", "day of week is '1#6'"),
        ("0 0 30 2 *", "never comes true"),
        ("0 0 31 4,6,9,11 *", "never comes true"),
        ("1-2-3 * * * *", "minute is '1-2-3'"),
        ("\uff11 * * * *", "minute is"),  # a digit, not an ASCII one
    ],
)
def test_a_bad_pattern_is_refused_with_its_reason(pattern: str, part: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Cron.parse(pattern)
    assert part in str(caught.value)
    assert repr(pattern) in str(caught.value)


def test_day_of_month_and_day_of_week_together_mean_either() -> None:
    assert firings("0 9 13 * 5", "2026-02-06T12:00") == [
        "2026-02-13T09:00+00:00",
        "2026-02-20T09:00+00:00",
        "2026-02-27T09:00+00:00",
    ]
    assert firings("0 9 13 * 5", "2026-01-09T09:00", 1) == ["2026-01-13T09:00+00:00"]


def test_leap_days_are_found_over_a_century_without_one() -> None:
    assert firings("0 0 29 2 *", "2096-03-01T00:00", 1) == ["2104-02-29T00:00+00:00"]
    assert firings("0 0 31 2 1#5", "2026-01-01T00:00", 2) == ["2044-02-29T00:00+00:00", "2072-02-29T00:00+00:00"]


def test_a_skipped_hour_fires_in_the_next_one_and_a_repeated_one_once() -> None:
    berlin = "Europe/Berlin"
    assert firings("30 2 * * *", "2026-03-28T12:00", 2, berlin) == ["2026-03-29T03:30+02:00", "2026-03-30T02:30+02:00"]
    assert firings("30 2 * * *", "2026-10-24T12:00", 2, berlin) == ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]
    assert firings("30 * * * *", "2026-10-25T01:45", 3, berlin) == [
        "2026-10-25T02:30+02:00",
        "2026-10-25T02:30+01:00",
        "2026-10-25T03:30+01:00",
    ]


def test_a_change_by_half_an_hour_stops_nothing() -> None:
    lord_howe = "Australia/Lord_Howe"  # 2:00 becomes 2:30 in October, 1:30 in April
    assert firings("15 2 * * *", "2026-10-03T12:00", 2, lord_howe) == [
        "2026-10-04T03:15+11:00",
        "2026-10-05T02:15+11:00",
    ]
    assert firings("*/20 * * * *", "2026-04-05T01:30", 4, lord_howe) == [
        "2026-04-05T01:40+11:00",
        "2026-04-05T01:40+10:30",
        "2026-04-05T02:00+10:30",
        "2026-04-05T02:20+10:30",
    ]
    assert firings("45 1 * * *", "2026-04-04T12:00", 2, lord_howe) == [
        "2026-04-05T01:45+11:00",
        "2026-04-06T01:45+10:30",
    ]


def test_every_minute_of_a_year_in_lord_howe_is_a_minute() -> None:
    tz, cron = time_zone("Australia/Lord_Howe"), Cron.parse("* * * * *")
    for start in (datetime(2026, 4, 4, 14, tzinfo=UTC), datetime(2026, 10, 3, 14, tzinfo=UTC)):
        moment = round(start.timestamp() * 1000)
        for _ in range(240):
            assert cron.next_ms(moment, tz) == moment + 60_000
            moment += 60_000


def test_time_zones_are_found_by_name_and_offset() -> None:
    moment = datetime(2026, 7, 1, 12, tzinfo=UTC)
    offsets = {"utc": 0, "UTC+2": 2, "UTC-03:30": -3.5, "europe/berlin": 2, "Asia/Kolkata": 5.5, "US/Pacific": -7}
    for name, hours in offsets.items():
        assert moment.astimezone(time_zone(name)).utcoffset() == timedelta(hours=hours)


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "../../etc/passwd", "+02:00", "/etc/localtime"])
def test_an_unknown_time_zone_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="no such time zone"):
        time_zone(name)


def test_the_time_zone_of_the_machine_is_that_of_tz(monkeypatch: pytest.MonkeyPatch) -> None:
    local_time_zone.cache_clear()
    try:
        monkeypatch.setenv("TZ", "Asia/Tokyo")
        assert str(local_time_zone()) == "Asia/Tokyo"
    finally:
        local_time_zone.cache_clear()


def test_a_rare_pattern_takes_milliseconds() -> None:
    tz, cron = time_zone("Europe/Berlin"), Cron.parse("59 59 23 29 2 *")
    took: list[float] = []
    for _ in range(10):
        began = time.perf_counter()
        cron.next_ms(1_772_000_000_000, tz)
        took.append(time.perf_counter() - began)
    assert min(took) < 0.1


_NUMBER = {"minute": (0, 59), "hour": (0, 23), "day": (1, 31), "month": (1, 12), "weekday": (0, 6)}


@st.composite
def _field(draw: st.DrawFn, low: int, high: int) -> str:
    first = draw(st.integers(low, high))
    last = draw(st.integers(min(first + 1, high), high))
    step = draw(st.integers(1, high))
    several = ",".join(map(str, sorted(draw(st.sets(st.integers(low, high), min_size=1, max_size=4)))))
    if first == last:  # cronsim reads 5-5/2 as 5/2
        return str(first)
    # no `*/n`: for days it restricts nothing with cronsim, so that the other kind of day must match, too
    return draw(st.sampled_from(["*", str(first), f"{first}-{last}", f"{first}-{last}/{step}", several]))


@given(
    fields=st.tuples(*(_field(low, high) for low, high in _NUMBER.values())),
    start=st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1)),
)
def test_in_utc_cronsim_finds_the_same_times(fields: tuple[str, ...], start: datetime) -> None:
    pattern = " ".join(fields)
    start = start.replace(microsecond=0)
    try:
        cron = Cron.parse(pattern)
    except ConfigurationError:
        with pytest.raises(CronSimError):
            CronSim(pattern, start)
        return
    moment = round(start.replace(tzinfo=UTC).timestamp() * 1000)
    theirs = CronSim(pattern, start)
    for _ in range(5):
        expected = next(theirs, None)
        if expected is None:
            return
        expected_ms = round(expected.replace(tzinfo=UTC).timestamp() * 1000)
        assert cron.next_ms(moment, UTC) == expected_ms, pattern
        moment = expected_ms
