"""Look at a server and say in the log what about it endangers jobs: its age, and evictions.

Each thing is said once per server and process, however many queues and workers there are.

Called by `Connection.check_server`.
"""

from __future__ import annotations

import logging
from typing import Final

from redis.exceptions import RedisError

from pyqueue._redis.commands import Commands
from pyqueue._redis.replies import text
from pyqueue.errors import RedisRefused

logger = logging.getLogger("pyqueue.connection")

#: The oldest server our scripts are tested on.
OLDEST: Final = (6, 2)

_said: set[str] = set()


async def check(commands: Commands, label: str) -> None:
    """Warn about a server older than 6.2 and about a policy that may evict jobs. A server that denies INFO is fine."""
    try:
        info = parse_info(text(await commands.execute("INFO")))
    except (RedisError, RedisRefused) as error:
        logger.debug("%s: INFO is not available: %s", label, error)
        return
    version = info.get("redis_version", "")
    if version and _numbers(version) < OLDEST:
        _warn(f"{label}: Redis {version} is too old, 6.2 or later is needed")
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        _warn(f"{label}: maxmemory-policy is {policy}: when memory runs out Redis deletes jobs; set it to noeviction")


def _warn(text: str) -> None:
    if text not in _said:
        _said.add(text)
        logger.warning("%s", text)


def parse_info(reply: str) -> dict[str, str]:
    """The `name:value` lines of INFO."""
    pairs = (line.partition(":") for line in reply.splitlines() if line and not line.startswith("#"))
    return {name: value.strip() for name, _, value in pairs}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
