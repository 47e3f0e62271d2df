"""Consumption of keyed limits: one typed function per script. The keys are not those of a queue."""

from __future__ import annotations

from pyqueue._redis.commands import Commands
from pyqueue._redis.replies import number, text
from pyqueue._redis.scripts import load
from pyqueue.types import Clock


async def consume_points(
    commands: Commands, key: str, *, points: int, max_points: int, duration_ms: int, clock: Clock
) -> tuple[int, str]:
    """Consume points; returns (0, entry), or (milliseconds to wait before they are free, ""). O(points)."""
    script = load("consume_points")
    args = script.pack(
        {"points": points, "max_points": max_points, "duration_ms": duration_ms, "now_ms": clock.now_ms()}
    )
    wait_ms, entry = await commands.call(script, (key,), args)
    return number(wait_ms), text(entry)


async def renew_points(
    commands: Commands, key: str, entry: str, *, points: int, max_points: int, duration_ms: int, clock: Clock
) -> str:
    """Let points that were consumed under an entry count from now on; returns the new entry. O(max_points)."""
    script = load("renew_points")
    args = script.pack(
        {
            "entry": entry,
            "points": points,
            "max_points": max_points,
            "duration_ms": duration_ms,
            "now_ms": clock.now_ms(),
        }
    )
    return text(await commands.call(script, (key,), args))


async def reset_points(commands: Commands, key: str) -> None:
    """Forget what was consumed."""
    await commands.execute("DEL", key)
