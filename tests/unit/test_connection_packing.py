"""Commands on the wire: two encoders, one result."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyqueue._redis.packing import pack, pack_in_python, pack_script
from pyqueue.types import Arg

ENCODERS = pytest.mark.parametrize("encode", [pack, pack_in_python])


@ENCODERS
def test_text_bytes_and_numbers_become_bulk_strings(encode: Callable[[Sequence[Arg]], bytes]) -> None:
    packed = encode(("SET", "é", b"\x00\r\n", 7, -1, 1.5))

    assert packed == b"*6\r\n$3\r\nSET\r\n$2\r\n\xc3\xa9\r\n$3\r\n\x00\r\n\r\n$1\r\n7\r\n$2\r\n-1\r\n$3\r\n1.5\r\n"


@ENCODERS
def test_a_command_name_with_a_blank_is_one_word(encode: Callable[[Sequence[Arg]], bytes]) -> None:
    # redis-py would split it, and with it every text argument in first place.
    assert encode(("a b",)) == b"*1\r\n$3\r\na b\r\n"


@ENCODERS
def test_booleans_and_huge_integers_travel_as_numbers(encode: Callable[[Sequence[Arg]], bytes]) -> None:
    assert encode((True, False, 10**30)) == b"*3\r\n$1\r\n1\r\n$1\r\n0\r\n$31\r\n1" + b"0" * 30 + b"\r\n"


@ENCODERS
def test_a_lone_surrogate_is_refused_before_anything_is_sent(encode: Callable[[Sequence[Arg]], bytes]) -> None:
    with pytest.raises(UnicodeEncodeError):
        encode(("SET", "\ud800"))


@ENCODERS
@pytest.mark.parametrize("value", [None, ["a"], {"a": 1}])
def test_other_values_are_refused(encode: Callable[[Sequence[Arg]], bytes], value: Arg) -> None:
    with pytest.raises(TypeError):
        encode(("SET", value))


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"])) | st.binary() | st.integers() | st.floats(), min_size=1)
)
def test_both_encoders_agree(command: list[Arg]) -> None:
    assert pack(command) == pack_in_python(command)


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]))),
    st.lists(st.text(st.characters(exclude_categories=["Cs"])) | st.binary() | st.integers()),
)
def test_a_script_call_is_a_command_like_others(keys: list[str], args: list[Arg]) -> None:
    assert pack_script("sha", tuple(keys), args) == pack(["EVALSHA", "sha", len(keys), *keys, *args])
