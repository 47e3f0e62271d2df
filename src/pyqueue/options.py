"""Options: what jobs and queues may be told, as frozen models; those of workers are in `worker_options`.

Defaults live in these two modules and nowhere else. Durations are timedeltas or integer milliseconds. Dictionaries in
BullMQ's camel case are accepted by `model_validate`. Whether an option was given matters when defaults are
merged, so models know their `model_fields_set`. How options are stored is the business of `_store.stored_options`.

Annotations are values here, not texts: pydantic would compile each of them at import.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Generic, Self, TypeAlias, TypedDict, TypeVar, Unpack

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, ValidationInfo, model_validator

from pyqueue.durations import milliseconds
from pyqueue.errors import ConfigurationError, UnknownOption
from pyqueue.names import check_job_id, check_job_name, check_prefix, check_text
from pyqueue.validation import (
    Age,
    Count,
    Duration,
    Moment,
    OptionModel,
    PositiveCount,
    PositiveDuration,
    SignedCount,
    Switch,
    Text,
    hint_of,
    nearest,
    shown,
    unknown_option,
)

#: The lowest urgency. Priority 0 means none; such jobs run before all prioritized ones.
MAX_PRIORITY: Final = 2_097_151

#: Policies for a parent whose child fails; a child has at most one of them. In BullMQ's order.
PARENT_POLICIES: Final = (
    "remove_dependency_on_failure",
    "fail_parent_on_failure",
    "continue_parent_on_failure",
    "ignore_dependency_on_failure",
)

#: What `add_bulk` takes for a job.
JOB_SHAPE: Final = "a JobSpec or a dictionary with name, data and opts"

#: What users of other libraries look for.
CONNECTION_HINTS: Final = dict.fromkeys(
    ("url", "redis", "host", "port"), "use 'connection', which takes a URL or a redis.asyncio client"
)

#: Backoff types that need no strategy of the worker.
BUILT_IN_BACKOFFS: Final = frozenset({"fixed", "exponential"})

DataT = TypeVar("DataT")


def _backoff_type(value: object) -> str:
    if value not in BUILT_IN_BACKOFFS:
        raise ValueError(f"type is {shown(value)}: give 'fixed' or 'exponential', or use Backoff.custom(name)")
    return str(value)


class Backoff(OptionModel):
    """How long to wait before a failed job runs again. Use the constructors `fixed`, `exponential`, `custom`."""

    type: Annotated[str, PlainValidator(_backoff_type)]
    """`fixed`, `exponential`, or the name of a strategy given to the worker."""
    delay: Duration = 0
    """The wait; of `exponential`, the first one, doubled at each further attempt. Milliseconds."""
    jitter: Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)] | None = None
    """Share of the wait that is random, 0 to 1: the wait is spread over [delay * (1 - jitter), delay]."""

    @classmethod
    def fixed(cls, delay: timedelta | int, *, jitter: float | None = None) -> Self:
        """The same wait before every retry."""
        return cls._of("fixed", delay, jitter)

    @classmethod
    def exponential(cls, delay: timedelta | int, *, jitter: float | None = None) -> Self:
        """`delay` before the first retry, twice as long before each further one; no upper bound."""
        return cls._of("exponential", delay, jitter)

    @classmethod
    def custom(cls, name: str, *, delay: timedelta | int | None = None) -> Self:
        """A strategy of the worker's option `backoffs`; `delay` is stored for it to read."""
        if name in BUILT_IN_BACKOFFS:
            raise ConfigurationError(f"backoff name is {name!r}: that is a built-in one; choose another name")
        values: dict[str, Any] = {"type": check_text(name, "backoff name")}
        if delay is not None:
            values["delay"] = milliseconds(delay, "delay")
        return cls.model_construct(**values)

    @classmethod
    def _of(cls, kind: str, delay: timedelta | int, jitter: float | None) -> Self:
        values: dict[str, Any] = {"type": kind, "delay": delay}
        return cls(**values) if jitter is None else cls(**values, jitter=jitter)


class RateLimit(OptionModel):
    """At most `max` jobs are started per `duration`, over all workers of the queue."""

    max: PositiveCount
    """Jobs per window, at least 1."""
    duration: PositiveDuration
    """Length of the window in milliseconds, at least 1."""

    if TYPE_CHECKING:

        def __init__(self, *, max: int, duration: timedelta | int) -> None: ...  # the name is BullMQ's


class Retention(OptionModel):
    """Which finished jobs are kept. Without any limit all are.

    Applied to all jobs that ended like this one when it finishes; that of the newest also while nothing finishes, once
    per `stalled_interval` of a worker.
    """

    count: SignedCount | None = None
    """The newest so many; 0 removes the job at once, a negative one keeps all. Of jobs that ended in the same
    millisecond those count as newer whose id is the later text ("9" after "10"), as in BullMQ."""
    age: Age | None = None
    """Those younger than this; a timedelta or seconds. A negative one keeps all."""
    limit: PositiveCount | None = None
    """How many may be removed for their age at one finish; 1000 if not given."""

    if TYPE_CHECKING:

        def __init__(
            self, *, count: int | None = None, age: timedelta | int | None = None, limit: int | None = None
        ) -> None: ...


RetentionRule: TypeAlias = Retention | bool | int
"""True = remove at once, False or a negative number = keep all, a number = keep that many of the newest, or a
`Retention`."""


class Deduplication(OptionModel):
    """Jobs with the same id are added once while the first of them is unfinished, or for `ttl`."""

    id: Text
    """What makes two jobs the same; not empty."""
    ttl: Duration | None = None
    """For how long, in milliseconds; without it, until the job finishes."""
    extend: Switch | None = None
    """Start the `ttl` anew with every further add."""
    replace: Switch | None = None
    """A further add takes the place of the job while that is delayed (debounce)."""
    keep_last_if_active: Switch | None = None
    """While the job is active, the last further add is kept and added when the job finishes."""
    reschedule: Switch | None = None
    """A further add moves the time of a delayed job instead of being dropped."""

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            id: str,
            ttl: timedelta | int | None = None,
            extend: bool | None = None,
            replace: bool | None = None,
            keep_last_if_active: bool | None = None,
            reschedule: bool | None = None,
        ) -> None: ...


def _qualified_queue(value: object) -> str:
    text = check_text(value, "queue")
    prefix, _, queue = text.rpartition(":")
    if not prefix or not queue:
        raise ValueError(f"queue is {text!r}: give the parent's queue with its prefix, as in 'bull:{queue or 'email'}'")
    return text


class ParentReference(OptionModel):
    """The parent of a job: its id, and its queue as `<prefix>:<queue>`."""

    id: Text
    queue: Annotated[str, PlainValidator(_qualified_queue)]


class Telemetry(OptionModel):
    """Trace context that travels with a job."""

    metadata: Text | None = None
    """The context, in the form of the producer's propagator."""
    omit_context: Switch | None = None
    """Do not pass the context on."""


def _priority(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_PRIORITY:
        raise ValueError(f"priority is {shown(value)}: give an integer between 0 (none) and {MAX_PRIORITY}")
    return value


def _backoff(value: object) -> Backoff:
    if isinstance(value, Backoff):
        return value
    if isinstance(value, Mapping):
        return Backoff.model_validate(value)
    if isinstance(value, str):
        maker = f"Backoff.{value}(1000)" if value in BUILT_IN_BACKOFFS else f"Backoff.custom({value!r})"
        raise ValueError(f"backoff is {value!r}: give {maker}")
    return Backoff(type="fixed", delay=milliseconds(value, "backoff"))


def _retention(value: object, info: ValidationInfo) -> RetentionRule:
    if isinstance(value, (Retention, int)):
        return value
    if isinstance(value, Mapping):
        return Retention.model_validate(value)
    remedy = "give True (remove at once), False (keep all), a count or a Retention(count=, age=)"
    raise ValueError(f"{info.field_name} is {shown(value)}: {remedy}")


def _only_policy(value: bool, info: ValidationInfo) -> bool:
    # Fields are validated in order, so each policy sees those declared before it.
    others = [name for name in PARENT_POLICIES if info.data.get(name)]
    if value and others:
        raise ValueError(_conflict([*others, info.field_name or ""]))
    return value


def _without_parent(value: Deduplication, info: ValidationInfo) -> Deduplication:
    if info.data.get("parent") is not None:
        raise ValueError(_conflict(["deduplication", "parent"]))
    return value


def _conflict(names: list[str]) -> str:
    return f"{', '.join(names)} cannot be used together: choose one of them"


JobId = Annotated[str, PlainValidator(check_job_id)]
Priority = Annotated[int, PlainValidator(_priority)]
# Not plain validators, whose values pydantic dumps with a warning.
AnyBackoff = Annotated[Backoff, BeforeValidator(_backoff)]
AnyRetention = Annotated[RetentionRule, BeforeValidator(_retention)]
ParentPolicy = Annotated[bool, Field(strict=True), AfterValidator(_only_policy)]


class JobOptionFields(TypedDict, total=False):
    """The keywords of `JobOptions` and of `Queue.add`, with everything each accepts."""

    job_id: str | None
    delay: timedelta | int
    priority: int
    attempts: int
    backoff: Backoff | Mapping[str, Any] | timedelta | int | None
    lifo: bool
    timestamp: datetime | int | None
    remove_on_complete: RetentionRule | Mapping[str, Any] | None
    remove_on_fail: RetentionRule | Mapping[str, Any] | None
    keep_logs: int | None
    stack_trace_limit: int | None
    size_limit: int | None
    parent: ParentReference | Mapping[str, str] | None
    deduplication: Deduplication | Mapping[str, Any] | None
    remove_dependency_on_failure: bool
    fail_parent_on_failure: bool
    continue_parent_on_failure: bool
    ignore_dependency_on_failure: bool
    telemetry: Telemetry | Mapping[str, Any] | None


class JobOptions(OptionModel):
    """Options of one job, or of all jobs of a queue (`default_job_options`). Those of the job win, one by one."""

    hints: ClassVar[Mapping[str, str]] = {
        "debounce": "it was removed from BullMQ; use 'deduplication'",
        **dict.fromkeys(("repeat", "cron"), "use queue.schedulers.upsert"),
        **dict.fromkeys(
            ("retries", "max_retries", "tries", "max_tries"),
            "use 'attempts', an option of jobs that counts the first run",
        ),
        "timeout": "bound the work in the processor, as in 'async with asyncio.timeout(30)'",
        **dict.fromkeys(("countdown", "eta"), "use 'delay' of a job, a timedelta or milliseconds from now"),
        "id": "use 'job_id' of a job",
    }

    job_id: JobId | None = None
    """An id of your own: a job whose id exists is not added again. Otherwise a number is generated."""
    delay: Duration = 0
    """Run not before so long after `timestamp`; milliseconds."""
    priority: Priority = 0
    """1 (first) to 2,097,151 (last); 0 = none, which runs before all prioritized jobs."""
    attempts: Count = 0
    """How often the job may run at most until it succeeds; 0 and 1 both mean once."""
    backoff: AnyBackoff | None = None
    """The wait before a retry; a number or timedelta is a fixed one. Without it, retries run at once."""
    lifo: Switch = False
    """Run before the jobs that wait already. No effect with a priority."""
    timestamp: Moment | None = None
    """When the job was created, unix milliseconds or an aware datetime; the server's time if not given."""
    remove_on_complete: AnyRetention | None = None
    """What to keep of completed jobs; the worker's option of the same name if not given."""
    remove_on_fail: AnyRetention | None = None
    """What to keep of failed jobs; the worker's option of the same name if not given."""
    keep_logs: Count | None = None
    """How many log rows to keep, the newest; all if not given."""
    stack_trace_limit: Count | None = None
    """How many stack traces to keep, the newest; all if not given."""
    size_limit: PositiveCount | None = None
    """Refuse data larger than so many bytes of JSON. No limit if not given."""
    parent: ParentReference | None = None
    """Make the job a child of an existing job."""
    deduplication: Annotated[Deduplication, AfterValidator(_without_parent)] | None = None
    """Add only one of several equal jobs. Not together with `parent`."""
    remove_dependency_on_failure: ParentPolicy = False
    """If the job fails, its parent goes on as if it had never existed."""
    fail_parent_on_failure: ParentPolicy = False
    """If the job fails, its parent fails, too."""
    continue_parent_on_failure: ParentPolicy = False
    """If the job fails, its parent runs at once, even with unfinished children."""
    ignore_dependency_on_failure: ParentPolicy = False
    """If the job fails, its parent goes on and can read the reason."""
    telemetry: Telemetry | None = None
    """Trace context for consumers that read it."""

    if TYPE_CHECKING:

        def __init__(self, **options: Unpack[JobOptionFields]) -> None: ...


def merge_options(defaults: JobOptions | None, options: JobOptions | None) -> JobOptions | None:
    """Options of a job over the defaults of its queue, option by option; an id is never inherited.

    Raises ConfigurationError when an option of the job contradicts a default.
    """
    if defaults is None:
        return options
    given = {} if options is None else {name: getattr(options, name) for name in options.model_fields_set}
    if defaults.job_id is not None:
        given.setdefault("job_id", None)
    if not given:
        return defaults
    merged = defaults.model_copy(update=given)
    policies = [name for name in PARENT_POLICIES if getattr(merged, name)]
    if len(policies) > 1:
        raise ConfigurationError(_conflict(policies))
    if merged.deduplication is not None and merged.parent is not None:
        raise ConfigurationError(_conflict(["deduplication", "parent"]))
    return merged


def unknown_key(key: object, known: Iterable[str], value: object, hints: Mapping[str, str]) -> UnknownOption:
    """The error for a key that the dictionary of a job does not have: options of the job go into its `opts`."""
    name, keys = str(key), tuple(known)
    hints = {**JobOptions.hints, **hints}
    is_hinted = hint_of(name, keys, hints) is not None
    option = None if is_hinted else nearest(name, (*keys, *JobOptions.model_fields))
    if option is None or option in keys:
        return unknown_option(name, keys, hints)
    return UnknownOption(
        f"{name!r} is no key of a job's dictionary: options go into 'opts', as in "
        f"{{'name': ..., 'data': ..., 'opts': {{{option!r}: {shown(value)}}}}}"
    )


def given_options(value: Mapping[str, Any]) -> JobOptions | None:
    """The options in the dictionary of a job, under BullMQ's key or ours."""
    if "options" in value and "opts" in value:
        raise ConfigurationError("a job's dictionary has both 'opts' and 'options', which mean the same: give one")
    options = value.get("options", value.get("opts"))
    return None if options is None else JobOptions.model_validate(options)


def _no_data() -> Any:
    return {}


@dataclass(slots=True)  # frozen ones take four times as long to make
class JobSpec(Generic[DataT]):
    """One job of `add_bulk`; also accepted as a dictionary with `name`, `data` and `opts` (or `options`)."""

    name: str
    data: DataT = field(default_factory=_no_data)
    options: JobOptions | None = None

    @classmethod
    def parse(cls, value: "JobSpec[DataT] | Mapping[str, Any]") -> "JobSpec[DataT]":
        """A spec as it is, a dictionary as a spec; raises ConfigurationError, UnknownOption."""
        if isinstance(value, JobSpec):
            if value.options is None or isinstance(value.options, JobOptions):
                return value
            raise ConfigurationError(f"options of a JobSpec are {shown(value.options)}: give JobOptions(...)")
        if not isinstance(value, (dict, Mapping)):  # asking the abstract class takes longer than the rest
            raise ConfigurationError(f"job is {shown(value)}: give {JOB_SHAPE}")
        for key in value:
            if key not in {"name", "data", "opts", "options"}:
                raise unknown_key(key, ("name", "data", "opts"), value[key], {})
        options = given_options(value)
        data = value["data"] if "data" in value else _no_data()
        name = check_job_name(value.get("name"))
        return cls(name, data, options)


#: No options of a queue: those of one job, and those that all its jobs may have in common.
OPTIONS_OF_ONE_JOB: Final = ("job_id", "timestamp", "parent", "deduplication")
OPTIONS_OF_ALL_JOBS: Final = tuple(
    name for name in JobOptions.model_fields if name not in {*OPTIONS_OF_ONE_JOB, "telemetry"}
)


class QueueOptionFields(TypedDict, total=False):
    """The keywords of `QueueOptions` and of `Queue`, with everything each accepts."""

    prefix: str
    default_job_options: JobOptions | Mapping[str, Any] | None
    max_len_events: int
    skip_metas_update: bool
    strict_ints: bool


class QueueOptions(OptionModel):
    """Options of a `Queue`."""

    hints: ClassVar[Mapping[str, str]] = {
        **JobOptions.hints,
        **{
            name: f"that is an option of jobs; give default_job_options={{{name!r}: ...}}"
            for name in OPTIONS_OF_ALL_JOBS
        },
        **dict.fromkeys(OPTIONS_OF_ONE_JOB, "that is an option of one job; give it to add"),
        "streams": "give {'events': {'maxLen': n}}, or 'max_len_events'",
        **CONNECTION_HINTS,
    }

    prefix: Annotated[str, PlainValidator(check_prefix)] = "bull"
    """First part of every key. On Redis Cluster it needs a hash tag, as in `{bull}`."""
    default_job_options: JobOptions | None = None
    """Options of jobs that do not say otherwise. A `job_id` in it is not inherited."""
    max_len_events: Count = 10_000
    """About how many events the queue's stream keeps."""
    skip_metas_update: Switch = False
    """Do not write the queue's settings (for tools that only read)."""
    strict_ints: Switch = False
    """Refuse integers in data beyond 2**53, of which Node consumers lose digits."""

    @model_validator(mode="before")
    @classmethod
    def _streams(cls, value: Any) -> Any:
        match value:
            case {"streams": {"events": {"maxLen": max_len}}, **rest}:
                return {**rest, "max_len_events": max_len}
        return value
