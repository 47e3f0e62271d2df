"""Sending through a real SMTP server: what counts as accepted, deferred and refused."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import aiosmtplib
import anyio
import pytest

from examples.email_service.addresses import check_address
from examples.email_service.mail import (
    MailDeferred,
    Mailer,
    MailRefused,
    ServerPaused,
    judge,
    pause_in,
    render_invite,
    render_test,
)
from examples.email_service.payloads import Invite, TestEmail
from examples.email_service.settings import Settings
from examples.email_service.smtp_pool import ServerUnavailable
from examples.email_service.smtp_sink import SmtpSink

pytestmark = pytest.mark.anyio


NO_REDIS = "redis://nowhere.invalid"


def settings_for(sink: SmtpSink, **more: Any) -> Settings:
    values: dict[str, Any] = {
        "smtp_host": sink.host,
        "smtp_port": sink.port,
        "smtp_timeout": 5,
        "email_concurrency": 10,
        **more,
    }
    return Settings(redis_url=NO_REDIS, **values)


@pytest.fixture
async def mailer(sink: SmtpSink) -> AsyncIterator[Mailer]:
    opened = Mailer.from_settings(settings_for(sink))
    yield opened
    await opened.close()


async def test_an_accepted_mail_bears_the_message_id_of_its_key(mailer: Mailer, sink: SmtpSink) -> None:
    await mailer.send(render_invite(Invite(id="7", to="guest@example.test")), key="invite-7")

    assert dict(sink.ledger.accepted) == {("<invite-7@example.org>", "guest@example.test"): 1}


async def test_a_4xx_defers_the_mail_and_the_next_attempt_is_accepted(mailer: Mailer, sink: SmtpSink) -> None:
    invite = Invite(id="7", to="greylisted-7@example.test")

    with pytest.raises(MailDeferred, match="450"):
        await mailer.send(render_invite(invite), key=invite.job_id)
    await mailer.send(render_invite(invite), key=invite.job_id)

    assert sink.ledger.deliveries == 1
    assert sink.ledger.deferred.total() == 1


async def test_a_5xx_about_the_recipient_refuses_the_mail(mailer: Mailer, sink: SmtpSink) -> None:
    with pytest.raises(MailRefused, match="550"):
        await mailer.send(render_invite(Invite(id="7", to="unknown-7@example.test")), key="invite-7")

    assert sink.ledger.deliveries == 0


async def test_a_server_that_cannot_be_reached_is_not_the_fault_of_the_mail(sink: SmtpSink, free_tcp_port: int) -> None:
    mailer = Mailer.from_settings(settings_for(sink, smtp_port=free_tcp_port))

    with pytest.raises(ServerUnavailable, match=f"127.0.0.1:{free_tcp_port}"):
        await mailer.send(render_test(TestEmail(to="guest@example.test")), key="1")


async def test_a_mail_that_is_cancelled_while_the_server_thinks_is_given_up_at_once(
    mailer: Mailer, sink: SmtpSink
) -> None:
    message = render_test(TestEmail(to="slow-1@example.test"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(mailer.send, message, key="1"))
        await sink.ledger.until(lambda: sink.ledger.receiving == 1)
        tasks.cancel_scope.cancel()
    await sink.ledger.until(lambda: sink.ledger.receiving == 0)

    assert sink.ledger.deliveries == 0


async def test_a_server_that_does_not_answer_in_time_defers_the_mail_which_it_may_have(sink: SmtpSink) -> None:
    mailer = Mailer.from_settings(settings_for(sink, smtp_timeout=1))

    with pytest.raises(MailDeferred) as deferral:
        await mailer.send(render_test(TestEmail(to="slow-1@example.test")), key="1")

    assert deferral.value.may_have_it


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (aiosmtplib.SMTPDataError(452, "disk full"), MailDeferred),
        (aiosmtplib.SMTPRecipientRefused(450, "greylisted", "a@example.test"), MailDeferred),
        (aiosmtplib.SMTPDataError(554, "this is spam"), MailRefused),
        (aiosmtplib.SMTPSenderRefused(553, "not your domain", "invites@example.org"), MailRefused),
        (aiosmtplib.SMTPRecipientRefused(550, "unknown", "a@example.test"), MailRefused),
        (aiosmtplib.SMTPSenderRefused(421, "closing", "invites@example.org"), ServerPaused),
    ],
    ids=lambda value: str(getattr(value, "code", "")) or value.__name__,
)
def test_a_5xx_is_final_a_421_concerns_everybody_and_the_rest_may_pass(
    error: aiosmtplib.SMTPResponseException, meaning: type[Exception]
) -> None:
    assert type(judge(error)) is meaning


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("421 4.7.0 try again in 30 seconds", 30),
        ("421 too many messages, wait 2 min", 120),
        ("421 closing transmission channel", None),
        ("421 come back in 99999 minutes", 600),
    ],
)
def test_a_pause_lasts_as_long_as_the_server_says_but_at_most_ten_minutes(text: str, seconds: float | None) -> None:
    assert pause_in(text) == seconds


@pytest.mark.parametrize("address", ["a@example.org", "first.last+tag@sub.example.org", "o'neil@example.museum"])
def test_ordinary_addresses_are_taken(address: str) -> None:
    assert check_address(address) == address


@pytest.mark.parametrize(
    "address",
    [
        "",
        "a",
        "@example.org",
        "a@",
        "a@localhost",
        "a b@example.org",
        "a@exa mple.org",
        "a@example..org",
        "a@-example.org",
        "a@example.org\r\nBcc: all@example.org",
        "a@example.org\n",
        "Ada <a@example.org>",
        "a@example.org, b@example.org",
        f"{'a' * 65}@example.org",
        f"a@{'b.' * 126}org",
    ],
)
def test_what_is_not_one_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="not an e-mail address"):
        check_address(address)
