"""Protocols and type words that several layers share: the clock, arguments and replies of Redis, processors.

No behaviour beyond the server clock. Processors are generic in the job and context types, because the classes
themselves live in higher layers. Imports nothing of pyqueue.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final, Protocol, TypeAlias, TypeVar

Arg: TypeAlias = str | bytes | int | float
"""What may be sent to Redis."""

Raw: TypeAlias = bytes | str
"""A text as Redis returns it; a borrowed client may decode replies."""


class Clock(Protocol):
    """Where the time of a transition comes from. Implement it to inject time in tests."""

    def now_ms(self) -> int:
        """Unix milliseconds; 0 = the script reads the server's TIME."""
        ...


class ServerClock:
    """The server's own time: immune to skewed hosts."""

    __slots__ = ()

    def now_ms(self) -> int:
        """Always 0: the script asks the server."""
        return 0


SERVER_CLOCK: Final[Clock] = ServerClock()

JobT = TypeVar("JobT")
ContextT = TypeVar("ContextT")
ResultT = TypeVar("ResultT")

# Callables rather than protocols, because mypy infers data and result types through a union of callables only.
Processor: TypeAlias = (
    Callable[[JobT], Awaitable[ResultT] | ResultT] | Callable[[JobT, ContextT], Awaitable[ResultT] | ResultT]
)
"""What a worker runs: `process(job)` or `process(job, context)`, async or plain. Parameters: job, result, context."""

BackoffStrategy: TypeAlias = Callable[[int, str, BaseException, Any], "int | timedelta | Awaitable[int | timedelta]"]
"""A custom backoff: (attempts made counting this one, its name, the error, the job) -> delay.

The delay is a timedelta or milliseconds; 0 = retry at once, -1 = fail now. May be async.
"""
