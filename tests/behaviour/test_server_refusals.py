"""An add that the server refuses: `RedisRefused` with the code, no half-written job, and no harm afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import redis

from pyqueue import Queue, RedisRefused
from tests.support.server import RedisServer
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.needs_server]

Refusing = Callable[[redis.Redis, Path], Any]


@contextmanager
def out_of_memory(admin: redis.Redis, directory: Path) -> Iterator[None]:
    admin.config_set("maxmemory", 1)
    yield
    admin.config_set("maxmemory", 0)


@contextmanager
def a_replica(admin: redis.Redis, directory: Path) -> Iterator[None]:
    admin.replicaof("127.0.0.1", "1")
    yield
    admin.replicaof("NO", "ONE")


@contextmanager
def a_disk_that_fails(admin: redis.Redis, directory: Path) -> Iterator[None]:
    admin.config_set("save", "3600 1")
    blocked = directory / "dump.rdb"
    blocked.mkdir()  # the snapshot cannot take its place
    admin.set("unsaved", 1)
    admin.bgsave()
    _until_saved(admin, "err")
    yield
    blocked.rmdir()
    admin.bgsave()
    _until_saved(admin, "ok")
    admin.delete("unsaved")


@contextmanager
def without_permission(admin: redis.Redis, directory: Path) -> Iterator[None]:
    admin.acl_setuser("default", enabled=True, commands=["-lpush", "-rpush", "-xadd", "-hset", "-hmset"])
    yield
    admin.acl_setuser("default", enabled=True, categories=["+@all"])


@contextmanager
def another_password(admin: redis.Redis, directory: Path) -> Iterator[None]:
    admin.config_set("requirepass", "changed")
    yield
    admin.config_set("requirepass", "")


@contextmanager
def too_few_replicas(admin: redis.Redis, directory: Path) -> Iterator[None]:
    admin.config_set("min-replicas-to-write", 1)
    yield
    admin.config_set("min-replicas-to-write", 0)


REFUSALS: list[tuple[str, Refusing]] = [
    ("OOM", out_of_memory),
    ("MISCONF", a_disk_that_fails),
    ("NOPERM", without_permission),
    ("NOAUTH", another_password),
    ("NOREPLICAS", too_few_replicas),
]


@pytest.mark.parametrize(("code", "refusing"), REFUSALS, ids=[code for code, _ in REFUSALS])
async def test_an_add_that_is_refused_leaves_nothing_and_the_next_one_is_stored(
    tmp_path: Path, prefix: str, code: str, refusing: Refusing
) -> None:
    with RedisServer.started(tmp_path) as server, server.client() as admin:
        async with Queue[Any, Any]("q", connection=server.url, prefix=prefix) as queue:
            await queue.add("before")
            before = set(admin.keys("*q*"))
            with refusing(admin, tmp_path):
                async with Queue[Any, Any]("q", connection=server.url, prefix=prefix) as another:
                    with pytest.raises(RedisRefused) as caught:
                        await another.add("refused", job_id="refused")
                assert caught.value.code == code
                assert set(admin.keys("*q*")) == before
            await queue.add("after")
            assert {job.name for job in await queue.jobs.list("waiting")} == {"before", "after"}


async def test_an_add_to_a_server_that_is_a_replica_for_a_while_is_stored_once(tmp_path: Path, prefix: str) -> None:
    """READONLY is what a failover looks like, so it is waited out."""
    with RedisServer.started(tmp_path) as server, server.client() as admin:
        async with Queue[Any, Any]("q", connection=server.url, prefix=prefix) as queue:
            async with anyio.create_task_group() as group:
                with a_replica(admin, tmp_path):
                    group.start_soon(queue.add, "x", 1)
                    await wait_until(lambda: admin.info("stats")["total_error_replies"] >= 2)
            assert [job.id for job in await queue.jobs.list("waiting")] == ["1"]


async def test_a_key_of_another_type_is_refused_and_named(server: RedisServer, prefix: str) -> None:
    async with Queue[Any, Any]("q", connection=server.url, prefix=prefix) as queue:
        with server.client() as admin:
            admin.set(f"{prefix}:q:wait", "not ours")
            with pytest.raises(RedisRefused) as caught:
                await queue.add("x", job_id="refused")
            assert caught.value.code == "WRONGTYPE"
            assert not admin.exists(f"{prefix}:q:refused")
            admin.delete(f"{prefix}:q:wait")
        assert (await queue.add("x", job_id="refused")).id == "refused"


def _until_saved(admin: redis.Redis, status: str) -> None:
    while True:
        saving: Any = admin.info("persistence")
        if not saving["rdb_bgsave_in_progress"] and saving["rdb_last_bgsave_status"] == status:
            return
