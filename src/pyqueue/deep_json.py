"""Read and write JSON that is nested deeper than compiled codecs go (about 200 levels).

Loops instead of recursion, so the depth of the caller's stack does not matter. Slow, hence called by `payload` only
where the fast codec gives up. Knows nothing of which Python values are allowed.
"""

from __future__ import annotations

import re
from json import JSONDecodeError, JSONDecoder
from typing import Any, Final

_BLANK: Final = re.compile(r"[ \t\n\r]*")
_MISSING: Final = object()


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


_DECODER: Final = JSONDecoder(parse_constant=_refuse_constant)


def parse(text: str) -> Any:
    """The value of a JSON text of any depth; ValueError says where it is broken."""
    return _Parser(text).parse()


class _Parser:
    """One pass over a text. `open` holds the containers that are not closed yet, each with its pending key."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._open: list[tuple[Any, Any]] = []

    def parse(self) -> Any:
        value = self._begin()
        while self._open:
            value = self._attach(value)
        if self._peek():
            raise JSONDecodeError("Extra data", self._text, self._at)
        return value

    def _begin(self) -> Any:
        """Read a scalar or an empty container; a container with content is opened and its first value read."""
        while True:
            character = self._peek()
            if character not in ("[", "{"):
                return self._scalar()
            self._at += 1
            container: Any = [] if character == "[" else {}
            if self._take("]" if character == "[" else "}"):
                return container
            self._open.append((container, _MISSING if character == "[" else self._key()))

    def _attach(self, value: Any) -> Any:
        """Put a value into the innermost container; returns the next value, or the container if it ends here."""
        container, key = self._open.pop()
        is_list = key is _MISSING
        if is_list:
            container.append(value)
        else:
            container[key] = value
        if self._take("]" if is_list else "}"):
            return container
        self._expect(",")
        self._open.append((container, _MISSING if is_list else self._key()))
        return self._begin()

    def _key(self) -> str:
        if self._peek() != '"':
            raise JSONDecodeError("Expecting a name in double quotes", self._text, self._at)
        key = self._scalar()
        self._expect(":")
        return str(key)

    def _scalar(self) -> Any:
        value, self._at = _DECODER.raw_decode(self._text, self._at)
        return value

    def _peek(self) -> str:
        blank = _BLANK.match(self._text, self._at)
        self._at = blank.end() if blank else self._at
        return self._text[self._at : self._at + 1]

    def _take(self, character: str) -> bool:
        found = self._peek() == character
        self._at += found
        return found

    def _expect(self, character: str) -> None:
        if not self._take(character):
            raise JSONDecodeError(f"Expecting {character!r}", self._text, self._at)
