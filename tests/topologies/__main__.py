"""The complete behaviour suite on every kind of server and client, and a table of what came of it.

    make topologies
    make topologies ARGS="cluster sentinel"
    python -m tests.topologies valkey -n 4

`redis` and `valkey` include the tests that start servers of their own (failovers, moving slots, TLS, ACL, `embedded:`);
on the others run the tests that take a backend, see `tests/support/backends.py`. Exit code 1 if any test failed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from tests.support.backends import OTHERS, USUAL
from tests.support.server import RedisServer, server_binary, valkey_binary

_SUITE: Final = "tests/behaviour"
_KINDS: Final = (*USUAL, *OTHERS)
#: pytest's code for "no test was selected": no test of this backend measures time.
_NONE_SELECTED: Final = 5


@dataclass(slots=True)
class Row:
    """What one backend did."""

    backend: str
    server: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0

    def add(self, report: Path) -> None:
        """Count the tests of a JUnit report; without one, pytest has crashed."""
        if not report.exists():
            self.failed += 1
            return
        for case in ElementTree.parse(report).iter("testcase"):
            kinds = {child.tag for child in case}
            if kinds & {"failure", "error"}:
                self.failed += 1
            elif "skipped" in kinds:
                self.skipped += 1
            else:
                self.passed += 1


def _run(kind: str, workers: str, directory: Path) -> Row:
    """All tests of one backend, those that measure time afterwards and alone."""
    binary = valkey_binary() if kind == "valkey" else server_binary()
    environment = {**os.environ, "PYQUEUE_TEST_SERVER": binary}
    row = Row(kind, "fakeredis" if kind == "fake" else _version(binary, directory))
    backend = "redis" if kind == "valkey" else kind
    started = time.monotonic()
    for selection, parallel in (("not alone", ["-n", workers]), ("alone", [])):
        report = directory / f"{kind}-{selection.replace(' ', '-')}.xml"
        command = [sys.executable, "-m", "pytest", "-q", _SUITE, "--backend", backend, "-m", selection, *parallel]
        code = subprocess.run([*command, "--tb=short", f"--junitxml={report}"], env=environment).returncode
        if code != _NONE_SELECTED:
            row.add(report)
    row.seconds = time.monotonic() - started
    return row


def _version(binary: str, directory: Path) -> str:
    with RedisServer.started(directory, binary=binary) as server, server.client() as client:
        info = client.info("server")
    return f"{info.get('server_name', 'redis')} {info.get('valkey_version', info['redis_version'])}"


def _table(rows: list[Row]) -> str:
    lines = [f"{'backend':<10}{'server':<16}{'passed':>8}{'failed':>8}{'skipped':>9}{'time':>9}"]
    lines += [
        f"{row.backend:<10}{row.server:<16}{row.passed:>8}{row.failed:>8}{row.skipped:>9}{row.seconds:>7.0f} s"
        for row in rows
    ]
    return "\n".join(lines)


def _main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.topologies", description=__doc__)
    parser.add_argument("backends", nargs="*", metavar="BACKEND", help=f"of {', '.join(_KINDS)}; all if none is given")
    parser.add_argument("-n", dest="workers", default="auto", help="parallel tests (auto: one per core)")
    arguments = parser.parse_args()
    unknown = set(arguments.backends) - set(_KINDS)
    if unknown:
        parser.error(f"there is no backend {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="topologies-") as directory:
        rows = []
        for kind in arguments.backends or _KINDS:
            print(f"-- {kind}", flush=True)
            rows.append(_run(kind, arguments.workers, Path(directory)))
    print(_table(rows))
    return int(any(row.failed or not row.passed for row in rows))


if __name__ == "__main__":
    sys.exit(_main())
