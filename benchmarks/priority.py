"""Let a measured server run before other programs, so that wall times are its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

#: The strongest that there is: 88 times the share of an ordinary program.
_NICE: Final = -20


@contextmanager
def favoured(pid: int) -> Iterator[bool]:
    """Give a process the highest nice priority; False, and nothing done, without the right to.

    Not a real-time policy: Linux stops a real-time process that was busy for 0.95 s of a second until that second is
    over (sched_rt_runtime_us), though the processor idles meanwhile: calls of up to 50 ms, made by the measurement.
    """
    before = os.getpriority(os.PRIO_PROCESS, pid)
    try:
        os.setpriority(os.PRIO_PROCESS, pid, _NICE)
    except PermissionError:
        yield False
        return
    # Where Linux shares out processors among sessions first, a nice value counts within its session only.
    session = Path(f"/proc/{pid}/autogroup")
    session_before = _session_nice(session)
    _set_session_nice(session, _NICE)
    try:
        yield True
    finally:
        os.setpriority(os.PRIO_PROCESS, pid, before)
        _set_session_nice(session, session_before)


def _session_nice(session: Path) -> int:
    """`/autogroup-42 nice 0`; 0 on systems without."""
    with suppress(OSError):
        return int(session.read_text().split()[-1])
    return 0


def _set_session_nice(session: Path, nice: int) -> None:
    with suppress(OSError):  # there are systems without
        session.write_text(str(nice))
