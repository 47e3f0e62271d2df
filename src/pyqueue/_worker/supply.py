"""What a worker knows of jobs to come: whether some may be ready, when the next is due, how long a limit lasts.

Fed by every reply and by the waiter; keeps the one timer of the engine, which rings when the next delayed job is due or
the rate limit ends. The server's own timeouts would be up to 100 ms late: Redis looks at blocked clients ten times a
second. No I/O.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Final

from pyqueue._store.settling import ExchangeReply

#: Shortest timer: a reply that rounds the other way must not make the engine spin.
_MIN_ALARM_S: Final = 0.001


class Supply:
    """The prospects of one worker. `changed` is called whenever they get better."""

    def __init__(self, changed: Callable[[], None], max_limit_ms: int) -> None:
        self.is_ready = True
        """Jobs may be ready, as far as anybody knows: a claim is worth a call."""
        self.wakes = 0
        """How often something was heard; a reply that was under way meanwhile does not count as the last word."""
        self._changed = changed
        self._max_limit_ms = max_limit_ms
        self._due_ms = 0  # when the next delayed job is due, on the server's clock; 0 = none known
        self._limited_until = 0.0  # on the monotonic clock
        self._server_ahead_ms = 0.0  # the server's clock minus the monotonic one
        self._alarm: asyncio.TimerHandle | None = None
        self._rings_at = math.inf  # on the monotonic clock

    @property
    def limited_s(self) -> float:
        """Seconds until the rate limit allows to claim again."""
        return max(0.0, self._limited_until - time.monotonic())

    @property
    def is_limited(self) -> bool:
        """Whether the rate limit forbids to claim."""
        return self._limited_until > 0 and self.limited_s > 0

    @property
    def rings_in_s(self) -> float:
        """Seconds until the timer rings; infinite if it is not set."""
        return self._rings_at - time.monotonic()

    @property
    def knows_delayed(self) -> bool:
        """Whether a delayed job is awaited here, perhaps by nobody else: its marker is popped once."""
        return self._due_ms > 0

    def bounded_ms(self, limit_ms: int) -> int:
        """For how long a rate limit counts here, before Redis is asked again."""
        return min(limit_ms, self._max_limit_ms)

    def wake(self) -> None:
        """Jobs may be ready: plan again."""
        self.heard()
        self._changed()

    def heard(self) -> None:
        """Jobs may be ready."""
        self.wakes += 1
        self.is_ready = True

    def delayed_until(self, due_ms: int) -> None:
        """A delayed job is due at `due_ms` on the server's clock, and nobody else knows."""
        self.wakes += 1
        self._due_ms = min(self._due_ms or due_ms, due_ms)
        self._set_alarm()

    def note(self, reply: ExchangeReply, *, asked: int, wakes: int) -> None:
        """Take a reply to a claim of `asked` jobs (0: none), sent when `wakes` was the number of wakes."""
        self._server_ahead_ms = reply.now_ms - time.monotonic() * 1000
        is_last_word = wakes == self.wakes
        earlier_ms = 0 if is_last_word else self._due_ms
        later_ms = reply.next_delayed_ms
        self._due_ms = min(earlier_ms, later_ms) if earlier_ms and later_ms else earlier_ms or later_ms
        if reply.limit_ms > 0:
            self._limited_until = time.monotonic() + self.bounded_ms(reply.limit_ms) / 1000
        if is_last_word and reply.claims < asked:
            self.is_ready = False
        if self._due_ms or self._limited_until or self._alarm is not None:
            self._set_alarm()

    def silence(self) -> None:
        """Stop the timer."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
            self._rings_at = math.inf

    def _set_alarm(self) -> None:
        self.silence()
        waits: list[float] = []
        if self._limited_until:
            waits.append(self.limited_s)
        if self._due_ms:
            waits.append((self._due_ms - self._server_ahead_ms) / 1000 - time.monotonic())
        if waits:
            wait_s = max(min(waits), _MIN_ALARM_S)
            self._alarm = asyncio.get_running_loop().call_later(wait_s, self._ring)
            self._rings_at = time.monotonic() + wait_s

    def _ring(self) -> None:
        self._alarm = None
        self._rings_at = math.inf
        if not self.is_limited:
            self._limited_until = 0.0
        if self._due_ms <= time.monotonic() * 1000 + self._server_ahead_ms:
            self._due_ms = 0
        self._set_alarm()
        self.wake()
