"""The command line of the benchmarks as a user types it, in a copy of the checkout: what it does, refuses and says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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
