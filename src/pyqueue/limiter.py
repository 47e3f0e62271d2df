"""RateLimiter: a keyed limit that any code may consume from, across queues, instances and languages of one Redis.

It is independent of queues: it guards what jobs use (a mail server, somebody's API), not jobs. Limits on how many jobs
start are `Worker(limiter=...)` and `queue.limits.set_rate`.
"""

from __future__ import annotations

from datetime import timedelta
from types import TracebackType
from typing import Final, NamedTuple, Self

from pyqueue._redis.connection import AnyRedis, Connection
from pyqueue._store import limiting
from pyqueue.durations import milliseconds
from pyqueue.errors import ConfigurationError, RateLimitExceeded
from pyqueue.names import check_prefix, check_text
from pyqueue.types import SERVER_CLOCK, Clock

#: Points are single entries in Redis, about 11 bytes each; a larger limit is better counted in units of many.
MAX_POINTS: Final = 100_000


class Consumed(NamedTuple):
    """Points that were consumed together; `renew` takes it."""

    key: str
    points: int
    entry: str
    """When, as the log of the key has it."""


class RateLimiter:
    """At most `points` per `duration` for each key, in every window of that length, wherever it begins.

    The time is the Redis server's. Memory per key is bounded by `points` (about 11 bytes each), and given back when
    the key has not been used for `duration`. Use it as an async context manager, or call `close` at the end.
    """

    def __init__(
        self,
        points: int,
        duration: timedelta | int,
        key_prefix: str,
        *,
        connection: str | AnyRedis | Connection | None = None,
        clock: Clock = SERVER_CLOCK,
    ) -> None:
        """No I/O yet. ConfigurationError for a bad argument.

        points: 1 to 100,000. duration: timedelta or milliseconds. key_prefix: of the Redis keys, `<key_prefix>:<key>`;
        limiters with the same prefix share what is consumed and must have the same points and duration. connection: a
        URL, or a `redis.asyncio` client, which stays the caller's. clock: for tests.
        """
        self.points: Final = _count(points, "points", MAX_POINTS)
        try:
            self.duration_ms: Final = milliseconds(duration, "duration", minimum=1)
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
        self._key_prefix = check_prefix(key_prefix)
        self._connection = Connection.open(connection)
        self._is_ours = not isinstance(connection, Connection)
        self._clock = clock

    async def consume(self, key: str, points: int = 1) -> Consumed:
        """Consume points of a key, all or none, at once. One round trip, O(points).

        Raises RateLimitExceeded with `wait_ms`, when they would exceed the limit. ConfigurationError for more points
        than the limit ever allows. After a connection error they may have been consumed.
        """
        wait_ms, entry = await limiting.consume_points(
            self._connection.commands,
            self._redis_key(key),
            points=_count(points, "points", self.points),
            max_points=self.points,
            duration_ms=self.duration_ms,
            clock=self._clock,
        )
        if wait_ms:
            raise RateLimitExceeded(
                f"The limit of {self.points} per {self.duration_ms} ms for {key!r} is reached. Wait {wait_ms} ms.",
                key=key,
                wait_ms=wait_ms,
            )
        return Consumed(key, points, entry)

    async def renew(self, consumed: Consumed) -> Consumed:
        """Let consumed points count from now on: what they are for has happened now, and not when they were consumed.

        For limits that somebody else counts, such as a mail server: a mail arrives later than its point was consumed,
        one more, another less, and without this the fullest window there may hold some too many. What takes longer
        than `duration` should consume again instead. One round trip, O(points of the limit) at most.
        """
        entry = await limiting.renew_points(
            self._connection.commands,
            self._redis_key(consumed.key),
            consumed.entry,
            points=consumed.points,
            max_points=self.points,
            duration_ms=self.duration_ms,
            clock=self._clock,
        )
        return consumed._replace(entry=entry)

    async def reset(self, key: str) -> None:
        """Forget what was consumed of a key. One round trip."""
        await limiting.reset_points(self._connection.commands, self._redis_key(key))

    async def close(self) -> None:
        """Close the connections that were opened here."""
        if self._is_ours:
            await self._connection.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def _redis_key(self, key: str) -> str:
        return f"{self._key_prefix}:{check_text(key, 'key')}"


def _count(value: object, name: str, maximum: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= maximum:
        raise ConfigurationError(f"{name} is {value!r}: give an integer from 1 to {maximum}")
    return value
