"""The Lua files: where they are, and what their headers say.

Header lines (the leading comment block of the file):

    --- Summary sentence.
    --- Transition: wait -> active
    --- @key NAME TYPE text            attribute NAME of QueueKeys; the body reads keys.NAME
    --- @derived PATTERN TYPE text     keys built from the prefix and an id (same hash tag)
    --- @arg NAME int|digits|string text   a local NAME; digits: a number that only commands read, as text
    --- @option NAME int|string text   an argument that mostly is 0 or '': all options together travel as one
    --- @rows NAME field[:int] ...     the rest of ARGV, one record per row; fields behind a | are mostly the same from
                                       row to row, and travel once for all rows that share them
    --- @return text
    --- @error CODE Name text
    --- @event name ...
    --- @include name ...
    --- @lazy name ...                 scripts only: includes and functions that most calls do without, see `assembly`;
                                       lines with the same first name are one group
    --- @uses name ...                 includes only: fields of the keys table they touch
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from pyqueue._redis.keys import SUFFIXES

_PACKAGE: Final = Path(__file__).resolve().parent.parent
#: An installed wheel carries the scripts in the package; a checkout has them beside `src/`.
_DIRECTORIES: Final = (_PACKAGE / "_lua", _PACKAGE.parent.parent / "lua")
_TAG: Final = re.compile(r"^@(\w+)\s*(.*)$")
_NAME: Final = re.compile(r"^[a-z][a-z0-9_]*$")
_ROW_FIELD: Final = re.compile(r"^([a-z][a-z0-9_]*)(?::int)?$")
#: Stands between the fields that each row has for itself and those that rows share.
_BAR: Final = "|"


class ScriptHeaderError(Exception):
    """A Lua file's header cannot be read; the message names file and line. A defect of pyqueue itself."""


@dataclass(frozen=True, slots=True)
class Header:
    """The machine-read comment block of one Lua file."""

    name: str
    summary: str
    transition: str
    keys: tuple[tuple[str, str, str], ...]  # name, type, text
    derived: tuple[tuple[str, str, str], ...]  # pattern, type, text
    args: tuple[tuple[str, str, str], ...]  # name, int | digits | string, text
    options: tuple[tuple[str, str, str], ...]  # name, int | string, text
    rows: tuple[str, tuple[str, ...]] | None  # name, fields ("field" or "field:int")
    shared: int  # how many of the fields, the last ones, travel once for all rows that share them
    returns: str
    errors: tuple[tuple[int, str, str], ...]  # code, exception name, text
    events: tuple[str, ...]
    includes: tuple[str, ...]
    lazy: tuple[tuple[str, ...], ...]
    uses: tuple[str, ...]
    body: str


@cache
def directory() -> Path:
    """Where the Lua files are: inside an installed package or beside `src/` in a checkout."""
    for candidate in _DIRECTORIES:
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(
        f"pyqueue's Lua scripts are in none of {[str(d) for d in _DIRECTORIES]}: reinstall pyqueue-redis"
    )


def read_header(path: Path) -> Header:
    """Parse one Lua file; ScriptHeaderError names what is wrong and where."""
    if not path.is_file():
        raise ScriptHeaderError(f"there is no lua/{path.relative_to(directory()).as_posix()}")
    lines = path.read_text(encoding="utf-8").splitlines()
    reader = _HeaderReader(path.stem)
    end = 0
    for number, line in enumerate(lines, 1):
        if not line.startswith("---"):
            break
        end = number
        reader.read(number, line[3:].strip())
    return reader.finish("\n".join(lines[end:]).strip("\n"))


class _HeaderReader:
    """Collects the lines of one header."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.text: list[str] = []
        self.transition = ""
        self.entries: dict[str, list[tuple[str, ...]]] = {}

    def read(self, number: int, line: str) -> None:
        tag = _TAG.match(line)
        if tag:
            self._read_tag(number, tag[1], tag[2].split())
        elif line.startswith("Transition:"):
            self.transition = line.removeprefix("Transition:").strip()
        elif not self.entries:
            self.text.append(line)
        # Text below a tag continues its explanation; it binds nothing.

    def _read_tag(self, number: int, tag: str, words: list[str]) -> None:
        problem = self._problem(tag, words)
        if problem:
            raise ScriptHeaderError(f"{self.name}.lua:{number}: @{tag}: {problem}")
        self.entries.setdefault(tag, []).append(tuple(words))

    def _problem(self, tag: str, words: list[str]) -> str:
        minimum = {"key": 2, "derived": 2, "arg": 2, "option": 2, "rows": 2, "return": 1, "error": 2}
        if tag not in {*minimum, "event", "include", "lazy", "uses"}:
            return "unknown tag"
        if len(words) < minimum.get(tag, 1):
            return "too few words"
        if tag == "key" and words[0] not in SUFFIXES:
            return f"{words[0]} is no attribute of QueueKeys"
        if tag == "arg" and (not _NAME.match(words[0]) or words[1] not in {"int", "digits", "string"}):
            return "expected NAME int|digits|string"
        if tag == "option" and (not _NAME.match(words[0]) or words[1] not in {"int", "string"}):
            return "expected NAME int|string"
        if tag == "error" and not re.fullmatch(r"-\d+", words[0]):
            return "expected a negative code"
        if tag == "uses" and not set(words) <= set(SUFFIXES):
            return f"{sorted(set(words) - set(SUFFIXES))} are no attributes of QueueKeys"
        if tag in {"key", "arg", "option"} and words[0] in {entry[0] for entry in self.entries.get(tag, [])}:
            return f"{words[0]} is declared twice"
        return self._rows_problem(words[1:]) if tag == "rows" else ""

    def _rows_problem(self, words: list[str]) -> str:
        fields = [word for word in words if word != _BAR]
        names = [match[1] for field in fields if (match := _ROW_FIELD.match(field))]
        if "rows" in self.entries:
            return "only one per script"
        if len(names) != len(fields) or words.count(_BAR) > 1 or _BAR in {words[0], words[-1]}:
            return "expected NAME field[:int] ... [| field[:int] ...]"
        twice = sorted({name for name in names if names.count(name) > 1})
        return f"{twice[0]} is declared twice" if twice else ""

    def _triples(self, tag: str) -> tuple[tuple[str, str, str], ...]:
        return tuple((w[0], w[1], " ".join(w[2:])) for w in self.entries.get(tag, []))

    def _words(self, tag: str) -> tuple[str, ...]:
        return tuple(word for words in self.entries.get(tag, []) for word in words)

    def _groups(self) -> tuple[tuple[str, ...], ...]:
        groups: dict[str, tuple[str, ...]] = {}
        for first, *others in self.entries.get("lazy", []):
            groups[first] = (*groups.get(first, (first,)), *others)
        return tuple(groups.values())

    def finish(self, body: str) -> Header:
        if not self.text:
            raise ScriptHeaderError(f"{self.name}.lua: the header has no summary")
        name, *fields = self._words("rows") or ("",)
        shared = len(fields) - 1 - fields.index(_BAR) if _BAR in fields else 0
        return Header(
            name=self.name,
            summary=" ".join(self.text),
            transition=self.transition,
            keys=self._triples("key"),
            derived=self._triples("derived"),
            args=self._triples("arg"),
            options=self._triples("option"),
            rows=(name, tuple(field for field in fields if field != _BAR)) if name else None,
            shared=shared,
            returns=" ".join(self._words("return")),
            errors=tuple((int(code), error, text) for code, error, text in self._triples("error")),
            events=self._words("event"),
            includes=self._words("include"),
            lazy=self._groups(),
            uses=self._words("uses"),
            body=body,
        )
