"""What a command tells about itself: how long it blocks, which key routes it; and one shape for its reply."""

from __future__ import annotations

from typing import Any

import pytest

from pyqueue._redis.commands import block_time_s, key_of
from pyqueue._redis.resp3 import as_resp2
from pyqueue._redis.server_check import parse_info
from pyqueue.types import Arg


@pytest.mark.parametrize(
    ("command", "seconds"),
    [
        (("BZPOPMIN", "marker", 5), 5),
        (("bzpopmin", "marker", "0.5"), 0.5),
        (("XREAD", "BLOCK", 2500, "STREAMS", "events", "$"), 2.5),
        (("XREAD", "COUNT", 10, "block", "100", "STREAMS", "events", "$"), 0.1),
        (("XREAD", "STREAMS", "events", "0"), None),
        (("HGETALL", "job"), None),
    ],
)
def test_block_time_is_read_from_the_command(command: tuple[Arg, ...], seconds: float | None) -> None:
    assert block_time_s(command) == seconds


@pytest.mark.parametrize("command", [("BZPOPMIN", "marker", 0), ("XREAD", "BLOCK", 0, "STREAMS", "events", "$")])
def test_blocking_for_ever_is_refused(command: tuple[Arg, ...]) -> None:
    with pytest.raises(ValueError, match="block time"):
        block_time_s(command)


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (("HGETALL", "job"), "job"),
        (("HGETALL", b"job"), "job"),
        (("BZPOPMIN", "marker", 5), "marker"),
        (("XREAD", "BLOCK", 2500, "STREAMS", "events", "$"), "events"),
        (("PING",), None),
        (("INFO", "server"), None),
        (("CLIENT", "LIST"), None),
    ],
)
def test_the_routing_key_is_at_its_usual_place(command: tuple[Arg, ...], key: str | None) -> None:
    assert key_of(command) == key


@pytest.mark.parametrize(
    ("command", "resp3", "resp2"),
    [
        ("HGETALL", {b"f": b"1", b"g": b"2"}, [b"f", b"1", b"g", b"2"]),
        ("HGETALL", {}, []),
        ("XREAD", {b"s": [[b"1-0", [b"f", b"v"]]]}, [[b"s", [[b"1-0", [b"f", b"v"]]]]]),
        ("XREAD", None, None),
        ("BZPOPMIN", [b"z", b"m", 1.0], [b"z", b"m", b"1"]),
        ("ZRANGE", [[b"m", 1.5], [b"n", 2.0]], [b"m", b"1.5", b"n", b"2"]),
        ("ZRANGE", [b"m", b"n"], [b"m", b"n"]),
        ("SMEMBERS", {b"a"}, [b"a"]),
        ("SISMEMBER", True, 1),
        ("GET", "text of a decoding client", "text of a decoding client"),
    ],
)
def test_a_reply_of_the_newer_protocol_takes_the_shape_of_the_older(command: str, resp3: Any, resp2: Any) -> None:
    assert as_resp2(command, resp3) == resp2
    assert as_resp2(command, resp2) == resp2


def test_info_is_read_by_lines() -> None:
    info = parse_info(
        "# Server\r\nredis_version:7.0.15\r\nmodule:name=x,ver=1\r\n\r\n# Memory\r\nmaxmemory_policy:lru\r\n"
    )

    assert info == {"redis_version": "7.0.15", "module": "name=x,ver=1", "maxmemory_policy": "lru"}
