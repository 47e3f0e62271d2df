"""Rows, arguments and hashes for tests of the scripts that add, settle and claim; used by tests/scripts only.

Everything has the default that changes least, so that a test names only what it is about.
"""

from __future__ import annotations

from typing import Any, Final

from pyqueue._store.settling import details
from pyqueue.outcomes import Keep
from pyqueue.types import Arg
from tests.support.script_bench import NOW

#: Token of the locks that `active` puts down.
TOKEN: Final = "t"
STACK: Final = '["Error: boom"]'
#: What a finish keeps: everything. count, age in seconds, limit.
KEEP_ALL: Final = (-1, -1, 1000)

Row = tuple[Arg, ...]


def add_row(
    job_id: str = "",
    *,
    name: str = "mail",
    data: str = "{}",
    opts: str = '{"attempts":0}',
    timestamp_ms: int = 0,
    delay_ms: int = 0,
    priority: int = 0,
    placement: str = "",
    parent_key: str = "",
    parent: str = "",
    dedup: str = "",
) -> Row:
    """One job of `add_jobs`."""
    return (data, name, opts, job_id, timestamp_ms, delay_ms, priority, placement, parent_key, parent, dedup)


def adding(**more: Arg) -> dict[str, Any]:
    """Arguments of `add_jobs`."""
    return {"sender": "producer", "sequence": 0, **more}


def stored(**more: str) -> dict[str, str]:
    """Hash of a job that `add_row` adds."""
    return {
        "name": "mail",
        "data": "{}",
        "opts": '{"attempts":0}',
        "timestamp": str(NOW),
        "delay": "0",
        "priority": "0",
        **more,
    }


def settled(
    job_id: str,
    kind: str,
    value: str = "",
    *,
    token: str = TOKEN,
    stacktrace: str = "",
    number: int = 0,
    attempts: int = 0,
    keep: tuple[int, int, int] = KEEP_ALL,
) -> Row:
    """One outcome of `settle_and_claim`."""
    is_usual = kind == "completed" and (number, attempts, keep, stacktrace) == (0, 0, KEEP_ALL, "")
    return (job_id, token, kind, value, "" if is_usual else details(number, attempts, Keep(*keep), stacktrace))


def exchange(claim: int = 0, **more: Arg) -> dict[str, Any]:
    """Arguments of `settle_and_claim`."""
    return {
        "sender": "worker",
        "sequence": 0,
        "claim": claim,
        "token": "w",
        "first_token": 0,
        "lock_ms": 30_000,
        "worker_name": "",
        "limiter_max": 0,
        "limiter_duration_ms": 0,
        "metrics_points": 0,
        "suspects": 1_000_000,
        "rearm": 0,
        **more,
    }


def running(**more: str) -> dict[str, str]:
    """Hash of a job that was claimed once."""
    return stored(ats="1", processedOn="1", **more)


def active(*job_ids: str, **fields: str) -> dict[str, Any]:
    """Keys of running jobs, the one claimed first last in the list; `fields` are added to each hash."""
    keys: dict[str, Any] = {"active": list(reversed(job_ids))}
    for job_id in job_ids:
        keys |= {job_id: running(**fields), f"{job_id}:lock": TOKEN}
    return keys


def event(name: str, /, **fields: str) -> dict[str, str]:
    """One entry of the event stream."""
    return {"event": name, **fields}
