"""What the server alone sustains with pyqueue's scripts: a client that pipelines and does nothing else.

The calls are the library's own: its functions `settle_and_claim` and `add_jobs` pack them, from the scripts of its own
loader, with exchange records, events and locks as in a real worker. Only the sending is ours: several calls are always
under way on one connection, so that the server never waits for the client; `redis_busy` shows whether that was so.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections import deque
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final, cast
from uuid import uuid4

import hiredis

from benchmarks.systems.harness import payload, say
from benchmarks.task import Task
from pyqueue._redis import scripts
from pyqueue._redis.commands import Commands
from pyqueue._redis.keys import QueueKeys
from pyqueue._redis.packing import pack
from pyqueue._redis.scripts import Script
from pyqueue._store import adding, settling
from pyqueue._store.record import AddRow, encode_job
from pyqueue._store.store import Store
from pyqueue._worker.batch import MAX_CLAIMS
from pyqueue.options import JobOptions
from pyqueue.outcomes import Completed

#: Calls under way at the same time.
DEPTH: Final = 4


class Packer:
    """Stands where a connection stands, and keeps the call instead of sending it."""

    def __init__(self) -> None:
        self.call_made: tuple[Script, tuple[str, ...], list[Any]] | None = None

    async def call(
        self, script: Script, keys: Sequence[str], args: list[Any], *, timeout_s: float | None = None
    ) -> Any:
        self.call_made = (script, tuple(keys), args)
        raise _Packed


class _Packed(Exception):
    """The call is packed; the function that made it need not go on."""


class Wire:
    """One connection; calls are answered in order."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()
        self._packer = Packer()
        self.store = Store(cast(Commands, self._packer), QueueKeys("bull", "bench"))

    def send(self, call: Coroutine[Any, Any, Any]) -> None:
        """Pack a call of the store and send it."""
        with suppress(_Packed):
            call.send(None)
        assert self._packer.call_made is not None
        script, keys, args = self._packer.call_made
        self._socket.sendall(pack(("EVALSHA", script.sha, len(keys), *keys, *args)))

    def reply(self) -> Any:
        """The next answer; an error of the server is raised."""
        while (reply := self._reader.gets()) is False:
            self._reader.feed(self._socket.recv(1 << 18))
        if isinstance(reply, Exception):
            raise reply
        return reply

    def load(self, script: Script) -> None:
        """Put a script into the server's cache."""
        self._socket.sendall(pack(("SCRIPT", "LOAD", script.text)))
        self.reply()


class Lane:
    """One virtual worker: its next exchange settles what its last one claimed."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.sender = str(uuid4())
        self._sequence = 0
        self._tokens = 0

    def exchange(self, finished: Sequence[tuple[str, str]]) -> None:
        self._sequence += 1
        outcome = Completed("null")
        request = settling.ClaimRequest(MAX_CLAIMS, self.sender, self._tokens, suspects=1)
        self._tokens += MAX_CLAIMS
        self._wire.send(
            settling.settle_and_claim(
                self._wire.store,
                [settling.Settlement(job_id, token, outcome) for job_id, token in finished],
                request,
                sender=self.sender,
                sequence=self._sequence,
            )
        )


def settle_and_claim(wire: Wire, jobs: int) -> int:
    """Take jobs through, from waiting to completed; returns how many were settled."""
    settled = 0
    lanes = deque((Lane(wire), 0) for _ in range(DEPTH))
    for lane, _ in lanes:
        lane.exchange(())
    while lanes:
        lane, in_hand = lanes.popleft()
        _, codes, _, _, _, _, *claimed = wire.reply()
        assert codes == in_hand, codes
        settled += in_hand
        claimed = [
            (job_id.decode(), f"{lane.sender}:{number}")
            for names, first, _, values in zip(*[iter(claimed)] * 4, strict=True)
            for number, job_id in enumerate(values[:: 2 + names.count(b"\0")], first)
        ]
        if claimed:
            lane.exchange(claimed)
            lanes.append((lane, len(claimed)))
    assert settled == jobs, f"{settled} of {jobs} jobs were settled"
    return settled


def add(wire: Wire, rows: Sequence[AddRow], jobs: int) -> int:
    """Add jobs, as many per call as the library does."""
    sender, sent, answered = str(uuid4()), 0, 0
    calls = jobs // len(rows)
    while answered < calls:
        while sent < calls and sent - answered < DEPTH:
            sent += 1
            wire.send(adding.add_jobs(wire.store, rows, sender=sender, sequence=sent))
        _, _, statuses = wire.reply()
        assert statuses == len(rows), statuses
        answered += 1
    return calls * len(rows)


def main() -> None:
    """Do the task of the command line."""
    task = Task.from_json(sys.argv[1])
    wire = Wire(task.port)
    for name in ("settle_and_claim", "add_jobs"):
        wire.load(scripts.load(name))
    rows = [encode_job("job", payload(task), JobOptions())] * adding.MAX_ADDS
    say(ready=True)
    sys.stdin.readline()
    cpu, first = time.process_time(), time.monotonic()
    count = settle_and_claim(wire, task.jobs) if task.mode == "process" else add(wire, rows, task.jobs)
    last, cpu_s = time.monotonic(), time.process_time() - cpu
    say(count=count, first=first, last=last, cpu_s=cpu_s, offsets=[], end=True)
    os._exit(0)


if __name__ == "__main__":
    main()
