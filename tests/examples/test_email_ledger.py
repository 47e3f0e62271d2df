"""The send ledger: a job that runs twice does not send twice, unless its worker died in the one window that remains."""

import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import redis.exceptions
from redis.asyncio import Redis

from examples.email_service import send_ledger
from examples.email_service.demo import WORKER, start_child
from examples.email_service.instance import Instance
from examples.email_service.jobs import EmailQueue, enqueue_invite, open_queue
from examples.email_service.payloads import Invite
from examples.email_service.processes import Crew
from examples.email_service.send_ledger import Known, SendLedger
from examples.email_service.settings import Settings
from examples.email_service.shared import ServiceKeys, open_redis
from examples.email_service.smtp_sink import SmtpSink
from pyqueue import JobState
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.needs_server]

INVITE = Invite(id="1", to="guest-1@example.test")
SLOW = Invite(id="1", to="slow-1@example.test")


@pytest.fixture
async def queue(settings: Settings) -> AsyncIterator[EmailQueue]:
    async with open_queue(settings) as opened:
        yield opened


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Redis]:
    async with open_redis(settings) as opened:
        yield opened


@pytest.fixture
def ledger(client: Redis, settings: Settings) -> SendLedger:
    return SendLedger(client, ServiceKeys.of(settings), "instance-2")


async def completed(queue: EmailQueue, count: int = 1) -> bool:
    return (await queue.jobs.counts())[JobState.COMPLETED] == count


async def test_a_mail_is_unknown_then_begun_then_accepted(ledger: SendLedger, client: Redis) -> None:
    assert await ledger.known("invite-1") is Known.NOTHING
    await ledger.begin("invite-1")
    assert await ledger.known("invite-1") is Known.UNSURE
    await ledger.accept("invite-1", "250 ok")
    assert await ledger.known("invite-1") is Known.ACCEPTED
    await ledger.forget("invite-1")
    assert await ledger.known("invite-1") is Known.NOTHING


async def test_what_is_known_of_a_mail_is_kept_for_a_week(
    ledger: SendLedger, client: Redis, settings: Settings
) -> None:
    await ledger.accept("invite-1", "250 ok")

    assert 7 * 86400 - 60 < await client.ttl(ServiceKeys.of(settings).sent("invite-1")) <= 7 * 86400


async def test_an_acceptance_is_noted_as_soon_as_redis_takes_notes_again(
    ledger: SendLedger, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is full refuses the write; the mail has been sent all the same."""
    monkeypatch.setattr(send_ledger, "RETRY_S", 0.05)
    refusals = 0
    await client.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            await ledger.begin("invite-1")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ledger.accept, "invite-1", "250 ok")

            async def was_refused() -> bool:
                nonlocal refusals
                refusals = (await client.info("errorstats")).get("errorstat_OOM", {}).get("count", 0)
                return bool(refusals >= 3)

            await wait_until(was_refused)
            await client.config_set("maxmemory", 0)
    finally:
        await client.config_set("maxmemory", 0)

    assert await ledger.known("invite-1") is Known.ACCEPTED


async def test_a_job_whose_mail_was_accepted_completes_without_sending_it_again(
    queue: EmailQueue, settings: Settings, sink: SmtpSink, ledger: SendLedger
) -> None:
    """As after a crash between the note in the ledger and the end of the job."""
    await ledger.accept(INVITE.job_id, "250 ok")
    await enqueue_invite(queue, INVITE)

    instance = Instance(settings, "worker")
    async with instance.lifespan():
        await wait_until(lambda: completed(queue))
        assert instance.sender is not None
        assert instance.sender.tally.results["already_sent"] == 1

    assert sink.ledger.deliveries == 0


async def test_a_job_that_another_producer_added_under_its_own_id_is_the_same_invite(
    queue: EmailQueue, settings: Settings, sink: SmtpSink
) -> None:
    await enqueue_invite(queue, INVITE)
    await queue.add("invite", INVITE.model_dump())

    async with Instance(settings.model_copy(update={"email_concurrency": 1}), "worker").lifespan():
        await wait_until(lambda: completed(queue, 2))

    assert sink.ledger.deliveries == 1


async def test_a_mail_that_the_server_refused_or_deferred_may_be_sent_again(
    queue: EmailQueue, settings: Settings, sink: SmtpSink, ledger: SendLedger
) -> None:
    await enqueue_invite(queue, Invite(id="1", to="greylisted-1@example.test"))
    await enqueue_invite(queue, Invite(id="2", to="unknown-2@example.test"))

    instance = Instance(settings, "worker")
    async with instance.lifespan():
        await wait_until(lambda: completed(queue))
        assert instance.sender is not None
        assert instance.sender.tally.results["unsure"] == 0

    assert await ledger.known("invite-2") is Known.NOTHING


async def killed_while(
    queue: EmailQueue, settings: Settings, sink: SmtpSink, crew: Crew, *, accepted: bool
) -> dict[str, Any]:
    """kill -9 a worker while the server thinks about its mail, or after it has accepted it and before it is noted.

    Returns the log line of the worker that takes the job over.
    """
    quick = settings.model_copy(update={"lock_duration_ms": 1000, "stalled_interval_ms": 500})
    victim = await start_child(crew, "victim", WORKER, quick)
    await enqueue_invite(queue, SLOW)
    await sink.ledger.until(lambda: sink.ledger.receiving == 1)
    if accepted:
        victim.send_signal(signal.SIGSTOP)  # so that it does not see the server's answer
        await sink.ledger.until(lambda: sink.ledger.deliveries == 1)
    await crew.kill("victim")
    successor = await start_child(crew, "successor", WORKER, quick)
    await wait_until(lambda: completed(queue), timeout=20)
    assert await successor.terminate(timeout=20) == 0
    await successor.wait_for_event("mail of a dead worker taken back")
    return await successor.wait_for_event("mail may have been sent before: sending it again")


@pytest.fixture
async def crew(tmp_path: Path) -> AsyncIterator[Crew]:
    async with Crew(tmp_path) as running:
        yield running


@pytest.mark.timeout(60)
async def test_a_mail_that_the_server_did_not_accept_from_a_killed_worker_arrives_once(
    queue: EmailQueue, settings: Settings, sink: SmtpSink, crew: Crew
) -> None:
    line = await killed_while(queue, settings, sink, crew, accepted=False)

    assert line["job_id"] == SLOW.job_id
    assert sink.ledger.deliveries == 1


@pytest.mark.timeout(60)
async def test_a_worker_that_dies_between_acceptance_and_note_is_the_window_that_remains(
    queue: EmailQueue, settings: Settings, sink: SmtpSink, crew: Crew
) -> None:
    """The second copy bears the same Message-ID, and the log says that there may be one."""
    line = await killed_while(queue, settings, sink, crew, accepted=True)

    assert (line["job_id"], line["level"]) == (SLOW.job_id, "warning")
    assert dict(sink.ledger.accepted) == {(f"<{SLOW.job_id}@example.org>", SLOW.to): 2}
