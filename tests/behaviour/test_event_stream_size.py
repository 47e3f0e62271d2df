"""The stream of events stays as short as its queue says, whatever jobs do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import pytest

from pyqueue import Queue
from tests.support.by_hand import take
from tests.support.server import RedisServer

pytestmark = [pytest.mark.anyio, pytest.mark.needs_server]

#: Servers trim by whole nodes of 100 entries, so that one or two more are left.
_NODES: Final = 200
_JOBS: Final = 250

Action: TypeAlias = Callable[[Queue[Any, Any]], Awaitable[object]]


async def delay(queue: Queue[Any, Any]) -> None:
    for _ in range(_JOBS):
        await (await take(queue)).move_to_delayed(60_000)


async def retry(queue: Queue[Any, Any]) -> None:
    for _ in range(_JOBS):
        await (await take(queue)).move_to_failed("again")


async def remove(queue: Queue[Any, Any]) -> None:
    for job in await queue.jobs.list("waiting", 0, -1):
        await job.remove()


@pytest.mark.parametrize("max_len", [0, 100])
@pytest.mark.parametrize("action", [delay, retry, remove])
async def test_the_stream_is_trimmed(server: RedisServer, prefix: str, action: Action, max_len: int) -> None:
    """E234."""
    async with Queue[Any, Any]("q", connection=server.url, prefix=prefix, max_len_events=max_len) as queue:
        await queue.add_bulk([{"name": "x", "opts": {"attempts": 3}}] * _JOBS)
        await action(queue)
        with server.client() as client:
            assert client.xlen(f"{prefix}:q:events") <= max_len + _NODES
            await queue.trim_events(0)
            assert client.xlen(f"{prefix}:q:events") <= _NODES
