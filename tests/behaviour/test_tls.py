"""TLS: both sides are checked, what does not fit is said at once, and Cluster and Sentinel work over it, too."""

from __future__ import annotations

import os
import shutil
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import ConnectionError as RedisConnectionError

from pyqueue import Job, JobState, Queue, RedisRefused, Worker
from pyqueue._redis.connection import Connection
from pyqueue._redis.outage import is_outage
from pyqueue.queue import ConnectionSource
from tests.support.backends import close_client
from tests.support.certificates import Certificates, server_speaks_tls
from tests.support.cluster import Cluster
from tests.support.jobs import reach
from tests.support.sentinels import NAME, Service
from tests.support.server import RedisServer, free_port
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.needs_server,
    pytest.mark.skipif(not server_speaks_tls(), reason="this server was built without TLS: install redis-server"),
]


class Guarded:
    """A server with a TLS port beside its plain one, and certificates for it."""

    def __init__(self, server: RedisServer, port: int, certificates: Certificates) -> None:
        self.server = server
        self.port = port
        self.certificates = certificates

    def url(self, query: str = "", host: str = "localhost") -> str:
        """Without a query: one that trusts the authorities of this machine and presents nothing."""
        return f"rediss://{host}:{self.port}?{query}"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.made(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Guarded]:
    port = free_port()
    options = ("--tls-port", str(port), *certificates.server_options())
    with RedisServer.started(tmp_path_factory.mktemp("tls"), options) as server:
        yield Guarded(server, port, certificates)


async def works(source: ConnectionSource, prefix: str = "bull") -> bool:
    """Whether a job goes through a queue and a worker."""

    async def process(job: Job[Any, Any]) -> Any:
        return job.data

    queue = Queue[Any, Any]("q", connection=source, prefix=prefix)
    async with queue, Worker("q", process, connection=source, prefix=prefix):
        job = await queue.add("x", "through")
        return bool(await job.result(timeout=15) == "through")


async def refusal(url: str) -> RedisRefused:
    """What an add is told, at once."""
    started = time.monotonic()
    async with Queue[Any, Any]("q", connection=url) as queue:
        with pytest.raises(RedisRefused) as refused:
            await queue.add("x")
    assert time.monotonic() - started < 7  # an outage would be waited out for 9.5 s
    assert refused.value.code == "TLS"
    return refused.value


async def test_a_private_authority_and_a_client_certificate_in_the_url(guarded: Guarded) -> None:
    assert await works(guarded.url(guarded.certificates.url_query()))


async def test_a_client_handed_in_lends_its_certificates_also_to_the_lease_thread(guarded: Guarded) -> None:
    client = Redis(host="localhost", port=guarded.port, ssl=True, **guarded.certificates.client_settings())
    derived = Connection.open(client).derive_for_thread()

    assert await works(client)
    assert await derived.lane().execute("PING") == b"PONG"

    await derived.aclose()
    await client.aclose()


async def test_an_unknown_authority_is_refused(guarded: Guarded, tmp_path: Path) -> None:
    other = Certificates.made(tmp_path)
    for query in ("", f"ssl_ca_certs={other.file('ca.crt')}"):
        refused = await refusal(guarded.url(query))

        assert "certificate verify failed" in str(refused)
        assert "ssl_ca_certs" in str(refused)
        assert not is_outage(refused)


async def test_another_host_name_is_refused(guarded: Guarded) -> None:
    refused = await refusal(guarded.url(guarded.certificates.url_query(), host="127.0.0.1"))

    assert "certificate verify failed" in str(refused)
    assert "host name" in str(refused)


async def test_a_missing_client_certificate_is_refused(guarded: Guarded) -> None:
    connection = Connection.open(guarded.url(f"ssl_ca_certs={guarded.certificates.file('ca.crt')}"))

    # With TLS 1.3 the server hangs up after the handshake; whether its reason arrives before that is a race.
    with pytest.raises((RedisRefused, RedisConnectionError)):
        await connection.commands.execute("SET", "k", "v")

    await connection.aclose()
    with guarded.server.client() as observer:
        assert not observer.exists("k")


async def test_a_worker_reports_certificates_that_do_not_fit_and_goes_on_when_they_do(
    certificates: Certificates, tmp_path: Path
) -> None:
    """An expired certificate is replaced while workers run."""
    errors: list[BaseException] = []
    port = free_port()
    options = ("--tls-port", str(port), *Certificates.made(tmp_path).server_options())
    with RedisServer.started(tmp_path, options) as server:
        worker = Worker[Any, Any](
            "q", lambda job: "done", connection=f"rediss://localhost:{port}?{certificates.url_query()}"
        )
        worker.on("error", errors.append)
        async with worker, Queue[Any, Any]("q", connection=server.url) as queue:
            job = await queue.add("x")
            await wait_until(lambda: errors)
            with server.client() as admin:
                replaced = [word.removeprefix("--") for word in certificates.server_options()]
                admin.execute_command("CONFIG", "SET", *replaced)
            await reach(queue, job, JobState.COMPLETED)

    assert isinstance(errors[0], RedisRefused)
    assert errors[0].code == "TLS"


@pytest.fixture(scope="module")
def by_address(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """For servers that announce their address, and not a name."""
    return Certificates.made(tmp_path_factory.mktemp("by-address"), "IP:127.0.0.1")


async def test_a_context_is_built_once_and_again_when_a_file_is_replaced(
    guarded: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Building one takes long, and redis-py would do it in the event loop for every connection."""

    def build() -> ssl.SSLContext:
        threads.append(threading.current_thread())
        return original()

    threads: list[threading.Thread] = []
    original = ssl.create_default_context
    monkeypatch.setattr(ssl, "create_default_context", build)
    mine = shutil.copytree(guarded.certificates.directory, tmp_path / "mine")
    connection = Connection.open(guarded.url(Certificates(mine).url_query()))

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(connection.lane().execute, "PING")
    assert len(threads) == 1
    assert threads[0] is not threading.current_thread()

    os.utime(mine / "client.crt")
    await connection.lane().execute("PING")
    assert len(threads) == 2
    await connection.aclose()


async def test_a_file_that_does_not_exist_is_an_error_of_the_connection(guarded: Guarded, tmp_path: Path) -> None:
    connection = Connection.open(guarded.url(f"ssl_ca_certs={tmp_path}/none.crt"))

    with pytest.raises(RedisConnectionError, match="No such file"):
        await connection.commands.execute("PING")

    await connection.aclose()


async def test_a_cluster_over_tls(by_address: Certificates, tmp_path: Path) -> None:
    with ExitStack() as stack:
        cluster = Cluster(tmp_path, stack, certificates=by_address)
        nodes = [ClusterNode(*address) for address in cluster.addresses]
        client = RedisCluster(startup_nodes=nodes, ssl=True, **by_address.client_settings())
        stranger = RedisCluster(startup_nodes=nodes, ssl=True)

        assert await works(client, prefix="{bull}")
        async with Queue[Any, Any]("q", connection=stranger, prefix="{bull}") as queue:
            with pytest.raises(RedisRefused, match="ssl_ca_certs"):
                await queue.add("x")


async def test_sentinels_and_their_master_over_tls(by_address: Certificates, tmp_path: Path) -> None:
    settings = {"ssl": True, **by_address.client_settings()}
    with Service.started(tmp_path, sentinels=1, certificates=by_address) as service:
        new_sentinel: Any = Sentinel  # untyped in redis-py
        client = new_sentinel(service.addresses, sentinel_kwargs=settings).master_for(NAME, **settings)

        assert await works(client)

        await close_client(client)
