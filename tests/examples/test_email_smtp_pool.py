"""The pool: connections stay warm, are never too many, are secured and logged in, and a dead one costs no mail."""

import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from examples.email_service import smtp_pool
from examples.email_service.mail import MailDeferred, Mailer, ServerPaused, render_test
from examples.email_service.payloads import TestEmail
from examples.email_service.settings import Settings
from examples.email_service.smtp_pool import ServerUnavailable
from examples.email_service.smtp_sink import SmtpSink
from tests.support.waiting import wait_until

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def mailing(sink: SmtpSink, **more: Any) -> AsyncIterator[Mailer]:
    values: dict[str, Any] = {"smtp_port": sink.port, "smtp_timeout": 5, "email_concurrency": 20, **more}
    mailer = Mailer.from_settings(Settings(redis_url="redis://nowhere.invalid", smtp_host="127.0.0.1", **values))
    try:
        yield mailer
    finally:
        await mailer.close()


async def send(mailer: Mailer, number: int, to: str = "guest") -> None:
    await mailer.send(render_test(TestEmail(to=f"{to}-{number}@example.test")), key=str(number))


async def send_at_once(mailer: Mailer, count: int, to: str = "guest") -> None:
    async with anyio.create_task_group() as tasks:
        for number in range(count):
            tasks.start_soon(send, mailer, number, to)


async def test_mails_one_after_another_share_one_connection(sink: SmtpSink) -> None:
    async with mailing(sink) as mailer:
        for number in range(10):
            await send(mailer, number)

        assert (mailer.pool.opened, mailer.pool.connections, mailer.pool.in_use) == (1, 1, 0)
    assert (sink.ledger.deliveries, sink.ledger.connections) == (10, 1)
    await wait_until(lambda: not sink.clients)


async def test_many_mails_at_once_use_no_more_connections_than_allowed() -> None:
    async with SmtpSink(slow_s=0.05) as sink, mailing(sink, smtp_max_connections=3) as mailer:
        await send_at_once(mailer, 12, to="slow")

        assert (sink.ledger.deliveries, sink.ledger.connections, sink.ledger.most_connections) == (12, 3, 3)


async def test_a_connection_that_the_server_closed_meanwhile_costs_no_mail(sink: SmtpSink) -> None:
    async with mailing(sink) as mailer:
        await send(mailer, 1)
        for transport in list(sink.clients.values()):
            transport.close()

        await send(mailer, 2)

    assert (sink.ledger.deliveries, sink.ledger.connections) == (2, 2)


async def test_a_refused_recipient_spoils_nothing_for_the_next_mail(sink: SmtpSink) -> None:
    async with mailing(sink) as mailer:
        with pytest.raises(MailDeferred):
            await send(mailer, 1, to="greylisted")
        await send(mailer, 1, to="greylisted")

    assert (sink.ledger.deliveries, sink.ledger.connections) == (1, 1)


async def test_a_connection_serves_a_limited_number_of_mails(sink: SmtpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp_pool, "MAX_MAILS", 2)
    async with mailing(sink) as mailer:
        for number in range(5):
            await send(mailer, number)

    assert (sink.ledger.deliveries, sink.ledger.connections) == (5, 3)


async def test_an_idle_connection_is_closed(sink: SmtpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp_pool, "MAX_IDLE_S", 0.02)
    monkeypatch.setattr(smtp_pool, "SWEEP_S", 0.02)
    async with mailing(sink) as mailer, anyio.create_task_group() as tasks:
        tasks.start_soon(mailer.pool.run)
        await send(mailer, 1)

        await wait_until(lambda: mailer.pool.connections == 0 and not sink.clients)
        tasks.cancel_scope.cancel()


async def test_a_421_is_a_pause_for_the_time_that_the_server_says(sink: SmtpSink) -> None:
    sink.pause(30)
    async with mailing(sink) as mailer:
        with pytest.raises(ServerPaused, match=r"421 4\.7\.0 too much mail") as pause:
            await send(mailer, 1)

    assert pause.value.seconds is not None
    assert 25 < pause.value.seconds <= 30


async def test_a_421_at_the_door_says_nothing_about_the_mail() -> None:
    async with SmtpSink(max_connections=0) as sink, mailing(sink) as mailer:
        with pytest.raises(ServerUnavailable, match=r"421 4\.7\.0 too many connections"):
            await send(mailer, 1)

        assert (mailer.pool.is_up, mailer.pool.connect_failures, mailer.pool.connections) == (False, 1, 0)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Of 127.0.0.1, signed by itself, and its key."""
    directory = tmp_path_factory.mktemp("certificate")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=sink -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([*command.split(), "-keyout", "key", "-out", "crt"], cwd=directory, check=True, capture_output=True)
    return directory / "crt", directory / "key"


@asynccontextmanager
async def secured_sink(certificate: tuple[Path, Path]) -> AsyncIterator[SmtpSink]:
    """A server that takes nothing before STARTTLS and the login of ada."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    async with SmtpSink(tls=context, users={"ada": "secret"}) as sink:
        yield sink


@pytest.mark.parametrize("tls", ["auto", "starttls"])
async def test_a_session_is_secured_and_logged_in_once_for_many_mails(certificate: tuple[Path, Path], tls: str) -> None:
    login = {"smtp_user": "ada", "smtp_pass": "secret", "smtp_tls": tls, "smtp_ca_file": certificate[0]}
    async with secured_sink(certificate) as sink, mailing(sink, **login) as mailer:
        await send(mailer, 1)
        await send(mailer, 2)

        assert (sink.ledger.deliveries, mailer.pool.opened) == (2, 1)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"smtp_pass": "guess"}, "535"),
        ({"smtp_ca_file": None}, "certificate"),
        ({"smtp_tls": "none"}, "AUTH|not supported|530|538"),
    ],
)
async def test_no_login_without_the_right_password_certificate_and_tls(
    certificate: tuple[Path, Path], wrong: dict[str, Any], reason: str
) -> None:
    login = {"smtp_user": "ada", "smtp_pass": "secret", "smtp_tls": "starttls", "smtp_ca_file": certificate[0], **wrong}
    async with secured_sink(certificate) as sink, mailing(sink, **login) as mailer:
        with pytest.raises(ServerUnavailable, match=reason):
            await send(mailer, 1)

    assert sink.ledger.deliveries == 0


async def test_starttls_that_the_server_does_not_offer_is_not_done_without(sink: SmtpSink) -> None:
    async with mailing(sink, smtp_tls="starttls") as mailer:
        with pytest.raises(ServerUnavailable):
            await send(mailer, 1)

    assert sink.ledger.deliveries == 0
