"""Which names queues, prefixes, workers and jobs may have.

Checked before anything is written: BullMQ stores jobs beside the queue's own keys, so one badly chosen job id could
take the whole queue down. Called by the options, `Queue` and `Worker`; every check returns its argument.
"""

from __future__ import annotations

import re
from typing import Final

from pyqueue.errors import ConfigurationError

#: Names of a queue's own keys, and first parts of such names; those of older BullMQ versions and pyqueue's included.
RESERVED_IDS: Final = frozenset(
    {
        "active", "added", "completed", "de", "delay", "delayed", "dn", "events", "failed", "id", "limiter", "marker",
        "meta", "metrics", "paused", "pc", "prioritized", "priority", "pyq", "repeat", "stalled", "stalled-check",
        "wait", "waiting-children",
    }
)  # fmt: skip

#: Bytes. Every key of a job repeats its id; longer ones are mistakes (a payload, a token) rather than ids.
MAX_ID_BYTES: Final = 255

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_LONE_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_INTEGER: Final = re.compile(r"-?[0-9]+")
_CLIENT_NAME: Final = re.compile(r"[!-~]+")

#: BullMQ keeps `repeat:<scheduler>:<ms>` usable as an id, hence its one exception to "no colon".
_PARTS_OF_COLON_ID: Final = 3


def check_queue_name(name: object) -> str:
    """A queue's name: a text, not empty, without `:` and control characters."""
    text = _printable(name, "queue name")
    if ":" in text:
        raise ConfigurationError(f"queue name is {text!r}: ':' separates the parts of a key; use '-' or '.' instead")
    return text


def check_prefix(prefix: object) -> str:
    """A key prefix: a text, not empty, without control characters. Cluster clients need a hash tag in it besides."""
    return _printable(prefix, "prefix")


def check_worker_name(name: object) -> str:
    """A worker's name, '' = none: it becomes part of a Redis client name, so printable ASCII without spaces."""
    if name == "":
        return ""
    text = _printable(name, "worker name")
    if not _CLIENT_NAME.fullmatch(text):
        raise ConfigurationError(
            f"worker name is {text!r}: Redis takes printable ASCII without spaces; use '-' for them"
        )
    return text


def check_job_name(name: object) -> str:
    """A job's name: any text that UTF-8 can encode, '' included."""
    return name if name == "" and isinstance(name, str) else check_text(name, "job name")


def check_job_id(job_id: object) -> str:
    """A job id of the user's choice; ConfigurationError says what is wrong and what to use instead."""
    text = _printable(job_id, "job_id")
    size = len(text) if text.isascii() else len(text.encode())
    if size > MAX_ID_BYTES:
        raise ConfigurationError(f"job_id has {size} bytes: at most {MAX_ID_BYTES} are allowed; use a hash of it")
    if text in RESERVED_IDS:
        raise ConfigurationError(
            f"job_id is {text!r}: that is a key of the queue itself; add a prefix, as in 'job-{text}'"
        )
    if ":" in text:
        _check_colons(text)
    elif _INTEGER.fullmatch(text) and str(int(text)) == text:
        raise ConfigurationError(
            f"job_id is {text!r}: integers are for generated ids; add a prefix, as in 'job-{text}'"
        )
    return text


def check_id_is_text(job_id: object) -> str:
    """The id of a job to look for, whoever chose it; ConfigurationError for what is no text."""
    if not isinstance(job_id, str):
        raise ConfigurationError(f"job_id is {job_id!r}: give a text, as all ids are")
    return job_id


def check_text(value: object, what: str) -> str:
    """A text, not empty, that UTF-8 can encode; `what` names it in the error."""
    if not isinstance(value, str):
        raise ConfigurationError(f"{what} is {value!r}: give a text")
    if not value:
        raise ConfigurationError(f"{what} is empty: give at least one character")
    if not value.isascii() and _LONE_SURROGATE.search(value):
        raise ConfigurationError(f"{what} is {value[:80]!r}: a lone surrogate cannot be sent; remove it")
    return value


def _check_colons(job_id: str) -> None:
    first, *others = job_id.split(":")
    if first == "0" or len(others) != _PARTS_OF_COLON_ID - 1:
        raise ConfigurationError(f"job_id is {job_id!r}: ':' separates the parts of a key; use '-' instead")
    if first in RESERVED_IDS:
        raise ConfigurationError(f"job_id is {job_id!r}: names that begin with '{first}:' are the queue's own; use '-'")


def _printable(value: object, what: str) -> str:
    text = check_text(value, what)
    if _CONTROL.search(text):
        raise ConfigurationError(f"{what} is {text[:80]!r}: control characters are not allowed; remove them")
    return text
