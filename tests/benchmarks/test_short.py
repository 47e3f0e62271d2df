"""One tiny run of the benchmarks as a user starts them, with pyqueue alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import anyio
import pytest

from benchmarks.results import load
from benchmarks.server import RedisServer
from pyqueue._store.adding import MAX_ADDS
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]


# Six processes of Python start one after another, which takes a few seconds, and longer beside other tests.
@pytest.mark.timeout(180)
@pytest.mark.needs_server
def test_a_tiny_run_measures_stores_and_prints(tmp_path: Path) -> None:
    stored = tmp_path / "run.json"
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--scale", "0.02", "--output", str(stored),
         "--only", "pyqueue,add_bulk,process_10,limit_process"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    results = load(stored)
    assert [sample.workload for sample in results.samples] == ["add_bulk", "process_10", "limit_process"], run.stderr
    adding, processing, limit = (sample.figures for sample in results.samples)
    assert adding["jobs"] == 600
    assert adding["script_calls"] == pytest.approx(1 / MAX_ADDS, abs=0.002)
    assert processing["jobs"] == 400
    assert limit["jobs"] == 1200
    assert limit["redis_cpu_us"] > 0
    assert "share of the server's own limit" not in run.stdout  # its two halves were not both measured
    assert "process, concurrency 10, results kept" in run.stdout


@pytest.mark.timeout(60)
def test_an_unknown_name_is_refused_with_the_way_to_find_the_right_one() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--only", "pyqeue"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert "there is no system or workload pyqeue; `python -m benchmarks list` lists them" in run.stderr


@pytest.mark.timeout(180)
@pytest.mark.needs_server
def test_a_terminated_run_leaves_no_server_behind(tmp_path: Path) -> None:
    run = subprocess.Popen(
        [sys.executable, "-m", "benchmarks", "--output", str(tmp_path / "run.json"), "--only", "pyqueue,process_100"],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    try:
        anyio.run(partial(wait_until, lambda: list(tmp_path.glob("pyqueue-bench-*/")), timeout=30))
        run.terminate()
        assert run.wait() == 128 + signal.SIGTERM
    finally:
        run.kill()
    assert not list(tmp_path.glob("pyqueue-bench-*"))
    assert not list(processes_in(tmp_path))


@pytest.mark.timeout(180)
@pytest.mark.needs_server
def test_an_interrupted_run_keeps_what_it_has_and_says_what_it_is(tmp_path: Path) -> None:
    stored = tmp_path / "run.json"
    run = subprocess.Popen(
        [sys.executable, "-m", "benchmarks", "--scale", "0.2", "--output", str(stored),
         "--only", "pyqueue,add_bulk,soak"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        anyio.run(partial(wait_until, stored.exists, timeout=90))
        run.send_signal(signal.SIGINT)
        printed, said = run.communicate()
    finally:
        run.kill()
    assert run.returncode == 128 + signal.SIGINT, said
    assert load(stored).is_interrupted
    assert ", interrupted; 3 repetitions" in " ".join(printed.split())


@pytest.mark.needs_server
def test_a_signal_while_the_server_is_being_started_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    start = subprocess.Popen[bytes]

    def interrupted(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(start(*arguments, **options))
        signal.raise_signal(signal.SIGTERM)
        return started[0]

    def end(*_: object) -> NoReturn:
        raise SystemExit(1)

    former = signal.signal(signal.SIGTERM, end)
    try:
        monkeypatch.setattr("benchmarks.server.subprocess.Popen", interrupted)
        with pytest.raises(SystemExit):
            RedisServer().__enter__()
    finally:
        signal.signal(signal.SIGTERM, former)
    assert started[0].poll() is not None


def processes_in(directory: Path) -> Iterator[Path]:
    """Processes that work in a directory or below it, even if it was deleted (on Linux)."""
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):  # it has ended, or is another user's
            if str(link.readlink()).startswith(str(directory)):
                yield link
