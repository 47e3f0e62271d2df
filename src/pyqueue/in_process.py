"""The other side of `processes`: what happens in the process that runs a function.

The process is anyio's and talks to the worker over its standard streams, so those are kept from the function and from
the programs it calls. Errors travel as a value, because some exceptions cannot be pickled, some cannot be rebuilt, and
SystemExit would end the worker's program instead of the job.
"""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeVar

from pyqueue.errors import ProcessCrashed
from pyqueue.verdict import describe_error, reason_of

ResultT = TypeVar("ResultT")

#: How often a process looks whether its worker still lives.
_LOOK_S: Final = 1.0

_settled = threading.Event()


@dataclass(frozen=True, slots=True)
class ProcessJob:
    """What a function in another process gets of its job."""

    id: str
    name: str
    queue: str
    data: Any
    attempts_made: int


class InAnotherProcess(Exception):
    """The cause of an error that came from another process: its stack there."""


@dataclass(frozen=True, slots=True)
class Raised:
    """An error on its way back. `pickled` is empty where the error cannot travel; name and reason then stand for it."""

    pickled: bytes
    name: str
    reason: str
    stack: str

    def reraise(self) -> NoReturn:
        """Raise it in the worker, with the stack of the other process as its cause."""
        error = pickle.loads(self.pickled) if self.pickled else type(self.name, (RuntimeError,), {})(self.reason)
        raise error from InAnotherProcess(self.stack)


def run(function: Callable[[ProcessJob], ResultT], job: ProcessJob) -> ResultT | Raised:
    """Call the function; its result, or what it raised."""
    if not _settled.is_set():
        _settled.set()
        _settle_in()
    try:
        with _own_streams():
            return function(job)
    except Exception as error:
        return _raised(error.with_traceback(error.__traceback__ and error.__traceback__.tb_next))
    except BaseException as error:
        return _raised(ProcessCrashed(f"the function of job {job.id!r} of queue {job.queue!r} raised {error!r}"))


def _raised(error: Exception) -> Raised:
    return Raised(_pickled(error), type(error).__name__, reason_of(error), describe_error(error))


def _pickled(error: Exception) -> bytes:
    try:
        pickled = pickle.dumps(error)
        pickle.loads(pickled)  # many constructors do not take what their exception remembers
    except Exception:
        return b""
    return pickled


@contextmanager
def _own_streams() -> Iterator[None]:
    """Point the standard streams to nowhere. Nobody reads stderr, so that a talkative program would wait for ever."""
    kept = [os.dup(stream) for stream in (0, 1, 2)]
    nowhere = os.open(os.devnull, os.O_RDWR)
    try:
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        yield
    finally:
        for stream, own in enumerate(kept):
            os.dup2(own, stream)
            os.close(own)
        os.close(nowhere)


def _settle_in() -> None:
    """Once per process: leave signals to the worker, and do not outlive it."""
    # Handlers and not SIG_IGN, which the programs that the function calls would inherit.
    signal.signal(signal.SIGTERM, _leave_to_worker)
    signal.signal(signal.SIGINT, _leave_to_worker)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True, name="pyqueue-parent").start()


def _leave_to_worker(number: int, frame: object) -> None:
    """A signal to the whole group: the worker got it, too, and kills this process where it must."""


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os._exit(1)
