"""Give replies of the newer protocol the shape of the older one.

A client that was handed to us may speak RESP3, where Redis answers some commands with maps, pairs and floats.
Everything above the connection expects RESP2: flat arrays and bytes. Replies of scripts are the same in both, so only
plain commands come through here. Called by `commands`.
"""

from __future__ import annotations

from typing import Any

_SORTED_SETS = frozenset({"ZRANGE", "ZREVRANGE", "ZRANGEBYSCORE", "ZREVRANGEBYSCORE", "ZPOPMIN", "ZPOPMAX"})


def as_resp2(command: str, reply: Any) -> Any:
    """The reply of a command (its name in capitals) as RESP2 has it; unchanged if it already is."""
    if command == "XREAD" and isinstance(reply, dict):
        return [[name, _flat(entries)] for name, entries in reply.items()]
    if command in _SORTED_SETS and reply and isinstance(reply[0], list):
        return [_flat(part) for pair in reply for part in pair]  # member, score, member, score
    return _flat(reply)


def _flat(reply: Any) -> Any:
    """Maps as flat arrays, sets as arrays, floats as bytes, booleans as integers."""
    if isinstance(reply, dict):
        return [_flat(part) for item in reply.items() for part in item]
    if isinstance(reply, (list, set, frozenset, tuple)):
        return [_flat(item) for item in reply]
    if isinstance(reply, bool):
        return int(reply)
    if isinstance(reply, float):
        return repr(reply).removesuffix(".0").encode()
    return reply
