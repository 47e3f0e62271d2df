"""The test bed itself: what the fixtures promise, and that the dumps see everything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis

from pyqueue._redis.connection import Connection
from tests.support.keyspace import Key, changes, dump
from tests.support.server import RedisServer, free_port
from tests.support.waiting import wait_until

pytestmark = pytest.mark.anyio


async def test_the_plain_client_sees_what_the_connection_writes(connection: Connection, redis_client: Any) -> None:
    await connection.commands.execute("SET", "greeting", "hello")
    assert await redis_client.get("greeting") == "hello"


async def test_a_test_begins_with_an_empty_database(redis_client: Any) -> None:
    assert await redis_client.dbsize() == 0
    await redis_client.set("left", "behind")


async def test_the_next_test_does_not_see_the_keys_of_the_one_before(redis_client: Any) -> None:
    assert await redis_client.dbsize() == 0


async def test_a_dump_shows_every_type_in_normal_form(redis_client: Any, prefix: str) -> None:
    await redis_client.set(f"{prefix}:string", "text", px=1500)
    await redis_client.rpush(f"{prefix}:list", "head", "tail")
    await redis_client.sadd(f"{prefix}:set", "b", "a")
    await redis_client.hset(f"{prefix}:hash", mapping={"field": "value"})
    await redis_client.zadd(f"{prefix}:zset", {"late": 2, "early": 1, "also early": 1})
    await redis_client.xadd(f"{prefix}:stream", {"event": "added"})
    await redis_client.set("other:key", "not ours")
    assert await dump(redis_client, f"{prefix}:") == {
        "string": Key("string", "text", ttl_s=2),
        "list": Key("list", ["head", "tail"]),
        "set": Key("set", ["a", "b"]),
        "hash": Key("hash", {"field": "value"}),
        "zset": Key("zset", [("also early", 1.0), ("early", 1.0), ("late", 2.0)]),
        "stream": Key("stream", [{"event": "added"}]),
    }


async def test_a_prefix_with_pattern_characters_is_taken_literally(redis_client: Any) -> None:
    await redis_client.set("a[b]*:x", "1")
    await redis_client.set("ab:x", "2")
    assert await dump(redis_client, "a[b]*:") == {"x": Key("string", "1")}


def test_changes_name_what_a_step_did() -> None:
    kept, old, new = Key("string", "kept"), Key("string", "old"), Key("string", "new")
    difference = changes({"kept": kept, "changed": old, "gone": old}, {"kept": kept, "changed": new, "fresh": new})
    assert difference.created == {"fresh": new}
    assert difference.changed == {"changed": new}
    assert difference.deleted == {"gone"}
    assert not changes({"kept": kept}, {"kept": kept})


async def test_waiting_ends_with_the_value_of_the_condition_or_says_which_one_failed() -> None:
    answers = iter([0, None, "done"])
    assert await wait_until(lambda: next(answers)) == "done"
    never_true = False
    with pytest.raises(TimeoutError, match="never_true"):
        await wait_until(lambda: never_true, timeout=0.02)


def test_a_port_is_not_given_twice() -> None:
    ports = [free_port() for _ in range(1_000)]  # of 12,000 chosen anew each time, some forty would repeat

    assert len(set(ports)) == len(ports)


@pytest.mark.needs_server
def test_a_killed_server_comes_back_on_the_same_port(tmp_path: Path) -> None:
    with RedisServer.started(tmp_path) as server:
        port = server.port
        server.kill()
        with server.client() as client, pytest.raises(redis.ConnectionError):
            client.ping()
        server.start()
        assert server.port == port
        with server.client() as client:
            assert client.ping()
