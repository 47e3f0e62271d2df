"""Shape replies of Redis: bytes or text, flat arrays or maps, numbers as text.

A client that was handed to us may decode replies and speak RESP3, so everything above this module sees one shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pyqueue.types import Raw


def text(raw: Raw | float | None) -> str:
    """A reply as text; undecodable bytes are replaced, because ids and reasons must never break a worker."""
    if isinstance(raw, bytes):
        return raw.decode("utf-8", "replace")
    return "" if raw is None else str(raw)


def number(raw: Raw | float | None) -> int:
    """A reply as an integer; absent or unreadable counts as 0, fractions are truncated as Node does."""
    try:
        return int(raw or 0)
    except (ValueError, OverflowError):
        return _truncated(raw)


def codes(reply: int | Sequence[Any]) -> Sequence[Any]:
    """A code per row; scripts answer their number where all are 0."""
    return [0] * reply if isinstance(reply, int) else reply


def pairs(reply: Sequence[Any] | Mapping[Any, Any]) -> dict[str, Raw]:
    """A hash as a dictionary, from a flat array (RESP2, scripts) or a map (RESP3)."""
    if type(reply) is not list and isinstance(reply, Mapping):  # asking an abstract class takes as long as the rest
        return {text(key): value for key, value in reply.items()}
    return dict(zip(field_names(reply[::2]), reply[1::2], strict=True))


def field_names(raw: Sequence[Raw]) -> list[str]:
    """Names of a hash's fields as text."""
    return list(map(_NAMES.__getitem__, raw))


class _Names(dict[Any, str]):
    """Names of fields as text, remembered: a hash has few, and a worker reads the same ones all the time."""

    _MOST = 1000

    def __missing__(self, raw: Raw) -> str:
        name = text(raw)
        if len(self) < self._MOST:
            self[raw] = name
        return name


_NAMES: Final = _Names()


def _truncated(raw: Raw | float | None) -> int:
    try:
        return int(float(raw or 0))
    except (ValueError, OverflowError):
        return 0
