"""Sending through a real SMTP server: what counts as accepted, deferred and refused."""

import asyncio
from functools import partial

import aiosmtplib
import anyio
import pytest

from examples.email_service.addresses import check_address
from examples.email_service.mail import MailDeferred, Mailer, MailRefused, judge, render_invite, render_test
from examples.email_service.payloads import Invite, TestEmail
from examples.email_service.smtp_sink import SmtpSink

pytestmark = pytest.mark.anyio


@pytest.fixture
def mailer(sink: SmtpSink) -> Mailer:
    return Mailer(sink.host, sink.port, timeout=5, sender="invites@example.org")


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


async def test_a_server_that_cannot_be_reached_defers_the_mail(free_tcp_port: int) -> None:
    mailer = Mailer("127.0.0.1", free_tcp_port, timeout=5, sender="invites@example.org")

    with pytest.raises(MailDeferred):
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


async def test_a_mail_that_is_cancelled_after_it_was_accepted_counts_as_sent() -> None:
    farewell = asyncio.Event()
    answers = [b"250 hello", b"250 ok", b"250 ok", b"354 go on", b"250 accepted"]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 welcome\r\n")
        while (line := await reader.readline()) != b"QUIT\r\n":
            if line.startswith((b"EHLO", b"MAIL", b"RCPT", b"DATA\r", b".\r")):
                writer.write(answers.pop(0) + b"\r\n")
        farewell.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        mailer = Mailer("127.0.0.1", server.sockets[0].getsockname()[1], timeout=5, sender="invites@example.org")
        sending = asyncio.create_task(mailer.send(render_test(TestEmail(to="a@example.test")), key="1"))
        await farewell.wait()
        sending.cancel()

        assert await sending == "accepted"


async def test_a_server_that_does_not_answer_in_time_defers_the_mail(sink: SmtpSink) -> None:
    mailer = Mailer(sink.host, sink.port, timeout=0.1, sender="invites@example.org")

    with pytest.raises(MailDeferred):
        await mailer.send(render_test(TestEmail(to="slow-1@example.test")), key="1")


@pytest.mark.parametrize(
    "error",
    [
        aiosmtplib.SMTPConnectResponseError(554, "no service here"),
        aiosmtplib.SMTPHeloError(550, "go away"),
        aiosmtplib.SMTPAuthenticationError(535, "wrong password"),
        aiosmtplib.SMTPServerDisconnected("connection lost"),
        aiosmtplib.SMTPDataError(452, "disk full"),
        aiosmtplib.SMTPSenderRefused(421, "closing", "invites@example.org"),
    ],
    ids=lambda error: f"{type(error).__name__}-{getattr(error, 'code', 'none')}",
)
def test_what_is_not_a_5xx_about_the_mail_may_pass(error: aiosmtplib.SMTPException) -> None:
    assert isinstance(judge(error), MailDeferred)


@pytest.mark.parametrize(
    "error",
    [
        aiosmtplib.SMTPDataError(554, "this is spam"),
        aiosmtplib.SMTPSenderRefused(553, "not your domain", "invites@example.org"),
        aiosmtplib.SMTPRecipientsRefused([aiosmtplib.SMTPRecipientRefused(550, "unknown", "a@example.test")]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_5xx_about_the_mail_is_final(error: aiosmtplib.SMTPException) -> None:
    assert isinstance(judge(error), MailRefused)


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
