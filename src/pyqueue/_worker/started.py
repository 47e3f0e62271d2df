"""A coroutine that is on its way while its caller does something else.

`asyncio.create_task` would make its first step in the next turn of the event loop; here it is made at once. The engine
so puts an exchange on the wire before it hands out what the one before has brought.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Started(Generic[T]):
    """Runs a coroutine up to its first wait; `await` it later, once and in the same task, or `close` it.

    Meanwhile the task must not wait for anything that the coroutine holds.
    """

    __slots__ = ("_coroutine", "_end", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        """What the first step raises, it raises here."""
        self._coroutine = coroutine
        self._end: StopIteration | None = None
        try:
            self._waits_for = coroutine.send(None)
        except StopIteration as end:
            self._end = end

    def __await__(self) -> Generator[Any, Any, T]:
        """The rest of it, as if it were awaited from its beginning."""
        while self._end is None:
            try:
                try:
                    sent = yield self._waits_for
                except BaseException as error:
                    self._waits_for = self._coroutine.throw(error)
                else:
                    self._waits_for = self._coroutine.send(sent)
            except StopIteration as end:
                self._end = end
        result: T = self._end.value
        return result

    def close(self) -> None:
        """Give it up, if it has not ended."""
        self._coroutine.close()
