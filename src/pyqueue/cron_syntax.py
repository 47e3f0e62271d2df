"""Cron patterns as text: what each field allows, as sets of numbers.

    [second] minute hour day-of-month month day-of-week        second defaults to 0

A field is a list of items: `*` or `?` (every value), `5`, `1-5`, `*/15`, `5/15` (from 5 on), `1-30/5`; months and days
of the week also by name (`JAN`, `mon`); Sunday is 0 and 7. Day of month: `L` is the month's last day. Day of week: `5L`
is the month's last Friday, `1#2` (alone) its second Monday. `@daily` and its like stand for whole patterns. What Node's
cron-parser refuses is refused, too, and so is what it accepts by accident. Pure; called by `cron` only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple, NoReturn

from pyqueue.errors import ConfigurationError

ALIASES: Final = MappingProxyType(
    {
        "@yearly": "0 0 0 1 1 *",
        "@annually": "0 0 0 1 1 *",
        "@monthly": "0 0 0 1 * *",
        "@weekly": "0 0 0 * * 0",
        "@daily": "0 0 0 * * *",
        "@hourly": "0 0 * * * *",
        "@minutely": "0 * * * * *",
        "@secondly": "* * * * * *",
        "@weekdays": "0 0 0 * * 1-5",
        "@weekends": "0 0 0 * * 0,6",
    }
)

_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


class _Field(NamedTuple):
    name: str
    low: int
    high: int
    names: dict[str, int]


_FIELDS: Final = (
    _Field("second", 0, 59, {}),
    _Field("minute", 0, 59, {}),
    _Field("hour", 0, 23, {}),
    _Field("day of month", 1, 31, {}),
    _Field("month", 1, 12, {name: i for i, name in enumerate(_MONTHS, 1)}),
    _Field("day of week", 0, 7, {name: i for i, name in enumerate(_DAYS)}),
)

_ITEM: Final = re.compile(r"(?:[*?]|([0-9]+|[a-z]{3})(?:-([0-9]+|[a-z]{3}))?)(?:/([0-9]+))?")
_LAST: Final = re.compile(r"([0-7]|[a-z]{3})L")
_NTH: Final = re.compile(r"([0-7]|[a-z]{3})#([1-5])")


@dataclass(frozen=True, slots=True)
class Fields:
    """What a pattern allows. Days of the week: 0 is Sunday."""

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    months: frozenset[int]
    any_day: bool
    """The day of month is `*`: it restricts nothing."""
    days: frozenset[int]
    last_day: bool
    any_weekday: bool
    weekdays: frozenset[int]
    last_weekdays: frozenset[int]
    """Those that count only at the last time in their month."""
    nth: int
    """Weekdays count only at their n-th time in the month; 0 = every time."""


def parse_fields(pattern: str) -> Fields:
    """The fields of a pattern; raises ConfigurationError that names the field, its text and what is allowed."""
    texts = ALIASES.get(pattern, pattern).split()
    if pattern.startswith("@") and pattern not in ALIASES:
        raise ConfigurationError(f"pattern is {pattern!r}: the aliases are {', '.join(ALIASES)}")
    if len(texts) not in (5, 6):
        raise ConfigurationError(
            f"pattern is {pattern!r}, with {len(texts)} fields: "
            "give [second] minute hour day-of-month month day-of-week"
        )
    second, minute, hour, day, month, weekday = ["0"] * (6 - len(texts)) + texts
    days, last_day = _days(pattern, day)
    weekdays, last_weekdays, nth = _weekdays(pattern, weekday)
    return Fields(
        seconds=tuple(sorted(_values(pattern, _FIELDS[0], second.split(",")))),
        minutes=tuple(sorted(_values(pattern, _FIELDS[1], minute.split(",")))),
        hours=tuple(sorted(_values(pattern, _FIELDS[2], hour.split(",")))),
        months=_values(pattern, _FIELDS[4], month.split(",")),
        any_day=day in ("*", "?"),
        days=days,
        last_day=last_day,
        any_weekday=weekday in ("*", "?"),
        weekdays=weekdays,
        last_weekdays=last_weekdays,
        nth=nth,
    )


def _days(pattern: str, text: str) -> tuple[frozenset[int], bool]:
    """Days of the month, and whether its last one is meant, too."""
    items = text.split(",")
    plain = [item for item in items if item != "L"]
    if len(items) - len(plain) > 1:
        _refuse(pattern, _FIELDS[3], text, "L is given twice")
    return _values(pattern, _FIELDS[3], plain), len(plain) < len(items)


def _weekdays(pattern: str, text: str) -> tuple[frozenset[int], frozenset[int], int]:
    """Days of the week, those meant at their last time in the month, and the n of `#n`."""
    field = _FIELDS[5]
    nth = _NTH.fullmatch(_lowered(text))
    if nth:
        return frozenset({_number(pattern, field, nth[1]) % 7}), frozenset(), int(nth[2])
    items = text.split(",")
    lasts = [match for match in map(_LAST.fullmatch, map(_lowered, items)) if match]
    plain = [item for item in items if not _LAST.fullmatch(_lowered(item))]
    if len({match[1] for match in lasts}) < len(lasts):
        _refuse(pattern, field, text, "a day is given twice")
    last_weekdays = frozenset(_number(pattern, field, match[1]) % 7 for match in lasts)
    return _values(pattern, field, plain), last_weekdays, 0


def _values(pattern: str, field: _Field, items: list[str]) -> frozenset[int]:
    """All values of a list; a value in two items is taken for a mistake, as in cron-parser."""
    values: set[int] = set()
    for item in items:
        more = {value % 7 if field.high == 7 else value for value in _item(pattern, field, item)}
        if values & more:
            _refuse(pattern, field, ",".join(items), f"{min(values & more)} is given twice")
        values |= more
    return frozenset(values)


def _item(pattern: str, field: _Field, item: str) -> range:
    match = _ITEM.fullmatch(_lowered(item))
    if not match:
        _refuse(pattern, field, item, "give *, a number, a range a-b, a step */n, or a list of these")
    first, last, step = match.groups()
    low = field.low if first is None else _number(pattern, field, first)
    only = first is not None and step is None and last is None
    high = low if only else field.high if last is None else _number(pattern, field, last)
    if low > high:
        _refuse(pattern, field, item, "the range runs backwards")
    if step and int(step) == 0:
        _refuse(pattern, field, item, "the step is 0")
    return range(low, high + 1, int(step or 1))


def _number(pattern: str, field: _Field, text: str) -> int:
    value = int(text) if text.isdigit() else field.names.get(text, -1)
    if not field.low <= value <= field.high:
        names = f" or {' '.join(field.names)}" if field.names else ""
        _refuse(pattern, field, text, f"give {field.low} to {field.high}{names}")
    return value


def _lowered(item: str) -> str:
    """Names in any case; `L` only as a capital, which a name never ends with."""
    return item[:-1].lower() + "L" if item.endswith("L") else item.lower()


def _refuse(pattern: str, field: _Field, text: str, remedy: str) -> NoReturn:
    hash_hint = "; H, a value chosen by hash, is not supported" if "H" in text else ""
    raise ConfigurationError(f"pattern is {pattern!r}: {field.name} is {text!r}; {remedy}{hash_hint}")
