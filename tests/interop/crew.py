"""Worker processes of both languages on one queue, which keep a common ledger and can be killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from tests.chaos.ledger import Ledger
from tests.interop.node import NodeProcess
from tests.support.server import RedisServer
from tests.support.waiting import wait_until

_ROOT: Final = Path(__file__).resolve().parents[2]
_READY_S: Final = 15.0

#: As for pyqueue's worker; long enough for a machine that is busy with other tests.
LOCK_MS: Final = 3000
STALLED_MS: Final = 500


class Process(Protocol):
    """What `subprocess.Popen` and `NodeProcess` have in common."""

    @property
    def pid(self) -> int: ...
    def kill(self) -> None: ...


class Member(NamedTuple):
    """One worker process."""

    language: str
    process: Process


@dataclass
class Crew:
    """The workers of queue `q` of one prefix. A context manager: who still works at the end is killed."""

    server: RedisServer
    prefix: str
    ledger: Ledger
    concurrency: int = 10
    max_stalled_count: int = 1
    members: list[Member] = field(default_factory=list)
    killed: set[int] = field(default_factory=set)

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for member in self.members:
            _end(member)

    async def hire(self, language: str) -> Member:
        """Start one more, and wait until it has reached Redis."""
        member = await (self._hire_node() if language == "node" else self._hire_python())
        self.members.append(member)
        return member

    def kill(self, member: Member) -> None:
        """SIGKILL."""
        self.members.remove(member)
        self.killed.add(member.process.pid)
        _end(member)

    async def _hire_node(self) -> Member:
        process = NodeProcess(self.server.port, {"LEDGER": str(self.ledger.path)})
        options: dict[str, Any] = {
            "concurrency": self.concurrency, "lockDuration": LOCK_MS, "stalledInterval": STALLED_MS,
            "maxStalledCount": self.max_stalled_count,
        }  # fmt: skip
        await process.ask("work", prefix=self.prefix, queue="q", options=options)
        return Member("node", process)

    async def _hire_python(self) -> Member:
        options = {
            "queue": "q", "prefix": self.prefix, "connection": self.server.url, "concurrency": self.concurrency,
            "lock_duration": LOCK_MS, "stalled_interval": STALLED_MS, "max_stalled_count": self.max_stalled_count,
        }  # fmt: skip
        process = subprocess.Popen(  # noqa: ASYNC220  # it outlives this call, and is waited for only when killed
            [sys.executable, "-m", "tests.interop.worker_process", json.dumps(options)],
            cwd=_ROOT,
            env={**os.environ, "LEDGER": str(self.ledger.path)},
        )
        await wait_until(lambda: process.pid in {record.pid for record in self.ledger.of("ready")}, _READY_S)
        return Member("python", process)


def _end(member: Member) -> None:
    member.process.kill()
    if isinstance(member.process, NodeProcess):
        member.process.close()
    else:
        assert isinstance(member.process, subprocess.Popen)
        member.process.wait(10)


class Audit(NamedTuple):
    """What the ledger says of a run."""

    undone: set[str]
    """Jobs that nobody finished."""
    repeated: set[str]
    """Jobs that were started more than once."""
    unexcused: set[str]
    """Those of them of which a start before the last one was in a process that was not killed."""
    shares: dict[str, int]
    """Finished runs by language."""


def audit(ledger: Ledger, jobs: list[str], killed: set[int]) -> Audit:
    """Judge the jobs that were added."""
    starts: dict[str, list[int]] = {job: [] for job in jobs}
    for record in ledger.of("started"):
        starts[record.job].append(record.pid)
    finished = Counter(record.job for record in ledger.of("finished"))
    repeated = {job for job, pids in starts.items() if len(pids) > 1}
    return Audit(
        undone={job for job in jobs if not finished[job]},
        repeated=repeated,
        unexcused={job for job in repeated if not set(starts[job][:-1]) <= killed},
        shares=dict(Counter(record.note for record in ledger.of("finished"))),
    )
