"""Processors in processes of their own: results and errors come back, crashes and timeouts fail one job."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyqueue import ConfigurationError, InProcess, JobFailed, JobState, ProcessJob, Queue, Unrecoverable
from tests.support.server import RedisServer
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.timeout(60),
    pytest.mark.not_on("redis", reason="one is enough: what runs in another process never sees Redis"),
]

AnyQueue = Queue[Any, Any]


class Awkward(Exception):
    """It can be pickled, but not rebuilt: its constructor wants other arguments."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


class Holder(Exception):
    """It cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("holds a lock")
        self.lock = threading.Lock()


def misbehave(job: ProcessJob) -> Any:
    match job.data:
        case "awkward":
            raise Awkward(1, 2)
        case "holder":
            raise Holder
        case "exit":
            sys.exit(3)
        case "interrupt":
            raise KeyboardInterrupt
        case "lock":
            return threading.Lock()
        case "print":
            os.write(1, b"RETURN 5\n")
        case "noisy":  # programs that it calls have its streams
            subprocess.run(["/bin/sh", "-c", "cat; head -c 300000 /dev/zero >&2; echo x"], check=True)
        case "signals":
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
    return os.getpid()


def square(job: ProcessJob) -> dict[str, Any]:
    return {"square": job.data**2, "pid": os.getpid(), "job": job.id, "attempt": job.attempts_made}


def raise_value_error(job: ProcessJob) -> None:
    raise ValueError(f"bad input {job.data}")


def give_up(job: ProcessJob) -> None:
    raise Unrecoverable("hopeless")


def die(job: ProcessJob) -> str:
    if job.data == "exit":
        os._exit(3)
    if job.data == "segv":
        os.kill(os.getpid(), signal.SIGSEGV)
    return "survived"


def sleep(job: ProcessJob) -> str:
    time.sleep(job.data)
    return "slept"


def hold_the_interpreter(job: ProcessJob) -> int:
    deadline = time.monotonic() + job.data
    rounds = 0
    while time.monotonic() < deadline:
        rounds += 1
    return rounds


async def test_the_result_of_another_process_is_the_result_of_the_job(queue: AnyQueue, start_worker: Any) -> None:
    """E254."""
    await start_worker(InProcess(square), concurrency=2)

    result = await (await queue.add("square", 12)).result(timeout=30)

    assert result["square"] == 144
    assert result["pid"] != os.getpid()


async def test_an_exception_of_another_process_fails_the_attempt(queue: AnyQueue, start_worker: Any) -> None:
    await start_worker(InProcess(raise_value_error))
    job = await queue.add("bad", 7, attempts=2)

    with pytest.raises(JobFailed, match="bad input 7"):
        await job.result(timeout=30)

    stored = await queue.jobs.get(job.id)
    assert stored is not None
    assert stored.attempts_made == 2


async def test_directives_work_from_another_process(queue: AnyQueue, start_worker: Any) -> None:
    await start_worker(InProcess(give_up))
    job = await queue.add("hopeless", attempts=5)

    with pytest.raises(JobFailed, match="hopeless"):
        await job.result(timeout=30)

    stored = await queue.jobs.get(job.id)
    assert stored is not None
    assert stored.attempts_made == 1


@pytest.mark.parametrize("how", ["exit", "segv"])
async def test_a_crash_fails_its_job_and_not_the_worker(queue: AnyQueue, start_worker: Any, how: str) -> None:
    """E255."""
    await start_worker(InProcess(die))
    crashing = await queue.add("die", how)
    healthy = await queue.add("die", "not today")

    with pytest.raises(JobFailed, match="died"):
        await crashing.result(timeout=30)
    assert await healthy.result(timeout=30) == "survived"
    assert await crashing.state() is JobState.FAILED


async def test_a_job_over_its_timeout_is_killed(queue: AnyQueue, start_worker: Any) -> None:
    await start_worker(InProcess(sleep, timeout=8))
    slow = await queue.add("sleep", 60)
    started = time.monotonic()

    with pytest.raises(JobFailed, match=r"longer than 8 s"):
        await slow.result(timeout=30)

    assert time.monotonic() - started < 40
    assert await (await queue.add("sleep", 0)).result(timeout=30) == "slept"


async def test_a_job_that_keeps_the_processor_busy_keeps_its_lock(queue: AnyQueue, start_worker: Any) -> None:
    await start_worker(InProcess(hold_the_interpreter), lock_duration=2000, stalled_interval=300)
    job = await queue.add("spin", 2.5)

    assert await job.result(timeout=30) > 0

    stored = await queue.jobs.get(job.id)
    assert stored is not None
    assert stored.attempts_started == 1


def test_a_function_that_another_process_cannot_find_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="cannot run in another process"):
        InProcess(lambda job: job.data)


def test_a_bound_below_one_process_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="max_processes is 0"):
        InProcess(square, max_processes=0)


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("awkward", "1 and 2"),
        ("holder", "holds a lock"),
        ("lock", "cannot pickle"),
        ("exit", r"SystemExit\(3\)"),
        ("interrupt", "KeyboardInterrupt"),
    ],
)
async def test_what_cannot_come_back_fails_the_job_alone(
    queue: AnyQueue, start_worker: Any, what: str, reason: str
) -> None:
    """Its reason is stored all the same, and neither the worker nor the next job suffers."""
    worker = await start_worker(InProcess(misbehave))
    job = await queue.add("misbehave", what)

    with pytest.raises(JobFailed, match=reason):
        await job.result(timeout=30)

    assert isinstance(await (await queue.add("misbehave", "not")).result(timeout=30), int)
    assert worker.is_running


async def test_an_error_of_another_process_has_the_stack_of_that_process(queue: AnyQueue, start_worker: Any) -> None:
    await start_worker(InProcess(raise_value_error))
    job = await queue.add("bad", 7)

    with pytest.raises(JobFailed):
        await job.result(timeout=30)

    stored = await queue.jobs.get(job.id)
    assert stored is not None
    assert stored.failed_reason == "bad input 7"
    assert "raise_value_error" in stored.stack_trace[0]


@pytest.mark.parametrize("what", ["print", "noisy"])
async def test_what_a_function_and_its_programs_write_harms_nobody(
    queue: AnyQueue, start_worker: Any, what: str
) -> None:
    await start_worker(InProcess(misbehave))

    first = await (await queue.add("misbehave", what)).result(timeout=30)

    assert await (await queue.add("misbehave", "not")).result(timeout=30) == first


async def test_signals_to_the_whole_group_leave_running_functions_to_the_worker(
    queue: AnyQueue, start_worker: Any
) -> None:
    """A terminal's Ctrl-C and many supervisors signal every process of a service; the worker decides what becomes."""
    await start_worker(InProcess(misbehave))

    assert isinstance(await (await queue.add("misbehave", "signals")).result(timeout=30), int)


PROGRAM = """
import asyncio, os, sys, time
from pathlib import Path
from pyqueue import InProcess, Worker

class OfTheProgram(Exception):
    pass

def function(job):
    if job.data == "raise":
        raise OfTheProgram("known to the program alone")
    Path(job.data).write_text(str(os.getpid()))
    while True:
        pass

if __name__ == "__main__":
    url, prefix = sys.argv[1:]
    asyncio.run(Worker("q", InProcess(function), connection=url, prefix=prefix).run())
"""


@contextlib.contextmanager
def program(tmp_path: Path, url: str, prefix: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker program; killed if the test leaves it running."""
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    process = subprocess.Popen([sys.executable, str(file), url, prefix])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.needs_server
async def test_an_exception_class_of_the_program_comes_back(server: RedisServer, prefix: str, tmp_path: Path) -> None:
    async with Queue[Any, Any]("q", connection=server.url, prefix=prefix) as queue:
        job = await queue.add("x", "raise")
        with program(tmp_path, server.url, prefix), pytest.raises(JobFailed, match="known to the program alone"):
            await job.result(timeout=30)


@pytest.mark.needs_server
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
async def test_no_process_outlives_its_worker(
    server: RedisServer, prefix: str, tmp_path: Path, number: signal.Signals
) -> None:
    async with Queue[Any, Any]("q", connection=server.url, prefix=prefix) as queue:
        pid_file = tmp_path / "pid"
        await queue.add("x", str(pid_file))
        with program(tmp_path, server.url, prefix) as process:
            await wait_until(lambda: pid_file.exists() and pid_file.read_text(), timeout=30)
            process.send_signal(number)
            await asyncio.to_thread(process.wait, 30)

            await wait_until(lambda: not is_alive(int(pid_file.read_text())), timeout=20)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
