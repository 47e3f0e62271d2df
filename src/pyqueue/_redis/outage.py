"""How a loop lives through an outage: when to try again, and what to log.

`Outage` is for the loops of a worker and for repeated sends: it turns each failure into a delay and says two things per
outage, its beginning and its end. It does not sleep, send or decide what is worth repeating; `is_outage` does the
latter.

Modes: up (nothing remembered) -> down at the first `failed` (one line at WARNING) -> up at `recovered` (one at INFO).
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Final

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pyqueue._redis.refusals import TRANSIENT
from pyqueue.errors import RedisRefused

logger = logging.getLogger("pyqueue.connection")

#: First delay: a broken connection to a healthy server is replaced without anybody noticing.
BASE_S: Final = 0.05
#: Longest delay: work goes on this soon after the server's return, and a hundred workers with three connections each
#: are about 270 attempts a second, which a server refuses or accepts without effort.
CAP_S: Final = 1.5


def is_outage(error: BaseException) -> bool:
    """Whether the error is a matter of time: a broken connection, a deadline, a refusal that ends by itself.

    A command that met one may have run unless the server refused it, so repeat only what is safe to repeat.
    """
    if isinstance(error, RedisRefused):
        return error.code in TRANSIENT
    return isinstance(error, (RedisConnectionError, RedisTimeoutError, OSError))


class Outage:
    """The state of one loop's connection: up, or down for some time and some attempts."""

    def __init__(
        self,
        what: str,
        *,
        random_: Callable[[], float] = random.random,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`what` names the loop and the server in the log, such as "worker email: redis://localhost:6379/0"."""
        self._what = what
        self._random = random_
        self._monotonic = monotonic
        self._since: float | None = None
        self._attempts = 0
        self._lock = threading.Lock()  # a worker's engine and its lease thread share one outage

    @property
    def is_down(self) -> bool:
        """Whether the last attempt failed."""
        return self._since is not None

    @property
    def attempts(self) -> int:
        """Failed attempts of this outage."""
        return self._attempts

    def failed(self, error: BaseException) -> float:
        """Note a failed attempt; the seconds to wait before the next, never less than 25 ms.

        The delay is as long as the outage so far, from 50 ms to 1.5 s, so it doubles however many connections fail side
        by side; it is jittered by half, so that many workers do not return in step.
        """
        with self._lock:
            now = self._monotonic()
            if self._since is None:
                self._since = now
                logger.warning("%s: no connection, trying again until it returns: %s", self._what, error)
            delay_s = min(CAP_S, max(BASE_S, now - self._since))
            self._attempts += 1
        return delay_s * (0.5 + self._random() / 2)

    def recovered(self) -> None:
        """Note a success; costs nothing while the connection is up."""
        if not self.is_down:
            return
        with self._lock:
            if self._since is None:
                return
            seconds = self._monotonic() - self._since
            logger.info("%s: connected again after %.1f s and %d attempts", self._what, seconds, self._attempts)
            self._since = None
            self._attempts = 0
