"""Consumption of keyed limits: one typed function per script. The keys are not those of a queue."""

from __future__ import annotations

from pyqueue._redis.commands import Commands
from pyqueue._redis.replies import number
from pyqueue._redis.scripts import load
from pyqueue.types import Clock


async def consume_points(
    commands: Commands, key: str, *, points: int, max_points: int, duration_ms: int, clock: Clock
) -> int:
    """Consume points; returns 0, or the milliseconds to wait before they are free. O(points)."""
    script = load("consume_points")
    args = script.pack(
        {"points": points, "max_points": max_points, "duration_ms": duration_ms, "now_ms": clock.now_ms()}
    )
    return number(await commands.call(script, (key,), args))


async def reset_points(commands: Commands, key: str) -> None:
    """Forget what was consumed."""
    await commands.execute("DEL", key)
