"""`python -m benchmarks.instructions`: how many instructions the server executes per job, counted and not timed.

Valgrind counts them, so the figure is the same on a busy machine and tells a change of one per cent. It knows nothing
of caches, nor of the kernel's work for sockets, which is where batches save most: the CPU times of
`python -m benchmarks` do. Compares pyqueue with BullMQ for Node; needs valgrind on PATH, and a server as they do.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks import environments
from benchmarks.bench import Bench
from benchmarks.server import NoServer, RedisServer
from benchmarks.systems import catalogue

SYSTEMS: Final = ("pyqueue", "bullmq")
#: So many jobs wait where it says "many": a step that looks at each of them would show. With a million pyqueue's
#: figures are the same.
CROWD: Final = 100_000
_TOTALS: Final = re.compile(r"^totals: (\d+)", re.MULTILINE)


class CountedServer(RedisServer):
    """A Redis server inside valgrind, which counts while it is told to."""

    def command(self) -> list[str]:
        counting = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--log-file=/dev/null"]
        return [*counting, f"--callgrind-out-file={self._directory.name}/counts", *super().command()]

    @contextmanager
    def counting(self) -> Iterator[Callable[[], int]]:
        """Count what is executed in the block; the function tells how much, after it."""
        self._control("--zero", "--instr=on")
        yield self._total
        self._control("--instr=off", "--dump")

    def _control(self, *orders: str) -> None:
        for order in orders:
            subprocess.run(["callgrind_control", order, str(self.pid)], check=True, capture_output=True)

    def _total(self) -> int:
        latest = max(Path(self._directory.name).glob("counts.*"), key=lambda path: int(path.suffix[1:]))
        found = _TOTALS.search(latest.read_text())
        assert found is not None
        return int(found[1])


def add(bench: Bench, server: CountedServer, jobs: int, mode: str, waiting: int = 0) -> float:
    """Thousands of instructions per job added."""
    if waiting:
        bench.add(waiting)
    with bench.start("produce", jobs=jobs, mode=mode) as producer:
        with server.counting() as total:
            producer.go()
            producer.report()
        return total() / jobs / 1000


def process(bench: Bench, server: CountedServer, jobs: int, concurrency: int, waiting: int = 0) -> float:
    """Thousands of instructions per no-op job processed."""
    bench.add(waiting + jobs)
    with bench.start("work", jobs=jobs, concurrency=concurrency) as worker:
        with server.counting() as total:
            worker.go()
            count = worker.report().count
        return total() / count / 1000


def main() -> int:
    """Print a line per workload; 1 where valgrind or a server is missing."""
    if shutil.which("valgrind") is None:
        print("valgrind is not on PATH: install it (Debian: apt-get install valgrind)", file=sys.stderr)
        return 1
    try:
        _measure()
    except (NoServer, environments.NotInstalled) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _measure() -> None:
    benches: dict[str, Bench] = {}
    with CountedServer() as server:
        for name in SYSTEMS:
            benches[name] = Bench(server, environments.prepare(catalogue.BY_NAME[name]))
        print(f"thousands of instructions of {server.version} per job: {', '.join(SYSTEMS)}, ratio")
        for title, measure in _WORKLOADS.items():
            counts = []
            for bench in benches.values():
                server.empty()
                counts.append(measure(bench, server))
            print(f"  {title:28} {counts[0]:8.1f} {counts[1]:8.1f} {counts[0] / counts[1]:6.2f}", flush=True)


_WORKLOADS: Final[dict[str, Callable[[Bench, CountedServer], float]]] = {
    "add, one after another": lambda bench, server: add(bench, server, 300, "sequential"),
    "add, 64 in flight": lambda bench, server: add(bench, server, 1000, "concurrent"),
    "add in bulk": lambda bench, server: add(bench, server, 2000, "bulk"),
    "add, 64 in flight, many wait": lambda bench, server: add(bench, server, 1000, "concurrent", CROWD),
    "process, concurrency 1": lambda bench, server: process(bench, server, 300, 1),
    "process, concurrency 10": lambda bench, server: process(bench, server, 1000, 10),
    "process, concurrency 100": lambda bench, server: process(bench, server, 2000, 100),
    "the same, many wait": lambda bench, server: process(bench, server, 2000, 100, CROWD),
}

if __name__ == "__main__":
    sys.exit(main())
