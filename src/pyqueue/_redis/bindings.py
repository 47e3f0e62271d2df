"""The Lua that binds the names of a header to KEYS and ARGV: for the body of a script, and for its fast path.

A fast path, `lua/fast_path/NAME.lua`, is what most calls of a script are, in straight lines. It runs before the
functions and tables of the general code are made, which takes as long as the commands of a lone job do. It either
answers the call, or returns nothing or fails, having written nothing or taken it back; then the general code does all
of it. So once it has written, it may not fail, except where it takes back what it wrote. It reads the arguments and
options by their names, `keys.NAME`, and the rows where they are: in ARGV, from `first_row` on.
Called by `scripts` only.
"""

from __future__ import annotations

import re
from typing import Final

from pyqueue._redis.assembly import assemble
from pyqueue._redis.lua_files import Header, ScriptHeaderError
from pyqueue._redis.rows import defaults_of, option_bindings, row_bindings, value_of
from pyqueue.types import Arg

_KEY: Final = re.compile(r"\bkeys\.(\w+)")
_FAST_PATH: Final = """\
local function fast_path(KEYS, ARGV)
{bindings}
{body}
end
local is_done, reply = pcall(fast_path, KEYS, ARGV)
if is_done and reply then
  return reply
end
"""


def bindings(header: Header) -> str:
    """What a body reads: a table of keys, a local per argument and option, a table of rows."""
    lines = ["local keys = {", *(f"  {name} = KEYS[{i}]," for name, i in _key_numbers(header).items()), "}"]
    lines += _argument_bindings(header)
    if "prefix" in (name for name, _, _ in header.args):
        lines.append("keys.prefix = prefix")  # includes build job keys from the table alone
    if header.rows:
        lines += row_bindings(*header.rows, header.shared, _first_row(header))
    return "\n".join(lines)


def fast_path(header: Header, body: str) -> str:
    """A fast path, as it stands before everything else of its script."""
    numbers = _key_numbers(header)
    text = assemble({}, (), body)
    unknown = sorted(set(_KEY.findall(text)) - set(numbers))
    if unknown:
        raise ScriptHeaderError(f"fast path {header.name}: keys.{unknown[0]} is no key of the script")
    spelled = _KEY.sub(lambda key: f"KEYS[{numbers[key[1]]}]", text)
    return _FAST_PATH.format(bindings="\n".join(fast_path_bindings(header)), body=spelled)


def fast_path_bindings(header: Header) -> list[str]:
    """What a fast path reads, line by line."""
    return [*_argument_bindings(header), f"local first_row = {_first_row(header)}"]


def option_defaults(header: Header) -> tuple[tuple[str, ...], tuple[Arg, ...]]:
    """Names of the options, and what they mostly are."""
    names = tuple(name for name, _, _ in header.options)
    return names, defaults_of(f"{name}:{kind}" for name, kind, _ in header.options)


def _key_numbers(header: Header) -> dict[str, int]:
    return {name: i for i, (name, _, _) in enumerate(header.keys, 1)}


def _argument_bindings(header: Header) -> list[str]:
    lines = [f"local {name} = {value_of(f'ARGV[{i}]', kind)}" for i, (name, kind, _) in enumerate(header.args, 1)]
    if header.options:
        lines += option_bindings(*option_defaults(header), f"ARGV[{len(header.args) + 1}]")
    return lines


def _first_row(header: Header) -> int:
    return len(header.args) + bool(header.options) + 1
