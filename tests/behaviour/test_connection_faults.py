"""Connections under faults: silent networks, lost replies, servers that restart, block, refuse or change their role.

Each is a known trap of redis-py or of the network below it. Nothing hangs, no reply goes to the wrong command, and the
next attempt works once the fault is gone.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pyqueue import Queue, Worker
from pyqueue._redis.commands import Commands
from pyqueue._redis.connection import Connection
from pyqueue._redis.outage import Outage, is_outage
from pyqueue.errors import RedisRefused
from tests.support.lua import lua_script
from tests.support.proxy import Mode, Proxy
from tests.support.server import RedisServer, free_port
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.needs_server]

WRITE: Final = lua_script("redis.call('SET', KEYS[1], ARGV[1]); return 1")
PASSWORD: Final = "s3cret-pass"


@pytest.fixture
async def through_proxy(proxy: Proxy) -> AsyncIterator[Connection]:
    connection = Connection.open(proxy.url)
    yield connection
    await connection.aclose()


@pytest.fixture
async def own_server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """A server that the test may kill and reconfigure."""
    with RedisServer.started(tmp_path) as running:
        yield running


@pytest.fixture
async def to_own_server(own_server: RedisServer) -> AsyncIterator[Connection]:
    connection = Connection.open(own_server.url)
    yield connection
    await connection.aclose()


def connection_ids(server: RedisServer) -> set[str]:
    """Ids of the clients that are connected, without the one that asks."""
    with server.client() as observer:
        return {client["id"] for client in observer.client_list()} - {str(observer.client_id())}


# ---------------------------------------------------------------------------------------------- the network


async def test_idle_and_blocking_connections_outlive_redis_pys_timeouts(server: RedisServer) -> None:
    """redis-py 8 ends reads after 5 s, also those of a client that was handed to us. Long, so all cases at once."""

    async def block_long(commands: Commands) -> None:
        started = time.monotonic()
        assert await commands.execute("BZPOPMIN", "nothing", 6) is None
        assert 5.9 < time.monotonic() - started < 12

    async def stay_idle(commands: Commands) -> None:
        await commands.execute("PING")
        await anyio.sleep(6)
        assert await commands.execute("ECHO", "still here") == b"still here"

    client = Redis(port=server.port)  # with the socket timeout of its version
    own, borrowed = Connection.open(server.url), Connection.open(client)
    async with anyio.create_task_group() as tasks:
        for connection in (own, borrowed):
            for commands in (connection.lane(blocking=True), connection.commands):
                tasks.start_soon(block_long, commands)
            tasks.start_soon(stay_idle, connection.lane())
    await own.aclose()
    await borrowed.aclose()
    await client.aclose()


@pytest.mark.parametrize("borrowed", [False, True], ids=["own", "borrowed"])
async def test_a_silent_network_ends_at_the_deadline_and_the_connection_is_not_used_again(
    proxy: Proxy, server: RedisServer, borrowed: bool
) -> None:
    client = Redis(port=proxy.port)
    connection = Connection.open(client if borrowed else proxy.url)
    await connection.commands.execute("SET", "k", "v")
    proxy.mode = Mode.SILENT

    with pytest.raises(RedisTimeoutError):
        await connection.commands.execute("GET", "k", timeout_s=0.2)
    proxy.mode = Mode.PASS

    assert await connection.commands.execute("ECHO", "fresh") == b"fresh"
    assert proxy.accepted == 2
    await connection.aclose()
    await client.aclose()


async def test_a_network_that_is_silent_from_the_start_ends_at_the_deadline(proxy: Proxy) -> None:
    proxy.mode = Mode.SILENT
    connection = Connection.open(f"redis://:{PASSWORD}@127.0.0.1:{proxy.port}", deadline_s=0.2)

    with pytest.raises(RedisTimeoutError) as late:
        await connection.commands.execute("PING")

    assert PASSWORD not in str(late.value)
    await connection.aclose()


async def test_a_blocking_pop_on_a_silent_network_ends_a_margin_after_its_block_time(
    proxy: Proxy, through_proxy: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E143."""
    monkeypatch.setattr("pyqueue._redis.commands.BLOCK_MARGIN_S", 0.2)
    lane = through_proxy.lane(blocking=True)
    await lane.execute("PING")
    proxy.mode = Mode.SILENT
    started = time.monotonic()

    with pytest.raises(RedisTimeoutError):
        await lane.execute("BZPOPMIN", "z", 0.1)

    assert 0.3 <= time.monotonic() - started < 3


async def test_a_lost_reply_is_not_given_to_the_next_command(proxy: Proxy, through_proxy: Connection) -> None:
    lane = through_proxy.lane()
    await lane.call(WRITE, ["other"], ["x"])  # the server knows the script from here on
    proxy.mode = Mode.LOSE_REPLIES

    with pytest.raises(RedisTimeoutError):
        await lane.call(WRITE, ["k"], ["written"], timeout_s=0.2)
    proxy.mode = Mode.PASS

    assert await lane.execute("GET", "k") == b"written"  # it ran, only its reply was lost


async def test_a_broken_connection_is_an_error_once_and_replaced_by_the_next_command(
    proxy: Proxy, through_proxy: Connection
) -> None:
    lane = through_proxy.lane(blocking=True)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_expect_lost, lane)
        await wait_until(lambda: proxy.accepted == 1)
        await anyio.sleep(0.05)
        proxy.cut()

    assert await lane.execute("PING") == b"PONG"


async def _expect_lost(lane: Commands) -> None:
    with pytest.raises(RedisConnectionError):
        await lane.execute("BZPOPMIN", "z", 10)


async def test_large_unsent_commands_do_not_keep_a_dropped_connection_alive(
    proxy: Proxy, through_proxy: Connection
) -> None:
    """A close that waits for unsent bytes would hold socket and memory until the kernel gives up, 15 minutes later."""
    lane = through_proxy.lane()
    await lane.execute("PING")
    proxy.mode = Mode.SILENT
    files_before = len(os.listdir("/proc/self/fd"))

    with pytest.raises(RedisTimeoutError):
        await lane.execute("SET", "big", "x" * 50_000_000, timeout_s=0.2)

    await wait_until(lambda: len(os.listdir("/proc/self/fd")) < files_before)


# ---------------------------------------------------------------------------------------------- the server


async def test_a_restart_while_idle_goes_unnoticed(own_server: RedisServer, to_own_server: Connection) -> None:
    lane = to_own_server.lane()
    await lane.execute("PING")
    await to_own_server.commands.execute("PING")

    await anyio.to_thread.run_sync(own_server.kill)  # the loop must live, to see that the connections have ended
    await anyio.to_thread.run_sync(own_server.start)

    assert await lane.execute("PING") == b"PONG"
    assert await to_own_server.commands.execute("PING") == b"PONG"


async def test_a_server_that_is_away_is_waited_for_with_two_log_lines(
    own_server: RedisServer, to_own_server: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    async def ping_until_it_answers() -> int:
        attempts = 0
        while True:
            attempts += 1
            try:
                await lane.execute("PING")
            except (RedisConnectionError, RedisRefused) as error:
                outages.append(is_outage(error))
                await anyio.sleep(outage.failed(error))
            else:
                outage.recovered()
                return attempts

    caplog.set_level(logging.INFO, logger="pyqueue.connection")
    lane, outage = to_own_server.lane(), Outage(to_own_server.url_safe)
    own_server.kill()
    attempts, outages = 0, list[bool]()
    async with anyio.create_task_group() as tasks:

        async def count() -> None:
            nonlocal attempts
            attempts = await ping_until_it_answers()

        tasks.start_soon(count)
        await wait_until(lambda: outage.attempts >= 4)
        own_server.start()

    assert all(outages)
    assert attempts < 12  # no busy loop
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_client_kill_breaks_a_waiting_lane_and_the_next_command_works(
    own_server: RedisServer, to_own_server: Connection
) -> None:
    lane = to_own_server.lane(blocking=True)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_expect_lost, lane)
        await wait_until(lambda: own_server.client().info("clients")["blocked_clients"] == 1)
        with own_server.client() as observer:
            observer.client_kill_filter(_type="normal", skipme=True)

    assert await lane.execute("PING") == b"PONG"


async def test_a_stopped_server_ends_commands_at_their_deadline(
    own_server: RedisServer, to_own_server: Connection
) -> None:
    await to_own_server.commands.execute("PING")
    os.kill(own_server.pid, signal.SIGSTOP)
    try:
        with pytest.raises(RedisTimeoutError):
            await to_own_server.commands.execute("PING", timeout_s=0.2)
        with pytest.raises(RedisTimeoutError):  # a new connection is accepted by the kernel, and not answered
            await to_own_server.lane(client_name="x").execute("PING", timeout_s=0.2)
    finally:
        os.kill(own_server.pid, signal.SIGCONT)

    assert await to_own_server.commands.execute("PING") == b"PONG"


async def test_a_server_out_of_memory_refuses_writes_and_nothing_is_half_written(
    own_server: RedisServer, to_own_server: Connection
) -> None:
    with own_server.client() as admin:
        admin.config_set("maxmemory", 1)
        for command in (
            to_own_server.commands.call(WRITE, ["k"], ["v"]),
            to_own_server.commands.execute("SET", "k", "v"),
        ):
            with pytest.raises(RedisRefused, match="maxmemory") as refused:
                await command
            assert refused.value.code == "OOM"
            assert is_outage(refused.value)
        admin.config_set("maxmemory", 0)

    assert await to_own_server.commands.execute("EXISTS", "k") == 0
    assert await to_own_server.commands.call(WRITE, ["k"], ["v"]) == 1


async def test_a_demoted_master_is_refused_and_left(own_server: RedisServer, to_own_server: Connection) -> None:
    """The connection is dropped, so that behind a name or Sentinel the next one reaches the new master."""
    lane = to_own_server.lane()
    await lane.execute("PING")
    before = connection_ids(own_server)
    with own_server.client() as admin:
        admin.replicaof("127.0.0.1", free_port())
        with pytest.raises(RedisRefused) as refused:
            await lane.call(WRITE, ["k"], ["v"])
        admin.replicaof("NO", "ONE")

    assert refused.value.code == "READONLY"
    assert is_outage(refused.value)
    assert await lane.call(WRITE, ["k"], ["v"]) == 1
    assert not before & connection_ids(own_server)


async def test_a_server_blocked_by_a_script_refuses_as_busy(own_server: RedisServer, to_own_server: Connection) -> None:
    endless = lua_script("while true do end")
    with own_server.client() as admin:
        admin.config_set("busy-reply-threshold", 20)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_expect_killed, to_own_server.lane(), endless)
            assert (await _refusal(to_own_server.lane())).code == "BUSY"
            admin.script_kill()

    assert await to_own_server.commands.execute("PING") == b"PONG"


async def _expect_killed(lane: Commands, endless: Any) -> None:
    with pytest.raises(ResponseError, match=r"(?i)killed"):
        await lane.call(endless, [], [])


async def _refusal(lane: Commands) -> RedisRefused:
    while True:
        try:
            await lane.execute("PING")
        except RedisRefused as refused:
            return refused
        await anyio.sleep(0.005)


async def test_permissions_are_refusals_in_commands_and_in_scripts(own_server: RedisServer) -> None:
    with own_server.client() as admin:
        admin.execute_command(
            "ACL", "SETUSER", "app", "on", f">{PASSWORD}", "~q:*", "+evalsha", "+eval", "+get", "+ping"
        )
    connection = Connection.open(f"redis://app:{PASSWORD}@127.0.0.1:{own_server.port}")

    for command in (
        connection.commands.execute("SET", "q:k", "v"),  # the command
        connection.commands.execute("GET", "other"),  # the key
        connection.commands.call(WRITE, ["q:k"], ["v"]),  # a command inside a script
    ):
        with pytest.raises(RedisRefused) as refused:
            await command
        assert refused.value.code == "NOPERM"
        assert not is_outage(refused.value)

    # Naming a connection and telling our library's name are denied, too, and nobody is bothered.
    assert await connection.lane(client_name="worker").execute("PING") == b"PONG"
    await connection.check_server()
    await connection.aclose()


@pytest.mark.parametrize(
    ("credentials", "code"), [("", "NOAUTH"), (f":wrong-{PASSWORD}@", "WRONGPASS"), (f"u:{PASSWORD}@", "WRONGPASS")]
)
async def test_missing_and_wrong_passwords_are_refusals(own_server: RedisServer, credentials: str, code: str) -> None:
    with own_server.client() as admin:
        admin.config_set("requirepass", PASSWORD)
        connection = Connection.open(f"redis://{credentials}127.0.0.1:{own_server.port}")

        with pytest.raises(RedisRefused) as refused:
            await connection.commands.execute("PING")

        assert refused.value.code == code
        assert PASSWORD not in f"{refused.value!r} {refused.value} {connection!r}"
        await connection.aclose()
        admin.config_set("requirepass", "")


async def test_a_database_that_the_server_does_not_have_is_a_refusal(own_server: RedisServer) -> None:
    connection = Connection.open(f"redis://127.0.0.1:{own_server.port}/4711")

    with pytest.raises(RedisRefused, match="a lower one in the URL or client, or raise `databases`") as refused:
        await connection.commands.execute("PING")

    assert refused.value.code == "DBINDEX"
    assert not is_outage(refused.value)
    await connection.aclose()


async def test_a_password_appears_in_no_error_and_no_log_line(
    own_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with own_server.client() as admin:
        admin.config_set("requirepass", PASSWORD)
        connection = Connection.open(f"redis://:{PASSWORD}@127.0.0.1:{own_server.port}")
        assert await connection.commands.execute("PING") == b"PONG"
        await connection.check_server()
        admin.config_set("requirepass", "")
    outage = Outage(connection.url_safe)
    own_server.kill()

    with pytest.raises(RedisConnectionError) as lost:
        await connection.commands.execute("PING")
    outage.failed(lost.value)

    assert PASSWORD not in f"{lost.value!r} {lost.value} {caplog.text} {connection!r}"
    own_server.start()
    await connection.aclose()


async def test_too_old_servers_and_evictions_are_warned_of_once(
    own_server: RedisServer,
    to_own_server: Connection,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """E147."""
    monkeypatch.setattr("pyqueue._redis.server_check.OLDEST", (99, 0))
    with own_server.client() as admin:
        admin.config_set("maxmemory-policy", "allkeys-lru")

    await to_own_server.check_server()
    await to_own_server.check_server()

    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "is too old" in caplog.text
    assert "noeviction" in caplog.text


async def test_a_server_that_tells_no_version_is_used_all_the_same(
    own_server: RedisServer, to_own_server: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    """E148: nothing is refused for its version, so there is no check to skip."""
    with own_server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "default", "-info")

    await to_own_server.check_server()

    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    assert await to_own_server.commands.execute("PING")


async def test_queues_and_workers_look_at_their_server_once_and_warn_once(
    own_server: RedisServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = 0
    for module in ("pyqueue.queue", "pyqueue._worker.life"):
        monkeypatch.setattr(f"{module}.CHECK_AFTER_S", 0.05)
    with own_server.client() as admin:
        admin.config_set("maxmemory-policy", "allkeys-lru")
        admin.config_resetstat()

        def looks() -> int:
            nonlocal own
            own += 1
            stats: Any = admin.info("commandstats")
            return int(stats.get("cmdstat_info", {"calls": 0})["calls"]) - (own - 1)

        worker = Worker[Any, Any]("q", lambda job: None, connection=own_server.url)
        async with Queue[Any, Any]("q", connection=own_server.url) as queue, worker:
            for _ in range(3):
                await (await queue.add("x")).result(timeout=15)
            await wait_until(lambda: looks() == 2)
            await (await queue.add("x")).result(timeout=15)
            assert looks() == 2

    assert "noeviction" in caplog.text
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_a_sound_server_is_not_warned_of(to_own_server: Connection, caplog: pytest.LogCaptureFixture) -> None:
    await to_own_server.check_server()

    assert not caplog.records


# ---------------------------------------------------------------------------------------------- other sockets


async def test_a_unix_socket(tmp_path: Path) -> None:
    socket = tmp_path / "s.sock"
    with RedisServer.started(tmp_path, ("--unixsocket", str(socket))):
        connection = Connection.open(f"unix://{socket}?db=1")

        assert await connection.lane(client_name="x").call(WRITE, ["k"], ["v"]) == 1

        await connection.aclose()
