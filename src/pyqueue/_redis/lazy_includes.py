"""Make functions of an assembled script only when a call needs them.

Redis runs a script from its first line each time, so every `local function` costs a closure per call: 0.25 us, which
for the 120 functions of `settle_and_claim` was as much as claiming a job. The includes that a script names in one
`@lazy` line become the body of one function, run when something of them is first used:

    local lazy_parents_made local lazy_parents           -- before the other includes, so that they can call it
    ...
    lazy_parents = function() if not lazy_parents_made then
    ...                                                  -- the includes as they stand in their files
    lazy_parents_made = { child_completed = child_completed, ... } end return lazy_parents_made end

and every mention of `child_completed` elsewhere reads `lazy_parents().child_completed`. The files know nothing of it.
Comments are dropped; no line is added, so that a line of the text can be found in its file. Called by `scripts` only.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Final, TypeAlias

#: Top-level names of a body: functions, and values declared at the beginning of a line.
_DEFINED: Final = re.compile(r"^local (?:function (\w+)|(\w+(?:, *\w+)*))", re.MULTILINE)
#: A comment, a string, or a name that is no field.
_WORD: Final = re.compile(r"(--[^\n]*|'(?:\\.|[^'\\\n])*'|\"(?:\\.|[^\"\\\n])*\"|(?<![\w.:])[A-Za-z_]\w*)")

#: A text in pieces: what is between words, a word as `_WORD` has it, what is between, a word, ..., what is between.
_Pieces: TypeAlias = Sequence[str]


def order(names: Iterable[str], groups: Sequence[Sequence[str]]) -> list[str]:
    """Includes as their texts follow each other: those of no group, then group by group."""
    ordered = list(names)
    grouped = [name for group in groups for name in ordered if name in group]
    return [name for name in ordered if name not in grouped] + grouped


def assemble(bodies: Mapping[str, str], groups: Sequence[Sequence[str]], rest: str) -> str:
    """The text of a script: its includes (name -> body, as `order` has them) and what follows them."""
    pieces = {include: _pieces(body) for include, body in bodies.items()}
    rest_pieces = _pieces(rest)
    owners = {
        name: f"lazy_{group[0]}" for group in groups for include in group for name in defined_names(bodies[include])
    }
    used = _words([rest_pieces, *pieces.values()]) if groups else {}
    declared = "".join(f"local lazy_{group[0]}_made local lazy_{group[0]} " for group in groups)
    calls = {name: f"{maker}().{name}" for name, maker in owners.items()}
    lazy = {include for group in groups for include in group}
    texts = [_redirected(body, calls) for include, body in pieces.items() if include not in lazy]
    for group in groups:
        maker = f"lazy_{group[0]}"
        home = [include for include in bodies if include in group]
        names = [name for include in home for name in defined_names(bodies[include])]
        abroad = {name: call for name, call in calls.items() if owners[name] != maker}
        texts.append(_made_lazily(maker, names, [pieces[include] for include in home], abroad, used))
    return declared + "\n".join([*texts, _redirected(rest_pieces, calls)])


def defined_names(body: str) -> list[str]:
    """Names that a body makes local at its top level, in order."""
    found: list[str] = []
    for function, values in _DEFINED.findall(body):
        found += [function] if function else re.split(", *", values)
    return found


def _made_lazily(
    maker: str, names: Sequence[str], home: Sequence[_Pieces], calls: Mapping[str, str], used: Mapping[str, int]
) -> str:
    """A group as a function. names: what its bodies, `home`, define; calls: how other groups' names are spelled."""
    at_home = _words(home)
    fields = ", ".join(f"{name} = {name}" for name in names if used[name] > at_home[name])
    text = "\n".join(_redirected(body, calls) for body in home)
    made = f"{maker}_made"
    return f"{maker} = function() if not {made} then {text} {made} = {{ {fields} }} end return {made} end"


def _pieces(text: str) -> _Pieces:
    """Comments go: nothing may follow one when lines are joined, and the server does not read them."""
    pieces = _WORD.split(text)
    pieces[1::2] = ["" if word.startswith("--") else word for word in pieces[1::2]]
    return pieces


def _redirected(pieces: _Pieces, calls: Mapping[str, str]) -> str:
    """The text with some names spelled as calls."""
    redirected = list(pieces)
    redirected[1::2] = [calls.get(word, word) for word in pieces[1::2]]
    return "".join(redirected)


def _words(texts: Iterable[_Pieces]) -> Counter[str]:
    return Counter(chain.from_iterable(pieces[1::2] for pieces in texts))
