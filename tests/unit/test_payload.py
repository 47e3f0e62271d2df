"""Values as JSON text: what is accepted, what is refused with its path, and that nothing is changed on the way."""

from __future__ import annotations

import json
import logging
import math
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from pyqueue import deep_json, payload
from pyqueue.errors import PayloadError, PayloadTypeError
from pyqueue.payload import MAX_DEPTH, check_size, decode, encode


class Colour(Enum):
    RED = "red"


class Plan(StrEnum):
    FREE = "free"


class Level(IntEnum):
    LOW = 1


class Point(NamedTuple):
    x: int
    y: int


@dataclass
class Address:
    street: str
    extra: Any = None


class Invite(BaseModel):
    to: str
    when: datetime = Field(alias="at", default=datetime(2030, 1, 1, tzinfo=UTC))
    score: float = 0.0


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


def nested(depth: int, make: Any = lambda inner: [inner]) -> Any:
    value: Any = make(1)
    for _ in range(depth - 1):
        value = make(value)
    return value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({}, "{}"),
        ([], "[]"),
        (None, "null"),
        (True, "true"),
        (0, "0"),
        (-1.5, "-1.5"),
        ("héllo ☃", '"héllo ☃"'),
        ('"\\\n\x00', '"\\"\\\\\\n\\u0000"'),
        ({"a": [1, {"b": None}], "c": ()}, '{"a":[1,{"b":null}],"c":[]}'),
        ((1, 2), "[1,2]"),
        (2**53 + 1, "9007199254740993"),
        (10**30, "1" + "0" * 30),
    ],
)
def test_plain_values_are_compact_json(value: object, text: str) -> None:
    assert encode(value) == text


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (datetime(2030, 1, 2, 3, tzinfo=UTC), "2030-01-02T03:00:00Z"),
        (date(2030, 1, 2), "2030-01-02"),
        (timedelta(seconds=90), "PT1M30S"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Decimal("1.10"), "1.10"),
        (Colour.RED, "red"),
        (Plan.FREE, "free"),
        (Level.LOW, 1),
        (Point(1, 2), [1, 2]),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (Address("x", {"k": Decimal(2)}), {"street": "x", "extra": {"k": "2"}}),
        (Invite(to="a@b.c"), {"to": "a@b.c", "when": "2030-01-01T00:00:00Z", "score": 0.0}),
        (Text("a"), "a"),
        ({Plan.FREE: 1}, {"free": 1}),
        ({Text("k"): [Text("v"), True, None, 1.5, 2]}, {"k": ["v", True, None, 1.5, 2]}),
    ],
)
def test_what_pydantic_knows_is_stored_as_pydantic_does(value: object, stored: object) -> None:
    assert json.loads(encode(value)) == stored
    assert json.loads(encode({"deep": [value]})) == {"deep": [stored]}


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("wrap", "path"),
    [
        (lambda n: n, "data"),
        (lambda n: {"a": [0, {"b c": n}]}, "data['a'][1]['b c']"),
        (lambda n: [Address("x", n)], "data[0]['extra']"),
        (lambda n: {"m": Invite(to="x", score=n)}, "data['m']['score']"),
    ],
)
def test_numbers_that_json_lacks_are_refused_with_their_path(number: float, wrap: Any, path: str) -> None:
    with pytest.raises(PayloadError) as caught:
        encode(wrap(number))
    assert str(caught.value).startswith(f"{path} is {number}: ")


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (b"x", "bytes"),
        (bytearray(b"x"), "bytearray"),
        ({1}, "set"),
        (frozenset(), "frozenset"),
        (object(), "object"),
        (1j, "complex"),
        (iter([]), "list_iterator"),
        (len, "builtin_function_or_method"),
        (Address, "type"),
        (ValueError("x"), "ValueError"),
    ],
)
def test_values_of_other_types_are_refused_with_their_path(value: object, kind: str) -> None:
    with pytest.raises(PayloadTypeError) as caught:
        encode({"to": ["a", value]}, what="return value")
    assert str(caught.value).startswith(f"return value['to'][1] is of type {kind}: ")


@pytest.mark.parametrize("key", [1, None, True, 1.5, ("a",), Colour.RED])
def test_a_key_that_is_no_text_is_refused(key: object) -> None:
    with pytest.raises(PayloadTypeError, match=r"data\['a'\]\[.*\]: the key .* is no text"):
        encode({"a": {"b": 1, key: 2}})


def test_a_model_that_cannot_be_dumped_is_refused_with_its_path() -> None:
    class Holder(BaseModel):
        anything: Any

    with pytest.raises(PayloadTypeError, match=r"^data\['h'\] cannot be stored"):
        encode({"h": Holder(anything=object())})


def test_a_circle_is_refused() -> None:
    circle: dict[str, Any] = {"list": []}
    circle["list"].append(circle)
    with pytest.raises(PayloadError, match=r"data\['list'\]\[0\] is circular"):
        encode(circle)

    twins: list[Any] = []
    twins += [twins, twins]
    with pytest.raises(PayloadError, match=r"data\[0\] is circular"):
        encode(twins)


def test_the_same_object_twice_is_no_circle() -> None:
    shared = Address("x")
    assert json.loads(encode([shared, shared])) == [{"street": "x", "extra": None}] * 2


@pytest.mark.parametrize("make", [lambda inner: [inner], lambda inner: {"a": inner}, lambda inner: (inner, 2)])
@pytest.mark.parametrize("depth", [199, 200, 201, 255, 256, 999, MAX_DEPTH])
def test_nesting_is_kept_up_to_the_limit(depth: int, make: Any) -> None:
    text = encode(nested(depth, make))

    assert text.count("[") + text.count("{") == depth
    assert encode(decode(text)) == text


def test_nesting_beyond_the_limit_is_refused() -> None:
    for depth in (MAX_DEPTH + 1, 100_000):
        with pytest.raises(PayloadError, match="data is nested too deep: more than 1000 levels"):
            encode(nested(depth))


def test_lone_surrogates_survive() -> None:
    value = {"a\udc80": ["\ud800", "é\udfff"]}

    assert encode(value).encode()
    assert decode(encode(value)) == value
    assert decode(b'"\\ud800"') == "\ud800"


def test_large_integers_are_kept_unless_strict() -> None:
    assert decode(encode({"n": 2**80})) == {"n": 2**80}
    assert encode(2**53, strict_ints=True) == str(2**53)
    with pytest.raises(PayloadError, match=r"^data\['n'\]\[0\] is an integer beyond 2\*\*53"):
        encode({"n": [-(2**53) - 1]}, strict_ints=True)


def test_an_integer_too_large_to_write_is_refused() -> None:
    with pytest.raises(PayloadError, match=r"^data\['n'\] is an integer too large"):
        encode({"n": 10**5000})


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[1,]", b"NaN", b"[Infinity]", b'{"a" 1}', b"\xff", "nope", b"1 2", b"[" * 500]
)
def test_what_is_no_json_is_refused(raw: bytes | str) -> None:
    with pytest.raises(PayloadError, match="data is not JSON"):
        decode(raw)


@pytest.mark.parametrize(
    ("raw", "value"), [(b'{"a":[1,2.5,null]}', {"a": [1, 2.5, None]}), ("12", 12), (b' "x" ', "x")]
)
def test_json_is_read_from_bytes_and_text(raw: bytes | str, value: object) -> None:
    assert decode(raw) == value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON)
def test_every_json_value_survives(value: object) -> None:
    assert decode(encode(value)) == value
    # The walk writes the same values, only slower.
    assert json.loads(encode([value, Point(0, 0)]))[0] == value


@given(
    st.text(alphabet='[]{},:"\\ue12.-ntrufals \n', max_size=40) | JSON.map(lambda value: json.dumps(value, indent=1))
)
@settings(max_examples=100)
def test_the_deep_parser_agrees_with_the_standard_one(text: str) -> None:
    expected: object
    try:
        expected = json.loads(text, parse_constant=lambda name: 1 / 0)
    except (ValueError, ZeroDivisionError):
        with pytest.raises(ValueError, match=r"."):
            deep_json.parse(text)
    else:
        assert deep_json.parse(text) == expected


@pytest.fixture
def no_large_jobs_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload, "_logged_names", set())


def test_a_size_limit_counts_bytes_of_utf8() -> None:
    check_size('"éé"', "invite", 6)
    with pytest.raises(PayloadError, match="data of job 'invite' is too large: 6 bytes, limit 5"):
        check_size('"éé"', "invite", 5)


@pytest.mark.usefixtures("no_large_jobs_logged")
def test_large_data_is_logged_once_per_job_name(caplog: pytest.LogCaptureFixture) -> None:
    large = "x" * (payload.LARGE_BYTES + 1)
    with caplog.at_level(logging.WARNING, "pyqueue"):
        for name in ("a", "a", "b"):
            check_size(large, name, None)
        check_size("x" * payload.LARGE_BYTES, "c", None)

    assert [record.getMessage()[:13] for record in caplog.records] == ["data of job '"] * 2
    assert "1048577 bytes" in caplog.text


@pytest.mark.usefixtures("no_large_jobs_logged")
def test_a_size_limit_replaces_the_warning(caplog: pytest.LogCaptureFixture) -> None:
    check_size("x" * (payload.LARGE_BYTES + 1), "a", 10_000_000)

    assert not caplog.records
