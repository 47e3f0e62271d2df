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
from typing import Final

#: Top-level names of a body: functions, and values declared at the beginning of a line.
_DEFINED: Final = re.compile(r"^local (?:function (\w+)|(\w+(?:, *\w+)*))", re.MULTILINE)
#: A comment, a string, or a name that is no field.
_WORD: Final = re.compile(r"--[^\n]*|'(?:\\.|[^'\\\n])*'|\"(?:\\.|[^\"\\\n])*\"|(?<![\w.:])([A-Za-z_]\w*)")


def order(names: Iterable[str], groups: Sequence[Sequence[str]]) -> list[str]:
    """Includes as their texts follow each other: those of no group, then group by group."""
    ordered = list(names)
    grouped = [name for group in groups for name in ordered if name in group]
    return [name for name in ordered if name not in grouped] + grouped


def assemble(bodies: Mapping[str, str], groups: Sequence[Sequence[str]], rest: str) -> str:
    """The text of a script: its includes (name -> body, as `order` has them) and what follows them."""
    owners = {
        name: f"lazy_{group[0]}" for group in groups for include in group for name in defined_names(bodies[include])
    }
    used = _words([rest, *bodies.values()])
    declared = "".join(f"local lazy_{group[0]}_made local lazy_{group[0]} " for group in groups)
    eager = [body for include, body in bodies.items() if not any(include in group for group in groups)]
    texts = [_redirected(body, owners) for body in eager]
    for group in groups:
        home = [body for include, body in bodies.items() if include in group]
        texts.append(_made_lazily(f"lazy_{group[0]}", home, owners, used))
    return declared + "\n".join([*texts, _redirected(rest, owners)])


def defined_names(body: str) -> list[str]:
    """Names that a body makes local at its top level, in order."""
    found: list[str] = []
    for function, values in _DEFINED.findall(body):
        found += [function] if function else re.split(", *", values)
    return found


def _made_lazily(maker: str, bodies: Sequence[str], owners: Mapping[str, str], used: Mapping[str, int]) -> str:
    at_home = _words(bodies)
    shared = [name for body in bodies for name in defined_names(body) if used[name] > at_home[name]]
    fields = ", ".join(f"{name} = {name}" for name in shared)
    text = "\n".join(_redirected(body, owners, at_home=maker) for body in bodies)
    made = f"{maker}_made"
    return f"{maker} = function() if not {made} then {text} {made} = {{ {fields} }} end return {made} end"


def _redirected(text: str, owners: Mapping[str, str], *, at_home: str = "") -> str:
    def redirect(match: re.Match[str]) -> str:
        if match[0].startswith("--"):
            return ""  # nothing may follow a comment, and the server does not read it
        maker = owners.get(match[1] or "", at_home)
        return match[0] if maker == at_home else f"{maker}().{match[0]}"

    return _WORD.sub(redirect, text)


def _words(texts: Iterable[str]) -> Counter[str]:
    return Counter(word for text in texts for word in _WORD.findall(text))
