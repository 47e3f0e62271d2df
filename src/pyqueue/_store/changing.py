"""Changes of one job: one typed function per script.

Each is one round trip, raises the error of `errors.CODES` that the script answers with, and leaves the job alone then.
Called by `Job`, `queue.jobs` and the worker's context; changes of a whole queue are in `controlling`.
"""

from __future__ import annotations

from pyqueue._redis.replies import number
from pyqueue._redis.scripts import load
from pyqueue._store.store import Store
from pyqueue.errors import error_from_code


async def promote_job(store: Store, job_id: str) -> None:
    """Make a delayed job ready now. O(log n)."""
    code = number(await store.call(load("promote_job"), job_id=job_id))
    _check(store, code, job_id, "promote_job", expected="delayed")


async def change_delay(store: Store, job_id: str, delay_ms: int) -> None:
    """Let a delayed job wait `delay_ms` from now. O(log n)."""
    code = number(await store.call(load("change_delay"), job_id=job_id, delay_ms=delay_ms))
    _check(store, code, job_id, "change_delay", expected="delayed")


async def change_priority(store: Store, job_id: str, priority: int, *, lifo: bool = False) -> None:
    """Change a job's priority, and its place if it is ready to run. O(n) in the wait list for a job waiting there."""
    code = number(await store.call(load("change_priority"), job_id=job_id, priority=priority, lifo=int(lifo)))
    _check(store, code, job_id, "change_priority")


async def update_data(store: Store, job_id: str, data: str) -> None:
    """Replace a job's data by other JSON text. O(1)."""
    code = number(await store.call(load("update_data"), job_id=job_id, data=data))
    _check(store, code, job_id, "update_data")


async def update_progress(store: Store, job_id: str, progress: str) -> None:
    """Store progress, JSON text, and announce it. O(1)."""
    code = number(await store.call(load("update_progress"), job_id=job_id, progress=progress))
    _check(store, code, job_id, "update_progress")


async def add_log(store: Store, job_id: str, row: str, keep: int = 0) -> int:
    """Append a row to a job's log, of which the newest `keep` stay (0 = all); returns how many there are. O(1)."""
    rows = number(await store.call(load("add_log"), job_id=job_id, row=row, keep=keep))
    return _check(store, rows, job_id, "add_log")


async def clear_logs(store: Store, job_id: str, keep: int = 0) -> None:
    """Forget a job's log except the newest `keep` rows. O(rows)."""
    logs = store.keys.logs(job_id)
    if keep > 0:
        await store.commands.execute("LTRIM", logs, -keep, -1)
    else:
        await store.commands.execute("DEL", logs)


async def retry_job(
    store: Store, job_id: str, state: str, *, reset_attempts_made: bool = False, reset_attempts_started: bool = False
) -> None:
    """Run a failed or completed job again. O(log n)."""
    reply = await store.call(
        load("retry_job"),
        job_id=job_id,
        state=state,
        reset_attempts_made=int(reset_attempts_made),
        reset_attempts_started=int(reset_attempts_started),
    )
    _check(store, number(reply), job_id, "retry_job", expected=state)


async def remove_deduplication_key(store: Store, deduplication_id: str, job_id: str) -> bool:
    """Give up a deduplication id; False when the job does not own it. O(1)."""
    reply = await store.call(load("remove_deduplication_key"), deduplication_id=deduplication_id, job_id=job_id)
    return number(reply) == 1


def _check(store: Store, code: int, job_id: str, command: str, *, expected: str = "") -> int:
    if code < 0:
        raise error_from_code(code, job_id=job_id, queue=store.keys.queue, command=command, expected=expected)
    return code
