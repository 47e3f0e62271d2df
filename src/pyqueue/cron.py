"""Cron patterns: a pattern, a time zone, a time -> the next time. Exactly as Node's cron-parser, or schedules would
drift apart where Python and Node workers share a queue.

What happens when clocks are changed: an hour that is skipped fires in the hour after it, at the same minute; an hour
that comes twice fires twice where the pattern allows every hour, else the first time. Only a search that begins before
the change knows of it, and it walks as cron-parser does: hour by hour, but to the next day at once when the day's
hours are used up. Then it enters a day whose first hour is skipped or repeated without noticing.

Pure: no clock, no I/O but the time zone database. `repeat` calls it; `docs/explanation/differences.md` lists the few
cases where cron-parser fails and this does not.
"""

from __future__ import annotations

import calendar
from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Final, Self

from pyqueue.cron_syntax import Fields, parse_fields
from pyqueue.errors import ConfigurationError

#: A 29 February on a given weekday comes every 28 years, 40 where a century year is no leap year.
_HORIZON_YEARS: Final = 41
#: Where the search for any day at all begins: all calendars there are come within 28 years.
_FIRST_DAY: Final = date(2000, 1, 1)
_EPOCH: Final = datetime(1970, 1, 1)
_HOUR_S: Final = 3600
_DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Cron:
    """A pattern, ready to be asked for the next time."""

    pattern: str
    _fields: Fields

    @classmethod
    def parse(cls, pattern: str) -> Self:
        """Read a pattern; raises ConfigurationError for one that is not valid or never comes true."""
        cron = cls(pattern, parse_fields(pattern))
        if cron._first_match(_FIRST_DAY) is None:
            raise ConfigurationError(f"pattern is {pattern!r}: it never comes true, no month has such a day")
        return cron

    def next_ms(self, after_ms: int, zone: tzinfo) -> int | None:
        """The first time after `after_ms` (unix milliseconds, as is the result), or None beyond the year 9999."""
        begun = after_ms // 1000
        try:
            found = _Search(self._fields, zone, begun).run(self)
        except OverflowError:
            return None
        return None if found is None else found * 1000

    def _matches(self, day: date) -> bool:
        fields = self._fields
        if day.month not in fields.months:
            return False
        if fields.any_day:
            return fields.any_weekday or self._weekday_matches(day)
        return self._day_matches(day) or (not fields.any_weekday and self._weekday_matches(day))

    def _day_matches(self, day: date) -> bool:
        return day.day in self._fields.days or (self._fields.last_day and day.day == _month_length(day))

    def _weekday_matches(self, day: date) -> bool:
        fields, weekday = self._fields, day.isoweekday() % 7
        if weekday in fields.last_weekdays and day.day + 7 > _month_length(day):
            return True
        return weekday in fields.weekdays and fields.nth in (0, (day.day + 6) // 7)

    def _first_match(self, day: date) -> date | None:
        """The first matching day from `day` on."""
        last_year = day.year + _HORIZON_YEARS
        while day.year <= last_year:
            if self._matches(day):
                return day
            if day.month in self._fields.months:
                day += timedelta(days=1)
            else:
                day = (day.replace(day=1) + timedelta(days=31)).replace(day=1)
        return None


class _Search:
    """One search. Times are whole unix seconds; wall clock times are naive datetimes.

    `previous` is the hour on the wall clock before the present one, if the search has walked through it, else -1.
    """

    def __init__(self, fields: Fields, zone: tzinfo, begun: int) -> None:
        self._fields = fields
        self._zone = zone
        self._begun = begun

    def run(self, cron: Cron) -> int | None:
        now = self._begun + 1
        wall = self._wall(now)
        previous = self._hour_before(now)
        while True:
            day = cron._first_match(wall.date())
            if day is None:
                return None
            if day != wall.date():
                now, previous = self._begin(day), -1
            else:
                end = self._begin(day + timedelta(days=1))
                if previous < 0 and self._offset(now) == self._offset(end):
                    found = self._in_even_day(wall)
                    if found is not None:
                        return found - self._offset(now)
                    now = end
                else:
                    found, now, previous = self._in_uneven_day(now, end, previous)
                    if found is not None:
                        return found
            wall = self._wall(now)

    def _hour_before(self, now: int) -> int:
        """The hour before a search that begins in the very second of a change. Midnight hides it."""
        before, wall = self._wall(now - 1), self._wall(now)
        change = self._offset(now) - self._offset(now - 1)
        if not change or before.date() != wall.date():
            return -1
        return before.hour if change > 0 else wall.hour

    def _in_even_day(self, wall: datetime) -> int | None:
        """The next time on the day's wall clock, as seconds since the epoch of that clock."""
        fields = self._fields
        midnight = (wall.date() - _EPOCH.date()).days * _DAY_S
        for hour in fields.hours[bisect_left(fields.hours, wall.hour) :]:
            first = wall.minute * 60 + wall.second if hour == wall.hour else 0
            found = self._in_hour(first)
            if found is not None:
                return midnight + hour * _HOUR_S + found
        return None

    def _in_hour(self, first: int) -> int | None:
        """The first allowed second of an hour from `first` on."""
        fields = self._fields
        for minute in fields.minutes[bisect_left(fields.minutes, first // 60) :]:
            at = bisect_left(fields.seconds, first - minute * 60)
            if at < len(fields.seconds):
                return minute * 60 + fields.seconds[at]
        return None

    def _in_uneven_day(self, now: int, end: int, previous: int) -> tuple[int | None, int, int]:
        """Walk through a day on which clocks are changed, hour by hour; returns (found, now, previous)."""
        day = self._wall(now).date()
        while (wall := self._wall(now)).date() == day:
            after = self._next_hour(now)
            if self._is_allowed(wall.hour, previous, now):
                first = wall.minute * 60 + wall.second
                found = self._in_hour(first)
                if found is not None and now + found - first < after:
                    return now + found - first, now, previous
            elif wall.hour > self._fields.hours[-1]:
                return None, end, -1
            cut_off = wall.minute > 0 and self._has_skipped(now)  # the change came within this hour
            now, previous = after, previous if cut_off else wall.hour
        return None, now, previous

    def _is_allowed(self, hour: int, previous: int, now: int) -> bool:
        """Whether the pattern fires in this hour, which came after `previous`."""
        hours = self._fields.hours
        if previous < 0:
            return hour in hours
        if hour == previous:
            return len(hours) == 24
        if self._offset(now) < self._offset(now - 1):
            return hour in hours
        skipped = (hour - previous - 1) % 24
        return hour in hours or any((previous + 1 + i) % 24 in hours for i in range(skipped))

    def _has_skipped(self, now: int) -> bool:
        return self._offset(now) > self._offset(now - 1)

    def _next_hour(self, now: int) -> int:
        """When the hour on the wall clock ends, or is cut off by a change."""
        wall, offset = self._wall(now), self._offset(now)
        after = now + _HOUR_S - wall.minute * 60 - wall.second
        if self._offset(after) == offset:
            return after
        low, high = now, after
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._offset(middle) == offset else (low, middle)
        return high

    def _begin(self, day: date) -> int:
        """When a day begins: at the end of a skipped hour, at the second pass of a repeated one."""
        midnight = datetime(day.year, day.month, day.day, tzinfo=self._zone)
        naive = (day - _EPOCH.date()).days * _DAY_S
        return max(naive - _seconds(midnight), naive - _seconds(midnight.replace(fold=1)))

    def _wall(self, seconds: int) -> datetime:
        return _EPOCH + timedelta(seconds=seconds + self._offset(seconds))

    def _offset(self, seconds: int) -> int:
        utc = (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=UTC)
        return _seconds(utc.astimezone(self._zone))


def _seconds(moment: datetime) -> int:
    offset = moment.utcoffset()
    return 0 if offset is None else offset // timedelta(seconds=1)


def _month_length(day: date) -> int:
    return calendar.monthrange(day.year, day.month)[1]
