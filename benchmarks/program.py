"""Start a system's program, talk to it, and read what Redis did meanwhile. The conversation is in `benchmarks.task`."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

import redis

from benchmarks.task import Task

#: A program that says nothing for so long is ended.
SILENCE_S: Final = 180.0
#: Scripts sent by clients; each counts once, however many commands run inside.
SCRIPT_COMMANDS: Final = ("evalsha", "eval", "fcall", "evalsha_ro", "eval_ro", "fcall_ro")


class ProgramError(Exception):
    """A program ended early or fell silent; the message carries its last words."""


@dataclass(frozen=True, slots=True)
class ServerState:
    """Counters of the server at one moment."""

    cpu_s: float
    calls: Mapping[str, int]
    memory_bytes: int
    network_bytes: int

    @staticmethod
    def read(client: redis.Redis) -> ServerState:
        """One INFO; its own call is not counted."""
        info: dict[str, Any] = client.info("everything")
        calls = {name.removeprefix("cmdstat_"): s["calls"] for name, s in info.items() if name.startswith("cmdstat_")}
        calls.pop("info", None)
        return ServerState(
            cpu_s=info["used_cpu_user"] + info["used_cpu_sys"],
            calls=calls,
            memory_bytes=info["used_memory"],
            network_bytes=info["total_net_input_bytes"] + info["total_net_output_bytes"],
        )


@dataclass(frozen=True, slots=True)
class Report:
    """What a program said at its end."""

    count: int
    first: float
    last: float
    cpu_s: float
    offsets: list[float]


class Program:
    """One running program. Context manager; a program that is still running at the end is killed."""

    def __init__(self, command: tuple[str, ...], environment: Mapping[str, str], task: Task) -> None:
        self._process = subprocess.Popen(
            [*command, task.to_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        self.pid = self._process.pid
        self._what = f"the program that should {task.role}"
        self.count = 0
        self._end: dict[str, Any] | None = None
        self._lines: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._errors: list[str] = []
        threading.Thread(target=self._read_lines, daemon=True).start()
        threading.Thread(target=self._read_errors, daemon=True).start()

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def ready(self) -> Program:
        """Wait until it is prepared."""
        self._await("ready")
        return self

    def go(self) -> None:
        """Let it begin."""
        self._write("go")

    def await_count(self, jobs: int, timeout_s: float = SILENCE_S) -> bool:
        """Wait until a worker has executed so many jobs; False when it has not within the time."""
        deadline = time.monotonic() + timeout_s
        while self.count < jobs:
            line = self._next(max(0.0, deadline - time.monotonic()), timeout_is_error=False)
            if line is None:
                return False
        return True

    def mark(self) -> float:
        """Its CPU seconds since `go`."""
        self._write("mark")
        return float(self._await("mark")["mark"])

    def stop(self) -> None:
        """Tell a worker to end."""
        self._write("stop")

    def report(self) -> Report:
        """Wait for its end."""
        line = self._end if self._end is not None else self._await("end")
        try:
            self._process.wait(SILENCE_S)
        except subprocess.TimeoutExpired:
            raise ProgramError(f"{self._what} reported and did not end within {SILENCE_S:.0f} s") from None
        return Report(line["count"], line["first"], line["last"], line["cpu_s"], line["offsets"])

    def resident_bytes(self) -> int:
        """Its resident memory, as `ps` tells it."""
        kilobytes = subprocess.run(
            ["ps", "-o", "rss=", "-p", str(self.pid)], capture_output=True, text=True, check=True
        ).stdout
        return int(kilobytes) * 1024

    def _write(self, word: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(word + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise ProgramError(self._last_words()) from None

    def _await(self, kind: str) -> dict[str, Any]:
        while True:
            line = self._next(SILENCE_S)
            if line is not None and kind in line:
                return line

    def _next(self, timeout_s: float, *, timeout_is_error: bool = True) -> dict[str, Any] | None:
        try:
            line = self._lines.get(timeout=timeout_s)
        except queue.Empty:
            if not timeout_is_error:
                return None
            raise ProgramError(f"{self._what} said nothing for {timeout_s:.0f} s") from None
        if line is None:
            raise ProgramError(self._last_words())
        self.count = line.get("count", self.count)
        if "end" in line:
            self._end = line
        return line

    def _read_lines(self) -> None:
        assert self._process.stdout is not None
        for text in self._process.stdout:
            if text.startswith("{"):  # a library's banner is none of ours
                self._lines.put(json.loads(text))
        self._lines.put(None)

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        for text in self._process.stderr:
            self._errors.append(text)
            del self._errors[:-40]

    def _last_words(self) -> str:
        self._process.wait(SILENCE_S)
        said = next((line.strip() for line in reversed(self._errors) if line.strip()), "nothing on standard error")
        return f"{self._what} ended with code {self._process.returncode}: {said}"
