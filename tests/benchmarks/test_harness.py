"""What the programs of all systems share, in a process of its own as the runner starts it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: A worker that forks a process while it listens to the runner, as rq's does for its scheduler.
FORKING = """
import multiprocessing, time
from benchmarks.systems.harness import run_sync

class Forking:
    def __init__(self, task): pass
    def work(self, handle, stop):
        time.sleep(0.2)  # the thread that listens waits for a line by then; nothing says when
        child = multiprocessing.get_context("fork").Process(target=int)
        child.start()
        child.join(10)
        if child.exitcode is None:
            child.kill()
        for _ in range(1 + (child.exitcode == 0)):
            handle({})
        stop.wait(5)  # whatever happened: the test does not wait for ever

run_sync(Forking)
"""


@pytest.mark.timeout(60)
@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_process_that_a_worker_forks_does_not_wait_for_the_runner() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FORKING, '{"role": "work", "port": 0}'],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as program:  # fmt: skip
        assert program.stdin is not None
        assert program.stdout is not None
        assert program.stdout.readline() == '{"ready": true}\n'
        program.stdin.write("go\n")
        program.stdin.flush()
        assert program.stdout.readline() == '{"count": 2}\n'
        said, _ = program.communicate("stop\n", timeout=30)
    assert '"end": true' in said
