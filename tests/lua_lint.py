"""Lint the Lua scripts: `make lua`, and a unit test.

Errors (exit code 1):
- a header that the loader refuses, a script that does not compile;
- a global that is written, or read although it is none of those every supported server has (bytecode is examined, so
  every path counts); KEYS and ARGV outside the generated bindings, ARGV in a fast path excepted; functions of `redis`
  beyond the portable subset;
- `keys.NAME` that the header does not declare (`@key` of a script, `@uses` of an include), and the reverse: a declared
  key, argument or include that nothing uses; an include or a function that no script reaches. The table of another
  queue (`derive_keys`) therefore has another name, `parent` for instance;
- a function with more than six parameters; a fast path without its script.

Warnings: a script of more than 60 lines, an include of more than 120, a fast path of more than 230: in straight lines.

It needs only the `embedded` extra: lupa, which runs Lua for fakeredis, also compiles. luac and luacheck are not needed.
"""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import lupa.lua51

from pyqueue._redis import scripts
from pyqueue._redis.bindings import bindings, fast_path_bindings
from pyqueue._redis.lua_files import Header, ScriptHeaderError, directory, read_header
from pyqueue._redis.scripts import Script

#: The interpreter of Redis. Its classes carry no usable annotations.
_LUA: Final[Any] = lupa.lua51

SCRIPT_LINES: Final = 60
INCLUDE_LINES: Final = 120
FAST_PATH_LINES: Final = 230
PARAMETERS: Final = 6

#: Globals that Redis, Valkey and fakeredis all have and that are deterministic.
GLOBALS: Final = frozenset(
    {"redis", "cjson", "string", "table", "math", "type", "tonumber", "tostring", "pairs", "ipairs", "next", "select"}
    | {"unpack", "pcall", "error", "assert"}
)
#: The script's input: only the bindings that the loader writes may touch it.
INPUT: Final = frozenset({"KEYS", "ARGV"})
#: Functions of `redis` in the portable subset (no sha1hex, no replicate_commands, no setresp).
REDIS_FUNCTIONS: Final = frozenset({"call", "pcall", "error_reply", "status_reply"})
#: Fields of `keys` that are bound without a declaration.
IMPLICIT_KEYS: Final = frozenset({"prefix"})
#: Arguments that the bindings themselves use.
IMPLICIT_ARGS: Final = frozenset({"prefix"})

_TOKEN: Final = re.compile(
    r"""(?P<skip>\s+|--\[(?P<c>=*)\[.*?\](?P=c)\]|--[^\n]*)
      | (?P<string>\[(?P<s>=*)\[.*?\](?P=s)\]|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
      | (?P<name>[A-Za-z_]\w*)
      | (?P<other>\d[\w.]*|\.{2,3}|[=~<>]=|.)""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One thing to look at."""

    path: Path
    line: int
    message: str
    is_error: bool = True

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {'error' if self.is_error else 'warning'}: {self.message}"


@dataclass(frozen=True, slots=True)
class Token:
    """A name, string, number or symbol of a Lua file; comments and space are dropped."""

    kind: str
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Function:
    """What the bytecode of one Lua function tells."""

    line: int
    parameters: int
    globals_read: tuple[tuple[str, int], ...]
    globals_written: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Source:
    """One Lua file."""

    path: Path
    header: Header
    first_line: int  # of the body
    tokens: tuple[Token, ...]

    @classmethod
    def read(cls, path: Path) -> Source:
        header = read_header(path)
        text = path.read_text(encoding="utf-8")
        first_line = text.count("\n", 0, len(text) if not header.body else text.rindex(header.body)) + 1
        return cls(path, header, first_line, tuple(tokenize(header.body, first_line)))

    @property
    def is_include(self) -> bool:
        return self.path.parent.name == "include"

    @property
    def is_fast_path(self) -> bool:
        return self.path.parent.name == "fast_path"

    @property
    def line_budget(self) -> int:
        return FAST_PATH_LINES if self.is_fast_path else INCLUDE_LINES if self.is_include else SCRIPT_LINES

    @property
    def body_lines(self) -> int:
        return self.header.body.count("\n") + 1

    @property
    def names(self) -> frozenset[str]:
        return frozenset(token.text for token in self.tokens if token.kind == "name")

    def fields_of(self, table: str) -> Iterator[Token]:
        """Every NAME in `table.NAME`, also where the table is itself a field (`q.keys.NAME`)."""
        for dot, name in self._after(table):
            if dot.text == "." and name.kind == "name":
                yield name

    def indexes(self, table: str) -> bool:
        """Whether there is a `table[expression]`, so that nothing can be said about unused fields."""
        return any(bracket.text == "[" for bracket, _ in self._after(table))

    def _after(self, table: str) -> Iterator[tuple[Token, Token]]:
        """The two tokens behind each mention of a table."""
        for owner, first, second in zip(self.tokens, self.tokens[1:], self.tokens[2:], strict=False):
            if owner.kind == "name" and owner.text == table:
                yield first, second

    def functions(self) -> Iterator[Token]:
        """Names of the functions defined at any level."""
        for keyword, name in zip(self.tokens, self.tokens[1:], strict=False):
            if keyword.text == "function" and keyword.kind == "name" and name.kind == "name":
                yield name


def main() -> int:
    """Print every finding; 1 if one of them is an error."""
    findings = lint(directory())
    for finding in findings:
        print(finding)
    errors = sum(finding.is_error for finding in findings)
    print(f"{len(scripts.names())} scripts: {errors} errors, {len(findings) - errors} warnings")
    return 1 if errors else 0


def lint(root: Path) -> list[Finding]:
    """All findings in the directory of the Lua files, by file and line."""
    findings: set[Finding] = set()
    sources: dict[str, Source] = {}  # "add_jobs", "include/claim"
    for path in sorted(root.rglob("*.lua")):
        try:
            sources[path.relative_to(root).with_suffix("").as_posix()] = Source.read(path)
        except ScriptHeaderError as error:
            findings.add(Finding(path, 1, str(error)))
    for name, source in sources.items():
        findings.update(file_findings(source))
        if source.is_fast_path:
            findings.update(fast_path_findings(source, sources))
        elif not source.is_include:
            findings.update(script_findings(name, sources))
    findings.update(unreached(sources))
    return sorted(findings)


def file_findings(source: Source) -> Iterator[Finding]:
    """What can be said of a file alone: declared and used keys, the portable subset, size."""
    header = source.header
    declared = set(header.uses) | {name for name, _, _ in header.keys}
    declared |= set() if source.is_fast_path else IMPLICIT_KEYS
    for token in source.fields_of("keys"):
        if token.text not in declared:
            tag = "@uses" if source.is_include or source.is_fast_path else "@key"
            yield Finding(source.path, token.line, f"keys.{token.text} is not declared by {tag}")
    for token in source.fields_of("redis"):
        if token.text not in REDIS_FUNCTIONS:
            yield Finding(source.path, token.line, f"redis.{token.text} is outside the portable subset")
    used = {token.text for token in source.fields_of("keys")}
    for name in sorted(set(header.uses) - used) if not source.indexes("keys") else ():
        yield Finding(source.path, 1, f"@uses {name}: the body does not touch keys.{name}")
    lines, limit = source.first_line + source.body_lines - 1, source.line_budget
    if lines > limit:
        yield Finding(source.path, 1, f"{lines} lines, the budget is {limit}", is_error=False)


def script_findings(name: str, sources: dict[str, Source]) -> Iterator[Finding]:
    """What can be said of an assembled script: it compiles, its globals, unused declarations."""
    source = sources[name]
    try:
        script = scripts.load(name)
    except (ScriptHeaderError, FileNotFoundError) as error:
        yield Finding(source.path, 1, str(error))
        return
    includes = [sources[f"include/{include}"] for include in script.includes]
    yield from bytecode_findings(script, source, includes)
    reached = {key for include in includes for key in include.header.uses}
    reached |= {token.text for token in source.fields_of("keys")}
    # A script that only touches keys of jobs declares one key, so that a cluster knows where to run it.
    for key in script.keys if len(script.keys) > 1 and not source.indexes("keys") else ():
        if key not in reached:
            yield Finding(source.path, 1, f"@key {key}: neither the body nor an include touches keys.{key}")
    rows = (source.header.rows[0],) if source.header.rows else ()
    for bound in (*script.args, *script.options, *rows):
        if bound not in source.names | IMPLICIT_ARGS:
            yield Finding(source.path, 1, f"{bound} is declared but the body does not use it")


def fast_path_findings(source: Source, sources: dict[str, Source]) -> Iterator[Finding]:
    """What can be said of a fast path: its script is there, it compiles, its globals."""
    script = sources.get(source.path.stem)
    if script is None:
        yield Finding(source.path, 1, "there is no script of this name")
        return
    bound = fast_path_bindings(script.header)
    try:
        functions = list(compile_lua("\n".join([*bound, source.header.body])))
    except _LUA.LuaError:
        return  # the script, which it is a part of, does not compile either
    for function in functions:
        for name, at in (*function.globals_written, *function.globals_read):
            if name not in GLOBALS | {"ARGV", "keys"} and at > len(bound):
                yield Finding(source.path, source.first_line + at - len(bound) - 1, f"global {name} is used")


def bytecode_findings(script: Script, source: Source, includes: list[Source]) -> Iterator[Finding]:
    """Compile a script, part after part as the files have them, and examine every function in it."""
    bound = bindings(source.header)
    try:
        functions = list(compile_lua("\n".join([*(i.header.body for i in includes), bound, source.header.body])))
        assembled = list(compile_lua(script.text))  # as the server gets it
    except _LUA.LuaError as error:
        problem = re.search(r"script:(\d+): (.*)", str(error))
        path, line = locate(int(problem[1]) if problem else 1, bound, source, includes)
        yield Finding(path, line, f"script {script.name} does not compile: {problem[2] if problem else error}")
        return
    for name in {name for function in assembled for name, _ in (*function.globals_read, *function.globals_written)}:
        if name not in GLOBALS | INPUT:
            yield Finding(source.path, 1, f"the assembled script takes {name} for a global: it is made too late")
    for function in functions:
        path, line = locate(function.line, bound, source, includes)
        if function.parameters > PARAMETERS:
            yield Finding(path, line, f"a function with {function.parameters} parameters, the limit is {PARAMETERS}")
        for name, at in function.globals_written:
            yield Finding(*locate(at, bound, source, includes), f"global {name} is written")
        for name, at in function.globals_read:
            path, line = locate(at, bound, source, includes)
            if name in INPUT and line == 0:
                continue
            if name not in GLOBALS:
                yield Finding(path, line, f"global {name} is read" + (" outside the bindings" if name in INPUT else ""))


def locate(line: int, bound: str, source: Source, includes: list[Source]) -> tuple[Path, int]:
    """File and line of a line of all parts together; line 0 of the script for the generated bindings."""
    for include in includes:
        if line <= include.body_lines:
            return include.path, include.first_line + line - 1
        line -= include.body_lines
    line -= bound.count("\n") + 1
    return source.path, source.first_line + line - 1 if line > 0 else 0


def unreached(sources: dict[str, Source]) -> Iterator[Finding]:
    """Includes that no file includes, includes without use, functions that nothing calls."""
    included = {f"include/{name}" for source in sources.values() for name in source.header.includes}
    for name, source in sources.items():
        if source.is_include and name not in included:
            yield Finding(source.path, 1, "no script includes this file")
        for include in source.header.includes:
            target = sources.get(f"include/{include}")
            if target and not definitions(target) & source.names:
                yield Finding(source.path, 1, f"@include {include}: the body uses nothing of it")
    mentions: dict[str, int] = {}
    for source in sources.values():
        for token in source.tokens:
            mentions[token.text] = mentions.get(token.text, 0) + (token.kind == "name")
    for source in sources.values():
        for token in source.functions():
            if mentions[token.text] == 1:
                yield Finding(source.path, token.line, f"function {token.text} is never called")


def definitions(source: Source) -> set[str]:
    """Names that an include's body makes `local`; those inside its functions count, too, which does no harm."""
    names = {token.text for token in source.functions()}
    for keyword, name in zip(source.tokens, source.tokens[1:], strict=False):
        if keyword.text == "local" and name.kind == "name":
            names.add(name.text)
    return names


def tokenize(text: str, first_line: int = 1) -> Iterator[Token]:
    """The tokens of a Lua text, with their line numbers."""
    line = first_line
    for match in _TOKEN.finditer(text):
        kind = next(group for group in ("skip", "string", "name", "other") if match[group] is not None)
        if kind != "skip":
            yield Token(kind, match[0], line)
        line += match[0].count("\n")


def compile_lua(text: str) -> Iterator[Function]:
    """Every function of a Lua text, the main chunk first; _LUA.LuaError if it does not compile."""
    runtime: Any = _LUA.LuaRuntime(encoding=None, register_eval=False, register_builtins=False)
    dump = runtime.eval(b"function(text) return string.dump(assert(loadstring(text, '=script'))) end")
    return _Bytecode(dump(text.encode())).functions()


class _Bytecode:
    """Reader of Lua 5.1's precompiled chunks, as `lundump.c` lays them out."""

    _GETGLOBAL: Final = 5
    _SETGLOBAL: Final = 7

    def __init__(self, chunk: bytes) -> None:
        self._chunk = chunk
        # Signature, version, format; then little-endian flag and the sizes of int, size_t, instruction, number.
        _, version, _, little, self._int, self._size, self._word, self._number, _ = struct.unpack("4s8B", chunk[:12])
        if version != 0x51:
            raise RuntimeError(f"expected Lua 5.1 bytecode, got version {version:#x}")
        self._order: Literal["little", "big"] = "little" if little else "big"
        self._at = 12

    def functions(self) -> Iterator[Function]:
        """This function and those inside it, in the order of the text."""
        self._string()
        line = self._integer(self._int)
        self._integer(self._int)
        _, parameters, _, _ = self._bytes(4)
        code = [self._integer(self._word) for _ in self._count()]
        constants = [self._constant() for _ in self._count()]
        inner = [function for _ in self._count() for function in self.functions()]
        lines = [self._integer(self._int) for _ in self._count()]
        for _ in self._count():  # names of locals and the range in which they live
            self._string()
            self._bytes(2 * self._int)
        for _ in self._count():  # names of upvalues
            self._string()
        found: dict[int, list[tuple[str, int]]] = {self._GETGLOBAL: [], self._SETGLOBAL: []}
        for instruction, at in zip(code, lines, strict=True):
            if instruction & 0x3F in found:
                found[instruction & 0x3F].append((constants[instruction >> 14], at))
        yield Function(line or 1, parameters, tuple(found[self._GETGLOBAL]), tuple(found[self._SETGLOBAL]))
        yield from inner

    def _bytes(self, size: int) -> bytes:
        self._at += size
        return self._chunk[self._at - size : self._at]

    def _integer(self, size: int) -> int:
        return int.from_bytes(self._bytes(size), self._order)

    def _count(self) -> range:
        return range(self._integer(self._int))

    def _string(self) -> str:
        return self._bytes(self._integer(self._size)).rstrip(b"\0").decode(errors="replace")

    def _constant(self) -> str:
        """Text of a string constant; other kinds are skipped, no global is named by them."""
        kind = self._bytes(1)[0]
        if kind == 4:
            return self._string()
        self._bytes({0: 0, 1: 1, 3: self._number}[kind])
        return ""


if __name__ == "__main__":
    sys.exit(main())
