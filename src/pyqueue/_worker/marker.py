"""Pop a queue's marker, the entry that wakes one idle worker.

Used by the waiter, and by fetches by hand. A pop that is cancelled gives its connection up: what it popped is unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeAlias

from pyqueue._redis.commands import Commands, NothingRan
from pyqueue._redis.links import Link
from pyqueue._redis.replies import text

#: Longest block, whatever the options say: BullMQ's cap, and the bound on noticing a connection that died silently.
MAX_BLOCK_S: Final = 10.0
#: Redis must see the end of a connection that was cut off while blocking before the marker is put back, or it would
#: hand the marker to that connection. Generous for one loop of the server.
CUT_OFF_S: Final = 0.02
#: Shortest block: what Redis is told is rounded to milliseconds, and 0 means for ever.
_MIN_BLOCK_S: Final = 0.001
#: A pop that has not returned so long after its block time is given up with its connection, as in BullMQ.
OVERDUE_S: Final = 1.0


Follow: TypeAlias = Callable[[Link, float], object]
"""Sends something behind a pop that has left on this connection and blocks for up to so many seconds."""


async def pop_marker(
    commands: Commands,
    marker: str,
    block_s: float,
    popped: Callable[[], None] = lambda: None,
    follow: Follow = lambda link, block_s: None,
) -> float | None:
    """Block for a marker; its score (0 = work is ready, else when a delayed job is due, in ms), or None in the end.

    `popped` is called when work is ready: a turn of the event loop before this returns, if the connection is open. Then
    `follow` is called, too, when the pop has left.
    """
    block_s = max(block_s, _MIN_BLOCK_S)
    command = ("BZPOPMIN", marker, f"{block_s:.3f}")
    link = commands.idle(marker)
    if link is not None:
        with suppress(NothingRan):
            return await _pop_on(link, commands, command, block_s, popped, follow)
    score = _score(await commands.execute(*command, timeout_s=block_s + OVERDUE_S))
    if score is not None and score <= 0:
        popped()
    return score


async def _pop_on(
    link: Link,
    commands: Commands,
    command: tuple[str, ...],
    block_s: float,
    popped: Callable[[], None],
    follow: Follow,
) -> float | None:
    done: asyncio.Future[float | None] = asyncio.get_running_loop().create_future()
    commands.start_command(link, command, _score, partial(_told, done, popped), timeout_s=block_s + OVERDUE_S)
    follow(link, block_s)
    try:
        return await done
    finally:
        if done.cancelled():
            await link.drop()  # or its reply would come to the next command; after that it is another's


def _score(reply: Any) -> float | None:
    return None if not reply else float(text(reply[2]))


def _told(done: asyncio.Future[float | None], popped: Callable[[], None], answer: float | Exception | None) -> None:
    if done.done():  # cancelled
        return
    if isinstance(answer, Exception):
        done.set_exception(answer)
        return
    done.set_result(answer)
    if answer is not None and answer <= 0:
        popped()
