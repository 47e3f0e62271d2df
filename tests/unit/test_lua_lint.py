"""The Lua scripts pass the lint, and the lint finds what it promises to find."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from pyqueue._redis.lua_files import directory
from tests.lua_lint import Token, compile_lua, lint, tokenize

ROOT: Final = Path(__file__).resolve().parents[2]

#: Name of a defective script -> its text and a line that the lint prints for it.
DEFECTS: Final = {
    "no_summary": ("--- @key wait list ids\nreturn redis.call('LLEN', keys.wait)", "no summary"),
    "unknown_tag": ("--- Text.\n--- @kye wait list ids\nreturn 1", "@kye: unknown tag"),
    "syntax": ("--- Text.\nlocal = 1\nreturn 1", "syntax.lua:2: error: script syntax does not compile"),
    "writes_global": (
        "--- Text.\n\nlocal a = 1\ncount = a\nreturn a",
        "writes_global.lua:4: error: global count is writ",
    ),
    "reads_global": (
        "--- Text.\nreturn function() return coutn end",
        "reads_global.lua:2: error: global coutn is read",
    ),
    "raw_input": ("--- Text.\nreturn KEYS[1]", "raw_input.lua:2: error: global KEYS is read outside the bindings"),
    "undeclared": ("--- Text.\nreturn keys.wait", "undeclared.lua:2: error: keys.wait is not declared by @key"),
    "unused_key": (
        "--- Text.\n--- @key wait list ids\n--- @key meta hash settings\nreturn redis.call('LLEN', keys.wait)",
        "unused_key.lua:1: error: @key meta",
    ),
    "unused_arg": ("--- Text.\n--- @arg now_ms int time\nreturn 1", "unused_arg.lua:1: error: now_ms is declared"),
    "not_portable": ("--- Text.\nreturn redis.sha1hex('')", "not_portable.lua:2: error: redis.sha1hex is outside"),
    "parameters": (
        "--- Text.\nlocal function f(a, b, c, d, e, f, g) end\nf()",
        "parameters.lua:2: error: a function with 7",
    ),
    "uncalled": ("--- Text.\nlocal function lonely() end", "uncalled.lua:2: error: function lonely is never called"),
    "unused_include": ("--- Text.\n--- @include greedy\nreturn 1", "unused_include.lua:1: error: @include greedy"),
    "missing_include": ("--- Text.\n--- @include nowhere\nreturn 1", "missing_include.lua:1: error:"),
    "long": ("--- Text.\n" + "local x\n" * 60 + "return x", "long.lua:1: warning: 62 lines, the budget is 60"),
    "include/greedy": ("--- Text.\n--- @uses wait\nlocal function greedy() end", "greedy.lua:1: error: @uses wait"),
    "include/stray": ("--- Text.\nlocal x", "stray.lua:1: error: no script includes this file"),
    "include/sneaky": (
        "--- Text.\nlocal function sneaky() return ARGV[1] end",
        "sneaky.lua:2: error: global ARGV is read",
    ),
    "caller": ("--- Text.\n--- @include sneaky\nreturn sneaky()", ""),
    "quick": ("--- Text.\n--- @key wait list ids\nreturn keys.wait", ""),
    "fast_path/quick": (
        "--- Text.\n--- @uses wait\nreturn keys.wait, limit",
        "quick.lua:3: error: global limit is used",
    ),
    "fast_path/alone": ("--- Text.\nreturn 1", "alone.lua:1: error: there is no script of this name"),
}


@pytest.fixture(scope="module")
def defects_report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Output of the lint for a checkout that holds only defective scripts."""
    checkout = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "src", checkout / "src")
    (checkout / "src" / "pyqueue" / "__init__.py").write_text("")  # the library itself would miss its scripts
    (checkout / "lua" / "include").mkdir(parents=True)
    (checkout / "lua" / "fast_path").mkdir()
    for name, (text, _) in DEFECTS.items():
        (checkout / "lua" / f"{name}.lua").write_text(text + "\n")
    command = [sys.executable, str(ROOT / "tests" / "lua_lint.py")]
    result = subprocess.run(command, env={"PYTHONPATH": str(checkout / "src")}, capture_output=True, text=True)
    assert result.returncode == 1, result.stderr
    return result.stdout


def test_the_scripts_have_no_errors() -> None:
    errors = [str(finding) for finding in lint(directory()) if finding.is_error]
    assert not errors, "\n".join(errors)


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_found(name: str, defects_report: str) -> None:
    assert DEFECTS[name][1] in defects_report


def test_comments_and_strings_hold_no_names() -> None:
    text = "--[[ keys.a\n]] local x = 'keys.b' -- keys.c\n[==[ keys.d ]] ]==]"
    assert [token.text for token in tokenize(text) if token.kind == "name"] == ["local", "x"]
    assert next(iter(tokenize(text))) == Token("name", "local", 2)


def test_the_bytecode_tells_globals_and_parameters_of_every_function() -> None:
    main, inner, innermost = compile_lua("local a\nlocal function f(x, y)\n  return function() z = a + w end\nend")
    assert (main.parameters, main.globals_read, main.globals_written) == (0, (), ())
    assert (inner.line, inner.parameters) == (2, 2)
    assert innermost.globals_written == (("z", 3),)
    assert innermost.globals_read == (("w", 3),)
