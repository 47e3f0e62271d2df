"""Connections to a Redis Cluster and to the master of a Sentinel service: redirections and failovers are followed."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
import redis
from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError

from pyqueue._redis.connection import Connection
from pyqueue._redis.outage import Outage, is_outage
from tests.support.lua import lua_script
from tests.support.server import RedisServer, free_port, server_binary
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.needs_server]

PUSH: Final = lua_script("redis.call('RPUSH', KEYS[1], ARGV[1]); return redis.call('LLEN', KEYS[2])")
#: A replica is in step within a second, not after Redis's usual five.
SYNC_AT_ONCE: Final = ("--repl-diskless-sync-delay", "0")
#: One on each half of the slots.
LOW, HIGH = "{b}", "{a}"


async def until_it_works(attempt: Callable[[], Awaitable[Any]]) -> Any:
    """What a worker's loop does: outages are waited out, anything else is an error."""
    outage = Outage("test")
    with anyio.fail_after(10):
        while True:
            try:
                return await attempt()
            except Exception as error:
                if not is_outage(error):
                    raise
                await anyio.sleep(outage.failed(error))


class Cluster:
    """Two masters, each with half of the slots, and a replica of the second."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.nodes = [self._start(directory / name, stack) for name in ("low", "high", "spare")]
        self.low, self.high, self.spare = self.nodes
        self.buses = [int(node.options[-1]) for node in self.nodes]
        self._on(self.low, "ADDSLOTSRANGE", 0, 8191)
        self._on(self.high, "ADDSLOTSRANGE", 8192, 16383)
        for node, bus in zip(self.nodes[1:], self.buses[1:], strict=True):
            self._on(self.low, "MEET", "127.0.0.1", node.port, bus)

    @staticmethod
    def _start(directory: Path, stack: ExitStack) -> RedisServer:
        directory.mkdir()
        options = [*SYNC_AT_ONCE, "--cluster-enabled", "yes", "--cluster-node-timeout", "2000"]
        options += ["--cluster-port", str(free_port())]
        return stack.enter_context(RedisServer.started(directory, options))

    def _on(self, node: RedisServer, *command: Any) -> Any:
        with node.client() as client:
            return client.execute_command("CLUSTER", *command)

    def id_of(self, node: RedisServer) -> str:
        return str(self._on(node, "MYID"))

    async def settle(self) -> None:
        """Wait until every node knows every other and serves, then make the third a replica of the second."""
        await wait_until(lambda: all(self._sees_all(node) for node in self.nodes), 10)
        self._on(self.spare, "REPLICATE", self.id_of(self.high))
        await wait_until(lambda: self._replication(self.spare)["master_link_status"] == "up", 10)

    def migrate(self, slot: int, source: RedisServer, target: RedisServer) -> None:
        """Announce that a slot is on its way: unknown keys are ASKed for at the target."""
        self._on(target, "SETSLOT", slot, "IMPORTING", self.id_of(source))
        self._on(source, "SETSLOT", slot, "MIGRATING", self.id_of(target))

    def move(self, slot: int, source: RedisServer, target: RedisServer) -> None:
        """Move a slot with its keys."""
        with source.client() as client:
            keys: Any = client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1000)
            for key in keys:
                client.execute_command("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
        for node in (target, source):
            self._on(node, "SETSLOT", slot, "NODE", self.id_of(target))

    def _sees_all(self, node: RedisServer) -> bool:
        info = self._on(node, "INFO")
        return "cluster_state:ok" in info and "cluster_known_nodes:3" in info

    def _replication(self, node: RedisServer) -> dict[str, Any]:
        with node.client() as client:
            found: Any = client.info("replication")
        return {"master_link_status": "down", **found}


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    with ExitStack() as stack:
        cluster = Cluster(tmp_path, stack)
        await cluster.settle()
        yield cluster


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[RedisCluster]:
    async with RedisCluster(
        startup_nodes=[ClusterNode("127.0.0.1", cluster.low.port)], decode_responses=True
    ) as client:
        yield client


@pytest.fixture
async def connection(client: RedisCluster) -> AsyncIterator[Connection]:
    connection = Connection.open(client)
    yield connection
    await connection.aclose()


def test_the_two_tags_are_on_different_halves() -> None:
    assert key_slot(LOW.encode()) < 8192 <= key_slot(HIGH.encode())


async def test_commands_and_scripts_go_to_the_node_of_their_key(client: RedisCluster, connection: Connection) -> None:
    for commands in (connection.commands, connection.lane(client_name="worker")):
        for tag in (LOW, HIGH):
            await commands.execute("DEL", f"{tag}:list")
            assert await commands.call(PUSH, [f"{tag}:list", f"{tag}:list"], ["x"]) == 1
            assert await commands.call(PUSH, [f"{tag}:list", f"{tag}:list"], ["y"]) == 2
            assert await commands.execute("LRANGE", f"{tag}:list", 0, -1) == [b"x", b"y"]
            await commands.execute("XADD", f"{tag}:events", "*", "event", "added")
            assert (await commands.execute("XREAD", "STREAMS", f"{tag}:events", "0"))[0][0] == f"{tag}:events".encode()
    assert await connection.commands.execute("PING") == b"PONG"
    await connection.check_server()

    await connection.aclose()
    assert await client.llen(f"{LOW}:list") == 2


async def test_a_blocking_pop_waits_at_the_node_of_its_key(connection: Connection) -> None:
    async def pop() -> None:
        popped.append(await connection.lane(blocking=True).execute("BZPOPMIN", f"{HIGH}:marker", 5))

    popped: list[Any] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pop)
        await connection.commands.execute("ZADD", f"{HIGH}:marker", 0, "0")

    assert popped == [[f"{HIGH}:marker".encode(), b"0", b"0"]]


async def test_a_slot_that_moves_is_followed(cluster: Cluster, connection: Connection) -> None:
    slot, keys = key_slot(LOW.encode()), [f"{LOW}:list", f"{LOW}:list"]
    lane = connection.lane()
    await lane.call(PUSH, keys, ["before"])

    cluster.migrate(slot, cluster.low, cluster.high)
    assert await lane.execute("RPUSH", f"{LOW}:other", "asked for") == 1  # unknown here: ASK
    assert await lane.call(PUSH, keys, ["still at its old node"]) == 2
    cluster.move(slot, cluster.low, cluster.high)

    assert await lane.call(PUSH, keys, ["after"]) == 3  # MOVED
    assert await connection.commands.execute("LLEN", f"{LOW}:list") == 3
    assert await lane.execute("LRANGE", f"{LOW}:other", 0, -1) == [b"asked for"]


async def test_a_replica_that_takes_over_is_followed(cluster: Cluster, connection: Connection) -> None:
    keys = [f"{HIGH}:list", f"{HIGH}:list"]
    lane, waiting = connection.lane(), connection.lane(blocking=True)
    await lane.call(PUSH, keys, ["before"])
    await waiting.execute("PING")
    with cluster.spare.client() as spare:
        spare.execute_command("READONLY")  # lets this client read from a replica
        await wait_until(lambda: spare.llen(keys[0]) == 1)

    cluster.high.kill()
    with cluster.spare.client() as spare:
        spare.execute_command("CLUSTER", "FAILOVER", "TAKEOVER")

    assert await until_it_works(lambda: lane.call(PUSH, keys, ["after"])) == 2
    assert await until_it_works(lambda: waiting.execute("BZPOPMIN", f"{HIGH}:marker", 0.05)) is None
    with cluster.spare.client() as spare:
        assert spare.llen(f"{HIGH}:list") == 2


async def test_a_node_that_returns_serves_again(cluster: Cluster, connection: Connection) -> None:
    lane = connection.lane()
    await lane.execute("SET", f"{LOW}:k", "v")

    cluster.low.kill()
    await anyio.to_thread.run_sync(cluster.low.start)

    assert await until_it_works(lambda: lane.execute("SET", f"{LOW}:k", "w")) == b"OK"


async def test_another_event_loop_has_a_map_of_its_own(connection: Connection) -> None:
    derived = connection.derive_for_thread()

    assert derived.is_cluster
    assert await derived.lane().execute("SET", f"{LOW}:k", "v") == b"OK"

    await derived.aclose()


# ---------------------------------------------------------------------------------------------- sentinel


class Service:
    """A master, its replica and one Sentinel that watches them."""

    NAME = "mymaster"

    def __init__(self, master: RedisServer, replica: RedisServer, sentinel_port: int) -> None:
        self.master = master
        self.replica = replica
        self.sentinel_port = sentinel_port

    def sentinel(self, *command: Any) -> Any:
        with redis.Redis(port=self.sentinel_port, decode_responses=True) as client:
            return client.execute_command("SENTINEL", *command)

    def knows_the_replica(self) -> bool:
        """Whether the Sentinel could promote it."""
        try:
            with redis.Redis(port=self.sentinel_port, decode_responses=True) as client:
                replicas: Any = client.sentinel_slaves(self.NAME)
        except redis.RedisError:
            return False
        return any(replica["master-link-status"] == "ok" for replica in replicas)

    def fail_over(self) -> bool:
        """Whether the Sentinel agreed to promote the replica; it may not trust it yet."""
        try:
            return bool(self.sentinel("FAILOVER", self.NAME))
        except redis.ResponseError:
            return False


def role(server: RedisServer) -> str:
    try:
        with server.client() as client:
            found: Any = client.info("replication")
    except redis.ConnectionError:  # a server that changes its role ends its connections
        return "changing"
    return str(found["role"])


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    port = free_port()
    for name in ("master", "replica", "sentinel"):
        (tmp_path / name).mkdir()
    configuration = tmp_path / "sentinel" / "sentinel.conf"
    with (
        RedisServer.started(tmp_path / "master", SYNC_AT_ONCE) as master,
        RedisServer.started(tmp_path / "replica", ("--replicaof", f"127.0.0.1 {master.port}")) as replica,
    ):
        with master.client() as client:
            assert client.wait(1, 5000) == 1  # a Sentinel that finds the replica later looks again only after 10 s
        configuration.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {tmp_path / 'sentinel'}\nlogfile sentinel.log\n"
            f"sentinel monitor {Service.NAME} 127.0.0.1 {master.port} 1\n"
            f"sentinel down-after-milliseconds {Service.NAME} 300\n"
            f"sentinel failover-timeout {Service.NAME} 3000\n"
        )
        process = subprocess.Popen([server_binary(), str(configuration), "--sentinel"], stdout=subprocess.DEVNULL)
        try:
            yield Service(master, replica, port)
        finally:
            process.terminate()
            process.wait()


@pytest.mark.parametrize("loss", ["demoted", "killed"])
async def test_a_failover_is_followed(service: Service, loss: str) -> None:
    """A worker and a producer go on with the new master, whether the old one still answers or not."""
    await wait_until(service.knows_the_replica, 15)
    new_sentinel: Any = Sentinel  # untyped in redis-py
    # The first Sentinel does not exist: its silence must not use up a command's deadline.
    addresses = [("127.0.0.1", free_port()), ("127.0.0.1", service.sentinel_port)]
    sentinel = new_sentinel(addresses, sentinel_kwargs={"retry": Retry(NoBackoff(), 0)})
    client = sentinel.master_for(service.NAME)
    connection = Connection.open(client, deadline_s=5)
    lane = connection.lane(client_name="worker")
    assert await lane.call(PUSH, ["list", "list"], ["before"]) == 1
    assert await connection.commands.execute("LLEN", "list") == 1
    with service.replica.client() as replica:
        await wait_until(lambda: replica.llen("list") == 1)

    if loss == "demoted":
        await wait_until(service.fail_over, 10)
    else:
        service.master.kill()
    await wait_until(lambda: role(service.replica) == "master", 15)
    await wait_until(
        lambda: service.sentinel("GET-MASTER-ADDR-BY-NAME", service.NAME)[1] == str(service.replica.port), 10
    )
    if loss == "demoted":
        # As the Sentinel does 10 s later; until then the old master accepts writes, and loses them.
        with service.master.client() as master:
            master.replicaof("127.0.0.1", service.replica.port)
            master.client_kill_filter(_type="normal", skipme=True)

    assert await until_it_works(lambda: lane.call(PUSH, ["list", "list"], ["after"])) >= 2
    assert await until_it_works(lambda: connection.commands.execute("LLEN", "list")) >= 2
    with service.replica.client() as replica:
        assert replica.lrange("list", 0, -1)[-1] == "after"
    await connection.aclose()
    assert await until_it_works(client.ping)  # the borrowed client is still open
    await client.aclose()
    for each in sentinel.sentinels:  # Sentinel.aclose is younger than redis-py 5.2
        await each.aclose()


async def test_unreachable_sentinels_are_an_outage_that_shows_no_password() -> None:
    new_sentinel: Any = Sentinel  # untyped in redis-py
    nobody = ("127.0.0.1", free_port())
    sentinel = new_sentinel([nobody, nobody], sentinel_kwargs={"password": "s3cret"}, password="s3cret")
    connection = Connection.open(sentinel.master_for("mymaster"))

    with pytest.raises(RedisConnectionError, match="no Sentinel in reach") as lost:
        await connection.commands.execute("PING")

    assert is_outage(lost.value)
    assert "s3cret" not in f"{lost.value!r} {lost.value} {connection!r}"
    await connection.aclose()
