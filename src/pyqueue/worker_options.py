"""Options of a worker, as a frozen model: its defaults, limits, and what contradicts each other.

Annotations are values here, not texts: pydantic would compile each of them at import.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypedDict, Unpack

from pydantic import AfterValidator, BeforeValidator, PlainValidator, ValidationInfo

from pyqueue.names import check_prefix, check_text, check_worker_name
from pyqueue.options import (
    BUILT_IN_BACKOFFS,
    CONNECTION_HINTS,
    OPTIONS_OF_ALL_JOBS,
    OPTIONS_OF_ONE_JOB,
    AnyRetention,
    JobOptions,
    RateLimit,
    RetentionRule,
)
from pyqueue.types import BackoffStrategy
from pyqueue.validation import Count, OptionModel, PositiveCount, PositiveDuration, Switch, shown


def _lock_renew_time(value: int, info: ValidationInfo) -> int:
    lock_duration = info.data.get("lock_duration")
    if lock_duration is not None and value >= lock_duration:
        remedy = "a lock must be renewed before it runs out; use about half of the duration"
        raise ValueError(f"lock_renew_time is {value} and lock_duration is {lock_duration}: {remedy}")
    return value


def _limiter(value: RateLimit | None, info: ValidationInfo) -> RateLimit | None:
    prefetch = info.data.get("prefetch")
    if value is not None and prefetch:
        remedy = "jobs claimed ahead would start in bursts, because claims are limited; leave one of them out"
        raise ValueError(f"limiter is given and prefetch is {prefetch}: {remedy}")
    return value


def _metrics(value: object) -> object:
    if isinstance(value, Mapping) and set(value) == {"maxDataPoints"}:
        return value["maxDataPoints"]
    return value


def _backoffs(value: object) -> Mapping[str, BackoffStrategy]:
    if not isinstance(value, Mapping):
        raise ValueError(f"backoffs is {shown(value)}: give a dictionary of names and functions")
    for name, strategy in value.items():
        if check_text(name, "backoff name") in BUILT_IN_BACKOFFS:
            raise ValueError(f"backoffs has the name {name!r}: that is a built-in one; choose another")
        if not callable(strategy):
            raise ValueError(f"backoffs[{name!r}] is {shown(strategy)}: give a function")
    return dict(value)


class WorkerOptionFields(TypedDict, total=False):
    """The keywords of `WorkerOptions` and of `Worker`, with everything each accepts."""

    prefix: str
    name: str
    concurrency: int
    prefetch: int
    limiter: RateLimit | Mapping[str, Any] | None
    lock_duration: timedelta | int
    lock_renew_time: timedelta | int | None
    stalled_interval: timedelta | int
    max_stalled_count: int
    max_started_attempts: int | None
    drain_delay: timedelta | int
    maximum_rate_limit_delay: timedelta | int
    run_retry_delay: timedelta | int
    max_loop_block: timedelta | int
    remove_on_complete: RetentionRule | Mapping[str, Any] | None
    remove_on_fail: RetentionRule | Mapping[str, Any] | None
    backoffs: Mapping[str, BackoffStrategy]
    metrics: int | Mapping[str, int]
    skip_lock_renewal: bool
    skip_stalled_check: bool


class WorkerOptions(OptionModel):
    """Options of a `Worker`."""

    hints: ClassVar[Mapping[str, str]] = {
        "autorun": "a worker runs in 'async with worker' or 'await worker.run()'",
        **JobOptions.hints,
        **dict.fromkeys(OPTIONS_OF_ONE_JOB, "that is an option of one job; give it to Queue.add"),
        **dict.fromkeys(
            OPTIONS_OF_ALL_JOBS,
            "that is an option of jobs; give it to Queue.add, or to Queue in default_job_options",
        ),
        "id": "use 'name', which the list of workers shows",
        "settings": "give custom backoff strategies by name in 'backoffs'",
        **CONNECTION_HINTS,
    }

    prefix: Annotated[str, PlainValidator(check_prefix)] = "bull"
    """First part of every key; the producers' one."""
    name: Annotated[str, PlainValidator(check_worker_name)] = ""
    """Shown in the client list and stored on the jobs it runs. Printable ASCII without spaces."""
    concurrency: PositiveCount = 1
    """How many jobs run at once, at least 1."""
    prefetch: Count = 0
    """How many more are claimed ahead, so that short jobs need not wait for Redis. They are active while they wait here
    for those before them: no other worker can take them, a pause of the queue or a rate limit set meanwhile does not
    hold them, and they count against the queue's concurrency. Leave it at 0 where a job may take long, or waits for
    another job."""
    limiter: Annotated[RateLimit | None, AfterValidator(_limiter)] = None
    """At most so many jobs per time, over all workers of the queue; not together with `prefetch`."""
    lock_duration: PositiveDuration = 30_000
    """How long a job stays ours without renewal; milliseconds. After a crash it is run again after about twice that."""
    lock_renew_time: Annotated[PositiveDuration, AfterValidator(_lock_renew_time)] | None = None
    """How often locks are renewed; less than `lock_duration`, half of it if not given."""
    stalled_interval: PositiveDuration = 30_000
    """How often the queue is looked after: jobs of dead workers, schedulers without a job, finished jobs that have
    grown too old; milliseconds."""
    max_stalled_count: Count = 1
    """How often a job may be recovered from a dead worker before it fails."""
    max_started_attempts: Count | None = None
    """Fail a job that was started so often, whatever its attempts. No limit if not given."""
    drain_delay: PositiveDuration = 5_000
    """How long one wait for jobs lasts when the queue is empty; milliseconds."""
    maximum_rate_limit_delay: PositiveDuration = 30_000
    """Longest sleep while rate limited, so that delayed jobs become due; milliseconds."""
    run_retry_delay: PositiveDuration = 15_000
    """Longest pause between attempts to reach Redis again; milliseconds. They grow from 50 to 1,500 ms by themselves,
    which a smaller value shortens."""
    max_loop_block: PositiveDuration = 300_000
    """After the event loop was blocked so long, locks are not renewed any more; milliseconds."""
    remove_on_complete: AnyRetention | None = None
    """What to keep of completed jobs that do not say so themselves; all if not given."""
    remove_on_fail: AnyRetention | None = None
    """What to keep of failed jobs that do not say so themselves; all if not given."""
    backoffs: Annotated[Mapping[str, Callable[..., Any]], PlainValidator(_backoffs)] = {}
    """Custom backoff strategies by name, for `Backoff.custom(name)`."""
    metrics: Annotated[Count, BeforeValidator(_metrics)] = 0
    """For how many minutes finished jobs are counted; 0 = not at all."""
    skip_lock_renewal: Switch = False
    """Never renew locks."""
    skip_stalled_check: Switch = False
    """Leave the jobs of dead workers to other workers."""

    if TYPE_CHECKING:

        def __init__(self, **options: Unpack[WorkerOptionFields]) -> None: ...

    @property
    def lock_renew_ms(self) -> int:
        """`lock_renew_time`, or its default."""
        return self.lock_renew_time or max(1, self.lock_duration // 2)
