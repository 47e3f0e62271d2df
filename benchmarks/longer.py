"""Workloads that take several steps: the limit of the server, memory, the idle worker."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeAlias

from benchmarks.bench import Bench, Figures, figures
from benchmarks.program import SILENCE_S, Program, ProgramError, Report
from benchmarks.task import Task

Grow: TypeAlias = Callable[[int], Any]
#: More than any system's event history, so that only jobs grow in what is measured after them.
SETTLED_JOBS: Final = 12_000
#: `1700000000.1 [0 127.0.0.1:5000] "ping"`; inside a script the address is `lua`.
MONITORED: Final = re.compile(rb"^\+?\d+\.\d+ \[\d+ (\S+)\] \"")


def await_total(workers: Sequence[Program], jobs: int, timeout_s: float = SILENCE_S) -> None:
    """Wait until workers have executed so many jobs together."""
    deadline = time.monotonic() + timeout_s
    while sum(worker.count for worker in workers) < jobs:
        if time.monotonic() > deadline:
            raise ProgramError(f"{[w.count for w in workers]} of {jobs} jobs were executed in {timeout_s:.0f} s")
        for worker in workers:
            worker.await_count(worker.count + 1, 0.05)


def complete(report: Report, jobs: int) -> None:
    """ProgramError unless all jobs were measured: percentiles of the rest would flatter."""
    if len(report.offsets) < jobs:
        raise ProgramError(f"only {len(report.offsets)} of {jobs} jobs were executed in time")


def lead_s(bench: Bench) -> float:
    """How long before the first due time delayed jobs are added: long enough to add them all."""
    return 2.0 if bench.environment.system.scale == 1.0 else 4.0


def limit_process(bench: Bench) -> Figures:
    """pyqueue's own settle_and_claim, driven by a client that pipelines: what the server alone sustains."""
    jobs = bench.jobs(60_000)
    bench.add(jobs)
    return limit(bench, "process", jobs)


def limit_add(bench: Bench) -> Figures:
    """pyqueue's own add_jobs, driven by a client that pipelines."""
    return limit(bench, "add", bench.jobs(60_000))


def limit(bench: Bench, mode: str, jobs: int) -> Figures:
    """Drive one of pyqueue's scripts by a client that pipelines: `process` or `add`."""
    task = Task("limit", bench.server.port, jobs=jobs, mode=mode, payload_bytes=bench.payload_bytes)
    command = (bench.environment.executable, "-m", "benchmarks.systems.pyqueue_limit")
    with Program(command, bench.environment.variables, task).ready() as client:
        before = bench.state()
        client.go()
        report = client.report()
        after = bench.state()
    busy = (after.cpu_s - before.cpu_s) / (report.last - report.first)
    return {**figures([report], before, after), "redis_busy": busy}


def memory_waiting(bench: Bench) -> Figures:
    """Bytes of Redis per further waiting job, beyond the first ones."""
    bench.add(bench.jobs(SETTLED_JOBS))
    return _memory(bench, lambda jobs: bench.add(jobs))


def memory_completed(bench: Bench) -> Figures:
    """The same for jobs that were processed and whose results are kept."""

    def complete_jobs(jobs: int) -> None:
        bench.add(jobs)
        bench.work(jobs, 100)

    complete_jobs(bench.jobs(SETTLED_JOBS))
    return _memory(bench, complete_jobs)


def _memory(bench: Bench, grow: Grow) -> Figures:
    jobs = bench.jobs(20_000)
    bench.await_quiet()
    before = bench.state().memory_bytes
    grow(jobs)
    bench.await_quiet()
    return {"bytes": (bench.state().memory_bytes - before) / jobs}


def idle(bench: Bench) -> Figures:
    """A worker without work: what its client sends, what its scripts run inside, what both processes burn."""
    watched_s = 10.0 if bench.quick else 60.0
    with bench.start("work", concurrency=10) as worker:
        worker.go()
        time.sleep(3)  # it connects, loads its scripts and settles into waiting; there is no event to await
        redis_cpu_s, cpu_s = bench.state().cpu_s, worker.mark()
        sent, inside = count_monitored(watch(bench.server.port, watched_s))
        cpu_s, redis_cpu_s = worker.mark() - cpu_s, bench.state().cpu_s - redis_cpu_s
        worker.stop()
    return {
        "client_commands_per_s": sent / watched_s,
        "script_commands_per_s": inside / watched_s,
        "cpu_percent": cpu_s / watched_s * 100,
        "redis_cpu_percent": redis_cpu_s / watched_s * 100,
    }


def watch(port: int, seconds: float) -> Iterable[bytes]:
    """The lines of MONITOR for so long."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"MONITOR\r\n")
        deadline, received = time.monotonic() + seconds, b""
        while (left := deadline - time.monotonic()) > 0:
            connection.settimeout(left)
            try:
                received += connection.recv(65536)
            except TimeoutError:
                break
    return received.splitlines()


def count_monitored(lines: Iterable[bytes]) -> tuple[int, int]:
    """Commands that clients sent, and commands inside their scripts."""
    addresses = [match[1] for line in lines if (match := MONITORED.match(line))]
    inside = addresses.count(b"lua")
    return len(addresses) - inside, inside
