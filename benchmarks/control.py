"""A script of constant work, called beside the measured ones: what the machine does to any call.

The slow log counts wall time, so whatever stops the server makes a call look slow: the host that takes the processor
from a virtual machine, or is slow to give it a page of memory, another program, an interrupt. The control stores as
many small hashes each time, and removes some that it stored before, as adds and removals of jobs do; it has nothing
of a queue, and always takes as many commands, all O(1), for as long as the longest usual calls of pyqueue. Where its
calls are above a bound, the machine was. The more time calls take, the more of them are hit, so both sides are compared
per second of the server's time.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Final, Self

import redis

#: What the control's entries in the slow log begin with, behind the command.
MARK: Final = "-- the control"
#: Hashes that a call stores, and those of earlier ones that it removes: memory grows by the rest, as with jobs.
STORED: Final = 80
REMOVED: Final = 60
#: 0.4 to 0.7 ms on the machines that we know, as adds of 64 jobs and exchanges of 25.
SCRIPT: Final = f"""{MARK}
local call, text = tonumber(ARGV[1]), string.rep('x', 200)
for n = call * {STORED}, call * {STORED} + {STORED - 1} do
  local key = string.format('control:%d', n)
  redis.call('HSET', key, 'name', 'job', 'data', text, 'timestamp', '1700000000000', 'delay', '0', 'priority', '0')
  redis.call('LPUSH', 'control:wait', key)
end
local removed = 0
for n = call * {REMOVED}, call * {REMOVED} + {REMOVED - 1} do
  redis.call('RPOP', 'control:wait')
  removed = removed + redis.call('UNLINK', string.format('control:%d', n))
end
return removed
"""
#: Between two calls: the server has as much time for the measured ones, and both are called equally often, about.
PAUSE_S: Final = 0.001
#: Keys per command of the clean-up.
_SLICE: Final = 500


class Control:
    """Context manager: calls the script again and again, in a thread, on a connection of its own.

    It sends EVAL, which what is measured does not, so that the server's statistics tell its time apart.
    Its keys, `control:*`, are removed at the end.
    """

    def __init__(self, client: redis.Redis) -> None:
        self.calls = 0
        self._client = client
        self._ended = threading.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="control")
        self._run: Future[None] | None = None

    @property
    def has_ended(self) -> bool:
        """Whether the thread has ended, which it does by itself only with an error."""
        return self._run is not None and self._run.done()

    def __enter__(self) -> Self:
        self._run = self._thread.submit(self._call)
        return self

    def _call(self) -> None:
        while not self._ended.wait(PAUSE_S):
            removed = self._client.eval(SCRIPT, 0, self.calls)
            assert removed == REMOVED, f"the control removed {removed} of its hashes, not {REMOVED}"
            self.calls += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.shutdown()
        if error is None and self._run is not None:
            self._run.result()  # an error of the thread
            self._clean_up()

    def _clean_up(self) -> None:
        for first in range(self.calls * REMOVED, self.calls * STORED, _SLICE):
            self._client.unlink(*(f"control:{n}" for n in range(first, first + _SLICE)))
        self._client.unlink("control:wait")


def is_control(entry: dict[str, Any]) -> bool:
    """Whether this entry of SLOWLOG GET is a call of the control."""
    command: bytes = entry["command"]
    return command.startswith(f"EVAL {MARK}".encode())
