"""A bench for one script: put keys down, run it, see everything that changed.

`Bench.seed` writes keys in the form in which `keyspace.dump` reads them; `Bench.run` calls a script by name and answers
with its reply, the new events and every other key that is different now, so that a test compares all of it. Used by
tests/scripts only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from pyqueue._redis.replies import codes as lengthened
from pyqueue._redis.scripts import load
from pyqueue._store.store import Store
from pyqueue.types import Arg
from tests.support.keyspace import Key, changes, dump

NOW: Final = 1_700_000_000_000
"""What the bench's clock says."""


#: Where the codes are in the replies of scripts that shorten them.
_CODES_AT: Final = {"add_jobs": 2, "add_flow": 2, "stage_nodes": 1, "place_nodes": 1, "settle_and_claim": 1}


class FixedClock:
    """A clock that stands at NOW."""

    def now_ms(self) -> int:
        return NOW


class Zset(dict[str, float]):
    """Members and scores of a sorted set; a plain dict is a hash."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What one run did."""

    reply: Any
    """Texts as str; numbers that stand for a list of codes or ids as that list."""
    keys: dict[str, Any]
    """Every key but the event stream that was written: its new value, None for a deleted one. Keys of the queue are
    named without its prefix, those of another queue keep that queue's name."""
    events: list[dict[str, str]]
    """New entries of the event stream, oldest first."""
    ttls: dict[str, int]
    """Seconds to live of the keys in `keys` that expire."""


@dataclass(frozen=True, slots=True)
class Bench:
    """A queue without clients: only keys and scripts."""

    store: Store
    client: Any

    @property
    def base(self) -> str:
        """What every key of the queue begins with."""
        return self.store.keys.base

    async def seed(self, keys: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        """Write keys, named without their prefix (`_` in a keyword is `-`).

        str -> string, list -> list (head first), set -> set, Zset -> sorted set, dict -> hash. `meta` gets the event
        cap that every real queue has, so that no script writes it by the way.
        """
        named = {**(keys or {}), **{name.replace("_", "-"): value for name, value in more.items()}}
        named["meta"] = {"opts.maxLenEvents": "10000", **named.get("meta", {})}
        for name, value in named.items():
            await self.write(self.base + name, value)

    async def write(self, key: str, value: Any) -> None:
        """Write one key, named in full."""
        if isinstance(value, str):
            await self.client.set(key, value)
        elif isinstance(value, list):
            await self.client.rpush(key, *value)
        elif isinstance(value, set):
            await self.client.sadd(key, *value)
        elif isinstance(value, Zset):
            await self.client.zadd(key, dict(value))
        else:
            await self.client.hset(key, mapping=value)

    async def run(self, name: str, rows: Iterable[Sequence[Arg]] = (), /, **args: Arg) -> Ran:
        """Run a script; `prefix` and `now_ms` are filled in."""
        before = await self.dump()
        reply = await self.store.call(load(name), rows, timeout_s=None, **args)
        after = await self.dump()
        difference = changes(before, after)
        changed = {name: key for name, key in difference.changed.items() if not _only_grew_older(before[name], key)}
        written = {**difference.created, **changed}
        seen = len(before["events"].value) if "events" in before else 0
        return Ran(
            reply=_spelled_out(name, _decoded(reply)),
            keys={
                **{key: entry.value for key, entry in written.items() if key != "events"},
                **dict.fromkeys(difference.deleted),
            },
            events=after["events"].value[seen:] if "events" in after else [],
            ttls={key: entry.ttl_s for key, entry in written.items() if entry.ttl_s is not None},
        )

    async def dump(self) -> dict[str, Key]:
        """Every key, named as in `Ran.keys`."""
        queue = self.store.keys.queue + ":"
        keys = await dump(self.client, self.store.keys.prefix + ":")
        return {name.removeprefix(queue): key for name, key in keys.items()}


def _only_grew_older(before: Key, after: Key) -> bool:
    """Whether a second of the key's time to live has passed on a busy machine, and nothing else."""
    if before.ttl_s is None or after.ttl_s is None:
        return False
    return (before.type, before.value) == (after.type, after.value) and 0 < before.ttl_s - after.ttl_s <= 2


def _spelled_out(name: str, reply: Any) -> Any:
    """A reply with its codes one by one, the ids of jobs that were numbered, and claimed jobs as its third element."""
    at = _CODES_AT.get(name)
    if at is None or not isinstance(reply, list):
        return reply
    codes = list(lengthened(reply[at]))
    if name == "settle_and_claim":
        reply = [*reply[:2], list(_jobs(reply[0], reply[6:])), *reply[2:6]]
    if name == "add_jobs" and isinstance(reply[1], int):
        reply[1] = [str(reply[1] + i) for i in range(len(codes))]
    return [*reply[:at], codes, *reply[at + 1 :]]


def _jobs(now_ms: int, groups: list[Any]) -> Iterator[list[Any]]:
    """Claimed jobs one by one: id, number of the token, flat fields."""
    for joined, first, is_first_run, values in zip(*[iter(groups)] * 4, strict=True):
        names = joined if isinstance(joined, list) else joined.split("\0")
        width = 1 + len(names)
        start = ["processedOn", str(now_ms), "ats", "1"] if is_first_run else []
        for n, at in enumerate(range(0, len(values), width)):
            pairs = zip(names, values[at + 1 : at + width], strict=True)
            yield [values[at], first if first < 0 else first + n, [*chain.from_iterable(pairs), *start]]


def _decoded(reply: Any) -> Any:
    if isinstance(reply, bytes):
        return reply.decode()
    return [_decoded(item) for item in reply] if isinstance(reply, list) else reply
