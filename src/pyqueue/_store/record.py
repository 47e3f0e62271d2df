"""Jobs as Redis stores them: the names of a job's hash fields, and new jobs as rows of an add call.

The only module that knows the names of fields; those of options are `stored_options`' own. What a field means is not
decided here. Called by `Queue`, `Job` and flows.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from pyqueue import payload
from pyqueue._store.stored_options import encode_deduplication, encode_options, encode_parent
from pyqueue.names import check_job_name
from pyqueue.options import JobOptions
from pyqueue.types import Raw


class Field:
    """Fields of a job's hash."""

    NAME: Final = "name"
    DATA: Final = "data"
    OPTIONS: Final = "opts"
    TIMESTAMP: Final = "timestamp"
    DELAY: Final = "delay"
    PRIORITY: Final = "priority"
    PARENT_KEY: Final = "parentKey"
    PARENT: Final = "parent"
    SCHEDULER_ID: Final = "rjk"
    DEDUPLICATION_ID: Final = "deid"
    PROCESSED_ON: Final = "processedOn"
    PROCESSED_BY: Final = "pb"
    ATTEMPTS_STARTED: Final = "ats"
    ATTEMPTS_MADE: Final = "atm"
    LEGACY_ATTEMPTS_MADE: Final = "attemptsMade"
    STALLED_COUNT: Final = "stc"
    DEFERRED_FAILURE: Final = "defa"
    FAILED_REASON: Final = "failedReason"
    STACK_TRACE: Final = "stacktrace"
    FINISHED_ON: Final = "finishedOn"
    RETURN_VALUE: Final = "returnvalue"
    PROGRESS: Final = "progress"


class AddRow(NamedTuple):
    """One job of an add call, in the order of the script's rows. '' and 0 stand for what is not given."""

    data: str
    name: str
    opts: str
    job_id: str
    timestamp_ms: int
    delay_ms: int
    priority: int
    placement: str
    """'' by delay and priority, 'lifo', or 'children': a parent that waits for its children."""
    parent_key: str
    parent: str
    dedup: str


class Template(NamedTuple):
    """Encoded options, for many jobs with the same ones."""

    row_end: tuple[str | int, ...]
    """The fields of a row that follow its data and name."""
    size_limit: int | None


def encode_job(
    name: str,
    data: Any,
    options: JobOptions | Template | None = None,
    *,
    placement: str = "",
    strict_ints: bool = False,
) -> AddRow:
    """A job ready to be added; `options` include the queue's defaults. Nothing is sent.

    Raises ConfigurationError for the name, PayloadError for data that JSON cannot carry or that is too large.
    """
    template = (
        _NO_OPTIONS if options is None else options if isinstance(options, Template) else encode_template(options)
    )
    check_job_name(name)
    text = payload.encode(data, strict_ints=strict_ints)
    payload.check_size(text, name, template.size_limit)
    row = AddRow._make((text, name, *template.row_end))
    return row._replace(placement=placement) if placement else row


def encode_template(options: JobOptions) -> Template:
    """Encode options once for many jobs, such as a queue's defaults."""
    parent, dedup = options.parent, options.deduplication
    row = AddRow(
        data="",
        name="",
        opts=encode_options(options),
        job_id=options.job_id or "",
        timestamp_ms=options.timestamp or 0,
        delay_ms=options.delay,
        priority=options.priority,
        placement="lifo" if options.lifo else "",
        parent_key="" if parent is None else f"{parent.queue}:{parent.id}",
        parent="" if parent is None else encode_parent(parent, options),
        dedup="" if dedup is None else encode_deduplication(dedup),
    )
    return Template(row[2:], options.size_limit)


def added_fields(row: AddRow, now_ms: int) -> dict[str, Raw]:
    """The fields that a script stores for a new job, without those that are 0."""
    data, name, opts, _, timestamp_ms, delay_ms, priority, _, parent_key, parent, _ = row
    fields: dict[str, Raw] = {
        Field.NAME: name,
        Field.DATA: data,
        Field.OPTIONS: opts,
        Field.TIMESTAMP: str(timestamp_ms or now_ms),
    }
    if delay_ms:
        fields[Field.DELAY] = str(delay_ms)
    if priority:
        fields[Field.PRIORITY] = str(priority)
    if parent:
        fields |= {Field.PARENT_KEY: parent_key, Field.PARENT: parent}
    return fields


_NO_OPTIONS: Final = encode_template(JobOptions.model_construct())  # not validated: that builds the validators
