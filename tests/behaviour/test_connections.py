"""Connections as the rest of the library sees them, on fakeredis and on a real server."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import pytest
from fakeredis import FakeAsyncRedis
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pyqueue._redis.commands import Commands
from pyqueue._redis.connection import Connection
from pyqueue.errors import RedisRefused
from tests.support.lua import lua_script
from tests.support.server import RedisServer
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.every_backend]

ECHO = lua_script("return {KEYS[1], ARGV[1], 7}")


@pytest.fixture(params=["commands", "lane"])
def commands(request: pytest.FixtureRequest, connection: Connection) -> Commands:
    """The shared commands and a dedicated lane: the same contract."""
    return connection.commands if request.param == "commands" else connection.lane()


async def test_a_script_runs_whether_the_server_knows_it_or_not(commands: Commands) -> None:
    first = await commands.call(ECHO, ["k"], ["v"])
    again = await commands.call(ECHO, ["k"], ["v"])
    await commands.execute("SCRIPT", "FLUSH")
    forgotten = await commands.call(ECHO, ["k"], ["v"])

    assert first == again == forgotten == [b"k", b"v", 7]


@pytest.mark.needs_server
async def test_a_script_is_loaded_apart_from_its_first_call(server: RedisServer) -> None:
    """Compiling the longest takes the server as long as the longest calls."""
    with server.client() as client:
        client.script_flush()
        client.config_resetstat()
        async with aclosing(Connection.open(server.url)) as connection:
            assert await connection.commands.call(ECHO, ["k"], ["v"]) == [b"k", b"v", 7]
        stats = client.info("commandstats")
    loads = stats.get("cmdstat_script|load") or stats["cmdstat_script"]  # as Redis 6.2 counts it
    assert (stats["cmdstat_evalsha"]["calls"], loads["calls"], "cmdstat_eval" in stats) == (2, 1, False)


@pytest.mark.needs_server
async def test_a_user_who_may_not_load_scripts_runs_them_all_the_same(tmp_path: Path) -> None:
    with RedisServer.started(tmp_path) as server, server.client() as client:
        client.execute_command("ACL", "SETUSER", "restricted", "on", ">p", "~*", "+@all", "-script")
        async with aclosing(Connection.open(f"redis://restricted:p@127.0.0.1:{server.port}/0")) as connection:
            assert await connection.commands.call(ECHO, ["k"], ["v"]) == [b"k", b"v", 7]
        assert client.info("commandstats")["cmdstat_eval"]["calls"] == 1


@pytest.mark.needs_server
async def test_a_server_without_the_command_that_loads_scripts_runs_them_all_the_same(tmp_path: Path) -> None:
    with RedisServer.started(tmp_path, ("--rename-command", "SCRIPT", "")) as server:
        async with aclosing(Connection.open(server.url)) as connection:
            assert await connection.commands.call(ECHO, ["k"], ["v"]) == [b"k", b"v", 7]


async def test_replies_are_raw(commands: Commands) -> None:
    await commands.execute("HSET", "h", "f", 1, "g", "ü")
    await commands.execute("ZADD", "z", 1.5, "m")
    entry = await commands.execute("XADD", "s", "*", "f", "v")

    assert await commands.execute("HGETALL", "h") == [b"f", b"1", b"g", "ü".encode()]
    assert await commands.execute("HMGET", "h", "f", "x") == [b"1", None]
    assert await commands.execute("ZRANGE", "z", 0, -1, "WITHSCORES") == [b"m", b"1.5"]
    assert await commands.execute("XREAD", "STREAMS", "s", "0") == [[b"s", [[entry, [b"f", b"v"]]]]]
    assert await commands.execute("BZPOPMIN", "z", 1) == [b"z", b"m", b"1.5"]
    assert await commands.execute("GET", "nothing") is None


async def test_a_blocking_pop_wakes_at_once_and_holds_nobody_up(connection: Connection) -> None:
    async def pop() -> None:
        popped.append((await waiting.execute("BZPOPMIN", "z", 10), time.monotonic()))

    popped: list[tuple[Any, float]] = []
    added_at = 0.0
    waiting = connection.lane(blocking=True)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pop)
        await anyio.sleep(0.1)  # until it blocks, which is not to be seen from outside on fakeredis
        added_at = time.monotonic()
        await connection.commands.execute("ZADD", "z", 0, "m")

    assert popped[0][0] == [b"z", b"m", b"0"]
    assert popped[0][1] - added_at < 5  # the block is twice as long


async def test_a_blocking_pop_that_finds_nothing_answers_none(connection: Connection) -> None:
    assert await connection.lane(blocking=True).execute("BZPOPMIN", "z", 0.05) is None


async def test_a_cancelled_blocking_pop_takes_nothing(connection: Connection) -> None:
    """fakeredis goes on waiting behind a connection that is gone, and would eat the marker of a job."""
    waiting = connection.lane(blocking=True)
    with anyio.move_on_after(0.1):
        await waiting.execute("BZPOPMIN", "z", 10)

    await connection.commands.execute("ZADD", "z", 0, "m")

    assert await waiting.execute("BZPOPMIN", "z", 1) == [b"z", b"m", b"0"]


async def test_commands_of_several_tasks_on_a_lane_wait_for_each_other(connection: Connection) -> None:
    async def increment() -> None:
        replies.append(await lane.execute("INCR", "n"))

    replies: list[int] = []
    lane = connection.lane()
    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(increment)

    assert replies == list(range(1, 51))


async def test_an_error_of_a_script_passes_as_it_is(commands: Commands) -> None:
    with pytest.raises(ResponseError, match="nil value"):
        await commands.call(lua_script("local t = nil; return t.x"), [], [])

    assert await commands.execute("PING") == b"PONG"


async def test_a_wrong_type_is_a_refusal_in_a_command_and_in_a_script(commands: Commands) -> None:
    await commands.execute("SET", "text", "x")

    with pytest.raises(RedisRefused) as in_command:
        await commands.execute("LPUSH", "text", "y")
    with pytest.raises(RedisRefused) as in_script:
        await commands.call(lua_script("return redis.call('LPUSH', KEYS[1], 'y')"), ["text"], [])

    assert in_command.value.code == in_script.value.code == "WRONGTYPE"
    assert "something else writes under this prefix" in str(in_script.value)


async def test_a_command_ends_at_its_deadline(connection: Connection) -> None:
    lane = connection.lane()
    started = time.monotonic()

    with pytest.raises(RedisTimeoutError, match=r"no reply within 0\.1 s"):
        await lane.execute("BZPOPMIN", "z", 5, timeout_s=0.1)

    assert 0.1 <= time.monotonic() - started < 4
    assert await lane.execute("PING") == b"PONG"


async def test_waiting_for_a_busy_lane_counts_towards_the_deadline(connection: Connection) -> None:
    lane = connection.lane()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lane.execute, "BZPOPMIN", "z", 5)
        await anyio.sleep(0.01)
        with pytest.raises(RedisTimeoutError):
            await lane.execute("ZCARD", "z", timeout_s=0.1)
        tasks.cancel_scope.cancel()


async def test_another_thread_has_connections_of_its_own_loop(connection: Connection) -> None:
    """The leases of a worker: same server, other loop; a push of one wakes the other."""

    async def pop() -> Any:
        derived = connection.derive_for_thread()
        try:
            return await derived.lane().execute("BZPOPMIN", "z", 10)
        finally:
            await derived.aclose()

    replies: list[Any] = []
    thread = threading.Thread(target=lambda: replies.append(asyncio.run(pop())))
    thread.start()
    await connection.commands.execute("ZADD", "z", 0, "m")

    assert await wait_until(lambda: replies) == [[b"z", b"m", b"0"]]
    thread.join()


@pytest.mark.not_on("resp2", "resp3", reason="the pool of a borrowed client is not ours to guard")
async def test_two_running_loops_may_not_share_a_connection(connection: Connection) -> None:
    async def intrude() -> None:
        with pytest.raises(RuntimeError, match="another event loop"):
            await connection.commands.execute("PING")

    await connection.commands.execute("PING")
    await anyio.to_thread.run_sync(lambda: asyncio.run(intrude()))


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_loop_that_has_ended_hands_its_connections_to_the_next(redis_url: str) -> None:
    """A queue at module level under successive `asyncio.run`; what the first loop left open is replaced."""

    async def write_and_leave(connection: Connection) -> Any:
        return await connection.commands.execute("INCR", "n")

    async def write_and_close(connection: Connection) -> Any:
        try:
            return await connection.commands.execute("INCR", "n")
        finally:
            await connection.aclose()

    connection = Connection.open(redis_url)

    assert asyncio.run(write_and_leave(connection)) == 1
    assert asyncio.run(write_and_close(connection)) == 2
    gc.collect()  # what the first loop left warns here, not in a later test


@pytest.mark.not_on("resp2", "resp3", reason="the pool of a borrowed client is not ours to close")
async def test_a_closed_connection_refuses_to_work(connection: Connection) -> None:
    lane = connection.lane()
    await lane.execute("PING")

    await connection.aclose()

    for commands in (lane, connection.commands):
        with pytest.raises(RedisConnectionError, match="closed"):
            await commands.execute("PING")


async def test_closing_ends_what_waits(connection: Connection) -> None:
    lane = connection.lane(blocking=True)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_expect_lost, lane)
        await anyio.sleep(0.05)
        await lane.aclose()


async def _expect_lost(lane: Commands) -> None:
    with pytest.raises(RedisConnectionError):
        await lane.execute("BZPOPMIN", "z", 10)


async def test_a_connection_handed_on_is_closed_by_its_owner_only(connection: Connection) -> None:
    handed_on = Connection.open(connection)
    lane = handed_on.lane()
    await lane.execute("PING")

    await handed_on.aclose()

    assert await connection.commands.execute("PING") == b"PONG"
    assert await handed_on.commands.execute("PING") == b"PONG"
    with pytest.raises(RedisConnectionError):
        await lane.execute("PING")


async def test_memory_servers_are_shared_by_name() -> None:
    one, same, other = (Connection.open(f"memory://{name}") for name in ("shared-a", "shared-a", "shared-b"))
    await one.commands.execute("SET", "k", "v")

    assert await same.commands.execute("GET", "k") == b"v"
    assert await other.commands.execute("GET", "k") is None
    for connection in (one, same, other):
        await connection.aclose()


@pytest.mark.parametrize("decode", [False, True])
async def test_a_borrowed_fakeredis_client_shares_its_server(decode: bool) -> None:
    client = FakeAsyncRedis(decode_responses=decode)
    connection = Connection.open(client)
    await client.hset("h", "f", "v")

    assert await connection.commands.execute("HGETALL", "h") == [b"f", b"v"]
    assert await connection.lane().call(ECHO, ["k"], ["v"]) == [b"k", b"v", 7]

    await connection.aclose()
    assert await client.ping()
    await client.aclose()


@pytest.mark.needs_server
async def test_a_cancelled_command_leaves_no_reply_to_the_next_one(server: RedisServer) -> None:
    """CVE-2023-28858: the next caller on the connection got the reply of the cancelled one."""

    async def ask(number: int) -> None:
        with anyio.move_on_after(0.0005 * (number % 5)) as cancelled:
            answers.append((number, await lane.execute("ECHO", f"answer-{number}")))
        cancellations.append(cancelled.cancelled_caught)

    answers: list[tuple[int, Any]] = []
    cancellations: list[bool] = []
    connection = Connection.open(server.url)
    lane = connection.lane()
    async with anyio.create_task_group() as tasks:
        for number in range(300):
            tasks.start_soon(ask, number)
            await anyio.sleep(0.0003)

    assert any(cancellations)
    assert answers == [(number, f"answer-{number}".encode()) for number, _ in answers]
    assert await lane.execute("ECHO", "sane") == b"sane"
    await connection.aclose()


@pytest.mark.not_on("resp2", "resp3", reason="the pool of a borrowed client is not ours to renew")
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_loop_that_is_closed_amid_commands_hands_its_connection_to_the_next(redis_url: str) -> None:
    async def use_and_close() -> Any:
        try:
            async with asyncio.timeout(5):
                return [await lane.execute("ECHO", str(number)) for number in range(3)]
        finally:
            await connection.aclose()

    connection = Connection.open(redis_url)
    lane = connection.lane()
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)  # it would say that tasks were left pending
    loop.run_until_complete(lane.execute("PING"))
    left = [loop.create_task(lane.execute("BZPOPMIN", "marker", "5")) for _ in range(2)]
    loop.run_until_complete(asyncio.sleep(0.05))
    loop.close()

    assert asyncio.run(use_and_close()) == [b"0", b"1", b"2"]
    assert not any(task.done() for task in left)
    del left
    gc.collect()  # what the first loop left warns here, not in a later test


async def test_a_command_cancelled_as_its_turn_comes_gives_the_turn_to_the_next(connection: Connection) -> None:
    async def first() -> Any:
        reply = await lane.execute("ECHO", "first", at="k")
        second.cancel()
        return reply

    lane = connection.lane()
    await lane.execute("PING")
    asking = asyncio.create_task(first())
    second = asyncio.create_task(lane.execute("ECHO", "second", at="k"))
    third = asyncio.create_task(lane.execute("ECHO", "third", at="k"))

    async with asyncio.timeout(5):
        assert await asking == b"first"
        assert await third == b"third"
        with pytest.raises(asyncio.CancelledError):
            await second
        assert await lane.execute("ECHO", "last") == b"last"


@pytest.mark.needs_server
@pytest.mark.parametrize("options", [{}, {"protocol": 2}, {"protocol": 3}, {"decode_responses": True}], ids=str)
async def test_a_borrowed_client_is_used_and_stays_open(server: RedisServer, options: dict[str, Any]) -> None:
    client = Redis(port=server.port, **options)
    connection = Connection.open(client)

    for commands in (connection.commands, connection.lane()):
        await commands.execute("DEL", "h", "z", "s")
        await test_replies_are_raw(commands)
        assert await commands.call(ECHO, ["k"], ["v"]) == [b"k", b"v", 7]
        await commands.execute("SET", "binary", b"\xff\xfe")
        assert await commands.execute("GET", "binary") == b"\xff\xfe"

    await connection.aclose()
    assert await client.ping()
    await client.aclose()


@pytest.mark.needs_server
async def test_a_borrowed_client_is_not_asked_for_more_connections_than_its_own_pool_gives(server: RedisServer) -> None:
    client = Redis(port=server.port, max_connections=1)
    connection = Connection.open(client)
    await connection.commands.execute("PING")
    await client.ping()
    with server.client() as observer:
        before = len(observer.client_list())
        await connection.lane().execute("PING")
        after = len(observer.client_list())

    assert after == before + 1  # the lane is a connection of our own
    await connection.aclose()
    await client.aclose()


@pytest.mark.needs_server
async def test_commands_wait_for_a_borrowed_pool_that_is_exhausted(server: RedisServer) -> None:
    """redis-py's pool does not wait, it raises: a worker with 100 jobs that all look at their children would fail."""

    async def increment() -> None:
        replies.append(await connection.commands.execute("INCR", "n"))

    replies: list[int] = []
    client = Redis(port=server.port, max_connections=2)
    connection = Connection.open(client)
    pool: Any = client.connection_pool  # untyped in redis-py
    held = [await pool.get_connection() for _ in range(2)]
    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(increment)
        await anyio.sleep(0.05)
        assert not replies
        for each in held:  # what else its owner does with it
            await pool.release(each)

    assert sorted(replies) == list(range(1, 51))
    await connection.aclose()
    await client.aclose()


@pytest.mark.needs_server
async def test_an_exhausted_pool_is_waited_for_no_longer_than_the_deadline(server: RedisServer) -> None:
    client = Redis(port=server.port, max_connections=1)
    connection = Connection.open(client)
    pool: Any = client.connection_pool  # untyped in redis-py
    held = await pool.get_connection()

    with pytest.raises(RedisTimeoutError):
        await connection.commands.execute("PING", timeout_s=0.1)

    await pool.release(held)
    assert await connection.commands.execute("PING") == b"PONG"
    await client.aclose()


@pytest.mark.needs_server
async def test_a_lane_shows_its_name(server: RedisServer) -> None:
    connection = Connection.open(server.url)
    await connection.lane(client_name="bull:ZW1haWw=:w:worker-1").execute("PING")

    with server.client() as observer:
        assert "bull:ZW1haWw=:w:worker-1" in {client["name"] for client in observer.client_list()}

    await connection.aclose()


@pytest.mark.needs_server
async def test_a_name_that_the_server_refuses_is_no_obstacle(server: RedisServer) -> None:
    connection = Connection.open(server.url)

    assert await connection.lane(client_name="not allowed: blanks").execute("PING") == b"PONG"

    await connection.aclose()


@pytest.mark.needs_server
async def test_idle_connections_stay_unopened(server: RedisServer) -> None:
    connection = Connection.open(server.url)
    with server.client() as observer:
        before = len(observer.client_list())
        for _ in range(5):
            await connection.commands.execute("PING")
        assert len(observer.client_list()) == before + 1
    await connection.aclose()
