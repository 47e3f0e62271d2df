"""Run workers as a program: until SIGTERM or SIGINT, and then to a graceful end.

1. SIGTERM or SIGINT: no further jobs are claimed; what runs may finish until the deadline.
2. At the deadline, what still runs is cancelled and handed back; no attempt is spent.
3. A second signal hands everything back at once.
4. What Python cannot stop, a plain function in its thread, keeps the interpreter until it returns; by then the workers
   are closed and a further SIGTERM ends the process.
"""

from __future__ import annotations

import logging
import signal
from datetime import timedelta
from typing import Any

import anyio

from pyqueue._worker.worker import Worker
from pyqueue.errors import ConfigurationError

logger = logging.getLogger("pyqueue.runner")


async def run_worker(*workers: Worker[Any, Any], timeout: float | timedelta | None = 30) -> None:
    """Run workers until the program is told to end, then close them; returns when all are closed.

    `timeout` (seconds or timedelta; None waits for ever) bounds what running jobs get after the first signal: keep it
    below the grace period of whoever sends it (Kubernetes: 30 s). Must be called in the main thread. An error that ends
    a worker closes the others and is raised.
    """
    if not workers:
        raise ConfigurationError("run_worker got no workers: give at least one")
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with anyio.create_task_group() as group:
            group.start_soon(_close_on_signals, signals, workers, timeout)
            async with anyio.create_task_group() as running:
                for worker in workers:
                    running.start_soon(worker.run)
            group.cancel_scope.cancel()


async def _close_on_signals(signals: Any, workers: tuple[Worker[Any, Any], ...], timeout: Any) -> None:
    async with anyio.create_task_group() as group:
        is_first = True
        async for number in signals:
            how = f"closing within {timeout} s" if is_first else "closing at once"
            logger.info("%s: %s", signal.Signals(number).name, how)
            for worker in workers:
                group.start_soon(_close, worker, timeout, not is_first)
            is_first = False


async def _close(worker: Worker[Any, Any], timeout: float | timedelta | None, force: bool) -> None:
    await worker.close(timeout, force=force)
