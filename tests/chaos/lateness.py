"""How late this machine is: what it adds to every time that a scenario measures. A busy one explains a missed bar."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Final, Self

_STEP_S: Final = 0.01


class Lateness:
    """A thread that does nothing but wake up in steps; a context manager. `longest_s`: the latest it woke up."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        began = time.monotonic()
        while not self._ended.wait(_STEP_S):
            now = time.monotonic()
            self.longest_s = max(self.longest_s, now - began - _STEP_S)
            began = now
