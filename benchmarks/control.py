"""A script of constant work, called beside the measured ones: what the machine does to any call.

The slow log counts wall time, so whatever stops the server makes a call look slow: the host that takes the processor
from a virtual machine, another program, an interrupt. The control touches no key and computes the same each time, as
long as a usual call of pyqueue. Where its calls are above a bound, the machine was; what pyqueue's have beyond the
control's share is their own.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Final, Self

import redis

#: 0.3 to 0.5 ms on the machines that we know.
SCRIPT: Final = """
local sum = 0
for n = 1, 15000 do
  sum = (sum * 31 + n) % 65536
end
return sum
"""
#: What SCRIPT returns.
SUM: Final = 16076
#: Between two calls: the server has as much time for the measured ones, and both are called equally often, about.
PAUSE_S: Final = 0.001


class Control:
    """Context manager: calls the script again and again, in a thread, on a connection of its own."""

    def __init__(self, client: redis.Redis) -> None:
        self.calls = 0
        self._client = client
        self._script: Any = client.register_script(SCRIPT)
        self._ended = threading.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="control")
        self._run: Future[None] | None = None

    @property
    def sha(self) -> str:
        """The name of the script in the slow log."""
        return str(self._script.sha)

    @property
    def has_ended(self) -> bool:
        """Whether the thread has ended, which it does by itself only with an error."""
        return self._run is not None and self._run.done()

    def __enter__(self) -> Self:
        self._client.script_load(SCRIPT)
        self._run = self._thread.submit(self._call)
        return self

    def _call(self) -> None:
        while not self._ended.wait(PAUSE_S):
            sum_ = self._client.evalsha(self.sha, 0)
            assert sum_ == SUM, f"the control returned {sum_}, not {SUM}"
            self.calls += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.shutdown()
        if error is None and self._run is not None:
            self._run.result()  # an error of the thread
