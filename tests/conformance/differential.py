"""Random scenarios on real BullMQ and on pyqueue, compared key by key; differences are printed, made small.

    make differential ARGS="--count 500 --seed 1"
    python -m tests.conformance.differential --count 500 --seed 1 --features core,jobs

Needs Node and the packages bullmq and ioredis: those in `BULLMQ_NODE_MODULES`, else npm installs them here. It starts
a Redis server of its own. The plain tests run some of these scenarios (`test_differential`); what a longer run finds
becomes a fix, and a scenario with a golden.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from tests.conformance.execution import run_scenario
from tests.conformance.generate import FEATURES, Generator
from tests.conformance.normal_form import differences, parse_json, stringify
from tests.support.server import RedisServer

_HERE: Final = Path(__file__).resolve().parent
#: What is compared by default; flows and schedulers have runs of their own, which leave out what differs on purpose.
DEFAULT: Final = ("core", "jobs", "dedup", "parents", "foreign")
#: Runs that shrinking one difference may take: about 50 ms each on both sides together.
_SHRINK_RUNS: Final = 400
_SHOWN_LINES: Final = 12


class Oracle:
    """`oracle.mjs --stream`: real BullMQ, one scenario per line."""

    def __init__(self, port: int) -> None:
        modules = os.environ.get("BULLMQ_NODE_MODULES") or _install_bullmq()
        self._process = subprocess.Popen(
            ["node", str(_HERE / "oracle.mjs"), "--stream"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "REDIS_PORT": str(port), "BULLMQ_NODE_MODULES": modules},
        )

    def run(self, scenario: Any) -> Any:
        """The report of real BullMQ."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(stringify(scenario).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the oracle ended with code {self._process.wait()}; see its message above")
        return parse_json(line.decode())

    @classmethod
    @contextmanager
    def started(cls, port: int) -> Iterator[Oracle]:
        """A running oracle, ended afterwards."""
        oracle = cls(port)
        try:
            yield oracle
        finally:
            oracle._process.communicate(timeout=10)


def _install_bullmq() -> str:
    """The node_modules beside this file, with the packages in the versions that wrote the goldens."""
    modules = _HERE / "node_modules"
    if not (modules / "bullmq").is_dir():
        npm = shutil.which("npm")
        if npm is None:
            sys.exit("real BullMQ needs npm on PATH, or BULLMQ_NODE_MODULES with the packages bullmq and ioredis")
        subprocess.run(
            [npm, "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock"],
            cwd=_HERE,
            check=True,
            timeout=300,
        )
    return str(modules)


class Comparison:
    """Both sides of the differential run."""

    def __init__(self, oracle: Oracle, url: str) -> None:
        self._oracle = oracle
        self._url = url

    def differences(self, scenario: Any) -> list[str]:
        """Where the two reports of a scenario differ."""
        scenario = parse_json(stringify(scenario))  # both sides get their own copy, as JavaScript would read it
        want = self._oracle.run(scenario)
        got = parse_json(asyncio.run(run_scenario(scenario, self._url)))
        return differences(want, got)

    def shrink(self, scenario: Any) -> Any:
        """Leave out operations as long as a difference remains."""
        smallest, runs, size = scenario, 0, max(1, len(scenario["ops"]) // 2)
        while size and runs < _SHRINK_RUNS:
            start, before = 0, len(smallest["ops"])
            while start < len(smallest["ops"]) and runs < _SHRINK_RUNS:
                ops = smallest["ops"]
                candidate = {**smallest, "ops": ops[:start] + ops[start + size :]}
                runs += 1
                if self.differences(candidate):
                    smallest = candidate
                else:
                    start += size
            if size > 1 or len(smallest["ops"]) == before:
                size //= 2
        return smallest


def _show(seed: int, scenario: Any, found: Sequence[str]) -> None:
    ops = ",\n  ".join(stringify(op) for op in scenario["ops"])
    rest = "".join(f", {json.dumps(key)}: {stringify(value)}" for key, value in scenario.items() if key != "ops")
    sys.stdout.write(f'seed {seed}: {len(found)} differences\n{{"description": ""{rest}, "ops": [\n  {ops}\n]}}\n')
    for line in found[:_SHOWN_LINES]:
        sys.stdout.write(f"    {line}\n")
    sys.stdout.flush()


def _run(comparison: Comparison, options: argparse.Namespace) -> int:
    bad, seed = 0, options.seed
    for seed in range(options.seed, options.seed + options.count):
        scenario = Generator(seed, options.length, options.features).scenario()
        found = comparison.differences(scenario)
        if found:
            bad += 1
            _report(comparison, seed, scenario, found, shrink=not options.no_shrink)
            if bad >= options.stop_after:
                break
        if (seed - options.seed + 1) % 100 == 0:
            sys.stderr.write(f"{seed - options.seed + 1} scenarios, {bad} with differences\n")
    sys.stdout.write(f"seeds {options.seed}..{seed}, {','.join(options.features)}: {bad} with differences\n")
    return 1 if bad else 0


def _report(comparison: Comparison, seed: int, scenario: Any, found: Sequence[str], *, shrink: bool) -> None:
    again = comparison.differences(scenario)
    if not again:  # a key expired in between, or the machine was very slow
        sys.stdout.write(f"seed {seed}: differed once and not again: {found[0]}\n")
        return
    smallest = comparison.shrink(scenario) if shrink else scenario
    _show(seed, smallest, comparison.differences(smallest))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare pyqueue with BullMQ on random scenarios.")
    parser.add_argument("--count", type=int, default=300, help="how many scenarios")
    parser.add_argument("--seed", type=int, default=1, help="the first one")
    parser.add_argument("--length", type=int, default=40, help="operations per scenario")
    parser.add_argument("--features", type=lambda text: text.split(","), default=list(DEFAULT), help=",".join(FEATURES))
    parser.add_argument("--stop-after", type=int, default=5, help="differences before giving up")
    parser.add_argument("--fake", action="store_true", help="pyqueue on fakeredis instead of a server")
    parser.add_argument("--no-shrink", action="store_true", help="print the whole scenario")
    return parser.parse_args()


def main() -> None:
    """Run, print the differences, exit with 1 if there are any."""
    options = _options()
    with ExitStack() as stack:
        # One server, one side after the other: the order in which Redis walks a set depends on the process.
        server = stack.enter_context(RedisServer.started(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
        oracle = stack.enter_context(Oracle.started(server.port))
        url = "memory://differential" if options.fake else server.url
        sys.exit(_run(Comparison(oracle, url), options))


if __name__ == "__main__":
    main()
