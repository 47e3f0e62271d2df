"""Wait for a condition instead of sleeping for a guessed time."""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, overload

import anyio

T = TypeVar("T")

_POLL_S: Final = 0.005
#: Costs nothing when all is well, and a busy machine may stand still for seconds; below the 20 s that a test may take.
PATIENCE_S: Final = 15.0


@overload
async def wait_until(condition: Callable[[], Awaitable[T]], timeout: float = PATIENCE_S) -> T: ...


@overload
async def wait_until(condition: Callable[[], T], timeout: float = PATIENCE_S) -> T: ...


async def wait_until(condition: Callable[[], Any], timeout: float = PATIENCE_S) -> Any:
    """Poll until `condition()` (sync or async) is true and return its value; TimeoutError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
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
