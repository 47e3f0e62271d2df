"""Options as Redis stores them: their names in the field `opts`, and the way there and back.

The only module that knows the stored names of options. They are written as the user gave them, defaults left out, and
read leniently: whatever another client stored must not stop a worker. Called by `record`, snapshots of jobs,
schedulers, verdicts and the settings of a worker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache, lru_cache
from typing import Any, Final

from pydantic import ConfigDict
from pydantic.alias_generators import to_camel
from pydantic_core import to_json

from pyqueue import payload
from pyqueue.errors import ConfigurationError, PayloadError
from pyqueue.options import (
    BUILT_IN_BACKOFFS,
    PARENT_POLICIES,
    Backoff,
    Deduplication,
    JobOptions,
    ParentReference,
    Retention,
    RetentionRule,
    Telemetry,
)
from pyqueue.outcomes import KEEP_ALL, Keep
from pyqueue.validation import OptionModel


class StoredOptions(JobOptions):
    """Options read from Redis that hold some which pyqueue does not know, in `model_extra`."""

    model_config = ConfigDict(extra="allow")


def encode_options(options: JobOptions) -> str:
    """Options as the JSON text of the field `opts`: those that were given, and always `attempts`."""
    return _json({"attempts": options.attempts} | stored_options(options))


def stored_options(options: JobOptions) -> dict[str, Any]:
    """Options as the field `opts` holds them: those that were given."""
    stored: dict[str, Any] = {}
    # Sorted, because equal options should be equal texts: `decode_options` remembers texts.
    for name in sorted(options.model_fields_set):
        value = getattr(options, name)
        if value is None:
            continue
        if isinstance(value, Telemetry):
            stored |= {
                wire: text for wire, text in (("tm", value.metadata), ("omc", value.omit_context)) if text is not None
            }
        elif isinstance(value, Backoff):
            stored["backoff"] = _backoff_fields(value)
        else:
            stored[_WIRE_NAMES[name]] = _camel_fields(value) if isinstance(value, OptionModel) else value
    return stored


def encode_deduplication(deduplication: Deduplication) -> str:
    """The options of a job's deduplication as the script that adds it reads them."""
    return _json(_camel_fields(deduplication))


def encode_parent(parent: ParentReference, options: JobOptions) -> str:
    """The field `parent` of a child: where its parent is, and the child's policy for its own failure."""
    fields: dict[str, Any] = {"id": parent.id, "queueKey": parent.queue}
    fields |= {_WIRE_NAMES[policy]: True for policy in PARENT_POLICIES if getattr(options, policy)}
    return _json(fields)


def decode_parent(raw: bytes | str | None) -> ParentReference | None:
    """The parent of a job from its field `parent`; None if there is none, or nothing readable."""
    try:
        fields = payload.decode(raw) if raw else {}
        return ParentReference(id=fields["id"], queue=fields["queueKey"])
    except (PayloadError, ConfigurationError, LookupError, TypeError):
        return None


def decode_options(raw: bytes | str | None) -> JobOptions:
    """Options from the field `opts`, not validated again; unknown ones are in `model_extra`, unreadable ones left out.

    PayloadError if the text is no JSON object: such a job cannot be run.
    """
    if not raw:
        return _DEFAULTS
    return _decode_short(raw) if len(raw) <= _SHORT_OPTIONS else _read_options(expand_options(raw))


def expand_options(raw: bytes | str) -> dict[str, Any]:
    """Options from the field `opts` as a dictionary with BullMQ's public names, unknown ones included."""
    stored = payload.decode(raw, what="opts")
    if stored == []:  # an empty object, as cjson writes it
        stored = {}
    if not isinstance(stored, dict):
        raise PayloadError(f"opts is {raw[:80]!r}: a JSON object was expected; it was not written by a queue client")
    telemetry = {public: stored.pop(wire) for wire, public in _TELEMETRY if wire in stored}
    options = {_PUBLIC_NAMES.get(wire, wire): value for wire, value in stored.items()}
    return {**options, "telemetry": telemetry} if telemetry else options


def keep_of(option: RetentionRule | None, worker_option: RetentionRule | None = None) -> Keep:
    """Which finished jobs stay: the job's option, else the worker's, else all."""
    rule = worker_option if option is None else option
    if rule is None or rule is False:
        return KEEP_ALL
    if rule is True:
        return _KEEP_NONE
    if isinstance(rule, int):
        return Keep(count=max(rule, -1))
    return Keep(
        count=-1 if rule.count is None else rule.count,
        age_s=-1 if rule.age is None else rule.age,
        limit=KEEP_ALL.limit if rule.limit is None else rule.limit,
    )


def _json(value: Any) -> str:
    return to_json(value).decode()


def _camel_fields(model: OptionModel) -> dict[str, Any]:
    return model.model_dump(by_alias=True, exclude_none=True)


def _backoff_fields(backoff: Backoff) -> dict[str, Any]:
    stored: dict[str, Any] = {"type": backoff.type}
    if backoff.type in BUILT_IN_BACKOFFS or "delay" in backoff.model_fields_set:
        stored["delay"] = backoff.delay
    if backoff.jitter is not None:
        stored["jitter"] = backoff.jitter
    return stored


@lru_cache(maxsize=1024)
def _decode_short(raw: bytes | str) -> JobOptions:
    # Most jobs of a queue share few sets of options; models are frozen, so they can be shared.
    return _read_options(expand_options(raw))


def _read_options(public: Mapping[str, Any]) -> JobOptions:
    known: dict[str, Any] = {}
    unknown: dict[str, Any] = {}
    for name, value in public.items():
        if name in _READERS:
            field, read = _READERS[name]
            # Unreadable: its default holds, which is what happens to options that Node cannot use.
            with suppress(TypeError, ValueError, OverflowError, KeyError):
                known[field] = read(value)
        elif name not in JobOptions.model_fields:
            unknown[name] = value
    # model_copy, because it is five times as fast as model_construct.
    return (_unknown_defaults() if unknown else _DEFAULTS).model_copy(update=known | unknown)


@cache
def _unknown_defaults() -> StoredOptions:
    return StoredOptions()


def _integer(value: Any) -> int:
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        return int(float(value)) if isinstance(value, str) else int(value)
    raise TypeError


def _flag(value: Any) -> bool:
    if isinstance(value, (bool, int)):
        return bool(value)
    raise TypeError


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise TypeError


def _rule(value: Any) -> RetentionRule:
    if isinstance(value, bool):
        return value
    if isinstance(value, dict):
        read = {name: _integer(value[name]) for name in ("count", "age", "limit") if value.get(name) is not None}
        return _KEEP_BY_DEFAULT.model_copy(update=read)
    return _integer(value)


def _backoff(value: Any) -> Backoff:
    if not isinstance(value, dict):
        return Backoff.fixed(max(0, _integer(value)))
    read: dict[str, Any] = {"type": _text(value["type"])}
    # Fractions are kept: Node multiplies before it rounds.
    read |= {name: float(value[name]) for name in ("delay", "jitter") if value.get(name) is not None}
    if "delay" in read and read["delay"].is_integer():
        read["delay"] = int(read["delay"])
    return _NO_WAIT.model_copy(update=read)


# Constructed, not validated: the models' validators are built when somebody gives options.
_DEFAULTS: Final = JobOptions.model_construct()
_KEEP_BY_DEFAULT: Final = Retention.model_construct()
_KEEP_NONE: Final = Keep(count=0)
_NO_WAIT: Final = Backoff.model_construct(type="fixed", delay=0)

#: Bytes. Longer options are rare, and remembering them would hold memory.
_SHORT_OPTIONS: Final = 512

#: Option -> its name in `opts`: BullMQ's public name, save the few that it shortens. Telemetry is spread.
_WIRE_NAMES: Final[Mapping[str, str]] = {
    **{name: to_camel(name) for name in JobOptions.model_fields},
    "deduplication": "de",
    "fail_parent_on_failure": "fpof",
    "continue_parent_on_failure": "cpof",
    "ignore_dependency_on_failure": "idof",
    "remove_dependency_on_failure": "rdof",
    "keep_logs": "kl",
}
_PUBLIC_NAMES: Final[Mapping[str, str]] = {wire: to_camel(name) for name, wire in _WIRE_NAMES.items()}
_TELEMETRY: Final = (("tm", "metadata"), ("omc", "omitContext"))

#: Public name -> option, and how its value is read.
_READERS: Final[Mapping[str, tuple[str, Callable[[Any], Any]]]] = {
    to_camel(name): (name, read)
    for read, names in (
        (_integer, ("delay", "priority", "attempts", "timestamp", "keep_logs", "stack_trace_limit", "size_limit")),
        (_flag, ("lifo", *PARENT_POLICIES)),
        (_text, ("job_id",)),
        (_rule, ("remove_on_complete", "remove_on_fail")),
        (_backoff, ("backoff",)),
        (ParentReference.model_validate, ("parent",)),
        (Deduplication.model_validate, ("deduplication",)),
        (Telemetry.model_validate, ("telemetry",)),
    )
    for name in names
}
