"""The ledger: what worker processes did, in a file beside the Redis under test.

Every record is one `write` to a file opened for appending: it is whole, in the kernel before the call returns, and so
outlives `kill -9` of its writer. Workers write `started` before a job's work and `finished` after it, which is before
Redis is told. Times are the monotonic clock, which all processes of a Linux machine share.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Record(NamedTuple):
    """One line. kind: ready started finished cancelled lock_lost log."""

    at: float
    kind: str
    pid: int
    job: str
    note: str


class Ledger:
    """One file, written by many processes and read by the program that judges them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._read = 0
        self._records: list[Record] = []

    def write(self, kind: str, job: str = "", note: str = "") -> None:
        """Append a record."""
        line = json.dumps([time.monotonic(), kind, os.getpid(), job, note]) + "\n"
        os.write(self._file, line.encode())

    def records(self) -> Sequence[Record]:
        """All records so far, in the order they were written."""
        size = os.fstat(self._file).st_size
        text = os.pread(self._file, size - self._read, self._read)
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        self._records += [Record(*json.loads(line)) for line in whole.splitlines()]
        return self._records

    def of(self, *kinds: str) -> list[Record]:
        """The records of some kinds."""
        return [record for record in self.records() if record.kind in kinds]

    def close(self) -> None:
        """Give the file back; it stays."""
        os.close(self._file)
