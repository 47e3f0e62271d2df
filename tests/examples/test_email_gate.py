"""The gate: a pause of the server and an open circuit stop every instance, spend no attempt, and end by themselves."""

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from examples.email_service.gate import Gate, GateClosed
from examples.email_service.instance import Instance
from examples.email_service.jobs import EmailQueue, enqueue_invite, open_queue
from examples.email_service.payloads import Invite
from examples.email_service.settings import Settings
from examples.email_service.shared import ServiceKeys, open_redis
from examples.email_service.smtp_pool import ServerUnavailable
from examples.email_service.smtp_sink import SmtpSink
from pyqueue import JobState
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.needs_server, pytest.mark.timeout(60)]


@pytest.fixture
async def queue(settings: Settings) -> AsyncIterator[EmailQueue]:
    async with open_queue(settings) as opened:
        yield opened


@pytest.fixture
async def redis(settings: Settings) -> AsyncIterator[Redis]:
    async with open_redis(settings) as client:
        yield client


@pytest.fixture
def quick(settings: Settings) -> Settings:
    """Three failures open the circuit, and the first probe comes soon."""
    return settings.model_copy(update={"smtp_breaker_failures": 3, "smtp_breaker_cooldown": 1})


@asynccontextmanager
async def workers(settings: Settings, count: int = 2) -> AsyncIterator[list[Instance]]:
    """So many worker instances."""
    instances = [Instance(settings.model_copy(update={"instance_id": f"worker-{n}"}), "worker") for n in range(count)]
    async with AsyncExitStack() as stack:
        for instance in instances:
            await stack.enter_async_context(instance.lifespan())
        yield instances


def gates(settings: Settings, redis: Redis, queue: EmailQueue) -> tuple[Gate, Gate]:
    """The gate as two instances see it."""
    keys = ServiceKeys.of(settings)
    one, other = (settings.model_copy(update={"instance_id": name}) for name in ("one", "other"))
    return Gate(redis, keys, queue, one), Gate(redis, keys, queue, other)


async def test_a_pause_is_seen_by_all_instances_and_runs_out(quick: Settings, redis: Redis, queue: EmailQueue) -> None:
    one, other = gates(quick, redis, queue)
    await one.check()

    await one.pause("421 later", 2)

    with pytest.raises(GateClosed, match="asked for a pause: 421 later") as closed:
        await other.check()
    assert 0 < closed.value.wait_ms <= 2000
    assert (await other.state()).reason == "421 later"

    async def passes() -> bool:
        return (await other.state()).is_open_for_mails

    await wait_until(passes)
    await other.check()


async def test_failures_of_different_instances_in_a_row_open_the_circuit(
    quick: Settings, redis: Redis, queue: EmailQueue
) -> None:
    one, other = gates(quick, redis, queue)

    await one.failed("refused")
    await other.failed("refused")
    await one.check()
    await other.failed("refused")

    for gate in (one, other):
        with pytest.raises(GateClosed, match="the circuit is open: refused"):
            await gate.check()


async def test_a_mail_that_is_accepted_in_between_keeps_the_circuit_closed(
    quick: Settings, redis: Redis, queue: EmailQueue
) -> None:
    one, other = gates(quick, redis, queue)
    for _ in range(3):
        await one.failed("too many connections")
        await one.failed("too many connections")
        await other.check()
        await other.succeeded()

    assert (await one.state()).circuit == "closed"


async def test_one_instance_at_a_time_probes_and_the_first_success_closes_the_circuit(
    quick: Settings, redis: Redis, queue: EmailQueue
) -> None:
    one, other = gates(quick, redis, queue)
    for _ in range(3):
        await one.failed("refused")
    probes: list[str] = []

    async def fails() -> None:
        probes.append("failed")
        raise ServerUnavailable("refused")

    async def succeeds() -> None:
        probes.append("succeeded")

    async def cooldown_is_over() -> bool:
        return not await redis.exists(ServiceKeys.of(quick).cooldown)

    await wait_until(cooldown_is_over)
    await one.probe_if_due(fails)
    await other.probe_if_due(succeeds)  # not its turn: the next cooldown has begun
    assert (probes, (await one.state()).probes) == (["failed"], 1)

    await wait_until(cooldown_is_over)
    await other.probe_if_due(succeeds)
    await one.probe_if_due(succeeds)  # nothing left to probe
    assert (probes, (await one.state()).circuit) == (["failed", "succeeded"], "closed")
    assert await queue.limits.ttl() == -2


async def test_a_server_that_is_gone_opens_the_circuit_and_its_return_sends_everything_without_spent_attempts(
    quick: Settings, sink: SmtpSink, queue: EmailQueue, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    sink.close()
    async with workers(quick) as instances:
        for number in range(30):
            await enqueue_invite(queue, Invite(id=str(number), to=f"guest-{number}@example.test"))

        async def circuit_is_open() -> bool:
            return (await instances[0].gate.state()).probes > 0

        await wait_until(circuit_is_open)
        assert sum(one.sender.mailer.pool.connect_failures for one in instances if one.sender) < 60
        await sink.open()
        await sink.ledger.until(lambda: sink.ledger.deliveries == 30)
        await wait_until(lambda: _all_completed(queue, 30))

    assert max(sink.ledger.accepted.values()) == 1
    assert [job.attempts_made for job in await queue.jobs.list(JobState.COMPLETED)] == [1] * 30
    events = [record.getMessage() for record in caplog.records]
    assert events.count("circuit opened") == 1
    assert events.count("circuit closed") == 1


async def test_a_pause_of_the_server_is_honoured_by_all_instances_and_spends_no_attempt(
    settings: Settings, sink: SmtpSink, queue: EmailQueue
) -> None:
    async with workers(settings):
        sink.pause(1)
        for number in range(40):
            await enqueue_invite(queue, Invite(id=str(number), to=f"guest-{number}@example.test"))
        await sink.ledger.until(lambda: sink.ledger.deliveries == 40)
        await wait_until(lambda: _all_completed(queue, 40))

    # At most what both instances had in their hands when the first answer came.
    assert sink.ledger.pauses <= 2 * settings.email_concurrency
    assert [job.attempts_made for job in await queue.jobs.list(JobState.COMPLETED)] == [1] * 40


async def _all_completed(queue: EmailQueue, count: int) -> bool:
    counts: dict[Any, int] = await queue.jobs.counts()
    return counts[JobState.COMPLETED] == count
