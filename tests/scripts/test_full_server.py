"""The scripts on a server without memory: what is done gives memory back, new jobs are refused and leave nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from pyqueue._redis.connection import Connection
from pyqueue._redis.keys import QueueKeys
from pyqueue._store.store import Store
from pyqueue.errors import RedisRefused
from tests.support.script_bench import NOW, Bench, FixedClock
from tests.support.script_rows import active, add_row, adding, exchange, settled, stored
from tests.support.server import RedisServer

pytestmark = [pytest.mark.anyio, pytest.mark.needs_server]


@pytest.fixture
async def full(server: RedisServer, prefix: str) -> AsyncIterator[Bench]:
    """A bench with one running and one waiting job, on a server that then reaches its maxmemory."""
    connection = Connection.open(server.url)
    client = Redis.from_url(server.url, decode_responses=True)
    bench = Bench(Store(connection.commands, QueueKeys(prefix, "q"), FixedClock()), client)
    await bench.seed({**active("1"), "wait": ["2"], "2": stored()})
    await client.config_set("maxmemory", "1")
    yield bench
    await client.config_set("maxmemory", "0")
    await client.aclose()
    await connection.aclose()


async def test_jobs_are_settled_and_claimed_on_a_full_server(full: Bench) -> None:
    ran = await full.run("settle_and_claim", [settled("1", "completed", "42")], **exchange(1, sequence=1))

    assert (ran.reply[1], [row[0] for row in ran.reply[2]]) == ([0], ["2"])
    assert ran.keys["completed"] == [("1", float(NOW))]


async def test_a_lost_reply_is_asked_for_again_on_a_full_server(full: Bench) -> None:
    rows, args = [settled("1", "completed", "42")], exchange(1, sequence=1)
    first = await full.run("settle_and_claim", rows, **args)

    again = await full.run("settle_and_claim", rows, **args)

    assert again.reply[1:3] == first.reply[1:3]
    assert again.events == []


async def test_adds_are_refused_on_a_full_server_and_leave_nothing(full: Bench) -> None:
    before = await full.dump()

    with pytest.raises(RedisRefused) as refused:
        await full.run("add_jobs", [add_row(), add_row(delay_ms=5), add_row(priority=1)], **adding(sequence=1))

    assert refused.value.code == "OOM"
    assert await full.dump() == before


async def test_locks_are_extended_and_stalled_jobs_recovered_on_a_full_server(full: Bench) -> None:
    await full.client.config_set("maxmemory", "0")
    await full.seed({"stalled": {"1"}, "3": stored()})
    await full.client.lpush(f"{full.base}active", "3")
    await full.client.sadd(f"{full.base}stalled", "3")
    await full.client.config_set("maxmemory", "1")

    extended = await full.run("extend_locks", [("1", "t")], lock_ms=30_000, sender="", sequence=0, token="")
    recovered = await full.run("recover_stalled", max_stalled_count=1, interval_ms=1000, resume=0)

    assert extended.reply == []
    assert recovered.reply == [["3"], 0]
