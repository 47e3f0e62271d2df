"""Rows and options of a script: how they travel behind its arguments, and the Lua that reads them.

Options are one argument: a JSON list up to the last that is not its default ('' or 0), or '' where all are.
A row is one argument per field. Fields that rows share travel once for each run of rows in which they are the same: the
length of the run, a JSON list of the shared fields, cut like the options, and then what each row has for itself.
Called by `scripts` only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Final

from pyqueue.types import Arg


def defaults_of(fields: Iterable[str]) -> tuple[Arg, ...]:
    """What fields ("field" or "field:int") mostly are."""
    return tuple(0 if field.endswith(":int") else "" for field in fields)


class SharedTexts(dict[tuple[Arg, ...], str]):
    """The text of fields that travel as one, by their values: a JSON list up to the last that is not its default.

    Remembered, because most jobs of a queue are alike.
    """

    #: When so many are remembered, all are forgotten.
    _MOST: Final = 100
    #: Longer texts are not remembered, they would hold memory.
    _LONGEST: Final = 512

    def __init__(self, defaults: tuple[Arg, ...]) -> None:
        super().__init__()
        self.defaults = defaults
        """What the fields mostly are: '' or 0."""

    def __missing__(self, values: tuple[Arg, ...]) -> str:
        length = len(values)
        while length and values[length - 1] == self.defaults[length - 1]:
            length -= 1
        text = json.dumps(values[:length], ensure_ascii=False, separators=(",", ":"))
        if len(text) <= self._LONGEST:
            if len(self) >= self._MOST:
                self.clear()
            self[values] = text
        return text


def append_rows(packed: list[Arg], rows: Iterable[Sequence[Arg]], width: int, shared: SharedTexts) -> None:
    """Append rows of `width` fields, of which the last ones are shared; TypeError for a row of another width."""
    own = width - len(shared.defaults)
    before: Sequence[Arg] | None = None
    counter = count = 0
    for row in rows:
        if len(row) != width:
            raise TypeError(f"a row has {len(row)} fields, it must have {width}")
        if own == width:
            packed.extend(row)
            continue
        if (fields := row[own:]) != before:
            before, count, counter = fields, 0, len(packed)
            packed += (0, shared[tuple(fields)])
        packed[counter] = count = count + 1
        packed.extend(row[:own])


def row_bindings(name: str, fields: Sequence[str], shared: int, first: int) -> list[str]:
    """The Lua that makes a table `name` of rows from ARGV[first] on; the last `shared` of their fields are shared."""
    own = fields[: len(fields) - shared]
    if shared:
        return _run_bindings(name, own, fields[len(own) :], first)
    lines = [f"local {name} = {{}}", f"for i = {first}, #ARGV, {len(own)} do"]
    return [*lines, f"  {name}[#{name} + 1] = {{", *_own_fields(own), "  }", "end"]


def option_bindings(names: Sequence[str], defaults: Sequence[Arg], argument: str) -> list[str]:
    """The Lua that makes a local of each option."""
    every = ", ".join(names)
    values = ", ".join(f"options[{i}] or {default!r}" for i, default in enumerate(defaults, 1))
    return [
        f"local {every} = {', '.join(repr(default) for default in defaults)}",
        f"if {argument} ~= '' then",
        f"  local options = cjson.decode({argument})",
        f"  {every} = {values}",
        "end",
    ]


def value_of(argument: str, kind: str) -> str:
    """The Lua of an argument's value."""
    # A sum converts a text in a fifth of the time of tonumber, and leaves a number as it is.
    return f"{argument} + 0" if kind == "int" else argument


def _run_bindings(name: str, own: Sequence[str], shared: Sequence[str], first: int) -> list[str]:
    names = [field.partition(":")[0] for field in shared]
    values = [f"shared[{i}] or {default!r}" for i, default in enumerate(defaults_of(shared), 1)]
    return [
        f"local {name}, first = {{}}, {first}",
        "while first < #ARGV do",
        f"  local shared, last = cjson.decode(ARGV[first + 1]), first + 1 + ARGV[first] * {len(own)}",
        f"  local {', '.join(names)} = {', '.join(values)}",
        f"  for i = first + 2, last, {len(own)} do",
        f"  {name}[#{name} + 1] = {{",
        *_own_fields(own),
        *(f"    {field} = {field}," for field in names),
        "  }",
        "  end",
        "  first = last + 1",
        "end",
    ]


def _own_fields(fields: Sequence[str]) -> list[str]:
    return [
        f"    {name} = {value_of(f'ARGV[i + {offset}]', kind)},"
        for offset, (name, _, kind) in enumerate(field.partition(":") for field in fields)
    ]
