"""The topology as processes of this machine: everything comes up, an instance that dies comes back, Ctrl-C ends all."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import httpx
import pytest

from examples.email_service.jobs import EmailJob, open_queue
from examples.email_service.local.__main__ import parse_options
from examples.email_service.local.programs import HOST, balancer_config, find, free_port
from examples.email_service.local.topology import Mode, Plan, Topology
from examples.email_service.processes import CHECKOUT
from examples.email_service.settings import Settings
from pyqueue import Worker
from tests.support.deployment import DEPLOY, document
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.needs_server]

NGINX = find("nginx")
PROMETHEUS = find("prometheus")


def test_a_preferred_port_that_is_taken_gives_way_to_a_free_one() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) != port
    assert free_port(port) == port


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
def test_nginx_takes_the_configuration_of_the_balancer(tmp_path: Path) -> None:
    config = tmp_path / "nginx.conf"
    config.write_text(balancer_config(tmp_path, 8080, [8001, 8002]))

    command = [str(NGINX), "-t", "-e", "stderr", "-p", str(tmp_path), "-c", str(config)]
    tested = subprocess.run(command, capture_output=True, text=True, timeout=20)

    assert tested.returncode == 0, tested.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--workers", "17"], "17 is not between 1 and 16"),
        (["--port", "70000"], "70000 is no port"),
        (["--mode", "cloud"], "--mode"),
    ],
)
def test_bad_options_end_with_status_2_and_the_reason(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_status:
        parse_options(arguments)

    assert exit_status.value.code == 2
    assert complaint in capsys.readouterr().err


class Up:
    """`make email-up` as a person has it in a terminal."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.rows: dict[str, str] = {}

    def read_until(self, text: str) -> str:
        """The line that contains the text; fails when the program ends first."""
        assert self.process.stdout is not None
        seen = []
        for line in self.process.stdout:
            seen.append(line)
            name, _, address = line.partition("  ")
            self.rows[name.strip()] = address.strip()
            if text in line:
                return line
        raise AssertionError(f"ended without {text!r}:\n{''.join(seen)}")

    def pid(self, name: str) -> int:
        """Of an instance, as shown."""
        return int(self.rows[name].rpartition("pid ")[2])


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.timeout(150)
def test_all_come_up_a_killed_worker_comes_back_and_ctrl_c_ends_them(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "examples.email_service.local", "--port", "0", "--bare"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command, cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        up = Up(process)
        try:
            up.read_until("ready; Ctrl-C ends all")
            pids = [up.pid(name) for name in ("api-1", "api-2", "worker-1", "worker-2")]
            url = up.rows["balancer" if NGINX else "api-1"].split()[0]
            redis_port = int(up.rows["redis"].rpartition(":")[2])

            os.kill(pids[2], signal.SIGKILL)
            up.read_until("worker-1 has ended; starting it again")
            up.read_until("worker-1 is back")
            anyio.run(send_mails, url, 20)

            process.send_signal(signal.SIGINT)
            output = process.communicate(timeout=40)[0]
        finally:
            process.terminate()

    assert process.returncode == 0, output
    assert not any(is_alive(pid) for pid in pids)
    assert free_port(redis_port) == redis_port
    assert list(tmp_path.glob("email-service-*")) == []


async def send_mails(url: str, count: int) -> None:
    """Post through the address that people use, and wait until all are sent."""
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:

        async def completed() -> bool:
            stats: dict[str, int] = (await client.get("/api/email-queue/stats")).json()
            return stats["completed"] == count

        for number in range(count):
            answer = await client.post("/api/invites", json={"id": str(number), "to": f"{number}@example.test"})
            assert answer.status_code == 202
        await wait_until(completed, timeout=20)


@pytest.mark.anyio
@pytest.mark.timeout(90)
async def test_everywhere_needs_no_worker_of_its_own(tmp_path: Path) -> None:
    plan = Plan(tmp_path, apis=1, workers=1, mode=Mode.EVERYWHERE, port=0, extras=False)
    async with Topology.started(plan) as topology:
        assert topology.workers == []
        await send_mails(topology.url, 5)

    assert topology.faults == []


@pytest.fixture
async def monitored(tmp_path: Path) -> AsyncIterator[Topology]:
    """One API and no worker, watched by a Prometheus."""
    async with Topology.started(Plan(tmp_path, apis=1, workers=0, port=0)) as topology:
        yield topology


@pytest.mark.anyio
@pytest.mark.timeout(90)
@pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not installed")
async def test_the_scalers_query_counts_what_workers_could_do_and_is_zero_while_paused(monitored: Topology) -> None:
    scaled = document(DEPLOY / "kubernetes" / "components" / "keda" / "scaled-object.yaml")
    query = scaled["spec"]["triggers"][0]["metadata"]["query"]
    settings = Settings(redis_url=monitored.redis_url, smtp_host="127.0.0.1")
    started, release = anyio.Event(), anyio.Event()

    async def hold(_job: EmailJob) -> dict[str, str]:
        started.set()
        await release.wait()
        return {}

    async def asked() -> float | None:
        async with httpx.AsyncClient(base_url=str(monitored.prometheus_url), trust_env=False) as client:
            found = (await client.get("/api/v1/query", params={"query": query})).json()["data"]["result"]
        return float(found[0]["value"][1]) if found else None

    async def is_seven() -> bool:
        return await asked() == 7

    async def is_zero() -> bool:
        return await asked() == 0

    worker = Worker(
        settings.queue_name, hold, connection=settings.redis_url, prefix=settings.queue_prefix, concurrency=1
    )
    async with open_queue(settings) as queue, worker:
        try:
            await queue.add("held", {})  # 1 active
            await started.wait()
            await queue.add_bulk([{"name": "waiting", "data": {}}] * 3)
            await queue.add_bulk([{"name": "prioritized", "data": {}, "opts": {"priority": 5}}] * 2)
            await queue.add("due", {}, delay=1)
            await queue.add_bulk([{"name": "later", "data": {}, "opts": {"delay": 3_600_000}}] * 9)
            await wait_until(is_seven, timeout=15)

            await queue.pause()
            await wait_until(is_zero, timeout=15)
            await queue.resume()
            await wait_until(is_seven, timeout=15)
        finally:
            await queue.pause()
            release.set()
