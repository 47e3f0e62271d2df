"""Callbacks of a worker: who listens to what, and how a listener is called.

A listener can neither break nor delay the engine: its exception becomes an `error` event, a coroutine runs as a task of
its own. An error nobody listens to is logged, unless an outage says it already. The parts of the worker emit; only
`Worker.on` registers.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pyqueue._redis.outage import is_outage
from pyqueue.errors import ConfigurationError, RedisRefused
from pyqueue.lazy_modules import LazyModule

if TYPE_CHECKING:
    import difflib
else:
    difflib = LazyModule("difflib")

Callback = Callable[..., Any]
CallbackT = TypeVar("CallbackT", bound=Callback)

#: Event -> what its listeners are called with.
EVENTS: Final[dict[str, str]] = {
    "completed": "job, value",
    "failed": "job, error",
    "active": "job",
    "progress": "job, progress",
    "stalled": "job_id",
    "drained": "",
    "error": "error",
    "lock_lost": "job",
    "ready": "",
    "closed": "",
}

logger = logging.getLogger("pyqueue.worker")


def check_event(name: str) -> str:
    """The name if it is an event's; ConfigurationError with the nearest name otherwise."""
    if name not in EVENTS:
        near = difflib.get_close_matches(str(name), EVENTS, n=1)
        hint = f": did you mean {near[0]!r}?" if near else f"; known are {', '.join(EVENTS)}"
        raise ConfigurationError(f"a worker has no event {name!r}{hint}")
    return name


class Callbacks:
    """The listeners of one worker."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self.last_error = ""
        """The latest error that was reported."""
        self._listeners: dict[str, list[Callback]] = {name: [] for name in EVENTS}
        # Not children of the worker's task group: a listener may await worker.close(), which waits for that group.
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, event: str, callback: CallbackT) -> CallbackT:
        """Register a listener; returns it, so that this serves as a decorator."""
        if not callable(callback):
            raise ConfigurationError(f"the callback for {event!r} is not callable: {callback!r}")
        self._listeners[check_event(event)].append(callback)
        return callback

    def remove(self, event: str, callback: Callback) -> None:
        """Forget a listener; unknown ones are ignored."""
        listeners = self._listeners[check_event(event)]
        if callback in listeners:
            listeners.remove(callback)

    def emit(self, event: str, *args: object) -> None:
        """Call the event's listeners; never raises."""
        if event == "error":
            self.last_error = f"{type(args[0]).__name__}: {args[0]}"
            if not self._listeners[event]:
                logger.error("worker %s: %s", self._owner, args[0], exc_info=_traceback_of(args[0]))
        for callback in tuple(self._listeners[event]):
            self._call(event, callback, args)

    def report(self, error: Exception) -> None:
        """Emit an error of the worker's own parts. What an outage brings is logged by its `Outage`, once, not here."""
        if self._listeners["error"] or not (is_outage(error) or isinstance(error, RedisRefused)):
            self.emit("error", error)
        else:
            self.last_error = f"{type(error).__name__}: {error}"

    async def finish(self, timeout_s: float) -> None:
        """Wait for running coroutine listeners, then cancel those that still run; never waits for the caller itself."""
        current = asyncio.current_task()
        pending = {task for task in self._tasks if task is not current}
        if pending:
            _, late = await asyncio.wait(pending, timeout=timeout_s)
            for task in late:
                task.cancel()

    def _call(self, event: str, callback: Callback, args: tuple[object, ...]) -> None:
        try:
            result = callback(*args)
        except Exception as error:
            self._failed(event, callback, error)
            return
        if inspect.isawaitable(result):
            task = asyncio.get_running_loop().create_task(self._await(event, callback, result))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _await(self, event: str, callback: Callback, result: Awaitable[Any]) -> None:
        try:
            await result
        except Exception as error:
            self._failed(event, callback, error)

    def _failed(self, event: str, callback: Callback, error: Exception) -> None:
        if event == "error":  # reporting it as an error again would never end
            logger.error(
                "worker %s: the listener %r for 'error' raised", self._owner, callback, exc_info=_traceback_of(error)
            )
        else:
            self.emit("error", error)


def _traceback_of(error: object) -> BaseException | None:
    return error if isinstance(error, BaseException) and error.__traceback__ is not None else None
