"""The Bull Board of the deployment files shows the queue of the service, and ends when it is told to."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from examples.email_service.jobs import enqueue_invite, open_queue
from examples.email_service.payloads import Invite
from examples.email_service.settings import Settings
from tests.support.deployment import CHECKOUT, DEPLOY
from tests.support.node import skip_without_node
from tests.support.server import RedisServer, free_port
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.needs_server, pytest.mark.needs_node, pytest.mark.timeout(60)]

# `npm ci` in its own directory, or what the interop tests have of the same packages.
INSTALLED = [DEPLOY / "bull-board" / "node_modules", CHECKOUT / "tests" / "interop" / "node_modules"]


@pytest.fixture
def redis_url(server: RedisServer) -> str:
    """Other processes cannot reach fakeredis."""
    return server.url


@pytest.fixture
def board(settings: Settings, tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Its URL and its process; not yet listening."""
    packages = next((each for each in INSTALLED if (each / "@bull-board" / "express").is_dir()), None)
    skip_without_node(packages)
    assert packages is not None
    (tmp_path / "server.mjs").write_text((DEPLOY / "bull-board" / "server.mjs").read_text())
    (tmp_path / "node_modules").symlink_to(packages)
    port = str(free_port())
    variables = {"REDIS_URL": settings.redis_url, "QUEUE_PREFIX": settings.queue_prefix, "PORT": port}
    with subprocess.Popen(["node", "server.mjs"], cwd=tmp_path, env={**os.environ, **variables}) as process:
        yield f"http://127.0.0.1:{port}", process
        process.kill()


async def test_it_shows_the_mails_that_wait_and_ends_at_sigterm(
    board: tuple[str, subprocess.Popen[bytes]], settings: Settings
) -> None:
    url, process = board
    async with open_queue(settings) as queue, httpx.AsyncClient(base_url=url, trust_env=False) as client:
        await enqueue_invite(queue, Invite(id="7", to="ada@example.org"))

        async def shown() -> Any:
            with suppress(httpx.ConnectError):
                return (await client.get("/api/queues", params={"activeQueue": "email", "status": "waiting"})).json()

        (found,) = (await wait_until(shown, timeout=20))["queues"]
        assert (found["name"], found["counts"]["waiting"]) == ("email", 1)
        assert [(job["id"], job["data"]["to"]) for job in found["jobs"]] == [("invite-7", "ada@example.org")]
        assert (await client.get("/livez")).text == "ok\n"

        process.send_signal(signal.SIGTERM)
        await wait_until(lambda: process.poll() is not None, timeout=20)
    assert process.returncode == 0
