"""How the runner talks to a system's program.

A program gets one task as JSON in its first argument: workload, jobs, concurrency, payload_bytes, port. It prepares
(connects, fills the queue), prints `{"ready": true}`, waits for a line on standard input, does the work, and prints
`{"seconds": ..., "cpu_seconds": ...}` of the work alone. What happens in Redis meanwhile the runner reads itself.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import redis

#: A program that has not finished by then is ended.
PROGRAM_TIMEOUT_S: Final = 300


@dataclass(frozen=True, slots=True)
class Task:
    """What one program does once."""

    workload: str
    jobs: int
    concurrency: int
    payload_bytes: int
    port: int


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run took, per job where that makes sense."""

    jobs_per_s: float
    client_cpu_us: float
    redis_cpu_us: float
    script_calls: float
    """EVALSHA and EVAL sent by the client."""
    commands: float
    """Commands in scripts and beside them."""
    memory_bytes: float


@dataclass(frozen=True, slots=True)
class System:
    """How to start a system's program."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]


def run_once(system: System, task: Task) -> Sample:
    """Run a program on an emptied server; RuntimeError with its last words if it fails."""
    with redis.Redis(port=task.port) as server:
        server.flushall()
        server.config_resetstat()
        program = subprocess.Popen(
            [*system.command, json.dumps(asdict(task))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **system.environment},
        )
        try:
            result, before, after = _measure(program, server)
        finally:
            program.kill()
            program.wait()
        return _sample(task, result, before, after)


def _measure(
    program: subprocess.Popen[str], server: redis.Redis
) -> tuple[dict[str, float], dict[str, Any], dict[str, Any]]:
    assert program.stdin is not None
    assert program.stdout is not None
    if not program.stdout.readline():
        raise RuntimeError(_last_words(program))
    before = _read(server)
    program.stdin.write("go\n")
    program.stdin.flush()
    line = program.stdout.readline()
    if not line:
        raise RuntimeError(_last_words(program))
    after = _read(server)
    program.communicate(timeout=PROGRAM_TIMEOUT_S)
    return json.loads(line), before, after


def _last_words(program: subprocess.Popen[str]) -> str:
    _, errors = program.communicate(timeout=PROGRAM_TIMEOUT_S)
    return f"{program.args!r} ended with code {program.returncode}: {errors[-2000:]}"


def _read(server: redis.Redis) -> dict[str, Any]:
    commands = server.info("commandstats")
    cpu = server.info("cpu")
    return {
        "cpu_s": cpu["used_cpu_user"] + cpu["used_cpu_sys"],
        "calls": {name.removeprefix("cmdstat_"): stats["calls"] for name, stats in commands.items()},
        "memory": server.info("memory")["used_memory"],
    }


def _sample(task: Task, result: dict[str, float], before: dict[str, Any], after: dict[str, Any]) -> Sample:
    def calls(names: Sequence[str] | None = None) -> int:
        chosen = after["calls"] if names is None else names
        return sum(after["calls"].get(n, 0) - before["calls"].get(n, 0) for n in chosen if n != "info")

    return Sample(
        jobs_per_s=task.jobs / result["seconds"],
        client_cpu_us=result["cpu_seconds"] * 1e6 / task.jobs,
        redis_cpu_us=(after["cpu_s"] - before["cpu_s"]) * 1e6 / task.jobs,
        script_calls=calls(("evalsha", "eval")) / task.jobs,
        commands=calls() / task.jobs,
        memory_bytes=(after["memory"] - before["memory"]) / task.jobs,
    )
