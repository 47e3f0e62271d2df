"""Shaping of replies: whatever the client makes of them, one form comes out."""

from __future__ import annotations

from typing import Any

import pytest

from pyqueue._redis.replies import number, pairs, text


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"abc", "abc"),
        ("abc", "abc"),
        ("ü".encode(), "ü"),
        (b"a\xffb", "a\N{REPLACEMENT CHARACTER}b"),
        (b"", ""),
        (None, ""),
        (7, "7"),
        (1.5, "1.5"),
    ],
)
def test_text(raw: Any, expected: str) -> None:
    assert text(raw) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (7, 7),
        (b"7", 7),
        ("-7", -7),
        (b"1700000000000", 1700000000000),
        ("9007199254740993", 9007199254740993),
        (b"0.20000000000000001", 0),
        ("7.9", 7),
        ("-7.9", -7),
        (7.9, 7),
        (b"6.963200245764096e+15", 6963200245764096),
        (None, 0),
        (b"", 0),
        ("many", 0),
        (b"1.2.3", 0),
        ("inf", 0),
        (float("inf"), 0),
        (float("nan"), 0),
    ],
)
def test_a_number_is_read_as_node_reads_it(raw: Any, expected: int) -> None:
    assert number(raw) == expected


@pytest.mark.parametrize(
    "reply",
    [[b"a", b"1", b"b", b"2"], ["a", b"1", "b", b"2"], {b"a": b"1", "b": b"2"}, (b"a", b"1", b"b", b"2")],
    ids=["bytes", "text", "map", "tuple"],
)
def test_a_hash_is_a_dictionary(reply: Any) -> None:
    assert pairs(reply) == {"a": b"1", "b": b"2"}


def test_values_of_a_hash_stay_as_they_came() -> None:
    assert pairs([b"data", b"\xff", "n", "ü"]) == {"data": b"\xff", "n": "ü"}


def test_no_hash_is_an_empty_dictionary() -> None:
    assert pairs([]) == pairs({}) == {}


def test_a_hash_with_a_field_but_no_value_is_refused() -> None:
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        pairs([b"a", b"1", b"b"])
