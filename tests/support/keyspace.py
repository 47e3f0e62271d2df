"""Dumps of the key space, for tests that compare everything before and after.

`dump(client, prefix)` reads every key below a prefix in a normal form that does not depend on the order in which Redis
happens to keep members; `changes(before, after)` says what a step did. Stream ids are dropped (they carry the server's
time), remaining times to live are rounded up to whole seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: A `redis.asyncio` client with decode_responses=True. Its own annotations allow bytes, str and None everywhere.
Client = Any


@dataclass(frozen=True, slots=True)
class Key:
    """One key: its Redis type, its value in normal form, its remaining time to live.

    value: string -> str; list -> list, head first; set -> sorted list; hash -> dict; zset -> list of (member, score) in
    order of score, then member; stream -> list of entries, each a dict, oldest first.
    """

    type: str
    value: Any
    ttl_s: int | None = None


Keyspace = Mapping[str, Key]


@dataclass(frozen=True, slots=True)
class Changes:
    """Difference of two dumps; a key that only changed is in `changed` with its new contents."""

    created: dict[str, Key]
    changed: dict[str, Key]
    deleted: frozenset[str]

    def __bool__(self) -> bool:
        return bool(self.created or self.changed or self.deleted)


async def dump(client: Client, prefix: str) -> dict[str, Key]:
    """Every key that begins with `prefix`, named without it."""
    keys = sorted([key async for key in client.scan_iter(match=_literal(prefix) + "*", count=1000)])
    return {key.removeprefix(prefix): await _read(client, key) for key in keys}


def changes(before: Keyspace, after: Keyspace) -> Changes:
    """What differs between two dumps."""
    return Changes(
        created={name: key for name, key in after.items() if name not in before},
        changed={name: key for name, key in after.items() if name in before and before[name] != key},
        deleted=frozenset(before.keys() - after.keys()),
    )


async def _read(client: Client, key: str) -> Key:
    kind = await client.type(key)
    ttl_ms = await client.pttl(key)
    return Key(kind, await _VALUES[kind](client, key), -(-ttl_ms // 1000) if ttl_ms >= 0 else None)


async def _string(client: Client, key: str) -> Any:
    return await client.get(key)


async def _list(client: Client, key: str) -> Any:
    return await client.lrange(key, 0, -1)


async def _set(client: Client, key: str) -> Any:
    return sorted(await client.smembers(key))


async def _hash(client: Client, key: str) -> Any:
    return await client.hgetall(key)


async def _zset(client: Client, key: str) -> Any:
    return await client.zrange(key, 0, -1, withscores=True)


async def _stream(client: Client, key: str) -> Any:
    return [fields for _, fields in await client.xrange(key)]


_VALUES = {"string": _string, "list": _list, "set": _set, "hash": _hash, "zset": _zset, "stream": _stream}


def _literal(text: str) -> str:
    """Escape the pattern characters of SCAN."""
    return "".join(f"\\{char}" if char in "*?[]\\" else char for char in text)
