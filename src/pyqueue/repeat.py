"""When a job scheduler fires: its options, and which slot comes next.

`RepeatOptions` is what a user gives; `Repeat` is what travels in a job's `opts.repeat`, from which the worker that
takes the job, of Python or Node, finds the next slot. Slots of `every` are decided inside Redis, those of a pattern
here. Pure: the caller brings the time. Called by `views.schedulers` and `_store.scheduling`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Self, TypedDict, Unpack

from pydantic import AfterValidator, model_validator

from pyqueue.cron import Cron
from pyqueue.errors import ConfigurationError
from pyqueue.time_zones import local_time_zone, time_zone
from pyqueue.validation import Duration, Moment, OptionModel, PositiveCount, PositiveDuration, Switch, Text

#: `Repeat.next_slot` of an interval: the script decides.
DECIDED_BY_REDIS: Final = 0


def _readable(pattern: str) -> str:
    Cron.parse(pattern)
    return pattern


def _existing(name: str) -> str:
    time_zone(name)
    return name


class RepeatFields(TypedDict, total=False):
    """The keywords of `RepeatOptions` and of `queue.schedulers.upsert`, with everything each accepts."""

    every: timedelta | int | None
    pattern: str | None
    tz: str | None
    offset: timedelta | int | None
    limit: int | None
    start_date: datetime | int | None
    end_date: datetime | int | None
    immediately: bool


class RepeatOptions(OptionModel):
    """When a scheduler fires: `every` so often, or by a cron `pattern`."""

    hints: ClassVar[Mapping[str, str]] = {
        "cron": "use 'pattern'",
        "key": "the id of the scheduler is its key",
        "job_id": "the jobs of a scheduler get ids from its id and their times",
        "delay": "use 'start_date' or 'offset'",
    }

    every: PositiveDuration | None = None
    """The interval, at least 1 ms; a timedelta or milliseconds."""
    pattern: Annotated[Text, AfterValidator(_readable)] | None = None
    """A cron pattern: `[second] minute hour day-of-month month day-of-week`, or `@daily` and its like."""
    tz: Annotated[Text, AfterValidator(_existing)] | None = None
    """The time zone of the pattern, such as `Europe/Berlin`; that of the machine if not given."""
    offset: Duration | None = None
    """Shifts the slots of `every` from its multiples; a timedelta or milliseconds."""
    limit: PositiveCount | None = None
    """How many jobs are made, at most."""
    start_date: Moment | None = None
    """No job before; unix milliseconds or an aware datetime."""
    end_date: Moment | None = None
    """No further job is made after; unix milliseconds or an aware datetime."""
    immediately: Switch = False
    """With a pattern: the first job runs now."""

    if TYPE_CHECKING:

        def __init__(self, **options: Unpack[RepeatFields]) -> None: ...

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.every is None) == (self.pattern is None):
            raise ValueError("give either every= or pattern=, and not both")
        if self.immediately and self.start_date is not None:
            raise ValueError("immediately and start_date contradict each other: choose one of them")
        if self.immediately and self.pattern is None:
            raise ValueError("immediately goes with a pattern: the first job of every= runs at once anyway")
        if self.tz is not None and self.pattern is None:
            raise ValueError("tz goes with a pattern: every= counts milliseconds, which are the same everywhere")
        if self.offset is not None and self.every is None:
            raise ValueError("offset goes with every=: a pattern says itself when it fires")
        return self


@dataclass(frozen=True, slots=True)
class Repeat:
    """The rule of a scheduler as a job carries it, with the number of the job. 0 and "" stand for what is not given."""

    every: int = 0
    pattern: str = ""
    tz: str = ""
    offset: int = 0
    limit: int = 0
    start_ms: int = 0
    end_ms: int = 0
    count: int = 1
    stored: Mapping[str, Any] = field(default_factory=dict)
    """As it was read, with whatever another client put there."""

    @classmethod
    def of(cls, options: RepeatOptions) -> Self:
        """The rule of the first job."""
        return cls(
            options.every or 0,
            options.pattern or "",
            options.tz or "",
            options.offset or 0,
            options.limit or 0,
            options.start_date or 0,
            options.end_date or 0,
            stored={
                wire: value
                for wire, value in (
                    ("every", options.every),
                    ("pattern", options.pattern),
                    ("tz", options.tz),
                    ("offset", options.offset),
                    ("limit", options.limit),
                    ("startDate", options.start_date),
                    ("endDate", options.end_date),
                )
                if value is not None
            },
        )

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Self:
        """The rule in a job's `opts.repeat`, or in a scheduler's hash. ConfigurationError if there is none in it."""
        repeat = cls(
            every=_integer(stored.get("every")),
            pattern=str(stored.get("pattern") or ""),
            tz=str(stored.get("tz") or ""),
            offset=_integer(stored.get("offset")),
            limit=_integer(stored.get("limit")),
            start_ms=_moment(stored.get("startDate")),
            end_ms=_moment(stored.get("endDate")),
            count=_integer(stored.get("count")),
            stored=stored,
        )
        if bool(repeat.every > 0) == bool(repeat.pattern):
            raise ConfigurationError(f"repeat is {dict(stored)!r}: it needs either every or pattern")
        return repeat

    def counted(self, count: int) -> dict[str, Any]:
        """The rule as the job of that number carries it."""
        return {name: value for name, value in self.stored.items() if name != "immediately"} | {"count": count}

    def is_over(self, count: int, now_ms: int) -> bool:
        """Whether the job of that number is not made any more."""
        return bool((self.limit and count > self.limit) or (self.end_ms and now_ms > self.end_ms))

    def next_slot(self, now_ms: int, previous_ms: int = 0) -> int | None:
        """The slot after now and after `previous_ms`; DECIDED_BY_REDIS for an interval; None when there is none."""
        if self.every:
            return DECIDED_BY_REDIS
        zone = time_zone(self.tz) if self.tz else local_time_zone()
        slot = Cron.parse(self.pattern).next_ms(max(now_ms, previous_ms, self.start_ms), zone)
        return None if slot is None or (self.end_ms and slot > self.end_ms) else slot


def _integer(value: object) -> int:
    """Numbers, and texts of them, as other clients store them; 0 for what is none."""
    try:
        return int(float(value)) if isinstance(value, (int, float, str)) else 0
    except (ValueError, OverflowError):
        return 0


def _moment(value: object) -> int:
    """Unix milliseconds; Node stores what its user gave, so also ISO texts, without a zone in UTC."""
    if isinstance(value, str) and not value.strip().lstrip("-").replace(".", "", 1).isdigit():
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return 0
        return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    return _integer(value)
