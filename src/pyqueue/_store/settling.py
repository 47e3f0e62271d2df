"""Transitions of active jobs: settle outcomes, claim ready jobs, keep locks, recover what dead workers held.

One typed function per script. The worker's engine, leases and stalled check call them, and `Job` for jobs that are
handled by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple, TypeAlias, cast

from pyqueue._redis.links import Link
from pyqueue._redis.replies import codes, field_names, number, text
from pyqueue._redis.scripts import load
from pyqueue._store.record import Field
from pyqueue._store.store import Store
from pyqueue.errors import error_from_code
from pyqueue.outcomes import (
    KEEP_ALL,
    Completed,
    Delayed,
    Failed,
    Keep,
    Outcome,
    RateLimited,
    Released,
    Retried,
    Returned,
    WaitingForChildren,
)
from pyqueue.types import Arg, Raw

#: More suspects than any exchange claims: no bound.
UNBOUNDED: Final = 1_000_000


_Row: TypeAlias = tuple[Arg, ...]


class _Group(NamedTuple):
    """Claimed jobs with the same fields, as they are answered."""

    names: Sequence[str]
    """Of the fields."""
    first_token: int
    """Number of the first one's token, -1 = as it is."""
    is_first_run: int
    """1 = without the fields that a first start writes."""
    values: Sequence[Any]
    """Id and values of the fields, job after job."""


class Settlement(NamedTuple):
    """What became of one active job, and the token that proves whose it is."""

    job_id: str
    token: str
    outcome: Outcome


class Claimed(NamedTuple):
    """A job that is ours now, with all fields of its hash."""

    job_id: str
    token: str
    fields: dict[str, Raw]


class ClaimRequest(NamedTuple):
    """How a worker claims: how many, under which tokens, within which limits."""

    jobs: int
    token: str
    first_token: int = -1
    """Number of the first token, `<token>:<number>`; -1 takes `token` as it is, for a single claim."""
    lock_ms: int = 30_000
    worker_name: str = ""
    limiter_max: int = 0
    limiter_duration_ms: int = 0
    metrics_points: int = 0
    suspects: int = UNBOUNDED
    """How many jobs that stalled before may be among the claimed ones."""

    def sized(self, jobs: int, first_token: int, suspects: int) -> ClaimRequest:
        """The same for so many jobs; a third of the time of `_replace`, which every exchange would pay."""
        _, token, _, lock_ms, name, limiter_max, duration_ms, points, _ = self
        return ClaimRequest(jobs, token, first_token, lock_ms, name, limiter_max, duration_ms, points, suspects)


class ExchangeReply(NamedTuple):
    """What one exchange did. The claimed jobs are as they came, so that the next exchange need not wait for them."""

    now_ms: int
    codes: list[int | str]
    """Per settlement: 0 done, 1 no child to wait for, a negative code, or the text of an error with this one job."""
    groups: Sequence[_Group]
    """The claimed jobs."""
    claims: int
    """How many they are."""
    request: ClaimRequest
    """Under which they were claimed."""
    next_delayed_ms: int
    """When the next delayed job is due; 0 = unknown, because jobs were left or none is delayed."""
    limit_ms: int
    """For how long the rate limit forbids to claim."""
    suspects: int
    """How many of the claimed jobs stalled before, at most."""
    any_iteration: bool
    """Whether a scheduler may have made one of the claimed jobs."""

    @property
    def claimed(self) -> list[Claimed]:
        """The claimed jobs, decoded anew each time: about 3 us per job."""
        request = self.request
        claimed: list[Claimed] = []
        for names, token_number, is_first_run, values in self.groups:
            written = self._written_at_first_run() if is_first_run else {}
            width = 1 + len(names)
            for at in range(0, len(values), width):
                fields: dict[str, Raw] = dict(zip(names, values[at + 1 : at + width], strict=True))
                fields.update(written)
                token = request.token if token_number < 0 else f"{request.token}:{token_number}"
                claimed.append(Claimed(text(values[at]), token, fields))
                token_number += 1
        return claimed

    def _written_at_first_run(self) -> dict[str, Raw]:
        written: dict[str, Raw] = {Field.PROCESSED_ON: b"%d" % self.now_ms, Field.ATTEMPTS_STARTED: b"1"}
        if self.request.worker_name:
            written[Field.PROCESSED_BY] = self.request.worker_name.encode()
        return written


async def settle_and_claim(
    store: Store,
    settlements: Sequence[Settlement],
    request: ClaimRequest,
    *,
    rearm: bool = False,
    sender: str = "",
    sequence: int = 0,
) -> ExchangeReply:
    """Apply outcomes and claim jobs: one round trip, about 4 commands inside Redis per job and direction.

    With a sequence the same call may be sent again after a lost reply; it is then answered from its record.
    Raises StaleExchange if a newer exchange of this sender was applied already.
    """
    rows = [_row(settlement) for settlement in settlements]
    reply = await store.call(load("settle_and_claim"), rows, **_arguments(request, rearm, sender, sequence))
    return _exchange_reply(store, request, reply)


def start_settle_and_claim(
    store: Store,
    settlements: Sequence[Settlement],
    request: ClaimRequest,
    told: Callable[[ExchangeReply | Exception], None],
    *,
    rearm: bool,
    sender: str,
    sequence: int,
    behind: Link | None = None,
    timeout_s: float | None = None,
) -> Link | None:
    """The same, sent at once; None where that is impossible. What comes, and `behind`: see `Commands.start`."""
    rows = [_row(settlement) for settlement in settlements]
    read = partial(_exchange_reply, store, request)
    args = _arguments(request, rearm, sender, sequence)
    return store.start(load("settle_and_claim"), rows, read, told, timeout_s=timeout_s, behind=behind, **args)


def _arguments(request: ClaimRequest, rearm: bool, sender: str, sequence: int) -> dict[str, Any]:
    arguments = {
        "sender": sender,
        "sequence": sequence,
        "claim": request.jobs,
        "token": request.token,
        "first_token": request.first_token,
        "lock_ms": request.lock_ms,
        "suspects": request.suspects,
    }
    if rearm or request.worker_name or request.limiter_max or request.metrics_points:
        arguments |= {
            "worker_name": request.worker_name,
            "limiter_max": request.limiter_max,
            "limiter_duration_ms": request.limiter_duration_ms,
            "metrics_points": request.metrics_points,
            "rearm": int(rearm),
        }
    return arguments


def _exchange_reply(store: Store, request: ClaimRequest, reply: Any) -> ExchangeReply:
    if isinstance(reply, int):
        raise error_from_code(reply, queue=store.keys.queue, command="settle_and_claim")
    now_ms, settled, next_delayed_ms, limit_ms, suspects, any_iteration = reply[:6]
    groups: list[_Group] = []
    claims = 0
    for at in range(6, len(reply), 4):
        raw_names, first_token, is_first_run, values = reply[at : at + 4]
        names = _names(raw_names)
        groups.append(_Group(names, first_token, is_first_run, values))
        claims += len(values) // (1 + len(names))
    return ExchangeReply(
        number(now_ms),
        [code if isinstance(code, int) else text(code) for code in codes(settled)],
        groups,
        claims,
        request,
        number(next_delayed_ms),
        number(limit_ms),
        suspects,
        any_iteration > 0,
    )


def _names(raw: Raw | Sequence[Raw]) -> Sequence[str]:
    """Names of fields as a group of claimed jobs shares them: a text, or a list where that would be ambiguous."""
    return field_names(raw) if isinstance(raw, list) else _split_names(cast(Raw, raw))


@lru_cache(maxsize=100)
def _split_names(joined: Raw) -> tuple[str, ...]:
    return tuple(text(joined).split("\0"))


class Unanswered(NamedTuple):
    """An exchange in flight, which may have claimed jobs: its number, and what the tokens of its claims begin with."""

    sender: str = ""
    sequence: int = 0
    token: str = ""


ALL_ANSWERED: Final = Unanswered()


async def extend_locks(
    store: Store, locks: Sequence[tuple[str, str]], lock_ms: int, unanswered: Unanswered = ALL_ANSWERED
) -> list[str]:
    """Extend locks, given as (job id, token), and those of an exchange in flight. One round trip.

    Returns the ids whose lock is gone or another's.
    """
    reply = await store.call(load("extend_locks"), locks, lock_ms=lock_ms, **unanswered._asdict())
    return [text(job_id) for job_id in reply]


async def recover_stalled(store: Store, max_stalled_count: int, interval_ms: int) -> list[str]:
    """One stalled check, at most one per `interval_ms` over all workers; returns the ids of recovered jobs.

    One round trip; one more per 200 jobs that were marked.
    """
    recovered: list[str] = []
    resume = 0
    while True:
        job_ids, resume = await store.call(
            load("recover_stalled"), max_stalled_count=max_stalled_count, interval_ms=interval_ms, resume=resume
        )
        recovered += [text(job_id) for job_id in job_ids]
        if not resume:
            return recovered


async def trim_finished(
    store: Store, completed: Keep, failed: Keep, interval_ms: int, *, is_resumed: bool = False
) -> bool:
    """Remove finished jobs that have grown too old, at most 32; one trimming per `interval_ms` over all workers.

    The rules are the worker's, for jobs that have none. Returns whether there may be more: call again, resumed. One
    round trip, about eight commands inside Redis when there is nothing to remove.
    """
    rules = [tuple[Arg, ...]((keep.count, keep.age_s, keep.limit)) for keep in (completed, failed)]
    return bool(await store.call(load("trim_finished"), rules, interval_ms=interval_ms, resume=int(is_resumed)))


def _row(settlement: Settlement) -> _Row:
    job_id, token, outcome = settlement
    return (job_id, token, *_ROWS[type(outcome)](outcome))


def _completed(outcome: Completed) -> _Row:
    return ("completed", outcome.value, "" if outcome.keep is KEEP_ALL else details(keep=outcome.keep))


def _failed(outcome: Failed) -> _Row:
    return ("failed", outcome.reason, details(0, outcome.attempts, outcome.keep, outcome.stacktrace))


def _retried(outcome: Retried) -> _Row:
    kind = "backoff" if outcome.delay_ms > 0 else "retried"
    return (kind, outcome.reason, details(outcome.delay_ms, stacktrace=outcome.stacktrace))


def _delayed(outcome: Delayed) -> _Row:
    if outcome.until_ms > 0:
        return ("delayed_until", "", details(outcome.until_ms))
    return ("delayed", "", details(outcome.delay_ms))


def details(number: int = 0, attempts: int = 0, keep: Keep = KEEP_ALL, stacktrace: str = "") -> str:
    """The field `details` of an outcome. number: milliseconds of a delay or a limit."""
    return f"{number} {attempts} {keep.count} {keep.age_s} {keep.limit} {stacktrace}"


_ROWS: Final[dict[type, Callable[[Any], _Row]]] = {
    Completed: _completed,
    Failed: _failed,
    Retried: _retried,
    Delayed: _delayed,
    Released: lambda _: ("released", "", ""),
    Returned: lambda _: ("returned", "", ""),
    RateLimited: lambda outcome: ("rate_limited", "", details(outcome.delay_ms)),
    WaitingForChildren: lambda outcome: ("waiting_children", outcome.child_key, ""),
}
