"""The tools around the scenarios: normal form, comparison, generator, driver program."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest

from tests.conformance.execution import UnknownOperation, run_scenario
from tests.conformance.generate import FEATURES, Generator
from tests.conformance.normal_form import (
    SCRIPTED,
    differences,
    js_number,
    js_string,
    number_uuids,
    parse_json,
    render,
    strip_frames,
)
from tests.conformance.operations import OPERATIONS
from tests.conformance.ruled import HERE, SCENARIOS, apply_changes, expected
from tests.support.server import RedisServer


def test_a_golden_is_rendered_as_the_oracle_wrote_it() -> None:
    for name in SCENARIOS:
        text = (HERE / "goldens" / f"{name}.json").read_text(encoding="utf-8")
        assert render(parse_json(text)) + "\n" == text


def test_the_driver_knows_every_operation_of_the_oracle() -> None:
    oracle = (HERE / "oracle.mjs").read_text(encoding="utf-8")
    table = oracle[oracle.index("const OPS = {") : oracle.index("// ---", oracle.index("const OPS = {"))]
    assert set(re.findall(r"^  (\w+): async", table, re.MULTILINE)) == set(OPERATIONS)


@pytest.mark.parametrize(
    ("number", "text"),
    [(1.0, "1"), (-0.0, "0"), (1e21, "1e+21"), (1e-7, "1e-7"), (0.00001234, "0.00001234"), (-1.5e-6, "-0.0000015")],
)
def test_numbers_look_as_in_javascript(number: float, text: str) -> None:
    assert js_number(number) == text


def test_text_looks_as_in_javascript() -> None:
    assert [js_string(value) for value in (None, True, [1, [2, None]], {"a": 1}, "x")] == [
        "null", "true", "1,2,", "[object Object]", "x"
    ]  # fmt: skip


def test_large_integers_lose_the_digits_that_javascript_loses() -> None:
    assert parse_json("12345678901234567") == 12345678901234568


@pytest.mark.parametrize(
    ("want", "got"),
    [(1, True), (0, False), ({"a": None}, {}), ([1], [1, 2]), ({"a": {"b": 1}}, {"a": {"b": 2}}), ("1", 1)],
)
def test_a_difference_is_found(want: Any, got: Any) -> None:
    assert differences(want, got)
    assert differences(got, want)


def test_wording_of_errors_and_texts_of_worker_errors_are_not_compared() -> None:
    left: Any = {"results": [{"error": {"message": "a", "code": -1}}], "workerErrors": [{"workerError": "x"}]}
    right: Any = {"results": [{"error": {"message": "b", "code": -1}}], "workerErrors": [{"workerError": "y"}]}
    assert differences(left, right) == []
    right["results"][0]["error"]["code"] = -2
    assert differences(left, right) == ["/results/0/error/code: want -1 got -2"]


@pytest.mark.parametrize(
    ("trace", "shown"),
    [
        ("Error: x\n    at oracle", "Error: x\n    at oracle"),
        ("Error: x\n    at f (file.js:1)", "Error: x\n    at <frames>"),
        ("Unrecoverable: child failed", "UnrecoverableError: child failed\n    at <frames>"),
        (SCRIPTED + b"Error: y\n    at oracle".hex() + ": y", "Error: y\n    at oracle"),
        ("plain text", "plain text"),
    ],
)
def test_frames_of_a_library_are_left_out(trace: str, shown: str) -> None:
    assert strip_frames(trace) == shown


def test_uuids_are_numbered_in_order() -> None:
    a, b = "00000000-0000-0000-0000-00000000000b", "00000000-0000-0000-0000-00000000000a"
    assert number_uuids(f"{a} {b} {a}") == "<uuid-1> <uuid-2> <uuid-1>"


def test_changes_replace_and_remove_without_touching_the_golden() -> None:
    golden = {"keys": {"a": 1, "b": [1, 2]}}
    changed = apply_changes(golden, [{"path": ["keys", "a"], "remove": True}, {"path": ["keys", "b", 0], "value": 5}])
    assert changed == {"keys": {"b": [5, 2]}}
    assert golden == {"keys": {"a": 1, "b": [1, 2]}}


def test_a_seed_always_gives_the_same_scenario_of_known_operations() -> None:
    for seed in range(20):
        scenario = Generator(seed, 60, FEATURES).scenario()
        assert scenario == Generator(seed, 60, FEATURES).scenario()
        assert {op["op"] for op in scenario["ops"]} <= set(OPERATIONS)


@pytest.mark.anyio
async def test_an_unknown_operation_is_refused_before_the_first_one_runs() -> None:
    with pytest.raises(UnknownOperation, match="unknown op nonsense"):
        await run_scenario([{"op": "add", "name": "a"}, {"op": "nonsense"}], "memory://unused")


@pytest.mark.needs_server
def test_the_driver_reads_a_scenario_and_prints_its_report(server: RedisServer) -> None:
    name = "001-add-standard"
    finished = _drive(server, (HERE / "scenarios" / f"{name}.json").read_text(encoding="utf-8"))
    assert finished.returncode == 0, finished.stderr
    assert differences(expected(name), json.loads(finished.stdout)) == []
    with server.client() as client:
        assert client.dbsize() == 0


@pytest.mark.needs_server
def test_the_driver_ends_with_2_for_an_unknown_operation(server: RedisServer) -> None:
    finished = _drive(server, '[{"op": "nonsense"}]')
    assert (finished.returncode, finished.stdout, finished.stderr) == (2, "", "unknown op nonsense\n")


def _drive(server: RedisServer, scenario: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(HERE / "driver.py")],
        input=scenario,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "REDIS_PORT": str(server.port)},
        cwd="/",
        check=False,
    )
