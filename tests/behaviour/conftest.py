"""Fixtures of the behaviour tests: a queue, and workers that are closed at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import pytest
from redis.asyncio import Redis

from pyqueue import Queue, Worker
from pyqueue.queue import ConnectionSource
from tests.support.flow_bed import FlowBed
from tests.support.proxy import Proxy
from tests.support.server import RedisServer

AnyQueue: TypeAlias = Queue[Any, Any]
AnyWorker: TypeAlias = Worker[Any, Any]
MakeWorker: TypeAlias = Callable[..., AnyWorker]
StartWorker: TypeAlias = Callable[..., Awaitable[AnyWorker]]


@pytest.fixture
async def client(server: RedisServer) -> AsyncIterator[Any]:
    """Looks behind the library's back, at the real server."""
    client: Any = Redis.from_url(server.url, decode_responses=True)
    yield client
    await client.aclose()


@pytest.fixture
async def proxy(server: RedisServer) -> AsyncIterator[Proxy]:
    """In front of the real server; what passes, the test says."""
    async with Proxy.to(server.port) as running:
        yield running


@pytest.fixture
async def queue(source: ConnectionSource, prefix: str) -> AsyncIterator[AnyQueue]:
    """An empty queue named `q`."""
    async with Queue[Any, Any]("q", connection=source, prefix=prefix) as queue:
        yield queue


@pytest.fixture
def make_worker(source: ConnectionSource, prefix: str) -> MakeWorker:
    """Construct a worker of that queue; the caller starts and closes it."""

    def make(processor: Any = None, **options: Any) -> AnyWorker:
        defaults: dict[str, Any] = {"connection": source, "prefix": prefix}
        return Worker("q", processor, **defaults | options)

    return make


@pytest.fixture
async def start_worker(make_worker: MakeWorker) -> AsyncIterator[StartWorker]:
    """Start a worker of that queue in the background; it is closed by force at the end."""
    workers: list[AnyWorker] = []

    async def start(processor: Any, **options: Any) -> AnyWorker:
        worker = make_worker(processor, **options)
        await worker.__aenter__()
        workers.append(worker)
        return worker

    yield start
    for worker in workers:
        await worker.close(force=True)
        await worker.__aexit__(None, None, None)


@pytest.fixture
async def bed(source: ConnectionSource, prefix: str) -> AsyncIterator[FlowBed]:
    """A producer of flows with its queues and workers."""
    async with FlowBed(source, prefix) as bed:
        yield bed
