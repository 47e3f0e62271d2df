"""Connections to a Redis Cluster and to the master of a Sentinel service: redirections and failovers are followed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
import redis
from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.sentinel import Sentinel
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError

from pyqueue import ConfigurationError, FlowProducer, Job, Queue, QueueEvents, Worker
from pyqueue._redis.connection import Connection
from pyqueue._redis.outage import Outage, is_outage
from pyqueue.events import CompletedEvent
from tests.support.backends import close_client
from tests.support.cluster import SLOTS, Cluster, replication
from tests.support.lua import lua_script
from tests.support.sentinels import Service
from tests.support.server import RedisServer, free_port
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.needs_server, pytest.mark.timeout(60)]

PUSH: Final = lua_script("redis.call('RPUSH', KEYS[1], ARGV[1]); return redis.call('LLEN', KEYS[2])")
#: On the first and on the last of three masters.
LOW, HIGH = "{b}", "{a}"


async def until_it_works(attempt: Callable[[], Awaitable[Any]], within_s: float = 20) -> Any:
    """What a worker's loop does: outages are waited out, anything else is an error."""
    outage = Outage("test")
    with anyio.fail_after(within_s):
        while True:
            try:
                return await attempt()
            except Exception as error:
                if not is_outage(error):
                    raise
                await anyio.sleep(outage.failed(error))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Three masters; the last one has a replica."""
    with ExitStack() as stack:
        yield Cluster(tmp_path, stack, replicas=1)


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[RedisCluster]:
    async with RedisCluster(
        startup_nodes=[ClusterNode("127.0.0.1", cluster.masters[0].port)], decode_responses=True
    ) as client:
        yield client


@pytest.fixture
async def connection(client: RedisCluster) -> AsyncIterator[Connection]:
    connection = Connection.open(client)
    yield connection
    await connection.aclose()


def test_the_two_tags_are_on_the_first_and_the_last_master() -> None:
    assert key_slot(LOW.encode()) < SLOTS / 3
    assert key_slot(HIGH.encode()) > SLOTS * 2 / 3


@pytest.mark.parametrize("prefix", ["bull", "{bull", "bull}", "{}"])
@pytest.mark.parametrize("construct", [Queue, Worker, QueueEvents, FlowProducer], ids=lambda kind: kind.__name__)
async def test_a_cluster_client_needs_a_hash_tag_in_the_prefix(construct: Any, prefix: str) -> None:
    """Said at construction, and not by a refused command."""
    cluster = RedisCluster(host="127.0.0.1", port=1)  # nobody is asked
    name = () if construct is FlowProducer else ("q",)

    with pytest.raises(ConfigurationError, match=r"needs a hash tag.*use prefix='\{"):
        construct(*name, connection=cluster, prefix=prefix)
    await construct(*name, connection=cluster, prefix="{bull}").close()


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


async def test_a_cluster_with_a_password_serves_adds_blocking_workers_and_events(cluster: Cluster) -> None:
    """E150."""

    async def process(job: Job[Any, Any]) -> Any:
        return job.data

    for node in cluster.nodes:
        with node.client() as admin:
            admin.config_set("masterauth", "s3cret")
            admin.config_set("requirepass", "s3cret")
    client = RedisCluster(host="127.0.0.1", port=cluster.masters[0].port, password="s3cret")
    where: dict[str, Any] = {"connection": client, "prefix": "{bull}"}
    queue, events = Queue[Any, Any]("q", **where), QueueEvents("q", **where)
    async with queue, events, Worker("q", process, **where):
        await events.ready()
        late = await queue.add("x", 1, delay=100)
        jobs = await asyncio.gather(*(queue.add("x", n) for n in range(50)))
        assert await asyncio.gather(*(job.result(timeout=15) for job in jobs)) == list(range(50))
        assert await late.result(timeout=15) == 1
        async for event in events:
            if isinstance(event, CompletedEvent) and event.job_id == late.id:
                break


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

    cluster.migrate(slot, cluster.masters[0], cluster.masters[-1])
    assert await lane.execute("RPUSH", f"{LOW}:other", "asked for") == 1  # unknown here: ASK
    assert await lane.call(PUSH, keys, ["still at its old node"]) == 2
    cluster.move(slot, cluster.masters[0], cluster.masters[-1])

    assert await lane.call(PUSH, keys, ["after"]) == 3  # MOVED
    assert await connection.commands.execute("LLEN", f"{LOW}:list") == 3
    assert await lane.execute("LRANGE", f"{LOW}:other", 0, -1) == [b"asked for"]


async def test_a_replica_that_takes_over_is_followed(cluster: Cluster, connection: Connection) -> None:
    keys = [f"{HIGH}:list", f"{HIGH}:list"]
    lane, waiting = connection.lane(), connection.lane(blocking=True)
    await lane.call(PUSH, keys, ["before"])
    await waiting.execute("PING")
    with cluster.replicas[0].client() as spare:
        spare.execute_command("READONLY")  # lets this client read from a replica
        await wait_until(lambda: spare.llen(keys[0]) == 1)

    cluster.masters[-1].kill()
    with cluster.replicas[0].client() as spare:
        spare.execute_command("CLUSTER", "FAILOVER", "TAKEOVER")

    assert await until_it_works(lambda: lane.call(PUSH, keys, ["after"])) == 2
    assert await until_it_works(lambda: waiting.execute("BZPOPMIN", f"{HIGH}:marker", 0.05)) is None
    with cluster.replicas[0].client() as spare:
        assert spare.llen(f"{HIGH}:list") == 2


async def test_a_node_that_hangs_is_given_up_for_its_replica_and_for_other_nodes_that_know_the_map(
    cluster: Cluster,
) -> None:
    """E151. It accepts connections and answers nothing, as after a partition; and it is the first to be asked."""
    nodes = [ClusterNode("127.0.0.1", node.port) for node in (cluster.masters[-1], cluster.masters[0])]
    connection = Connection.open(RedisCluster(startup_nodes=nodes), deadline_s=3)
    lane = connection.lane()
    await lane.execute("SET", f"{HIGH}:k", "v")
    with cluster.replicas[0].client() as replica:
        replica.execute_command("READONLY")
        await wait_until(lambda: replica.exists(f"{HIGH}:k"))

    os.kill(cluster.masters[-1].pid, signal.SIGSTOP)
    try:
        with anyio.fail_after(25):
            assert await until_it_works(lambda: lane.execute("GET", f"{HIGH}:k"), 20) == b"v"
            assert await until_it_works(lambda: connection.commands.execute("SET", f"{LOW}:k", "v"), 20) == b"OK"
    finally:
        os.kill(cluster.masters[-1].pid, signal.SIGCONT)
        await connection.aclose()


async def test_a_node_that_returns_serves_again(cluster: Cluster, connection: Connection) -> None:
    lane = connection.lane()
    await lane.execute("SET", f"{LOW}:k", "v")

    cluster.masters[0].kill()
    await anyio.to_thread.run_sync(cluster.masters[0].start)

    assert await until_it_works(lambda: lane.execute("SET", f"{LOW}:k", "w")) == b"OK"


async def test_another_event_loop_has_a_map_of_its_own(connection: Connection) -> None:
    derived = connection.derive_for_thread()

    assert derived.is_cluster
    assert await derived.lane().execute("SET", f"{LOW}:k", "v") == b"OK"

    await derived.aclose()


# ---------------------------------------------------------------------------------------------- sentinel


def role(server: RedisServer) -> str:
    try:
        return str(replication(server)["role"])
    except redis.ConnectionError:  # a server that changes its role ends its connections
        return "changing"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with Service.started(tmp_path) as service:
        yield service


@pytest.mark.parametrize("loss", ["demoted", "killed"])
async def test_a_failover_is_followed(service: Service, loss: str) -> None:
    """A worker and a producer go on with the new master, whether the old one still answers or not."""
    # The first Sentinel does not exist: its silence must not use up a command's deadline.
    client = service.client(("127.0.0.1", free_port()))
    connection = Connection.open(client, deadline_s=5)
    lane = connection.lane(client_name="worker")
    assert await lane.call(PUSH, ["list", "list"], ["before"]) == 1
    assert await connection.commands.execute("LLEN", "list") == 1
    with service.replica.client() as replica:
        await wait_until(lambda: replica.llen("list") == 1)

    if loss == "demoted":
        await wait_until(service.fail_over, 20)
    else:
        service.master.kill()
    await wait_until(lambda: role(service.replica) == "master", 20)
    await wait_until(lambda: service.master_port() == service.replica.port, 20)
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
    await close_client(client)


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
