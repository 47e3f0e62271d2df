"""Values of users as JSON text, and back: data, return values, progress.

What JSON cannot carry is refused with its path, before anything is written. Ordinary values take the fast way: a quick
check, then pydantic's codec. Everything else is written by a slower walk that converts what pydantic knows (models,
dataclasses, dates, UUIDs, decimals, enums) and can name the path of a fault. Called by `_store.record`, `Job` and
verdicts.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from collections.abc import Iterator
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, from_json, to_json, to_jsonable_python

from pyqueue import deep_json
from pyqueue.durations import MAX_SAFE_INTEGER
from pyqueue.errors import PayloadError, PayloadTypeError

#: Levels of lists and objects. cjson and most consumers read no deeper.
MAX_DEPTH: Final = 1000

#: Bytes of JSON from which on a job is logged, once per name, where no size limit is set.
LARGE_BYTES: Final = 1 << 20

#: Levels that pydantic's writer manages (255 measured), with a margin for other versions.
_FAST_DEPTH: Final = 200

#: Names of jobs that were logged as large; bounded, because names come from users.
_MAX_LOGGED_NAMES: Final = 1000
_logged_names: set[str] = set()

#: Larger integers take the walk, which refuses those with more digits than Python reads (4300).
_FAST_INTEGER: Final = 2**63

_SCALARS: Final = frozenset({str, bool, type(None)})
_LIKE_PYDANTIC: Final = (BaseModel, date, time, timedelta, UUID, Decimal)

_log = logging.getLogger("pyqueue")


def encode(value: Any, *, what: str = "data", strict_ints: bool = False) -> str:
    """A value as compact JSON text; PayloadError names the path of what cannot be stored, beginning with `what`.

    `strict_ints` refuses integers beyond 2**53, of which consumers in Node lose digits.
    """
    if value is None:
        return "null"  # what most processors return
    if _is_ordinary(value, MAX_SAFE_INTEGER if strict_ints else _FAST_INTEGER):
        try:
            return to_json(value).decode()
        except PydanticSerializationError:
            pass  # a lone surrogate, which the walk escapes
    return _Walk(what, strict_ints).write(value)


def decode(raw: bytes | str, *, what: str = "data") -> Any:
    """The value of a JSON text; PayloadError if it is none."""
    try:
        return from_json(raw, allow_inf_nan=False)
    except ValueError:
        pass  # broken; or deep, or with an escaped lone surrogate, which pydantic refuses and Node sends
    try:
        return deep_json.parse(raw if isinstance(raw, str) else raw.decode())
    except ValueError as error:
        raise PayloadError(f"{what} is not JSON: {error}; it was not written by a client of this queue") from error


def check_size(text: str, name: str, limit: int | None) -> None:
    """Refuse data larger than `limit` bytes of UTF-8; without one, log the first large job of each name."""
    bound = LARGE_BYTES if limit is None else limit
    if len(text) * 4 <= bound:  # no character takes more than four bytes
        return
    size = len(text) if text.isascii() else len(text.encode())
    if size <= bound:
        return
    if limit is not None:
        remedy = "store it elsewhere and pass a reference, or raise size_limit"
        raise PayloadError(f"data of job {name!r} is too large: {size} bytes, limit {limit}; {remedy}")
    if name not in _logged_names and len(_logged_names) < _MAX_LOGGED_NAMES:
        _logged_names.add(name)
        _log.warning("data of job %r has %d bytes; Redis keeps it in memory: pass a reference instead", name, size)


def _is_ordinary(value: Any, max_integer: int) -> bool:
    """Whether the value consists of exact built-in types, with text keys and plain numbers, not nested deeply.

    Goes depth first with a stack of its own; a circle ends at the depth limit without growing.
    """
    pending: list[tuple[Any, int]] = [(value, 1) if type(value) is dict else ([value], 0)]
    while pending:
        container, depth = pending.pop()
        if depth > _FAST_DEPTH:
            return False
        if type(container) is dict:
            for key in container:
                if type(key) is not str:
                    return False
            container = container.values()
        for item in container:
            kind = type(item)
            if kind in _SCALARS:
                continue
            if kind is dict or kind is list or kind is tuple:
                pending.append((item, depth + 1))
            elif kind is int:
                if not -max_integer <= item <= max_integer:
                    return False
            elif kind is not float or not math.isfinite(item):
                return False
    return True


@dataclasses.dataclass(slots=True)
class _Level:
    """A list or object that is being written: its items to come, and where we are in it."""

    container: object
    items: Iterator[tuple[Any, Any]]
    closing: str
    key: Any = None
    is_empty: bool = True


class _Walk:
    """Writes any value piece by piece. The open levels are at once the stack and the path of a fault."""

    def __init__(self, what: str, strict_ints: bool) -> None:
        self._what = what
        self._strict_ints = strict_ints
        self._levels: list[_Level] = []
        self._open_ids: set[int] = set()
        self._pieces: list[str] = []

    def write(self, value: Any) -> str:
        """The JSON text of a value."""
        self._value(value)
        while self._levels:
            level = self._levels[-1]
            following = next(level.items, None)
            if following is None:
                self._close()
                continue
            level.key, item = following
            if not level.is_empty:
                self._pieces.append(",")
            level.is_empty = False
            if level.closing == "}":
                self._pieces.append(self._key(level.key) + ":")
            self._value(item)
        return "".join(self._pieces)

    def _value(self, value: Any) -> None:
        """Write a scalar, or open a level whose items come next."""
        plain = self._plain(value)
        if isinstance(plain, dict):
            self._open(value, iter(plain.items()), "{", "}")
        elif isinstance(plain, (list, tuple)):
            self._open(value, enumerate(plain), "[", "]")
        else:
            self._pieces.append(self._scalar(plain))

    def _open(self, value: object, items: Iterator[tuple[Any, Any]], opening: str, closing: str) -> None:
        if id(value) in self._open_ids:
            raise PayloadError(f"{self._path()} is circular: it contains itself; pass an id instead")
        if len(self._levels) >= MAX_DEPTH:
            raise PayloadError(f"{self._what} is nested too deep: more than {MAX_DEPTH} levels; flatten it")
        self._pieces.append(opening)
        self._open_ids.add(id(value))
        self._levels.append(_Level(value, items, closing))

    def _close(self) -> None:
        level = self._levels.pop()
        self._open_ids.discard(id(level.container))
        self._pieces.append(level.closing)

    def _plain(self, value: Any) -> Any:
        """One step towards JSON: a model becomes a dictionary, an enum its value; their content comes later."""
        if isinstance(value, Enum):
            return self._plain(value.value)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        if isinstance(value, BaseModel):
            return self._converted(value)
        if isinstance(value, _LIKE_PYDANTIC):
            return to_jsonable_python(value)
        return value

    def _converted(self, model: BaseModel) -> Any:
        try:
            return model.model_dump(mode="json")
        except (PydanticSerializationError, ValueError) as error:
            raise PayloadTypeError(f"{self._path()} cannot be stored: {error}") from error

    def _scalar(self, value: Any) -> str:
        if value is None:
            return "null"
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, str):
            return _text(value)
        if isinstance(value, int):
            return self._integer(value)
        if isinstance(value, float):
            if not math.isfinite(value):
                raise PayloadError(f"{self._path()} is {float(value)}: JSON has no such number; use None or a text")
            return float.__repr__(value)
        kind = type(value).__name__
        raise PayloadTypeError(f"{self._path()} is of type {kind}: JSON has no such value; convert it{_advice(value)}")

    def _integer(self, value: int) -> str:
        if self._strict_ints and abs(value) > MAX_SAFE_INTEGER:
            raise PayloadError(f"{self._path()} is an integer beyond 2**53: Node would lose digits; use a text")
        try:
            return int.__repr__(value)
        except ValueError as error:
            raise PayloadError(f"{self._path()} is an integer too large to write: {error}") from None

    def _key(self, key: Any) -> str:
        if isinstance(key, str):
            return _text(key)
        raise PayloadTypeError(f"{self._path()}: the key {key!r} is no text, as keys in JSON must be; use {str(key)!r}")

    def _path(self) -> str:
        steps = (f"[{level.key!r}]" for level in self._levels)
        return self._what + "".join(steps)


def _text(value: str) -> str:
    plain = str.__str__(value)  # of a subclass, the text itself, whatever its own __str__ says
    try:
        return to_json(plain).decode()
    except PydanticSerializationError:
        return json.dumps(plain)  # a lone surrogate has no UTF-8, but JSON can spell it


def _advice(value: object) -> str:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return ", for example with base64"
    return " to a list" if isinstance(value, (set, frozenset)) else ""
