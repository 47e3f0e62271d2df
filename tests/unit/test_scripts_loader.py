"""The loader of the Lua scripts: headers, includes, bindings, arguments. No Redis."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from hashlib import sha1
from pathlib import Path
from typing import Any

import lupa.lua51
import pytest

from pyqueue._redis import lua_files, scripts
from pyqueue._redis.keys import QueueKeys
from pyqueue._redis.lua_files import ScriptHeaderError
from pyqueue._redis.scripts import Script
from pyqueue.errors import CODES

Write = Callable[..., None]

WHOLE = """\
--- Do one thing.
--- In more than one line.
--- Transition: wait -> active.
--- @key wait list ids ready to run
--- continued without binding anything
--- @key meta hash
--- @derived {prefix}{id} hash one job
--- @arg prefix string key prefix
--- @arg limit int how many
--- @rows jobs id size:int
--- @return ids
--- @error -1 JobNotFound it is gone
--- @event waiting active
--- @event active
--- @include one two

local x = limit
return one() + two()
"""


def _clear_caches() -> None:
    for cached in (lua_files.directory, scripts.load, scripts._include):
        cached.cache_clear()


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write Lua files into a directory of the test's own: `write(name=text)` a script, `write(include_x=text)` an
    include, `write(fast_path_x=text)` the fast path of a script."""
    (tmp_path / "include").mkdir()
    (tmp_path / "fast_path").mkdir()

    def write_files(**texts: str) -> None:
        for name, text in texts.items():
            path = tmp_path / re.sub("^(include|fast_path)_", r"\1/", name)
            path.with_suffix(".lua").write_text(text, encoding="utf-8")

    monkeypatch.setattr(lua_files, "_DIRECTORIES", (tmp_path / "missing", tmp_path))
    _clear_caches()
    yield write_files
    _clear_caches()


def include(name: str, *lines: str) -> str:
    """An include that defines one function."""
    header = [f"--- {name}.", *(f"--- {line}" for line in lines)]
    return "\n".join([*header, f"local function {name}() return 1 end"]) + "\n"


@pytest.fixture
def whole(write: Write) -> Script:
    """A script that uses the whole grammar."""
    write(
        whole=WHOLE,
        include_one=include("one", "@include two", "@uses wait", "@event drained"),
        include_two=include("two", "@error -2 LockMissing the lock expired"),
    )
    return scripts.load("whole")


def test_every_part_of_a_header_is_read(whole: Script) -> None:
    header = whole.header
    assert header.summary == "Do one thing. In more than one line."
    assert header.transition == "wait -> active."
    assert header.keys == (("wait", "list", "ids ready to run"), ("meta", "hash", ""))
    assert header.derived == (("{prefix}{id}", "hash", "one job"),)
    assert header.args == (("prefix", "string", "key prefix"), ("limit", "int", "how many"))
    assert header.rows == ("jobs", ("id", "size:int"))
    assert header.returns == "ids"
    assert header.includes == ("one", "two")
    assert header.body == "local x = limit\nreturn one() + two()"


def test_a_script_knows_what_its_includes_add(whole: Script) -> None:
    assert whole.keys == ("wait", "meta")
    assert whole.args == ("prefix", "limit")
    assert whole.row_fields == ("id", "size")
    assert whole.errors == {-1: "JobNotFound", -2: "LockMissing"}
    assert whole.events == ("active", "drained", "waiting")


def test_includes_come_once_dependencies_first_and_before_the_bindings(whole: Script) -> None:
    assert whole.includes == ("two", "one")
    marks = [
        "two = function()",
        "one = function()",
        "wait = KEYS[1]",
        "meta = KEYS[2]",
        "ARGV[1]",
        "return includes.one()",
    ]
    places = [whole.text.index(mark) for mark in marks]
    assert places == sorted(places)
    assert whole.text.count("two = function()") == 1


def test_functions_that_a_script_does_not_reach_are_left_out(write: Write) -> None:
    body = "local function one() return two() end\nlocal function three()\n  return one()\nend\n"
    write(
        script="--- Script.\n--- @include one\nlocal four = { one = 1 }\nreturn { one(), four.one }",
        include_one=f"--- One.\n--- @include two\n{body}",
        include_two=include("two"),
    )

    text = scripts.load("script").text

    assert ("one = function()" in text, "two = function()" in text, "three = function()" in text) == (True, True, False)
    assert _run(scripts.load("script")) == [1, 1]


def test_names_are_bound_to_keys_and_arguments(whole: Script) -> None:
    assert "local prefix = ARGV[1]\nlocal limit = ARGV[2] + 0\nkeys.prefix = prefix" in whole.text
    assert "for i = 3, #ARGV, 2 do" in whole.text
    assert "id = ARGV[i + 0]," in whole.text
    assert "size = ARGV[i + 1] + 0," in whole.text


def test_the_hash_is_that_of_the_text(whole: Script) -> None:
    assert whole.sha == sha1(whole.text.encode(), usedforsecurity=False).hexdigest()


def test_a_script_is_assembled_once(whole: Script) -> None:
    assert scripts.load("whole") is whole


def test_the_scripts_of_the_directory_are_listed(write: Write) -> None:
    write(b="--- B.", a="--- A.", include_c="--- C.")

    assert scripts.names() == ["a", "b"]


def test_arguments_are_packed_by_name_then_rows(whole: Script) -> None:
    assert whole.pack({"limit": 5, "prefix": "p:"}, [("a", 1), ["b", 2]]) == ["p:", 5, "a", 1, "b", 2]
    assert whole.pack({"limit": 5, "prefix": "p:"}) == ["p:", 5]


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        ({"prefix": "p:"}, r"script whole: missing arguments \['limit'\], unknown arguments \[\]"),
        ({"prefix": "p:", "limit": 1, "limits": 2}, r"missing arguments \[\], unknown arguments \['limits'\]"),
        ({}, r"missing arguments \['prefix', 'limit'\]"),
    ],
)
def test_a_wrong_argument_name_fails_before_the_network(whole: Script, args: dict[str, int], problem: str) -> None:
    with pytest.raises(TypeError, match=problem):
        whole.pack(args)


@pytest.mark.parametrize("row", [(), ("a",), ("a", 1, 2)])
def test_a_row_of_the_wrong_width_fails_before_the_network(whole: Script, row: tuple[str, ...]) -> None:
    with pytest.raises(TypeError, match=f"script whole: a row has {len(row)} fields, it must have 2"):
        whole.pack({"prefix": "p:", "limit": 1}, [("a", 1), row])


SHARED = "--- Shared.\n--- @arg limit int\n--- @rows jobs id size:int | delay:int note\nreturn #jobs"


def test_fields_that_rows_share_travel_once(write: Write) -> None:
    write(shared=SHARED)
    shared = scripts.load("shared")

    rows = [("a", 1, 0, ""), ("b", 2, 0, ""), ("c", 3, 2**53, 'say "\u00e9"\x00'), ("d", 4, 0, "0"), ("e", 5, 7, "")]
    packed = shared.pack({"limit": 5}, rows)

    assert shared.row_fields == ("id", "size", "delay", "note")
    assert packed == [
        *(5, 2, "[]", "a", 1, "b", 2),
        *(1, '[9007199254740992,"say \\"\u00e9\\"\\u0000"]', "c", 3),
        *(1, '[0,"0"]', "d", 4),
        *(1, "[7]", "e", 5),
    ]
    assert "local delay, note = shared[1] or 0, shared[2] or ''" in shared.text


@pytest.mark.parametrize("fields", ["| id", "id |", "id | a | b"])
def test_a_bar_stands_once_between_fields(write: Write, fields: str) -> None:
    write(bars=f"--- Bars.\n--- @rows jobs {fields}\nreturn 1")

    with pytest.raises(ScriptHeaderError, match=re.escape("expected NAME field[:int] ... [| field[:int] ...]")):
        scripts.load("bars")


def test_rows_for_a_script_without_rows_fail(write: Write) -> None:
    write(plain="--- Plain.\nreturn 1")

    with pytest.raises(TypeError, match="a row has 1 fields, it must have 0"):
        scripts.load("plain").pack({}, [("a",)])


def test_keys_are_bound_in_the_order_of_the_header_and_remembered(whole: Script) -> None:
    keys = QueueKeys("bull", "email")

    assert whole.bind(keys) == ("bull:email:wait", "bull:email:meta")
    assert whole.bind(keys) is whole.bind(QueueKeys("bull", "email"))
    assert whole.bind(QueueKeys("bull", "sms")) == ("bull:sms:wait", "bull:sms:meta")


#: A header line that cannot be read, and what is said about it.
DEFECTS = [
    ("@kye wait list", "unknown tag"),
    ("@key", "too few words"),
    ("@key wait", "too few words"),
    ("@key waiting list", "waiting is no attribute of QueueKeys"),
    ("@arg limit", "too few words"),
    ("@arg limit float", "expected NAME int|digits|string"),
    ("@arg Limit int", "expected NAME int|digits|string"),
    ("@arg key-count int", "expected NAME int|digits|string"),
    ("@option limit", "too few words"),
    ("@option limit digits", "expected NAME int|string"),
    ("@rows jobs", "too few words"),
    ("@rows jobs id size:float", "expected NAME field[:int] ..."),
    ("@rows jobs id Size", "expected NAME field[:int] ..."),
    ("@rows jobs id id:int", "id is declared twice"),
    ("@error 1 JobNotFound", "expected a negative code"),
    ("@error -x JobNotFound", "expected a negative code"),
    ("@error -1", "too few words"),
    ("@event", "too few words"),
    ("@include", "too few words"),
    ("@return", "too few words"),
    ("@uses waiting", "['waiting'] are no attributes of QueueKeys"),
    ("@derived {prefix}{id}", "too few words"),
    ("@key meta hash", "meta is declared twice"),
    ("@arg prefix int", "prefix is declared twice"),
    ("@rows more id", "only one per script"),
]


@pytest.mark.parametrize(("line", "problem"), DEFECTS, ids=[line for line, _ in DEFECTS])
def test_a_header_that_cannot_be_read_names_file_and_line(write: Write, line: str, problem: str) -> None:
    header = ["Broken.", "@key meta hash settings", "@arg prefix string prefix"]
    if problem.startswith("only one"):
        header.append("@rows jobs id")
    write(broken="\n".join(f"--- {text}" for text in [*header, line]) + "\nreturn 1")

    with pytest.raises(
        ScriptHeaderError, match=re.escape(f"broken.lua:{len(header) + 1}: @{line[1:].split()[0]}: {problem}")
    ):
        scripts.load("broken")


@pytest.mark.parametrize("text", ["return 1", "--- @key wait list\nreturn 1", "-- A plain comment.\nreturn 1", ""])
def test_a_script_needs_a_summary(write: Write, text: str) -> None:
    write(mute=text)

    with pytest.raises(ScriptHeaderError, match=r"mute\.lua: the header has no summary"):
        scripts.load("mute")


@pytest.mark.parametrize("line", ["@key wait list", "@arg prefix string", "@option limit int", "@rows jobs id"])
def test_an_include_may_not_bind(write: Write, line: str) -> None:
    write(script="--- Script.\n--- @include one\nreturn 1", include_one=include("one", line))

    with pytest.raises(ScriptHeaderError, match="include one: @key, @arg, @option and @rows belong to scripts"):
        scripts.load("script")


def test_a_script_may_not_use_what_it_does_not_declare(write: Write) -> None:
    write(script="--- Script.\n--- @uses wait\nreturn 1")

    with pytest.raises(ScriptHeaderError, match="script: @uses belongs to includes"):
        scripts.load("script")


def test_the_keys_of_every_include_must_be_declared(write: Write) -> None:
    write(
        script="--- Script.\n--- @key wait list\n--- @include one\nreturn 1",
        include_one=include("one", "@include two"),
        include_two=include("two", "@uses wait active meta"),
    )

    with pytest.raises(ScriptHeaderError, match=r"script: include two uses undeclared keys \['active', 'meta'\]"):
        scripts.load("script")


@pytest.mark.parametrize("needs", [("two", "one"), ("one", "one")])
def test_a_cycle_of_includes_is_shown(write: Write, needs: tuple[str, str]) -> None:
    first, second = needs
    write(
        script="--- Script.\n--- @include one\nreturn 1",
        include_one=include("one", f"@include {first}"),
        include_two=include("two", f"@include {second}"),
    )

    path = "one -> two -> one" if first == "two" else "one -> one"
    with pytest.raises(ScriptHeaderError, match=f"script: includes form a cycle: {path}"):
        scripts.load("script")


def test_a_missing_include_names_who_wants_it(write: Write) -> None:
    write(script="--- Script.\n--- @include one\nreturn 1", include_one=include("one", "@include gone"))

    with pytest.raises(ScriptHeaderError, match=r"script: @include gone: there is no lua/include/gone\.lua"):
        scripts.load("script")


def test_a_missing_script_is_told(write: Write) -> None:
    with pytest.raises(ScriptHeaderError, match=r"there is no lua/gone\.lua"):
        scripts.load("gone")


def test_an_installation_without_scripts_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(lua_files, "_DIRECTORIES", (tmp_path / "a", tmp_path / "b"))
    lua_files.directory.cache_clear()
    try:
        with pytest.raises(FileNotFoundError, match=r"Lua scripts are in none of .*: reinstall pyqueue-redis"):
            lua_files.directory()
    finally:
        lua_files.directory.cache_clear()


@pytest.mark.parametrize("name", scripts.names())
def test_the_scripts_of_the_library_load(name: str) -> None:
    script = scripts.load(name)

    assert script.header.summary.endswith(".")
    assert script.keys, "a cluster needs a key to know where to run the script"
    assert not re.search(r"\s\n|\n\s", script.text), "what the server reads, hashes and keeps for nothing"


def test_every_code_of_the_scripts_is_in_the_table_of_errors() -> None:
    declared: dict[int, set[str]] = {}
    for path in lua_files.directory().rglob("*.lua"):
        for code, error, text in lua_files.read_header(path).errors:
            assert text, f"{path}: @error {code} says nothing"
            declared.setdefault(code, set()).add(error)

    assert {code: names for code, names in declared.items() if names != {CODES[code].__name__}} == {}
    # Codes of job schedulers, whose scripts come later.
    assert set(CODES) - set(declared) <= {-10, -11}


def _lazy_script(write: Write, body: str) -> Script:
    """A script whose includes `rare` and `rarer` are made lazily: both log, `rarer` calls `rare` and `common`."""
    write(
        script=f"--- Script.\n--- @include common rarer\n--- @lazy rare rarer\n{body}",
        include_common=(
            "--- Common.\nlocal log = {}\nlocal function note(text) log[#log + 1] = text end\nlog[1] = 'common'\n"
        ),
        include_rare=(
            "--- Rare.\n--- @include common\nlocal LIMIT = 7\nnote('rare')\nlocal function rare() return LIMIT end\n"
        ),
        include_rarer=(
            "--- Rarer.\n--- @include common rare\nnote('rarer')\n"
            "local function rarer() note(rare()) return 'rare' .. LIMIT end -- rare() in a comment\n"
        ),
    )
    return scripts.load("script")


def _run(script: Script, argv: str = "{}") -> list[object]:
    lua: Any = lupa.lua51  # its classes carry no usable annotations
    runtime = lua.LuaRuntime()
    runtime.execute("KEYS = { 'first', 'second' } ARGV = " + argv)
    return list(runtime.execute(script.text).values())


QUICK = """\
--- Quick.
--- @key wait list ids
--- @key active list ids
--- @arg limit int how many
--- @rows jobs id size:int
return { 'general', keys.active, limit, #jobs }
"""


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("if limit == 5 then\n  return { keys.active, limit, ARGV[first_row + 1] }\nend", ["second", 5, "7"]),
        ("if limit == 4 then\n  return { 'fast' }\nend", ["general", "second", 5, 1]),
        ("local x = limit + nil\nreturn { x, keys.active }", ["general", "second", 5, 1]),
    ],
    ids=["answers", "declines", "fails"],
)
def test_a_fast_path_answers_or_leaves_the_call_to_the_general_code(
    write: Write, path: str, answer: list[object]
) -> None:
    write(quick=QUICK, fast_path_quick=f"--- Fast.\n--- @uses active\n{path}")

    assert _run(scripts.load("quick"), "{ '5', 'a', '7' }") == answer
    assert _run(scripts.load("quick", is_fast=False), "{ '5', 'a', '7' }") == ["general", "second", 5, 1]
    assert scripts.fast_paths() == ["quick"]


@pytest.mark.parametrize("tag", ["@key wait list ids", "@arg x int y", "@rows a b", "@include one", "@lazy one"])
def test_a_fast_path_binds_nothing_of_its_own(write: Write, tag: str) -> None:
    write(quick=QUICK, fast_path_quick=f"--- Fast.\n--- {tag}\nreturn 1", include_one=include("one"))

    with pytest.raises(ScriptHeaderError, match=r"fast path quick: .* belong to the script"):
        scripts.load("quick")


def test_a_fast_path_uses_keys_of_its_script(write: Write) -> None:
    write(quick=QUICK, fast_path_quick="--- Fast.\n--- @uses marker\nreturn keys.marker")

    with pytest.raises(ScriptHeaderError, match=r"undeclared keys \['marker'\]"):
        scripts.load("quick")


def test_lazy_includes_are_made_once_when_something_of_them_is_used(write: Write) -> None:
    script = _lazy_script(write, "note('body')\nlocal value = rarer()\nnote(value)\nnote(LIMIT)\nreturn log")

    assert _run(script) == ["common", "body", "rare", "rarer", 7, "rare7", 7]


def test_lazy_includes_that_are_not_used_are_not_made(write: Write) -> None:
    script = _lazy_script(write, "if #log > 9 then rarer() end\nreturn log")

    assert _run(script) == ["common"]


def test_fields_strings_and_comments_that_read_like_a_lazy_name_are_left_alone(write: Write) -> None:
    script = _lazy_script(write, "local x = {}\nx.rare = 'rare' -- rare\nnote(x.rare)\nreturn log")

    assert _run(script) == ["common", "rare"]


def test_single_functions_can_be_lazy_whoever_uses_them(write: Write) -> None:
    """`helper` and `link` are used by a lazy include and from outside, `caller` and `link` use one."""
    write(
        script="--- Script.\n--- @include common\n--- @lazy rare helper link\n--- @lazy rare caller\n"
        "return { caller(), helper(), plain(), link(1) }",
        include_common=(
            "--- Common.\n--- @include rare base\nlocal function plain() return 'plain' end\n"
            "local function caller() return rare(1) .. plain() end\n"
        ),
        include_rare="--- Rare.\n--- @include base\nlocal function rare(n) return n > 2 and helper() or link(n) end\n",
        include_base=(
            "--- Base.\nlocal function helper() return 'helper' end\n"
            "local function link(n) return n > 2 and 'far' or helper() .. n end\n"
        ),
    )
    script = scripts.load("script")

    assert _run(script) == ["helper1plain", "helper", "plain", "helper1"]
    for name in ("helper", "link", "caller"):
        assert f"local {name}" not in script.text.partition("lazy_rare = function()")[0]


OPTIONS = (
    "--- Options.\n--- @arg limit int\n--- @option delay int\n--- @option note string\n--- @option last int\n"
    "--- @rows jobs id\nreturn { limit, delay, note, last, #jobs }"
)


@pytest.mark.parametrize(
    ("options", "packed"),
    [
        ({}, ""),
        ({"delay": 0, "note": "", "last": 0}, ""),
        ({"delay": 7}, "[7]"),
        ({"note": 'say "\u00e9"', "last": 0}, '[0,"say \\"\u00e9\\""]'),
        ({"last": 2**53}, '[0,"",9007199254740992]'),
    ],
)
def test_options_travel_as_one_argument(write: Write, options: dict[str, int | str], packed: str) -> None:
    write(options=OPTIONS)
    script = scripts.load("options")

    assert script.pack({"limit": 5, **options}, [("a",)]) == [5, packed, "a"]
    assert script.options == {"delay": 0, "note": "", "last": 0}
    assert "local delay, note, last = 0, '', 0" in script.text
    assert "delay, note, last = options[1] or 0, options[2] or '', options[3] or 0" in script.text
    assert "for i = 3, #ARGV, 1 do" in script.text


def test_a_wrong_option_name_fails_before_the_network(write: Write) -> None:
    write(options=OPTIONS)

    with pytest.raises(TypeError, match=r"missing arguments \[\], unknown arguments \['notes'\]"):
        scripts.load("options").pack({"limit": 5, "notes": "x"})


def test_only_includes_of_the_script_can_be_lazy(write: Write) -> None:
    write(script="--- Script.\n--- @include one\n--- @lazy one other\nreturn one()", include_one=include("one"))

    with pytest.raises(ScriptHeaderError, match=r"script: @lazy \['other'\]: no include needs them"):
        scripts.load("script")
