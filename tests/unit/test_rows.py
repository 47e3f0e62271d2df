"""Rows of a script call: fields that many rows share travel once, and what is remembered for that has a bound."""

from __future__ import annotations

import json

import pytest

from pyqueue._redis.rows import SharedTexts, append_rows
from pyqueue.types import Arg


def shared() -> SharedTexts:
    return SharedTexts(("", 0))


def test_shared_fields_travel_before_the_rows_that_have_them() -> None:
    packed: list[Arg] = []
    append_rows(packed, [("a", "x", 0), ("b", "x", 0), ("c", "", 7)], 3, shared())
    assert packed == [2, '["x"]', "a", "b", 1, '["",7]', "c"]


def test_rows_without_shared_fields_travel_as_they_are() -> None:
    packed: list[Arg] = ["before"]
    append_rows(packed, [("a", 1), ("b", 2)], 2, SharedTexts(()))
    assert packed == ["before", "a", 1, "b", 2]


def test_a_row_of_another_width_is_refused() -> None:
    with pytest.raises(TypeError, match="a row has 2 fields, it must have 3"):
        append_rows([], [("a", "x")], 3, shared())


def test_few_short_texts_are_remembered_however_many_there_were() -> None:
    texts = shared()
    for number in range(1000):
        assert json.loads(texts["job", number + 1]) == ["job", number + 1]
        assert texts["job", number + 1] is texts["job", number + 1]
        assert len(texts) <= 100


def test_a_long_text_is_not_remembered() -> None:
    texts = shared()
    assert json.loads(texts["x" * 512, 0]) == ["x" * 512]
    assert not texts
