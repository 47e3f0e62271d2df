"""Put the text of a script together so that a call makes few closures and tables.

Redis runs a script from its first line each time, so everything at its top level is made per call: a `local function`
that reads other functions costs 0.3 us, and the 120 functions of `settle_and_claim` as much as claiming a job.
So the functions of the includes become fields of one table, which is all that they read, and those that a script does
not reach are left out:

    local includes includes = {
    emit = function(keys, event, ...) ... includes.max_events(keys, meta) ... end,
    ...
    }

The includes that a script names in one `@lazy` line, and single functions of other includes, become the body of one
function, run when something of them is first used:

    local lazy_parents_made local lazy_parents           -- before the other includes, so that they can call it
    ...
    lazy_parents = function() if not lazy_parents_made then
    ...                                                  -- the includes as they stand in their files
    lazy_parents_made = { child_completed = child_completed, ... } end return lazy_parents_made end

and every mention of `child_completed` elsewhere reads `lazy_parents().child_completed`. The files know nothing of it.
Comments are dropped, and in the end indentation. Called by `scripts` only.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

#: A function at the top level of a body: its name, and the rest of it. Its end stands at the beginning of a line, or at
#: the end of its only one.
_FUNCTION: Final = re.compile(r"^local function (\w+)(\([^)\n]*\)(?:[^\n]*\bend$|.*?^end$))", re.MULTILINE | re.DOTALL)
#: Top-level names of a body: functions, and values declared at the beginning of a line.
_DEFINED: Final = re.compile(r"^local (?:function (\w+)|(\w+(?:, *\w+)*))", re.MULTILINE)
#: A comment, a string, or a name that is no field: not behind a dot or colon, nor before the = of a constructor.
_WORD: Final = re.compile(
    r"""(--[^\n]*|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|(?<![\w.:])(?:(?<=local\ )|(?!\w+\ *=[^=]))[A-Za-z_]\w*)"""
)
_TABLE: Final = "includes"
#: Indentation, empty lines, and what is left of lines before a comment. No text in Lua here goes on in the next line.
_INDENTATION: Final = re.compile(r"\s*\n\s*")

#: A text in pieces: what is between words, a word as `_WORD` has it, what is between, a word, ..., what is between.
_Pieces: TypeAlias = Sequence[str]


def assemble(bodies: Mapping[str, str], groups: Sequence[Sequence[str]], rest: str) -> str:
    """The text of a script: its includes (name -> body, what is needed first) and what follows them.

    groups: names of includes, or of functions of includes that are in no group.
    """
    grouped = {name for group in groups for name in group}
    eager = [body for name, body in bodies.items() if name not in grouped]
    values = [_pieces(_FUNCTION.sub("", body)) for body in eager]
    texts = {name: text for body in eager for name, text in _FUNCTION.findall(body)}
    lazy = {f"lazy_{group[0]}": _home(group, bodies, texts) for group in groups}
    functions = {name: _pieces(text) for name, text in texts.items() if name not in grouped}
    lazy_pieces = {maker: [_pieces(body) for body in home] for maker, home in lazy.items()}
    rest_pieces = _pieces(rest)
    others = [rest_pieces, *values, *(body for home in lazy_pieces.values() for body in home)]
    functions = {name: functions[name] for name in _reached(functions, others)}
    used = _words([*others, *functions.values()]) if groups else Counter()
    names = {maker: [name for body in home for name in defined_names(body)] for maker, home in lazy.items()}
    spelled = {name: f"{_TABLE}.{name}" for name in functions}
    spelled |= {name: f"{maker}().{name}" for maker, defined in names.items() for name in defined}
    return "\n".join(
        [
            *(f"local {maker}_made local {maker}" for maker in lazy),
            *(_spelled(text, spelled) for text in values),
            *_in_table({name: _spelled(text, spelled) for name, text in functions.items()}),
            *(_made_lazily(maker, names[maker], home, spelled, used) for maker, home in lazy_pieces.items()),
            _spelled(rest_pieces, spelled),
        ]
    )


def without_indentation(text: str) -> str:
    """The same lines without what the server would read, hash and keep for nothing."""
    return _INDENTATION.sub("\n", text)


def defined_names(body: str) -> list[str]:
    """Names that a body makes local at its top level, in order."""
    found: list[str] = []
    for function, values in _DEFINED.findall(body):
        found += [function] if function else re.split(", *", values)
    return found


def _home(group: Sequence[str], bodies: Mapping[str, str], texts: Mapping[str, str]) -> list[str]:
    """The bodies of a group: its includes, and its functions, declared first, because either may call the other."""
    includes = [body for name, body in bodies.items() if name in group]
    functions = [name for name in texts if name in group]
    declared = [f"local {', '.join(functions)}"] if functions else []
    return [*declared, *includes, *(f"{name} = function{texts[name]}" for name in functions)]


def _reached(functions: Mapping[str, _Pieces], others: Iterable[_Pieces]) -> list[str]:
    """The functions that are called at all, in order."""
    reached: set[str] = set()
    found = _words(others).keys() & functions
    while found:
        reached |= found
        found = (_words(functions[name] for name in found).keys() & functions) - reached
    return [name for name in functions if name in reached]


def _in_table(functions: Mapping[str, str]) -> list[str]:
    if not functions:
        return []
    return [f"local {_TABLE} {_TABLE} = {{", *(f"{name} = function{text}," for name, text in functions.items()), "}"]


def _made_lazily(
    maker: str, names: Sequence[str], home: Sequence[_Pieces], spelled: Mapping[str, str], used: Mapping[str, int]
) -> str:
    """A group as a function. names: what its bodies, `home`, define; they read each other as they are."""
    at_home = _words(home)
    fields = ", ".join(f"{name} = {name}" for name in names if used[name] > at_home[name])
    abroad = {name: text for name, text in spelled.items() if name not in names}
    text = "\n".join(_spelled(body, abroad) for body in home)
    made = f"{maker}_made"
    return f"{maker} = function() if not {made} then {text} {made} = {{ {fields} }} end return {made} end"


def _pieces(text: str) -> _Pieces:
    """Comments go: nothing may follow one when lines are joined, and the server does not read them."""
    pieces = _WORD.split(text)
    pieces[1::2] = ["" if word.startswith("--") else word for word in pieces[1::2]]
    return pieces


def _spelled(pieces: _Pieces, spelled: Mapping[str, str]) -> str:
    """The text with some names spelled as fields of a table."""
    words = list(pieces)
    words[1::2] = [spelled.get(word, word) for word in pieces[1::2]]
    return "".join(words)


def _words(texts: Iterable[_Pieces]) -> Counter[str]:
    return Counter(word for pieces in texts for word in pieces[1::2])
