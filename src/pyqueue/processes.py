"""Run a processor in processes of its own: for work that keeps the CPU busy, or that may crash.

`InProcess(function)` is a processor. The event loop stays free, so locks are renewed and other jobs run; a crash or a
timeout costs one process and fails one job. Processes are anyio's: started on demand, used again, ended when idle. What
happens in them is in `in_process`.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, Generic, TypeVar

import anyio
import anyio.to_process

from pyqueue.durations import seconds
from pyqueue.errors import ConfigurationError, ProcessCrashed
from pyqueue.in_process import ProcessJob, Raised, run
from pyqueue.job import Job

__all__ = ["InProcess", "ProcessJob"]

ResultT = TypeVar("ResultT")


class InProcess(Generic[ResultT]):
    """A processor that calls a plain function of a module in another process: `Worker("pdf", InProcess(render))`.

    The function takes a `ProcessJob` and returns a JSON value. What it raises comes back, directives included. Its
    module is imported there anew, so guard programs with `if __name__ == "__main__"`. Its standard streams lead
    nowhere; SIGTERM and SIGINT are left to the worker, whose end it does not outlive.
    """

    def __init__(
        self,
        function: Callable[[ProcessJob], ResultT],
        *,
        timeout: float | timedelta | None = None,
        max_processes: int | None = None,
    ) -> None:
        """`timeout` (seconds or timedelta) kills the process and fails the attempt with TimeoutError; it includes the
        start of a process, about a second on a busy machine.

        `max_processes` bounds how many run at once; None: the worker's concurrency does. Raises ConfigurationError for
        a function that another process cannot find (a lambda, a closure).
        """
        try:
            pickle.dumps(function)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ConfigurationError(
                f"processor {function!r} cannot run in another process ({error}): give a function of a module"
            ) from None
        if max_processes is not None and max_processes < 1:
            raise ConfigurationError(f"max_processes is {max_processes}: it must be at least 1")
        self._function: Final = function
        self._timeout_s = None if timeout is None else seconds(timeout)
        self._max_processes = max_processes
        self._gate: anyio.CapacityLimiter | None = None  # needs a running event loop

    async def __call__(self, job: Job[Any, ResultT]) -> ResultT:
        """Run one job. Cancelled (lock lost, closing), its process is killed."""
        if self._gate is None:
            self._gate = anyio.CapacityLimiter(self._max_processes or float("inf"))
            self._processes = anyio.CapacityLimiter(float("inf"))  # anyio's own would be the number of cores
        # The name under which a process knows the program that started it; its exceptions come back under that name.
        sys.modules.setdefault("__mp_main__", sys.modules["__main__"])
        facts = ProcessJob(job.id, job.name, job.queue, job.data, job.attempts_made)
        try:
            async with self._gate:
                with anyio.move_on_after(self._timeout_s):  # without the time spent waiting for a free process
                    result = await anyio.to_process.run_sync(
                        run, self._function, facts, cancellable=True, limiter=self._processes
                    )
                    if isinstance(result, Raised):
                        result.reraise()
                    return result
        except anyio.BrokenWorkerProcess as error:
            raise ProcessCrashed(f"the process that ran job {job.id!r} of queue {job.queue!r} died") from error
        raise TimeoutError(f"the job took longer than {self._timeout_s:g} s and its process was killed")
