"""Wait for a condition instead of sleeping for a guessed time."""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import anyio

T = TypeVar("T")

_POLL_S: Final = 0.005


async def wait_until(condition: Callable[[], T | Awaitable[T]], timeout: float = 5.0) -> T:
    """Poll until `condition()` (sync or async) is true and return its value; TimeoutError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        answer: Any = condition()
        value: T = await answer if inspect.isawaitable(answer) else answer
        if value:
            return value
        if time.monotonic() >= deadline:
            raise TimeoutError(f"not true within {timeout} s: {_describe(condition)}")
        await anyio.sleep(_POLL_S)


def _describe(condition: Callable[[], object]) -> str:
    try:
        return inspect.getsource(condition).strip()
    except (OSError, TypeError):  # built in, or defined in an interactive session
        return repr(condition)
