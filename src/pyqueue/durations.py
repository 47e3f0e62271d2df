"""Durations as users give them, as the integers the rest of the library uses.

One rule for options, directives and methods: a duration is a `timedelta` or an integer number of milliseconds, as in
BullMQ; a `timeout=` is seconds or a `timedelta`, as in asyncio. Imports nothing of pyqueue, so that even the errors
may use it; it raises plain `ValueError`.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Final

#: The largest integer that Node, and the doubles of Lua, represent exactly.
MAX_SAFE_INTEGER: Final = 2**53

_MILLISECOND: Final = timedelta(milliseconds=1)
_SECOND: Final = timedelta(seconds=1)


def milliseconds(value: object, name: str, *, minimum: int = 0, maximum: int = MAX_SAFE_INTEGER) -> int:
    """A `timedelta` or integer milliseconds as integer milliseconds; ValueError names `name`, the value, the remedy.

    Fractions of a millisecond in a `timedelta` are rounded. Floats are refused: a float of seconds would silently be
    taken for milliseconds. So are booleans, which Python counts as integers.
    """
    amount = _whole(value, name, _MILLISECOND, "milliseconds")
    if not minimum <= amount <= maximum:
        raise ValueError(f"{name} is {_short(value)}: it must be between {minimum} and {maximum} milliseconds")
    return amount


def whole_seconds(value: object, name: str) -> int:
    """A `timedelta` or integer seconds as integer seconds; for `Retention.age`, as in BullMQ. May be negative."""
    amount = _whole(value, name, _SECOND, "seconds")
    if abs(amount) > MAX_SAFE_INTEGER:
        raise ValueError(f"{name} is {_short(value)}: it must be at most {MAX_SAFE_INTEGER} seconds")
    return amount


def seconds(value: object, name: str = "timeout") -> float | None:
    """A `timeout=`: seconds (int or float) or a `timedelta`, at least 0; None stays None (no limit)."""
    if value is None:
        return None
    if isinstance(value, timedelta):
        amount = value.total_seconds()
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        amount = float(value)
    else:
        raise ValueError(f"{name} is {_short(value)}: give seconds, a timedelta or None")
    if math.isnan(amount) or amount < 0:
        raise ValueError(f"{name} is {_short(value)}: it must not be negative or NaN")
    return amount


def _whole(value: object, name: str, unit: timedelta, unit_name: str) -> int:
    if isinstance(value, timedelta):
        return round(value / unit)
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    raise ValueError(f"{name} is {_short(value)}: give a timedelta or an integer number of {unit_name}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
