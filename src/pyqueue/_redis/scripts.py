"""Load the Lua scripts: resolve includes, put the fast path in front, bind names.

A script's header is its binding: the loader turns `@key` lines into a table `keys`, `@arg` and `@option` lines into
locals and the `@rows` line into a table of records, and Python passes the same names, so a wrong name fails before the
network.
Running a script is `Commands.call` in `connection`; which arguments it gets is decided in `pyqueue._store`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha1
from operator import itemgetter

from pyqueue._redis.assembly import assemble, defined_names, without_indentation
from pyqueue._redis.bindings import bindings, fast_path, option_defaults
from pyqueue._redis.keys import QueueKeys
from pyqueue._redis.lua_files import Header, ScriptHeaderError, directory, read_header
from pyqueue._redis.rows import SharedTexts, append_rows, defaults_of
from pyqueue.types import Arg


@dataclass(frozen=True, slots=True)
class Script:
    """One assembled script, ready for EVALSHA."""

    name: str
    text: str
    sha: str
    header: Header
    keys: tuple[str, ...]  # names of the declared keys, in the order of KEYS
    args: tuple[str, ...]  # names of the arguments, in the order of ARGV
    options: Mapping[str, Arg]  # names and defaults of the options, in order; one element of ARGV, if there are any
    row_fields: tuple[str, ...]  # fields of one row; empty for a script without rows
    includes: tuple[str, ...]
    events: tuple[str, ...]
    errors: Mapping[int, str]
    option_texts: SharedTexts = field(repr=False, compare=False)  # what the options travel as
    shared_texts: SharedTexts = field(repr=False, compare=False)  # what the fields that rows share travel as
    _in_order: Callable[[Mapping[str, Arg]], Sequence[Arg]] = field(repr=False, compare=False)  # values of `args`
    _bound: dict[str, tuple[str, ...]] = field(default_factory=dict, repr=False, compare=False)

    def bind(self, keys: QueueKeys) -> tuple[str, ...]:
        """Key names for KEYS, remembered per queue."""
        bound = self._bound.get(keys.base)
        if bound is None:
            bound = self._bound[keys.base] = tuple(getattr(keys, name) for name in self.keys)
        return bound

    def pack(self, args: Mapping[str, Arg], rows: Iterable[Sequence[Arg]] = ()) -> list[Arg]:
        """ARGV from named arguments and rows; TypeError on a missing or unknown name or a row of the wrong width."""
        try:
            packed = list(self._in_order(args))
        except KeyError:
            raise TypeError(self._mismatch(args)) from None
        given = len(packed)
        if self.options and len(args) == given:
            packed.append("")
        elif self.options:
            given += sum([name in args for name in self.options])
            values = tuple([args.get(*option) for option in self.options.items()])
            packed.append("" if values == self.option_texts.defaults else self.option_texts[values])
        if len(args) != given:
            raise TypeError(self._mismatch(args))
        try:
            append_rows(packed, rows, len(self.row_fields), self.shared_texts)
        except TypeError as error:
            raise TypeError(f"script {self.name}: {error}") from None
        return packed

    def _mismatch(self, args: Mapping[str, Arg]) -> str:
        missing = [name for name in self.args if name not in args]
        unknown = [name for name in args if name not in self.args and name not in self.options]
        return f"script {self.name}: missing arguments {missing}, unknown arguments {unknown}"


def names() -> list[str]:
    """Names of all scripts, sorted."""
    return sorted(path.stem for path in directory().glob("*.lua"))


def fast_paths() -> list[str]:
    """Names of the scripts that have a fast path, sorted."""
    return sorted(path.stem for path in directory().glob("fast_path/*.lua"))


@cache
def load(name: str, *, is_fast: bool = True) -> Script:
    """Read and assemble `lua/NAME.lua`, once per process; is_fast: with its fast path, if it has one."""
    header = read_header(directory() / f"{name}.lua")
    if header.uses:
        raise ScriptHeaderError(f"{name}: @uses belongs to includes; a script declares @key")
    includes = _ordered_includes(header)
    _check_keys(header, includes)
    bodies = {include.name: include.body for include in includes}
    text = assemble(bodies, header.lazy, f"{bindings(header)}\n{header.body}\n")
    if is_fast and name in fast_paths():
        text = fast_path(header, _fast_path(header).body) + text
    text = without_indentation(text)
    errors = {code: error for part in (*includes, header) for code, error, _ in part.errors}
    args = tuple(arg for arg, _, _ in header.args)
    events = sorted({event for part in (*includes, header) for event in part.events})
    return Script(
        name=name,
        text=text,
        sha=sha1(text.encode(), usedforsecurity=False).hexdigest(),
        header=header,
        keys=tuple(key for key, _, _ in header.keys),
        args=args,
        options=dict(zip(*option_defaults(header), strict=True)),
        row_fields=tuple(f.partition(":")[0] for f in header.rows[1]) if header.rows else (),
        includes=tuple(i.name for i in includes),
        events=tuple(events),
        errors=errors,
        option_texts=SharedTexts(option_defaults(header)[1]),
        shared_texts=SharedTexts(
            defaults_of(header.rows[1][-header.shared :]) if header.rows and header.shared else ()
        ),
        _in_order=_in_order(args),
    )


def _in_order(names: tuple[str, ...]) -> Callable[[Mapping[str, Arg]], Sequence[Arg]]:
    """What picks these values from named ones, in this order."""
    if len(names) > 1:
        return itemgetter(*names)  # a step of the interpreter for all of them
    return lambda args: [args[name] for name in names]


@cache
def _include(name: str) -> Header:
    header = read_header(directory() / "include" / f"{name}.lua")
    if header.keys or header.args or header.options or header.rows or header.lazy:
        raise ScriptHeaderError(
            f"include {name}: @key, @arg, @option and @rows belong to scripts, as @lazy does; an include has @uses"
        )
    return header


def _fast_path(header: Header) -> Header:
    """The fast path of a script, which may include nothing: its functions would cost what it saves."""
    path = read_header(directory() / "fast_path" / f"{header.name}.lua")
    if path.keys or path.args or path.options or path.rows or path.lazy or path.includes:
        raise ScriptHeaderError(
            f"fast path {header.name}: @key, @arg, @option, @rows and @include belong to the script"
        )
    _check_keys(header, [path])
    return path


def _ordered_includes(header: Header) -> list[Header]:
    """All includes, each once, dependencies first (a local function must exist before its caller)."""
    ordered: dict[str, Header] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            raise ScriptHeaderError(f"{header.name}: includes form a cycle: {' -> '.join((*path, name))}")
        if name not in ordered:
            try:
                include = _include(name)
            except ScriptHeaderError as error:
                raise ScriptHeaderError(f"{header.name}: @include {name}: {error}") from None
            for needed in include.includes:
                visit(needed, (*path, name))
            ordered[name] = include

    for name in header.includes:
        visit(name, ())
    known = {name for include in ordered.values() for name in (include.name, *defined_names(include.body))}
    strangers = {name for group in header.lazy for name in group} - known
    if strangers:
        raise ScriptHeaderError(f"{header.name}: @lazy {sorted(strangers)}: no include needs them")
    return list(ordered.values())


def _check_keys(header: Header, includes: Sequence[Header]) -> None:
    declared = {name for name, _, _ in header.keys}
    for include in includes:
        missing = set(include.uses) - declared
        if missing:
            raise ScriptHeaderError(f"{header.name}: include {include.name} uses undeclared keys {sorted(missing)}")
