"""How a loop lives through an outage: when to try again, and what to log.

`Outage` is for the loops of a worker and for repeated sends: it turns each failure into a delay and says two things per
outage, its beginning and its end. It does not sleep, send or decide what is worth repeating; `is_outage` does the
latter.

Modes: up (nothing remembered) -> down at the first `failed` (one line at WARNING) -> up at `recovered` (one at INFO).
"""

from __future__ import annotations

import logging
import math
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

_LINES: Final = (
    "%s: no connection, trying again until it returns: %s",
    "%s: refused by the server, trying again until it accepts: %s",
)


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
        cap_s: float = CAP_S,
        random_: Callable[[], float] = random.random,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`what` names the loop and the server in the log, such as "worker email: redis://localhost:6379/0".

        cap_s: the longest delay; more than 1.5 s or less than 50 ms is not had.
        """
        self._what = what
        self._cap_s = max(BASE_S, min(cap_s, CAP_S))
        self._random = random_
        self._monotonic = monotonic
        self._since: float | None = None
        self._recovered_at = -math.inf
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

    def is_known(self, began: float) -> bool:
        """Whether the failure of an attempt that began then (monotonic seconds) is no news: the outage was noticed
        already, or is even over, which this attempt's connection did not see."""
        return self.is_down or began < self._recovered_at

    def failed(self, error: BaseException, began: float = math.inf) -> float:
        """Note a failed attempt; the seconds to wait before the next, never less than 25 ms.

        `began`: when it began, on the monotonic clock; an attempt from before the last recovery changes nothing.
        The delay is as long as the outage so far, from 50 ms to the longest, so it doubles however many connections
        fail side by side; it is jittered by half, so that many workers do not return in step.
        """
        with self._lock:
            now = self._monotonic()
            if self._since is None and began < self._recovered_at:
                return BASE_S * (0.5 + self._random() / 2)
            if self._since is None:
                self._since = now
                logger.warning(_LINES[isinstance(error, RedisRefused)], self._what, error)
            delay_s = min(self._cap_s, max(BASE_S, now - self._since))
            self._attempts += 1
        return delay_s * (0.5 + self._random() / 2)

    def recovered(self) -> None:
        """Note a success; costs nothing while the connection is up."""
        if not self.is_down:
            return
        with self._lock:
            if self._since is None:
                return
            self._recovered_at = self._monotonic()
            seconds = self._recovered_at - self._since
            logger.info("%s: connected again after %.1f s and %d attempts", self._what, seconds, self._attempts)
            self._since = None
            self._attempts = 0
