"""Servers that pyqueue provides itself: `memory://NAME` (fakeredis in this process).

Called by `connection`.
"""

from __future__ import annotations

import threading
from typing import Any, Final

from pyqueue._redis.sources import ServerSource
from pyqueue.errors import ConfigurationError

_INSTALL: Final = "pip install pyqueue-redis[embedded]"

_servers: Final[dict[str, Any]] = {}
_lock: Final = threading.Lock()


def memory_source(name: str) -> ServerSource:
    """The in-process server of that name; created at first use, kept until the process ends, nothing is stored."""
    try:
        from fakeredis import FakeAsyncRedis, FakeServer  # optional dependency
    except ImportError:
        raise ConfigurationError(f"memory:// needs fakeredis: {_INSTALL}") from None
    with _lock:
        server = _servers.setdefault(name, FakeServer())
    pool = FakeAsyncRedis(server=server).connection_pool
    return ServerSource(pool.connection_class, dict(pool.connection_kwargs), f"memory://{name}")
