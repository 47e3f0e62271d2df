"""How long single calls kept Redis, by its slow log, and how long this machine stops any program."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any, Final, NamedTuple

import redis

#: A call may not take longer.
LIMIT_US: Final = 2000
#: The log measures time, not work: whatever stops the whole machine makes a call look slow. So many may be.
_EXCUSED: Final = 1 / 1000
_LONGEST_LOG: Final = 1_000_000
#: Commands inside scripts are logged, too; nearly all take less than this, and nearly all scripts take more.
_LOGGED_US: Final = 100
#: What the machine itself does to a program that never waits is watched for so long.
_WATCHED_S: Final = 0.9


class Calls(NamedTuple):
    """The calls of one measurement, in microseconds."""

    calls: int
    median_us: int
    p999_us: int
    slowest_us: int
    too_slow: int
    """Calls beyond the limit."""
    low_us: int = 0
    """A tenth of the calls take less than this: their work, without what other programs add."""

    @property
    def is_quick(self) -> bool:
        """Whether no more calls are beyond the limit than a machine with other work makes."""
        return self.too_slow <= self.calls * _EXCUSED


class SlowLog:
    """Measures all commands between `start` and `read`; scripts are one command each."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def start(self) -> None:
        """Forget what was."""
        self._client.config_set("slowlog-max-len", _LONGEST_LOG)
        self._client.config_set("slowlog-log-slower-than", _LOGGED_US)
        self._client.slowlog_reset()
        self._client.config_resetstat()

    def read(self) -> Calls:
        """What happened since `start`. A call too short for the log counts as 0 us."""
        entries: Any = self._client.slowlog_get(_LONGEST_LOG)
        assert len(entries) < _LONGEST_LOG, "the slow log has overflowed"
        self._client.config_set("slowlog-log-slower-than", -1)
        stats: Any = self._client.info("commandstats")
        calls = sum(stats[name]["calls"] for name in ("cmdstat_evalsha", "cmdstat_eval") if name in stats)
        logged = sorted(entry["duration"] for entry in entries if entry["command"].startswith(b"EVAL"))
        durations = [0] * (calls - len(logged)) + logged
        return Calls(
            len(durations),
            durations[len(durations) // 2] if durations else 0,
            durations[-1 - len(durations) // 1000] if durations else 0,
            durations[-1] if durations else 0,
            sum(duration > LIMIT_US for duration in durations),
            durations[len(durations) // 10] if durations else 0,
        )


def prefer(pid: int) -> None:
    """Let a process go before all others, where that is allowed: neighbours then do not make its calls look slow."""
    with suppress(PermissionError):
        os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(1))


def standstills_ms() -> list[float]:
    """How often and how long (beyond the limit) this machine stops a program that goes before all others."""
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    prefer(0)
    gaps: list[float] = []
    last = time.perf_counter()
    end = last + _WATCHED_S
    while last < end:
        now = time.perf_counter()
        if now - last > LIMIT_US / 1e6:
            gaps.append((now - last) * 1000)
        last = now
    with suppress(PermissionError):
        os.sched_setscheduler(0, *before)
    return gaps
