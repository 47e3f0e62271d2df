"""What an add says that got no answer: where Redis was looked for, why in vain, and whether the job can be stored.

`may_be_stored` is False only where no try had a connection on which the job could leave.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import pytest
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pyqueue import AddOutcomeUnknown, BulkAddError, FlowJob, FlowProducer, JobSpec, Queue
from pyqueue import flow as flow_module
from pyqueue._store import producer as producer_module
from pyqueue.queue import ConnectionSource
from tests.support.proxy import Mode, Proxy
from tests.support.server import RedisServer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.anyio

SECRET: Final = "open-sesame"

Open = Callable[[int], ConnectionSource]


@pytest.fixture(autouse=True)
def short_deadlines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adds have half a second instead of ten."""
    for module in (producer_module, flow_module):
        monkeypatch.setattr(module, "ADD_DEADLINE_S", 0.5)
        monkeypatch.setattr(module, "ADD_TRY_S", 0.2)


#: Ways to a port where nobody listens.
NOBODY: Final[dict[str, Open]] = {
    "URL": lambda port: f"redis://user:{SECRET}@127.0.0.1:{port}/0",
    "client": lambda port: Redis(host="127.0.0.1", port=port, username="user", password=SECRET),
    "cluster": lambda port: RedisCluster(startup_nodes=[ClusterNode("127.0.0.1", port)], password=SECRET),
}


@pytest.mark.parametrize("is_described", [False, True], ids=["settings to write", "settings written"])
@pytest.mark.parametrize("way", NOBODY)
async def test_a_job_that_never_had_a_connection_is_not_stored(
    free_tcp_port: int, way: str, is_described: bool
) -> None:
    source = NOBODY[way](free_tcp_port)
    async with Queue[Any, Any]("q", connection=source, prefix="{t}", skip_metas_update=is_described) as queue:
        with pytest.raises(AddOutcomeUnknown) as caught:
            await queue.add("a")

    message = str(caught.value)
    assert not caught.value.may_be_stored
    assert message.startswith("The job was not stored, because it was not sent: ")
    assert f"127.0.0.1:{free_tcp_port}" in message
    assert "The last error: " in message
    assert "[queue 'q']" in message
    assert SECRET not in message
    assert isinstance(caught.value.__cause__, RedisConnectionError)


@pytest.mark.needs_server
async def test_a_port_that_may_not_speak_tls_is_told_of(server: RedisServer) -> None:
    url = server.url.replace("redis:", "rediss:")
    async with Queue[Any, Any]("q", connection=url) as queue:
        with pytest.raises(AddOutcomeUnknown, match="and that the port speaks TLS; then add it again") as caught:
            await queue.add("a")

    assert not caught.value.may_be_stored


async def test_the_jobs_of_a_bulk_that_never_had_a_connection_are_not_stored(free_tcp_port: int) -> None:
    async with Queue[Any, Any]("q", connection=f"redis://127.0.0.1:{free_tcp_port}") as queue:
        with pytest.raises(
            BulkAddError, match=r"2 of 2 jobs were not added; .* such as: The job was not stored"
        ) as caught:
            await queue.add_bulk([JobSpec("a"), JobSpec("b")])

    assert [error.may_be_stored for error in caught.value.results] == [False, False]


@pytest.mark.needs_server
async def test_of_the_jobs_of_a_bulk_those_that_may_be_stored_are_counted(proxy: Proxy, prefix: str) -> None:
    async with Queue[Any, Any]("q", connection=proxy.url, prefix=prefix) as queue:
        await queue.add("before")
        proxy.mode = Mode.LOSE_REPLIES
        fact = (
            "2 of 2 jobs were not confirmed as added; 2 of these may be stored all the same; .* such as: The connection"
        )
        with pytest.raises(BulkAddError, match=fact) as caught:
            await queue.add_bulk([JobSpec("a"), JobSpec("b")])

    assert [error.may_be_stored for error in caught.value.results] == [True, True]


async def test_a_flow_that_never_had_a_connection_is_not_stored(free_tcp_port: int) -> None:
    async with FlowProducer(connection=f"redis://127.0.0.1:{free_tcp_port}") as producer:
        with pytest.raises(AddOutcomeUnknown, match="The flow was not stored") as caught:
            await producer.add(FlowJob("a", "q"))

    assert not caught.value.may_be_stored


@pytest.mark.needs_server
async def test_a_connection_that_does_not_get_ready_in_time_carried_nothing(proxy: Proxy) -> None:
    """The server is there and says nothing to AUTH."""
    proxy.mode = Mode.SILENT
    source = f"redis://user:{SECRET}@127.0.0.1:{proxy.port}"
    async with Queue[Any, Any]("q", connection=source, skip_metas_update=True) as queue:
        with pytest.raises(AddOutcomeUnknown, match=f"127.0.0.1:{proxy.port}.* no connection within 0.") as caught:
            await queue.add("a")

    assert not caught.value.may_be_stored
    assert isinstance(caught.value.__cause__, RedisConnectionError)


@pytest.mark.needs_server
async def test_a_job_is_not_stored_when_the_server_had_gone_before_it(proxy: Proxy, prefix: str) -> None:
    async with Queue[Any, Any]("q", connection=proxy.url, prefix=prefix) as queue:
        await queue.add("before")
        proxy.leave()
        await wait_until(lambda: queue._store.commands.idle("") is None)  # the broken connection is noticed

        with pytest.raises(AddOutcomeUnknown, match="The job was not stored") as caught:
            await queue.add("a")

    assert not caught.value.may_be_stored


@pytest.mark.needs_server
@pytest.mark.parametrize("is_known", [True, False], ids=["script known", "first call"])
async def test_a_job_that_was_sent_once_may_be_stored_whatever_its_other_tries_did(
    server: RedisServer, proxy: Proxy, prefix: str, is_known: bool
) -> None:
    async with Queue[Any, Any]("q", connection=proxy.url, prefix=prefix, skip_metas_update=True) as queue:
        if is_known:
            await queue.add("before")
        proxy.mode = Mode.LOSE_REPLIES
        adding = asyncio.create_task(queue.add("a"))
        await wait_until(lambda: queue._producer.sender._outage.is_down)
        url = proxy.url
        proxy.leave()

        with pytest.raises(AddOutcomeUnknown) as caught:
            await adding

    async with Queue[Any, Any]("q", connection=server.url, prefix=prefix) as queue:
        stored = await queue.jobs.count() - is_known
    assert stored == 1 or not is_known  # to a first call the server may have said that it knows no such script
    assert caught.value.may_be_stored
    assert "the job may or may not be stored" in str(caught.value)
    assert url in str(caught.value)
    assert isinstance(caught.value.__cause__, (RedisConnectionError, RedisTimeoutError))


@pytest.mark.needs_server
@pytest.mark.parametrize("kind", ["client", "flow"])
async def test_what_left_by_other_ways_may_be_stored_too(proxy: Proxy, prefix: str, kind: str) -> None:
    async with Redis.from_url(proxy.url) as client:
        await client.ping()
        proxy.mode = Mode.LOSE_REPLIES
        if kind == "flow":
            async with FlowProducer(connection=proxy.url, prefix=prefix) as producer:
                with pytest.raises(AddOutcomeUnknown, match="the flow may or may not be stored") as caught:
                    await producer.add(FlowJob("a", "q"))
        else:
            async with Queue[Any, Any]("q", connection=client, prefix=prefix, skip_metas_update=True) as queue:
                with pytest.raises(AddOutcomeUnknown, match="the job may or may not be stored") as caught:
                    await queue.add("a")

    assert caught.value.may_be_stored
