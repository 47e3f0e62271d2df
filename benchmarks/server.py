"""A Redis server for one benchmark run: its own process on a free port, without persistence."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Final

import redis

START_TIMEOUT_S: Final = 10


class RedisServer:
    """Context manager: a redis-server (or valkey-server) from PATH."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = 0
        self.version = ""

    def __enter__(self) -> RedisServer:
        binary = shutil.which("redis-server") or shutil.which("valkey-server")
        if binary is None:
            raise FileNotFoundError("benchmarks need redis-server or valkey-server on PATH: install one of them")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._process = subprocess.Popen(
            [binary, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
             "--dir", str(self.directory)],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        self.version = self._await_start()
        return self

    def _await_start(self) -> str:
        deadline = time.monotonic() + START_TIMEOUT_S
        with redis.Redis(port=self.port) as client:
            while True:
                try:
                    return f"Redis {client.info('server')['redis_version']}"
                except redis.ConnectionError:
                    if time.monotonic() > deadline or self._process.poll() is not None:
                        raise
                    time.sleep(0.02)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()
