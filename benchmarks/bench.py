"""One system on one server: the few steps that workloads are made of."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from benchmarks.environments import Environment
from benchmarks.program import SCRIPT_COMMANDS, Program, Report, ServerState
from benchmarks.server import RedisServer
from benchmarks.statistics import percentile
from benchmarks.task import Task

Figures: TypeAlias = dict[str, float]

#: A tenth of the jobs comes before the measured ones: connections, script caches, the JIT of Node.
WARM_UP_SHARE: Final = 0.1
#: A worker that is slower than its number of jobs asks for is stopped; its rate is known by then.
WORK_LIMIT_S: Final = 20.0
#: Jobs that show that a worker is up before the measured ones are added.
GREETINGS: Final = 20


@dataclass(frozen=True, slots=True)
class Bench:
    """Where a workload runs."""

    server: RedisServer
    environment: Environment
    scale: float = 1.0
    """Factor on every number of jobs."""
    quick: bool = False
    payload_bytes: int = 200
    notes: list[str] = field(default_factory=list)
    """What a workload wants printed below its figures."""

    def jobs(self, number: int) -> int:
        """So many jobs, scaled for this run and this system; at least 200."""
        return max(200, int(number * self.scale * self.environment.system.scale))

    def start(self, role: str, **fields: Any) -> Program:
        """Start a program of this system and wait until it is prepared."""
        system = self.environment.system
        task = Task(role, self.server.port, payload_bytes=self.payload_bytes, uvloop=system.uvloop, **fields)
        return Program(self.environment.command, self.environment.variables, task).ready()

    def state(self) -> ServerState:
        """The server's counters now."""
        return ServerState.read(self.server.client)

    def add(self, jobs: int, mode: str = "bulk", **fields: Any) -> Figures:
        """Run one producer to its end."""
        with self.start("produce", jobs=jobs, mode=mode, **fields) as producer:
            before = self.state()
            producer.go()
            report = producer.report()
            return figures([report], before, self.state())

    def work(self, jobs: int, concurrency: int, **fields: Any) -> Figures:
        """Run one worker until it has executed so many jobs (at most WORK_LIMIT_S)."""
        skip = int(jobs * WARM_UP_SHARE)
        with self.start("work", jobs=jobs, skip=skip, concurrency=concurrency, **fields) as worker:
            before = self.state()
            worker.go()
            if not worker.await_count(jobs, WORK_LIMIT_S):
                worker.stop()
            report = worker.report()
            return figures([report], before, self.state(), skip)

    def intervals(
        self, concurrency: int, produce: Callable[[], Any], jobs: int, **fields: Any
    ) -> tuple[Report, ServerState]:
        """Start a worker, see that it is up, let `produce` add so many jobs; what it measured, and the state before."""
        with self.start("work", skip=GREETINGS, concurrency=concurrency, timings=True, **fields) as worker:
            worker.go()
            self.add(GREETINGS, "paced", rate=200)
            if not worker.await_count(GREETINGS):
                raise TimeoutError("the worker did not execute its first jobs")
            before = self.state()
            produce()
            worker.await_count(GREETINGS + jobs, WORK_LIMIT_S)
            worker.stop()
            return worker.report(), before

    def await_quiet(self) -> None:
        """Wait until the clients of ended programs are gone, whose buffers count as memory."""
        deadline = time.monotonic() + 5
        while self.server.client.info("clients")["connected_clients"] > 1 and time.monotonic() < deadline:
            time.sleep(0.05)


def figures(reports: Sequence[Report], before: ServerState, after: ServerState, skip: int = 0) -> Figures:
    """What programs did together, per job where that makes sense; `skip` of each one's jobs are outside its times."""
    jobs = sum(report.count for report in reports)
    measured = sum(max(0, report.count - skip) for report in reports)
    if measured < 2:
        raise ValueError(f"measured jobs: {measured}, too few for a rate")
    # A worker whose peer took nearly all jobs has not measured any.
    seconds = max(r.last for r in reports) - min(r.first for r in reports if r.count > skip)

    def calls(names: Sequence[str] | None = None) -> int:
        chosen = after.calls if names is None else names
        return sum(after.calls.get(name, 0) - before.calls.get(name, 0) for name in chosen)

    return {
        "jobs": jobs,
        "jobs_per_s": measured / seconds,
        "client_cpu_us": sum(r.cpu_s for r in reports) * 1e6 / jobs,
        "redis_cpu_us": (after.cpu_s - before.cpu_s) * 1e6 / jobs,
        "script_calls": calls(SCRIPT_COMMANDS) / jobs,
        "commands": calls() / jobs,
        "network_bytes": (after.network_bytes - before.network_bytes) / jobs,
        "memory_bytes": (after.memory_bytes - before.memory_bytes) / jobs,
    }


def milliseconds(offsets: Sequence[float]) -> Figures:
    """p50, p95, p99 and the extremes of intervals in seconds."""
    return {
        "p50_ms": percentile(offsets, 50) * 1000,
        "p95_ms": percentile(offsets, 95) * 1000,
        "p99_ms": percentile(offsets, 99) * 1000,
        "min_ms": min(offsets) * 1000,
        "max_ms": max(offsets) * 1000,
    }
