"""Failovers and moving slots while producers add and workers run: what survives is done, and every add ends."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.crc import key_slot

from pyqueue import AddOutcomeUnknown, Job, JobState, Queue, RedisRefused, Worker
from pyqueue.queue import ConnectionSource
from tests.support.backends import close_client
from tests.support.cluster import Cluster
from tests.support.sentinels import Service
from tests.support.server import RedisServer
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.needs_server, pytest.mark.timeout(120)]

#: Longer than any add may take (9.5 s and a round trip).
_ADD_ENDS_S: Final = 12.0
_LOCK_MS: Final = 4000
_PRODUCERS: Final = 4
#: A replica on a busy machine is at most so far behind its master.
_REPLICATION_LAG_S: Final = 2.0


class Load:
    """Producers that add one job after another, and workers that run them; what they saw.

    outcomes: job id -> what its add did (True, or what it raised). runs: how often each job was run to its end.
    """

    def __init__(self, source: ConnectionSource, prefix: str) -> None:
        self.queue = Queue[Any, Any]("q", connection=source, prefix=prefix)
        self._worker_options: dict[str, Any] = {
            "connection": source,
            "prefix": prefix,
            "concurrency": 10,
            "lock_duration": _LOCK_MS,
            "stalled_interval": _LOCK_MS // 2,
            "max_stalled_count": 10,
        }
        self.outcomes: dict[str, BaseException | None] = {}
        self.acknowledged_at: dict[str, float] = {}
        self.slowest_add_s = 0.0
        self.runs: Counter[str] = Counter()
        self._is_over = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Until the end of the block; then every add has ended, the workers still run, and all that is left is done."""
        workers = [Worker[Any, Any]("q", self._process, **self._worker_options) for _ in range(2)]
        async with self.queue, workers[0], workers[1]:
            async with anyio.create_task_group() as tasks:
                for number in range(_PRODUCERS):
                    tasks.start_soon(self._produce, number)
                yield
                self._is_over = True
            await wait_until(self._is_idle, 30)

    async def progress(self, more: int = 100) -> None:
        """Wait until so many more jobs have run."""
        goal = self.runs.total() + more
        await wait_until(lambda: self.runs.total() >= goal, 30)

    def acknowledged(self) -> set[str]:
        """Ids whose add returned."""
        return {job_id for job_id, error in self.outcomes.items() if error is None}

    async def _process(self, job: Job[Any, Any]) -> str:
        await anyio.sleep(0.002)
        self.runs[job.id] += 1
        return "done"

    async def _produce(self, producer: int) -> None:
        number = 0
        while not self._is_over:
            number += 1
            job_id = f"j{producer}-{number}"
            started = time.monotonic()
            try:
                await self.queue.add("x", {"n": number}, job_id=job_id)
            except (AddOutcomeUnknown, RedisRefused) as error:  # what an add may raise, and nothing else
                self.outcomes[job_id] = error
            else:
                self.outcomes[job_id] = None
                self.acknowledged_at[job_id] = time.monotonic()
            self.slowest_add_s = max(self.slowest_add_s, time.monotonic() - started)
            await anyio.sleep(0.002)

    async def _is_idle(self) -> bool:
        counts = await self.queue.jobs.counts()
        return not any(count for state, count in counts.items() if state is not JobState.COMPLETED)


async def surviving(observer: Any, base: str) -> dict[str, str]:
    """Ids of all jobs that the server has -> their return value as stored."""
    found = {}
    async for key in observer.scan_iter(match=base.replace("{", r"\{") + "j*", count=1000):
        if await observer.type(key) == "hash":
            found[key.removeprefix(base)] = await observer.hget(key, "returnvalue")
    return found


async def audit(load: Load, observer: Any, prefix: str) -> set[str]:
    """Whatever the server has is done, and every add ended in time. Returns what was acknowledged and is gone."""
    jobs = await surviving(observer, f"{prefix}:q:")
    assert set(jobs.values()) == {'"done"'}
    assert all(load.runs[job_id] >= 1 for job_id in jobs)
    assert load.slowest_add_s < _ADD_ENDS_S
    return load.acknowledged() - jobs.keys()


async def test_a_killed_master_under_load_is_replaced_by_its_sentinels(tmp_path: Path) -> None:
    with Service.started(tmp_path) as service:
        client = service.client()
        load = Load(client, "bull")
        async with load.running():
            await load.progress()
            service.master.kill()
            killed = time.monotonic()
            await wait_until(lambda: service.master_port() == service.replica.port, 30)
            await load.progress()
        observer = Redis(port=service.replica.port, decode_responses=True)

        gone = await audit(load, observer, "bull")

        # Replication is asynchronous: of what the master acknowledged the last moments may be missing, and no more.
        assert all(load.acknowledged_at[job_id] > killed - _REPLICATION_LAG_S for job_id in gone)
        await observer.aclose()
        await close_client(client)


@pytest.fixture
def cluster(tmp_path: Path) -> Any:
    with ExitStack() as stack:
        yield Cluster(tmp_path, stack, replicas=1)


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[RedisCluster]:
    nodes = [ClusterNode("127.0.0.1", node.port) for node in cluster.masters]
    async with RedisCluster(startup_nodes=nodes, decode_responses=True) as client:
        yield client


async def test_a_killed_node_of_a_cluster_under_load_is_replaced_by_its_replica(
    cluster: Cluster, client: RedisCluster
) -> None:
    prefix = "{a}"
    assert cluster.master_of(prefix) is cluster.masters[-1]  # the one with a replica
    load = Load(client, prefix)
    async with load.running():
        await load.progress()
        cluster.masters[-1].kill()
        killed = time.monotonic()
        await load.progress()  # the replica is elected by the other two

    gone = await audit(load, client, prefix)

    assert all(load.acknowledged_at[job_id] > killed - _REPLICATION_LAG_S for job_id in gone)


def refusals(server: RedisServer, code: str) -> int:
    """How often a server has answered with an error."""
    with server.client() as client:
        errors: Any = client.info("errorstats")
    return int(errors.get(f"errorstat_{code}", {}).get("count", 0))


async def test_a_slot_that_moves_under_load_loses_and_repeats_nothing(cluster: Cluster, client: RedisCluster) -> None:
    prefix = "{b}"
    source, target = cluster.master_of(prefix), cluster.masters[1]
    assert source is not target
    slot = key_slot(prefix.encode())
    load = Load(client, prefix)
    async with load.running():
        await load.progress()
        await anyio.to_thread.run_sync(cluster.migrate, slot, source, target)
        await wait_until(lambda: refusals(source, "TRYAGAIN") >= 20)
        await anyio.to_thread.run_sync(cluster.move, slot, source, target)
        await load.progress()

    gone = await audit(load, client, prefix)

    assert gone == set()
    assert {job_id for job_id, count in load.runs.items() if count > 1} == set()
