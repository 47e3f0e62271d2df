"""The instances as processes: what SIGTERM does, and what is said when one does not come up."""

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import httpx
import pytest

from examples.email_service.demo import API, WORKER, start_child
from examples.email_service.jobs import EmailQueue, enqueue_invite, open_queue
from examples.email_service.logs import read_line
from examples.email_service.payloads import Invite
from examples.email_service.processes import Child, ChildFailed, Crew
from examples.email_service.settings import Settings
from examples.email_service.smtp_sink import SmtpSink
from pyqueue import JobState
from tests.support.server import RedisServer

pytestmark = [pytest.mark.anyio, pytest.mark.needs_server, pytest.mark.timeout(60)]

SLOW = Invite(id="1", to="slow-1@example.test")


@pytest.fixture
async def queue(settings: Settings) -> AsyncIterator[EmailQueue]:
    async with open_queue(settings) as opened:
        yield opened


@pytest.fixture
async def crew(tmp_path: Path) -> AsyncIterator[Crew]:
    async with Crew(tmp_path) as running:
        yield running


async def test_sigterm_lets_a_worker_finish_the_mail_that_it_sends(
    queue: EmailQueue, settings: Settings, sink: SmtpSink, crew: Crew
) -> None:
    worker = await start_child(crew, "worker-1", WORKER, settings)
    await enqueue_invite(queue, SLOW)
    await sink.ledger.until(lambda: sink.ledger.receiving == 1)

    assert await worker.terminate(timeout=20) == 0

    assert sink.ledger.deliveries == 1
    assert await queue.jobs.state(SLOW.job_id) == JobState.COMPLETED


async def test_at_the_deadline_a_worker_hands_its_mail_back_and_spends_no_attempt(
    queue: EmailQueue, settings: Settings, crew: Crew
) -> None:
    async with SmtpSink(slow_s=600) as stuck:
        impatient = settings.model_copy(update={"shutdown_timeout": 3, "smtp_port": stuck.port, "smtp_timeout": 600})
        worker = await start_child(crew, "worker-1", WORKER, impatient)
        await enqueue_invite(queue, SLOW)
        await stuck.ledger.until(lambda: stuck.ledger.receiving == 1)

        assert await worker.terminate(timeout=3.5) == 0
        await stuck.ledger.until(lambda: stuck.ledger.receiving == 0)

    job = await queue.jobs.get(SLOW.job_id)
    assert job is not None
    assert await job.state() == JobState.WAITING
    assert job.attempts_made == 0
    assert stuck.ledger.deliveries == 0


async def test_sigterm_lets_an_api_with_a_worker_finish_both(
    queue: EmailQueue, settings: Settings, sink: SmtpSink, crew: Crew
) -> None:
    both = settings.model_copy(update={"start_email_worker": True})
    api = await start_child(crew, "api-1", API, both)
    port = (await api.wait_for_event("listening"))["port"]
    async with httpx.AsyncClient() as client:
        response = await client.post(f"http://127.0.0.1:{port}/api/invites", json=SLOW.model_dump())
    assert response.status_code == 202
    await sink.ledger.until(lambda: sink.ledger.receiving == 1)

    assert await api.terminate(timeout=20) == 0

    assert sink.ledger.deliveries == 1
    assert await queue.jobs.state(SLOW.job_id) == JobState.COMPLETED


@pytest.mark.parametrize("module", [API, WORKER])
async def test_without_redis_sigterm_still_ends_with_0_by_the_deadline(
    settings: Settings, sink: SmtpSink, crew: Crew, tmp_path: Path, module: str
) -> None:
    """Redis falls silent (it is stopped, not dead) while a mail is being sent, whose outcome can then not be stored."""
    with RedisServer.started(tmp_path) as redis_server:
        both = {"start_email_worker": True, "shutdown_timeout": 4.0, "redis_url": redis_server.url}
        child = await start_child(crew, "instance-1", module, settings.model_copy(update=both))
        await child.wait_for_event("worker ready")
        async with open_queue(settings.model_copy(update=both)) as queue:
            await enqueue_invite(queue, SLOW)
        await sink.ledger.until(lambda: sink.ledger.receiving == 1)
        os.kill(redis_server.pid, signal.SIGSTOP)

        assert await child.terminate(timeout=6) == 0
        os.kill(redis_server.pid, signal.SIGCONT)


async def test_a_posted_invite_is_answered_although_sigterm_has_come(
    queue: EmailQueue, settings: Settings, crew: Crew
) -> None:
    """Requests in progress are answered, new ones find nobody."""
    api = await start_child(crew, "api-1", API, settings)
    url = f"http://127.0.0.1:{(await api.wait_for_event('listening'))['port']}/api/invites"
    body = SLOW.model_dump_json().encode()
    ended: list[int] = []

    async def terminate() -> None:
        ended.append(await api.terminate(timeout=20))

    async with anyio.create_task_group() as tasks, httpx.AsyncClient() as client:

        async def slowly() -> AsyncIterator[bytes]:
            yield body[:10]
            tasks.start_soon(terminate)
            await api.wait_for_event("shutting down")
            yield body[10:]

        response = await client.post(url, content=slowly())
        assert (response.status_code, response.json()["job_id"]) == (202, SLOW.job_id)
    assert ended == [0]
    with pytest.raises(httpx.ConnectError):
        async with httpx.AsyncClient() as client:
            await client.post(url, content=body)
    assert await queue.jobs.state(SLOW.job_id) == JobState.WAITING


async def test_every_log_line_bears_the_instance_id(queue: EmailQueue, settings: Settings, crew: Crew) -> None:
    worker = await start_child(crew, "worker-1", WORKER, settings)
    await enqueue_invite(queue, Invite(id="1", to="guest@example.test"))

    sent = await worker.wait_for_event("mail sent")
    closing = await _terminated(worker)

    assert (sent["instance"], sent["job_id"], sent["attempt"]) == ("worker-1", "invite-1", 1)
    assert (closing["completed"], closing["accepted"]) == (1, 1)
    lines = [read_line(line) for line in worker.log_path.read_text().splitlines()]
    assert {line.get("instance") for line in lines} == {"worker-1"}


async def _terminated(child: Child) -> dict[str, object]:
    assert await child.terminate(timeout=20) == 0
    return await child.wait_for_event("worker closed")


async def test_a_child_that_does_not_come_up_is_reported_with_the_end_of_its_log(crew: Crew) -> None:
    environment = {**os.environ, "SMTP_PORT": "no number"}
    child = await crew.start("worker-1", WORKER, environment)

    with pytest.raises(ChildFailed, match=r"worker-1 ended with exit status 1(.|\n)*bad configuration: SMTP_PORT"):
        await child.wait_for_event("worker ready")
