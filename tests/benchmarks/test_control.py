"""The control beside measured calls, and the priority of a measured server."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import anyio
import pytest
import redis
from redis.exceptions import ResponseError

from benchmarks import growth
from benchmarks.control import REMOVED, STORED, Control, is_control
from benchmarks.priority import favoured
from tests.support.server import RedisServer
from tests.support.waiting import wait_until


@pytest.mark.needs_server
def test_the_control_runs_beside_other_calls_counts_its_own_and_leaves_nothing(tmp_path: Path) -> None:
    with RedisServer.started(tmp_path) as server, server.client() as client:
        client.config_set("slowlog-log-slower-than", 0)
        client.config_set("slowlog-max-len", 1_000_000)
        client.set("mine", 1)
        with Control(client) as control:
            client.eval("return 1", 0)
            anyio.run(wait_until, lambda: control.calls >= 5)

        assert client.info("commandstats")["cmdstat_eval"]["calls"] == control.calls + 1
        assert sum(map(is_control, client.slowlog_get(1_000_000))) == control.calls
        assert client.keys() == ["mine"]


@pytest.mark.needs_server
def test_the_memory_of_a_control_grows_as_that_of_jobs_does(tmp_path: Path) -> None:
    with RedisServer.started(tmp_path) as server, server.client() as client, Control(client) as control:
        anyio.run(wait_until, lambda: control.calls >= 20)
        assert len(client.keys("control:*")) > 20 * (STORED - REMOVED)


@pytest.mark.needs_server
def test_a_control_that_fails_is_not_silent(tmp_path: Path) -> None:
    refused = pytest.raises(ResponseError, match="WRONGTYPE")
    with RedisServer.started(tmp_path) as server, server.client() as client, refused:
        _measure_until_the_control_ends(client)


def _measure_until_the_control_ends(client: redis.Redis) -> None:
    client.set("control:wait", "no list")
    with Control(client) as control:
        anyio.run(wait_until, lambda: control.has_ended)


@pytest.mark.needs_server
def test_the_control_of_growth_takes_the_oldest_jobs_and_leaves_nothing_of_them(tmp_path: Path) -> None:
    with RedisServer.started(tmp_path) as server, server.client() as client:
        client.set("bull:bench:id", 1)
        client.hset("bull:bench:1", "name", "job")
        client.lpush("bull:bench:wait", 1)
        with growth.Control(server.port) as control:
            control.add(60)
            control.process(60)

        assert client.lrange("bull:bench:wait", 0, -1) == ["61"]
        assert client.hgetall("bull:bench:61") == {"name": "job"}
        left = {"bull:bench:id", "bull:bench:61", "bull:bench:wait", "bull:bench:control:events"}
        assert set(client.keys()) == left


@pytest.mark.parametrize("leads_session", [False, True])
def test_a_favoured_process_goes_before_others_until_the_measurement_ends(leads_session: bool) -> None:
    """So does a session of its own; the one that this test runs in is nobody's to favour."""
    process = subprocess.Popen(["sleep", "60"], start_new_session=leads_session)
    try:
        before, session = os.getpriority(os.PRIO_PROCESS, process.pid), _session_nice(process.pid)
        ours = _session_nice(os.getpid())
        with favoured(process.pid) as is_favoured:
            # Only the privileged may; the others are told so.
            assert os.getpriority(os.PRIO_PROCESS, process.pid) == (-20 if is_favoured else before)
            assert os.sched_getscheduler(process.pid) == os.SCHED_OTHER
            assert _session_nice(os.getpid()) == ours
            if is_favoured and leads_session and session:
                assert _session_nice(process.pid) == "-20"
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == before
        assert _session_nice(process.pid) == session
    finally:
        process.kill()
        process.wait()


def _session_nice(pid: int) -> str:
    """`/autogroup-42 nice 0`; empty on systems without."""
    path = Path(f"/proc/{pid}/autogroup")
    return path.read_text().rpartition(" ")[2].strip() if path.exists() else ""
