"""Time zones by name: the IANA database (tzdata), `UTC+2` and the like, and the zone of this machine.

Node's luxon takes names in any case and fixed offsets from UTC, so this does, too. Pure but for reading the database.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, timedelta, timezone, tzinfo
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pyqueue.errors import ConfigurationError

_FIXED: Final = re.compile(r"utc(?:([+-])([0-9]{1,2})(?::([0-9]{2}))?)?", re.IGNORECASE)
_LOCAL_FILE: Final = "/etc/localtime"


@cache
def time_zone(name: str) -> tzinfo:
    """The zone of a name; raises ConfigurationError for one that does not exist."""
    fixed = _FIXED.fullmatch(name)
    if fixed:
        sign, hours, minutes = fixed.groups()
        offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
        return UTC if not offset else timezone(-offset if sign == "-" else offset)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        known = {zone.lower(): zone for zone in available_timezones()}.get(name.lower())
    if known is None:
        raise ConfigurationError(f"tz is {name!r}: no such time zone; give an IANA name such as 'Europe/Berlin'")
    return ZoneInfo(known)


@cache
def local_time_zone() -> tzinfo:
    """The zone of this machine: the variable TZ, else /etc/localtime, else UTC."""
    name = os.environ.get("TZ", "").removeprefix(":")
    if name:
        return time_zone(name)
    try:
        with open(_LOCAL_FILE, "rb") as file:
            return ZoneInfo.from_file(file)
    except (OSError, ValueError):
        return UTC
