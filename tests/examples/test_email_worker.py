"""The e-mail worker: what each answer of the mail server does to the job."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from examples.email_service.instance import Instance
from examples.email_service.jobs import EmailJob, EmailQueue, enqueue_invite, enqueue_test, open_queue
from examples.email_service.payloads import Invite, TestEmail
from examples.email_service.settings import Settings
from examples.email_service.smtp_sink import SmtpSink
from pyqueue import JobState
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.needs_server]


@pytest.fixture
async def queue(settings: Settings) -> AsyncIterator[EmailQueue]:
    async with open_queue(settings) as opened:
        yield opened


async def work_until(queue: EmailQueue, settings: Settings, **wanted: int) -> None:
    """Run a worker of these settings until the counts of these states are as wanted."""
    async with Instance(settings, "worker").lifespan():
        await wait_for_counts(queue, **wanted)


async def wait_for_counts(queue: EmailQueue, **wanted: int) -> None:
    async def reached() -> bool:
        counts = await queue.jobs.counts()
        return all(counts[JobState(state)] == count for state, count in wanted.items())

    await wait_until(reached)


async def stored(queue: EmailQueue, job_id: str) -> EmailJob:
    job = await queue.jobs.get(job_id)
    assert job is not None
    return job


async def test_an_accepted_mail_completes_its_job_with_the_message_id(
    queue: EmailQueue, settings: Settings, sink: SmtpSink
) -> None:
    await enqueue_invite(queue, Invite(id="1", to="guest@example.test"))

    await work_until(queue, settings, completed=1)

    job = await stored(queue, "invite-1")
    assert job.return_value == {"message_id": "<invite-1@example.org>", "instance": "instance-1"}
    assert job.processed_by == "instance-1"
    assert sink.ledger.deliveries == 1


async def test_a_test_mail_is_sent(queue: EmailQueue, settings: Settings, sink: SmtpSink) -> None:
    job = await enqueue_test(queue, TestEmail(to="guest@example.test"))

    await work_until(queue, settings, completed=1)

    assert dict(sink.ledger.accepted) == {(f"<{job.id}@example.org>", "guest@example.test"): 1}


async def test_a_4xx_is_retried_after_two_seconds_and_the_mail_arrives_once(
    queue: EmailQueue, settings: Settings, sink: SmtpSink
) -> None:
    await enqueue_invite(queue, Invite(id="1", to="greylisted-1@example.test"))

    await work_until(queue, settings, completed=1)

    job = await stored(queue, "invite-1")
    assert job.attempts_made == 2
    assert job.finished_on is not None
    assert job.finished_on - job.timestamp >= 2000
    assert (sink.ledger.deliveries, sink.ledger.deferred.total()) == (1, 1)


async def test_a_5xx_is_dead_after_one_attempt_with_the_answer_as_reason(
    queue: EmailQueue, settings: Settings, sink: SmtpSink
) -> None:
    await enqueue_invite(queue, Invite(id="1", to="unknown-1@example.test"))

    await work_until(queue, settings, failed=1)

    job = await stored(queue, "invite-1")
    assert job.attempts_made == 1
    assert "550 5.1.1 no such mailbox" in (job.failed_reason or "")
    assert (sink.ledger.deliveries, sink.ledger.refused.total()) == (0, 1)


async def test_a_mail_waits_for_a_server_that_is_down(
    queue: EmailQueue, settings: Settings, free_tcp_port: int
) -> None:
    await enqueue_invite(queue, Invite(id="1", to="guest@example.test"))

    await work_until(queue, settings.model_copy(update={"smtp_port": free_tcp_port}), delayed=1)

    assert (await stored(queue, "invite-1")).attempts_made == 0


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("invite", {"id": "1", "to": "nobody"}, "not an e-mail address"),
        ("invite", None, "bad payload"),
        ("newsletter", {"to": "guest@example.test"}, "unknown job name 'newsletter'"),
    ],
)
async def test_a_job_of_another_producer_that_we_do_not_understand_is_dead_at_once(
    queue: EmailQueue, settings: Settings, name: str, data: Any, reason: str
) -> None:
    job = await queue.add(name, data)

    await work_until(queue, settings, failed=1)

    assert reason in ((await stored(queue, job.id)).failed_reason or "")


async def test_a_duplicate_posted_after_the_mail_was_sent_sends_nothing(
    queue: EmailQueue, settings: Settings, sink: SmtpSink
) -> None:
    await enqueue_invite(queue, Invite(id="1", to="guest@example.test"))
    await work_until(queue, settings, completed=1)

    await enqueue_invite(queue, Invite(id="1", to="guest@example.test"))
    await enqueue_invite(queue, Invite(id="2", to="guest@example.test"))
    await work_until(queue, settings, completed=2)

    assert sink.ledger.deliveries == 2
    assert max(sink.ledger.accepted.values()) == 1
