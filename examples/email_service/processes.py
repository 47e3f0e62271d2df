"""The child processes of the demonstration: start one, wait until it is ready, end it by its own id.

A child is a module of this package whose log says when it is ready (see `logs`). Its output goes to a file; when it
does not come up or ends early, the error carries the tail of that file.
"""

import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import anyio
import anyio.abc

from examples.email_service.logs import read_line

CHECKOUT = Path(__file__).resolve().parents[2]

# An interpreter with this package's imports starts in about a second; a loaded machine may need many times that.
START_TIMEOUT_S = 30.0
_TAIL_LINES = 20
_POLL_S = 0.05


class ChildFailed(Exception):
    """A child process did not come up, ended by itself, or did not end as told; the message has its log's tail."""


class Child:
    """One process of ours. Only its own id is ever signalled."""

    def __init__(self, name: str, process: anyio.abc.Process, log_path: Path) -> None:
        self.name = name
        self.log_path = log_path
        self._process = process

    @classmethod
    async def start(cls, name: str, module: str, environment: Mapping[str, str], logs: Path) -> Self:
        """Start `python -m module` in a session of its own, so that Ctrl-C reaches only the demonstration."""
        log_path = logs / f"{name}.log"
        with log_path.open("wb") as output:
            process = await anyio.open_process(
                [sys.executable, "-m", module],
                cwd=CHECKOUT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return cls(name, process, log_path)

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return self._process.returncode is not None

    async def wait_for_event(self, event: str, timeout: float = START_TIMEOUT_S) -> dict[str, Any]:
        """The fields of the first log line with this event; raises ChildFailed when the child ends or is too slow."""
        with anyio.move_on_after(timeout):
            while True:
                for line in self.log_path.read_text(errors="replace").splitlines():
                    fields = read_line(line)
                    if fields.get("event") == event:
                        return fields
                if self.has_ended:
                    raise self._failure(f"ended with exit status {self._process.returncode} before {event!r}")
                await anyio.sleep(_POLL_S)
        raise self._failure(f"did not log {event!r} within {timeout:.0f} s")

    def check_alive(self) -> None:
        """Raise ChildFailed when the process has ended without having been told to."""
        if self.has_ended:
            raise self._failure(f"ended by itself with exit status {self._process.returncode}")

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    async def kill(self) -> None:
        """End it as a power cut would: no handler runs."""
        self._process.send_signal(signal.SIGKILL)
        await self._process.wait()

    async def terminate(self, timeout: float) -> int:
        """SIGTERM, and the exit status; raises ChildFailed, after a SIGKILL, when it takes longer than `timeout` s."""
        if not self.has_ended:
            self._process.terminate()
        with anyio.move_on_after(timeout):
            return await self._process.wait()
        await self.kill()
        raise self._failure(f"did not end within {timeout:.0f} s after SIGTERM")

    def _failure(self, what: str) -> ChildFailed:
        lines = self.log_path.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        tail = "\n".join(f"    {line}" for line in lines) or "    (nothing)"
        return ChildFailed(f"{self.name} {what}; the end of {self.log_path}:\n{tail}")


class Crew:
    """All children of one run, as an async context manager: whoever is still there when it is left is killed."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._children: dict[str, Child] = {}

    async def start(self, name: str, module: str, environment: Mapping[str, str]) -> Child:
        """Start a child; its log is `<name>.log`."""
        self._children[name] = child = await Child.start(name, module, environment, self._logs)
        return child

    async def kill(self, name: str) -> None:
        """End a child as a power cut would, and forget it."""
        await self._children.pop(name).kill()

    async def retire(self, name: str, timeout: float) -> int:
        """SIGTERM to one child, and its exit status; ChildFailed when it takes longer than `timeout` s."""
        return await self._children.pop(name).terminate(timeout)

    def check_alive(self) -> None:
        """Raise ChildFailed when one has ended by itself."""
        for child in self._children.values():
            child.check_alive()

    async def terminate(self, timeout: float) -> list[str]:
        """SIGTERM to all at once; returns what was wrong with how they ended (anything but exit status 0 in time)."""
        faults: list[str] = []

        async def end(child: Child) -> None:
            try:
                status = await child.terminate(timeout)
            except ChildFailed as failure:
                faults.append(str(failure))
            else:
                faults.extend([f"{child.name} ended with exit status {status} after SIGTERM"] if status else [])

        async with anyio.create_task_group() as tasks:
            for child in self._children.values():
                tasks.start_soon(end, child)
        return faults

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc_info: object) -> None:
        with anyio.CancelScope(shield=True):
            for child in self._children.values():
                if not child.has_ended:
                    await child.kill()
