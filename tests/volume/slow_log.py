"""How long single calls kept Redis, by its slow log, with those of a control beside them (`benchmarks.control`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import redis

from benchmarks.control import Control, is_control

#: A call may not take longer.
LIMIT_US: Final = 2000
#: The log measures time, not work: whatever stops the whole machine makes a call look slow. So many may be.
_EXCUSED: Final = 1 / 1000
_LONGEST_LOG: Final = 1_000_000
#: Commands inside scripts are logged, too; nearly all take less than this, and nearly all scripts take more.
_LOGGED_US: Final = 100


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
    controls: int = 0
    """Calls of the control in the same time."""
    controls_too_slow: int = 0

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

    def read(self, control: Control | None = None) -> Calls:
        """What happened since `start`. A call too short for the log counts as 0 us; those of a control count apart."""
        entries: Any = self._client.slowlog_get(_LONGEST_LOG)
        assert len(entries) < _LONGEST_LOG, "the slow log has overflowed"
        self._client.config_set("slowlog-log-slower-than", -1)
        stats: Any = self._client.info("commandstats")
        calls = sum(stats[name]["calls"] for name in ("cmdstat_evalsha", "cmdstat_eval") if name in stats)
        scripts = [entry for entry in entries if entry["command"].startswith(b"EVAL")]
        made = control.calls if control else 0
        controls = [entry["duration"] for entry in scripts if is_control(entry)]
        logged = sorted(entry["duration"] for entry in scripts if not is_control(entry))
        durations = [0] * (calls - made - len(logged)) + logged
        return Calls(
            len(durations),
            durations[len(durations) // 2] if durations else 0,
            durations[-1 - len(durations) // 1000] if durations else 0,
            durations[-1] if durations else 0,
            _too_slow(durations),
            durations[len(durations) // 10] if durations else 0,
            made,
            _too_slow(controls),
        )


def _too_slow(durations_us: Sequence[int]) -> int:
    return sum(duration > LIMIT_US for duration in durations_us)
