"""`python -m benchmarks`: compare pyqueue with BullMQ for Node on one Redis, in one run.

Every workload is run on both systems in turn, several times; the table shows medians, the spread of the rates, and
their ratio. Needs a redis-server on PATH (it starts its own) and, for the peer, Node and npm.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.protocol import Sample, System, Task, run_once
from benchmarks.server import RedisServer

HERE: Final = Path(__file__).resolve().parent
#: workload -> jobs, concurrency
WORKLOADS: Final[dict[str, tuple[int, int]]] = {
    "process": (20_000, 100),
    "process_10": (10_000, 10),
    "process_1": (4_000, 1),
    "add_bulk": (20_000, 1),
    "add_concurrent": (10_000, 64),
    "add_sequential": (3_000, 1),
}


def main() -> int:
    """Parse arguments, run, print the table; 1 if a system could not be run."""
    options = _arguments()
    names = options.workload or list(WORKLOADS)
    with tempfile.TemporaryDirectory(prefix="pyqueue-bench-") as directory, RedisServer(Path(directory)) as server:
        systems = _systems(Path(options.node_modules) if options.node_modules else Path(directory))
        print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}, {server.version}")
        for name in names:
            jobs, concurrency = WORKLOADS[name]
            task = Task(
                name.rstrip("_0123456789"), int(jobs * options.scale), concurrency, options.payload, server.port
            )
            _print_rows(name, task, _run(systems, task, options.repetitions))
    return 0 if len(systems) > 1 else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--workload", action="append", choices=list(WORKLOADS), help="only this one (repeatable)")
    parser.add_argument("--repetitions", type=int, default=3, help="runs per system, interleaved (default 3)")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the number of jobs (default 1)")
    parser.add_argument("--payload", type=int, default=200, help="bytes of data per job (default 200)")
    parser.add_argument("--node-modules", help="a node_modules directory with bullmq, instead of installing it")
    return parser.parse_args()


def _systems(directory: Path) -> list[System]:
    checkout = str(HERE.parent)
    ours = System("pyqueue", (sys.executable, "-m", "benchmarks.systems.pyqueue_program"), {"PYTHONPATH": checkout})
    node = shutil.which("node")
    modules = _node_modules(directory) if node else None
    if node is None or modules is None:
        print("BullMQ is left out: it needs node and npm on PATH and the npm registry", file=sys.stderr)
        return [ours]
    program = HERE / "systems" / "bullmq_node" / "program.mjs"
    return [ours, System("BullMQ", (node, str(program)), {"BENCHMARK_NODE_MODULES": str(modules)})]


def _node_modules(directory: Path) -> Path | None:
    if directory.name == "node_modules":
        return directory
    npm = shutil.which("npm")
    if npm is None:
        return None
    shutil.copy(HERE / "systems" / "bullmq_node" / "package.json", directory)
    print("installing BullMQ ...", file=sys.stderr)
    installed = subprocess.run(
        [npm, "install", "--silent", "--no-audit", "--no-fund"], cwd=directory, check=False, timeout=300
    )
    return directory / "node_modules" if installed.returncode == 0 else None


def _run(systems: list[System], task: Task, repetitions: int) -> dict[str, list[Sample]]:
    samples: dict[str, list[Sample]] = {system.name: [] for system in systems}
    for repetition in range(repetitions):
        for system in systems:
            print(f"\r{task.workload}: {system.name} {repetition + 1}/{repetitions}   ", end="", file=sys.stderr)
            samples[system.name].append(run_once(system, task))
    print(file=sys.stderr)
    return samples


def _print_rows(name: str, task: Task, samples: dict[str, list[Sample]]) -> None:
    print(f"\n{name}: {task.jobs} jobs, concurrency {task.concurrency}, {task.payload_bytes} bytes of data")
    print(
        f"  {'':10}{'jobs/s':>9} {'spread':>15} {'client us':>10} {'redis us':>9} {'scripts':>8} {'commands':>9}"
        f" {'bytes':>7}"
    )
    rates = {}
    for system, runs in samples.items():
        rate = rates[system] = statistics.median(run.jobs_per_s for run in runs)
        spread = f"{min(r.jobs_per_s for r in runs):,.0f}..{max(r.jobs_per_s for r in runs):,.0f}"
        print(
            f"  {system:10}{rate:>9,.0f} {spread:>15} {_median(runs, 'client_cpu_us'):>10.1f}"
            f" {_median(runs, 'redis_cpu_us'):>9.1f} {_median(runs, 'script_calls'):>8.3f}"
            f" {_median(runs, 'commands'):>9.2f} {_median(runs, 'memory_bytes'):>7.0f}"
        )
    if len(rates) > 1:
        print(f"  ratio     {rates['pyqueue'] / rates['BullMQ']:>8.2f}x")


def _median(runs: list[Sample], field: str) -> float:
    return float(statistics.median(getattr(run, field) for run in runs))


if __name__ == "__main__":
    sys.exit(main())
