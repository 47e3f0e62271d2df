"""Add jobs: one typed function for `add_jobs.lua`. Called by `Queue` only; flows have a script of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from functools import partial
from typing import Any, Final, NamedTuple

from redis.exceptions import ResponseError

from pyqueue._redis.links import Link
from pyqueue._redis.refusals import refusal_of
from pyqueue._redis.replies import codes, number, text
from pyqueue._redis.scripts import load
from pyqueue._store.record import AddRow
from pyqueue._store.store import Store
from pyqueue.errors import PyqueueError, ScriptError, error_from_code

#: Jobs per call, as `weight` weighs them. One that only waits costs Redis 10 to 14 us (Redis 7.0, 200 bytes of data).
MAX_ADDS: Final = 64
#: A delayed job costs as much as so many others, the more the larger the set of delayed jobs is: 20 to 25 us.
_DELAYED_WEIGHT: Final = 2


class AddStatus(StrEnum):
    """What an add did."""

    CREATED = "created"
    DUPLICATE = "duplicate"
    """A job with this id exists; nothing was changed but, if given, its parent."""
    DEDUPLICATED = "deduplicated"
    """Another job owns the deduplication id; its id is returned."""
    REPLACED = "replaced"
    """Created, in the place of a delayed job with the same deduplication id."""


#: By the number that the script answers.
_STATUSES: Final = tuple(AddStatus)


class Added(NamedTuple):
    """One job of an add call."""

    job_id: str
    status: AddStatus


class AddReply(NamedTuple):
    """What an add call did, per job in order: `Added`, or the error of this one job."""

    now_ms: int
    results: list[Added | PyqueueError]


class Part(NamedTuple):
    """Jobs of a bulk that travel in one call."""

    rows: Sequence[AddRow]
    weight: int


def weight(row: AddRow) -> int:
    """How many of the MAX_ADDS jobs of a call an added job counts for."""
    return _DELAYED_WEIGHT if row.delay_ms else 1


def parts(rows: Sequence[AddRow]) -> Iterator[Part]:
    """A bulk, call by call, in order."""
    weight_of_each = _DELAYED_WEIGHT if any(row.delay_ms for row in rows) else 1
    size = MAX_ADDS // weight_of_each
    for first in range(0, len(rows), size):
        part = rows[first : first + size]
        yield Part(part, len(part) * weight_of_each)


async def add_jobs(
    store: Store, rows: Sequence[AddRow], *, sender: str = "", sequence: int = 0, timeout_s: float | None = None
) -> AddReply:
    """Add up to MAX_ADDS jobs in one round trip; about 4 commands inside Redis per job.

    With a sequence the same call may be sent again after a lost reply; it is then answered from its record.
    Raises StaleExchange if a newer call of this sender was applied already.
    """
    reply = await store.call(load("add_jobs"), rows, sender=sender, sequence=sequence, timeout_s=timeout_s)
    return _add_reply(store, reply)


def start_add_jobs(
    store: Store,
    rows: Sequence[AddRow],
    told: Callable[[AddReply | Exception], None],
    *,
    sender: str,
    sequence: int,
    timeout_s: float,
    behind: Link | None = None,
) -> Link | None:
    """The same, sent at once; None where that is impossible. What comes, and `behind`: see `Commands.start`.

    One that is sent behind the call with the number before is answered by OutOfTurn if that was not applied.
    """
    return store.start(
        load("add_jobs"),
        rows,
        partial(_add_reply, store),
        told,
        sender=sender,
        sequence=sequence if behind is None else -sequence,
        timeout_s=timeout_s,
        behind=behind,
    )


def _add_reply(store: Store, reply: Any) -> AddReply:
    if isinstance(reply, int):
        raise error_from_code(reply, queue=store.keys.queue, command="add_jobs")
    now_ms, job_ids, statuses = reply
    results: list[Added | PyqueueError]
    if isinstance(job_ids, int):
        results = [Added(str(n), AddStatus.CREATED) for n in range(job_ids, job_ids + len(codes(statuses)))]
    else:
        queue = store.keys.queue
        results = [add_result(queue, text(i), s) for i, s in zip(job_ids, codes(statuses), strict=True)]
    return AddReply(number(now_ms), results)


def add_result(queue: str, job_id: str, status: int | bytes | str) -> Added | PyqueueError:
    """What a script's status of one job means: added, or the error of this one job."""
    if not isinstance(status, int):
        message = text(status)
        return refusal_of(ResponseError(message)) or ScriptError(
            f"adding job {job_id!r} to queue {queue!r} failed: {message}"
        )
    if status < 0:
        return error_from_code(status, job_id=job_id, queue=queue, command="add")
    return Added(job_id, _STATUSES[status])
