"""The common issues of several instances around one queue: each is provoked, seen, and remedied.

docs/how-to/multi-instance.md describes them for operators.
"""

import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from examples.email_service.instance import Instance
from examples.email_service.jobs import INVITE, EmailQueue, EmailWorker, enqueue_invite, open_queue
from examples.email_service.payloads import Invite
from examples.email_service.settings import Settings
from examples.email_service.smtp_sink import SmtpSink
from pyqueue import JobState, Worker
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.needs_server, pytest.mark.timeout(60)]


@pytest.fixture
async def queue(settings: Settings) -> AsyncIterator[EmailQueue]:
    async with open_queue(settings) as opened:
        yield opened


@asynccontextmanager
async def workers(*settings: Settings) -> AsyncIterator[list[Instance]]:
    """A worker instance of each settings."""
    instances = [
        Instance(one.model_copy(update={"instance_id": f"worker-{n}"}), "worker") for n, one in enumerate(settings, 1)
    ]
    async with AsyncExitStack() as stack:
        for instance in instances:
            await stack.enter_async_context(instance.lifespan())
        yield instances


async def completed(queue: EmailQueue, count: int) -> bool:
    return bool((await queue.jobs.counts())[JobState.COMPLETED] == count)


async def invite(queue: EmailQueue, count: int, to: str = "guest") -> None:
    for number in range(count):
        await enqueue_invite(queue, Invite(id=str(number), to=f"{to}-{number}@example.test"))


# Duplicates.


async def test_duplicates_jobs_without_a_business_key_send_as_often_as_they_are_added(
    queue: EmailQueue, settings: Settings, sink: SmtpSink
) -> None:
    """Two instances get the same order and each makes an invite of its own."""
    for number in (1, 2):
        await queue.add(INVITE, {"id": f"generated-{number}", "to": "ada@example.test"})

    async with workers(settings, settings):
        await wait_until(lambda: completed(queue, 2))

    assert sink.ledger.deliveries == 2


async def test_duplicates_the_remedy_is_an_id_from_the_business_key(
    queue: EmailQueue, settings: Settings, sink: SmtpSink
) -> None:
    """One job while the queue remembers it; the ledger stops what comes later, or under another job id."""
    order = Invite(id="order-4711", to="ada@example.test")
    await enqueue_invite(queue, order)
    await enqueue_invite(queue, order)
    async with workers(settings, settings):
        await wait_until(lambda: completed(queue, 1))
        await queue.jobs.remove(order.job_id)
        await enqueue_invite(queue, order)
        await wait_until(lambda: completed(queue, 1))

    assert sink.ledger.deliveries == 1


# Uneven load.


async def shares(queue: EmailQueue, count: int) -> Counter[str]:
    """Who has sent how many, once the queue goes on: until then all workers have had the time to come up."""
    await queue.resume()
    await wait_until(lambda: completed(queue, count), timeout=15)
    jobs = await queue.jobs.list(JobState.COMPLETED, 0, -1)
    return Counter(job.processed_by or "" for job in jobs)


async def test_uneven_load_an_instance_with_more_slots_takes_more(
    queue: EmailQueue, settings: Settings, sink: SmtpSink
) -> None:
    greedy = settings.model_copy(update={"email_concurrency": 16, "smtp_max_connections": 16})
    modest = settings.model_copy(update={"email_concurrency": 2, "smtp_max_connections": 2})
    async with SmtpSink(slow_s=0.05) as slow:
        address = {"smtp_port": slow.port}
        await queue.pause()
        await invite(queue, 90, to="slow")
        async with workers(greedy.model_copy(update=address), modest.model_copy(update=address)):
            share = await shares(queue, 90)

    assert share["worker-1"] > 3 * share["worker-2"]


async def test_uneven_load_the_remedy_is_the_same_concurrency_everywhere(queue: EmailQueue, settings: Settings) -> None:
    async with SmtpSink(slow_s=0.05) as slow:
        equal = settings.model_copy(update={"email_concurrency": 5, "smtp_port": slow.port})
        await queue.pause()
        await invite(queue, 100, to="slow")
        async with workers(equal, equal):
            share = await shares(queue, 100)

    assert all(40 <= share[name] <= 60 for name in ("worker-1", "worker-2")), share


# Too many connections to the mail server.


@pytest.mark.parametrize(("per_instance", "are_refused"), [(5, True), (2, False)], ids=["the issue", "the remedy"])
async def test_too_many_connections_the_remedy_is_the_servers_limit_shared_among_the_instances(
    queue: EmailQueue, settings: Settings, per_instance: int, are_refused: bool
) -> None:
    """The server allows four connections. Even when it refuses some, every mail arrives, no attempt is spent."""
    await invite(queue, 60, to="slow")
    async with SmtpSink(slow_s=0.02, max_connections=4) as strict:
        one = settings.model_copy(update={"smtp_port": strict.port, "smtp_max_connections": per_instance})
        async with workers(one, one) as instances:
            await wait_until(lambda: completed(queue, 60), timeout=15)
            failures = sum(instance.sender.mailer.pool.connect_failures for instance in instances if instance.sender)

    assert strict.ledger.most_connections <= 4
    assert (strict.ledger.connections_refused > 0, failures > 0) == (are_refused, are_refused)
    assert (strict.ledger.deliveries, max(strict.ledger.accepted.values())) == (60, 1)
    assert {job.attempts_made for job in await queue.jobs.list(JobState.COMPLETED, 0, -1)} == {1}


# Stalled jobs.


async def test_stalled_jobs_are_taken_back_each_with_a_warning_and_a_count(
    settings: Settings, queue: EmailQueue, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker that claimed three mails and was never heard of again. The remedy, a short lock, is in the settings."""
    caplog.set_level(logging.WARNING)
    await invite(queue, 3)
    silent: EmailWorker = Worker(
        settings.queue_name,
        connection=settings.redis_url,
        prefix=settings.queue_prefix,
        lock_duration=500,
        skip_lock_renewal=True,
    )
    claimed = [await silent.get_next_job(f"token:{number}", block=False) for number in range(3)]
    assert all(claimed)
    quick = settings.model_copy(update={"stalled_interval_ms": 500})
    instance = Instance(quick, "worker")
    async with instance.lifespan():
        sender = instance.sender
        assert sender is not None
        await wait_until(lambda: completed(queue, 3))
        await wait_until(lambda: sender.report().stalled == 3)
    await silent.close()

    warnings = [record for record in caplog.records if record.getMessage() == "mail of a dead worker taken back"]
    assert sorted(vars(record)["job_id"] for record in warnings) == ["invite-0", "invite-1", "invite-2"]
    assert {record.levelname for record in warnings} == {"WARNING"}
