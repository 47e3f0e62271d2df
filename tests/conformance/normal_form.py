"""The form in which reports of the oracle and of pyqueue are equal: keyspace dump, report text, comparison.

Mirrors the normalisation in `oracle.mjs`, including what JavaScript does to numbers and text, so that the two
reports can be compared without Node. Knows nothing of pyqueue's classes; `operations` and the tests call it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

#: Hash fields that hold JSON text; they are compared as values, so that formatting does not matter.
JSON_FIELDS: Final = frozenset({"data", "opts", "parent", "returnvalue", "stacktrace", "progress", "pd"})
#: Integers beyond it lose digits in JavaScript.
MAX_SAFE_INTEGER: Final = 2**53
#: Class name of a scripted error, followed by the stack that the scenario asked for, as hexadecimal UTF-8.
SCRIPTED: Final = "Scripted_"

_FRAMES: Final = "\n    at "
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_SCRIPTED_STACK: Final = re.compile(rf"^{SCRIPTED}([0-9a-f]*): ")
#: What is left of a scripted class's name: the reason of an error without a message. BullMQ stores no text at all then.
_NAMELESS: Final = re.compile(rf"{SCRIPTED}[0-9a-f]*")
#: Class of ours -> the class that BullMQ's stack begins with.
_NODE_ERRORS: Final = {
    "Unrecoverable": "UnrecoverableError",
    "FailedChildren": "UnrecoverableError",
    "PendingChildren": "Error",
    "JobNotInState": "Error",
}


class RawClient(Protocol):
    """A Redis client with its reply callbacks removed, speaking RESP3."""

    async def execute_command(self, *args: Any) -> Any: ...


class NotJson(ValueError):
    """Text that JSON.parse would refuse."""


# ------------------------------------------------------------------------------------------------ JavaScript's values


def parse_json(text: str) -> Any:
    """JSON.parse: doubles only, no NaN; NotJson where it throws."""
    try:
        return json.loads(text, parse_int=_integer, parse_float=_float, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise NotJson(str(error)) from error


def stringify(value: Any) -> str:
    """JSON.stringify: no spaces, raw UTF-8, lone surrogates escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def js_number(value: float) -> str:
    """A number as JavaScript prints it."""
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1e21):
        return str(int(value))
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else f"{'-' if value < 0 else ''}Infinity"
    text = repr(value)
    mantissa, exponent, power = text.partition("e")
    if not exponent:
        return text
    if -7 < int(power) < 0:  # Python changes to exponents at 1e-5, JavaScript at 1e-7
        return f"{value:.{len(mantissa.replace('.', '').lstrip('-')) - 1 - int(power)}f}"
    return f"{mantissa}e{int(power):+d}"


def js_string(value: Any) -> str:
    """String(value)."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return js_number(value)
    if isinstance(value, list):
        return ",".join("" if item is None else js_string(item) for item in value)
    return value if isinstance(value, str) else "[object Object]"


def _integer(digits: str) -> int | float | None:
    return _float(digits) if len(digits) > 15 else int(digits)


def _float(text: str) -> int | float | None:
    value = float(text)
    if math.isinf(value):
        return None
    return int(value) if value.is_integer() and abs(value) < 1e21 else value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


# ------------------------------------------------------------------------------------------------------ keyspace dump


async def scan_keys(client: RawClient, prefix: str) -> list[str]:
    """All keys below the prefix, sorted."""
    found: set[str] = set()
    cursor = "0"
    while True:
        cursor, keys = (plain(part) for part in await client.execute_command("SCAN", cursor, "MATCH", f"{prefix}:*"))
        found.update(keys)
        if cursor == "0":
            return sorted(found)


async def dump(client: RawClient, prefix: str) -> dict[str, Any]:
    """Every key with type, rounded time to live and normalised value."""
    out: dict[str, Any] = {}
    for key in await scan_keys(client, prefix):
        kind = plain(await client.execute_command("TYPE", key))
        if kind not in _READERS:
            continue
        remaining_ms = await client.execute_command("PTTL", key)
        command, shape = _READERS[kind]
        value = shape(key, plain(await client.execute_command(command[0], key, *command[1:])))
        # PTTL runs on the server's clock: rounding up hides the few milliseconds that execution took.
        ttl = {"ttl": math.ceil(remaining_ms / 1000) * 1000} if remaining_ms > 0 else {}
        out[key] = {"type": kind, **ttl, "value": value}
    return out


def plain(reply: Any) -> Any:
    """A raw reply with bytes as text, numbers of RESP3 as text, maps flattened: the shapes of ioredis."""
    if isinstance(reply, bytes):
        return reply.decode("utf-8", "replace")
    if isinstance(reply, bool) or reply is None:
        return reply
    if isinstance(reply, float):
        return js_number(reply)
    if isinstance(reply, Mapping):
        return [plain(part) for pair in reply.items() for part in pair]
    if isinstance(reply, list | tuple | set | frozenset):
        return [plain(part) for part in reply]
    return reply


def hash_field(key: str, name: str, value: str) -> Any:
    """One field of a hash: JSON fields become values, pyqueue's and Node's own stacks lose their frames."""
    if key.endswith(":meta") and name == "version":
        return "<version>"
    if name not in JSON_FIELDS:
        return value
    try:
        parsed = sort_deep(parse_json(value))
    except NotJson:
        return value
    if name == "stacktrace" and isinstance(parsed, list):
        parsed = [strip_frames(trace) for trace in parsed]
    return {"$json": parsed}


def strip_frames(trace: Any) -> Any:
    """A stack made by a library, reduced to its first line; the scenario's own stacks stay."""
    if not isinstance(trace, str) or trace.endswith(f"{_FRAMES}oracle"):
        return trace
    scripted = _SCRIPTED_STACK.match(trace)
    if scripted:
        return strip_frames(bytes.fromhex(scripted[1]).decode("utf-8", "surrogatepass"))
    headline, at, _ = trace.partition(_FRAMES)
    kind, colon, message = headline.partition(": ")
    if kind in _NODE_ERRORS:
        return f"{_NODE_ERRORS[kind]}{colon}{message}{_FRAMES}<frames>"
    return f"{headline}{_FRAMES}<frames>" if at else trace


def _sorted_scores(_key: str, members: list[Any]) -> list[list[str]]:
    if members and not isinstance(members[0], list):  # RESP2 replies are flat
        return [list(pair) for pair in zip(members[::2], members[1::2], strict=True)]
    return members


def _entries(_key: str, entries: list[Any]) -> list[list[list[str]]]:
    return [[list(pair) for pair in zip(fields[::2], fields[1::2], strict=True)] for _, fields in entries]


def _hash(key: str, flat: list[str]) -> dict[str, Any]:
    pairs = sorted(zip(flat[::2], flat[1::2], strict=True))
    return {name: hash_field(key, name, value) for name, value in pairs}


#: Type -> command that reads all of it, and how its reply is shaped.
_READERS: Final[dict[str, tuple[tuple[Any, ...], Any]]] = {
    "string": (("GET",), lambda _key, value: value),
    "list": (("LRANGE", 0, -1), lambda _key, value: value),
    "set": (("SMEMBERS",), lambda _key, value: sorted(value)),
    "zset": (("ZRANGE", 0, -1, "WITHSCORES"), _sorted_scores),
    "hash": (("HGETALL",), _hash),
    "stream": (("XRANGE", "-", "+"), _entries),
}


# ------------------------------------------------------------------------------------------------------------- report


def sort_deep(value: Any) -> Any:
    """The value with the keys of all its objects sorted."""
    if isinstance(value, list):
        return [sort_deep(item) for item in value]
    if isinstance(value, dict):
        return {key: sort_deep(value[key]) for key in sorted(value)}
    return value


def render(report: Mapping[str, Any]) -> str:
    """The report as text, one line per result, field, element or entry; UUIDs are numbered by order of appearance."""
    lines = ["{", f'"now":{report["now"]},', '"results":[']
    lines += _separated([f" {stringify(sort_deep(result))}" for result in report["results"]])
    lines += ["],", f'"workerErrors":{stringify(report["workerErrors"])},', '"keys":{']
    lines += _separated(["\n".join(_key_lines(key, entry)) for key, entry in report["keys"].items()])
    return number_uuids(_NAMELESS.sub("", "\n".join([*lines, "}", "}"])))


def number_uuids(text: str) -> str:
    """`<uuid-n>` for the n-th different UUID of the text."""
    numbers: dict[str, str] = {}
    return _UUID.sub(lambda found: numbers.setdefault(found[0], f"<uuid-{len(numbers) + 1}>"), text)


def _key_lines(key: str, entry: Mapping[str, Any]) -> Iterator[str]:
    ttl = f'"ttl":{entry["ttl"]},' if "ttl" in entry else ""
    head = f' {stringify(key)}:{{"type":{stringify(entry["type"])},{ttl}"value":'
    value = entry["value"]
    if isinstance(value, str):
        yield f"{head}{stringify(value)}}}"
    elif isinstance(value, list):
        yield f"{head}["
        yield from _separated([f"  {stringify(item)}" for item in value])
        yield " ]}"
    else:
        yield f"{head}{{"
        yield from _separated([f"  {stringify(name)}:{stringify(field)}" for name, field in value.items()])
        yield " }}"


def _separated(items: Sequence[str]) -> list[str]:
    return [f"{item}," for item in items[:-1]] + list(items[-1:])


# --------------------------------------------------------------------------------------------------------- comparison


class _Absent:
    """No value at all, unlike null."""

    def __repr__(self) -> str:
        return "nothing"


ABSENT: Final = _Absent()


def differences(want: Any, got: Any, path: tuple[str | int, ...] = ()) -> list[str]:
    """Where two reports differ; wording of errors is each implementation's own, worker errors count only."""
    if len(path) >= 2 and path[-2:] == ("error", "message"):
        return []
    if path == ("workerErrors",):
        want, got = len(want or ()), len(got or ())
    if isinstance(want, dict) and isinstance(got, dict):
        steps = [(key, want.get(key, ABSENT), got.get(key, ABSENT)) for key in {**want, **got}]
    elif isinstance(want, list) and isinstance(got, list):
        steps = [(i, _item(want, i), _item(got, i)) for i in range(max(len(want), len(got)))]
    else:
        same = type(want) is type(got) and want == got if _odd_pair(want, got) else want == got
        return [] if same else [f"/{'/'.join(map(str, path))}: want {_shown(want)} got {_shown(got)}"]
    return [line for key, left, right in steps for line in differences(left, right, (*path, key))]


def _item(items: list[Any], index: int) -> Any:
    return items[index] if index < len(items) else ABSENT


def _odd_pair(want: Any, got: Any) -> bool:
    """Python calls True equal to 1; JSON does not."""
    return isinstance(want, bool) != isinstance(got, bool)


def _shown(value: Any) -> str:
    return repr(value) if value is ABSENT else stringify(value)
