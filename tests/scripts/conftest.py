"""The bench that script tests run on."""

from __future__ import annotations

from typing import Any

import pytest

from pyqueue._redis.connection import Connection
from pyqueue._redis.keys import QueueKeys
from pyqueue._store.store import Store
from tests.support.script_bench import Bench, FixedClock


@pytest.fixture
async def bench(connection: Connection, redis_client: Any, prefix: str) -> Bench:
    """An empty queue named q, with a clock that stands still."""
    return Bench(Store(connection.commands, QueueKeys(prefix, "q"), FixedClock()), redis_client)
