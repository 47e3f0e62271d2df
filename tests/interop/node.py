"""The Node process of a test: `driver.mjs`, asked by JSON lines. Knows the wire between the two, not what is asked."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

HERE: Final = Path(__file__).resolve().parent
NODE_MODULES: Final = HERE / "node_modules"
_END_S: Final = 10.0
_ANSWER_S: Final = 15.0


class NodeError(Exception):
    """An operation raised an error in Node."""

    def __init__(self, name: str, message: str, code: int | str | None) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name
        self.message = message
        self.code = code


class NodeProcess:
    """One driver. Usable from any event loop: a thread reads what it says."""

    def __init__(self, port: int, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            ["node", str(HERE / "driver.mjs")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **environment, "REDIS_PORT": str(port), "TZ": "UTC"},
            encoding="utf-8",
        )
        self.events: dict[str, list[dict[str, Any]]] = defaultdict(list)
        """What was emitted so far, by source: `events <prefix> <queue>`; of others, errors only."""
        self._waiting: dict[int, Future[Any]] = {}
        self._asked = 0
        self._lock = threading.Lock()
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    @classmethod
    @contextmanager
    def started(cls, port: int, environment: Mapping[str, str] | None = None) -> Iterator[NodeProcess]:
        """A running driver, ended afterwards. It loads while the first request waits."""
        process = cls(port, environment or {})
        try:
            yield process
        finally:
            process.close()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    async def ask(self, op: str, **fields: Any) -> Any:
        """The answer to one request; NodeError if it failed there, ConnectionError if the process has ended."""
        return await asyncio.wait_for(asyncio.wrap_future(self._send(op, fields)), _ANSWER_S)

    def kill(self) -> None:
        """SIGKILL, and wait."""
        self._process.kill()
        self._process.wait(_END_S)

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        with self._lock:
            if not self._process.stdin.closed:
                self._process.stdin.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._reader.join(_END_S)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _send(self, op: str, fields: Mapping[str, Any]) -> Future[Any]:
        assert self._process.stdin is not None
        answer: Future[Any] = Future()
        with self._lock:
            self._asked += 1
            self._waiting[self._asked] = answer
            self._process.stdin.write(json.dumps({"id": self._asked, "op": op, **fields}) + "\n")
            self._process.stdin.flush()
        return answer

    def _read(self, stdout: IO[str]) -> None:
        for line in stdout:
            message = json.loads(line)
            if "event" in message:
                self.events[message["source"]].append(message)
            else:
                self._answer(message)
        ended = ConnectionError("the Node process has ended; see its messages above")
        for answer in [self._waiting.pop(asked) for asked in list(self._waiting)]:
            if answer.set_running_or_notify_cancel():
                answer.set_exception(ended)

    def _answer(self, message: dict[str, Any]) -> None:
        answer = self._waiting.pop(message["id"])
        if not answer.set_running_or_notify_cancel():  # nobody waits for it any more
            return
        if "error" in message:
            answer.set_exception(NodeError(**message["error"]))
        else:
            answer.set_result(message["result"])
