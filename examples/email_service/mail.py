"""Mails and the mail server: renders a job's payload as a message, sends it, and tells what the answer means.

Knows SMTP and nothing of the queue; `worker` turns these errors into what the queue should do. Connections come from
`smtp_pool`.
"""

import re
from collections.abc import Awaitable, Callable
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate

import aiosmtplib

from examples.email_service.payloads import Invite, TestEmail
from examples.email_service.settings import Settings
from examples.email_service.smtp_pool import ServerUnavailable, Session, SmtpPool

# Seven bits suffice for every server, with or without 8BITMIME.
_POLICY = SMTP.clone(cte_type="7bit")

_SERVICE_CLOSING = 421

# "try again in 30 seconds", "wait 2 min": bounded, because a server may say anything.
_PAUSE = re.compile(r"\b(\d{1,6})\s*(s|sec|secs|seconds?|m|min|mins|minutes?)\b", re.IGNORECASE)
_MAX_PAUSE_S = 600.0


Step = Callable[[], Awaitable[None]]


class MailRefused(Exception):
    """The mail server refused this mail for good (5xx): sending it again would be refused again."""


class MailDeferred(Exception):
    """The mail was not accepted now (4xx, connection lost, no reply in time) but may be later."""

    def __init__(self, reason: str, *, may_have_it: bool = False) -> None:
        """`may_have_it`: the content was under way when the connection broke, so the server may have taken the mail."""
        super().__init__(reason)
        self.may_have_it = may_have_it


class ServerPaused(Exception):
    """The server asks everybody to come back later (421); `seconds` if it says when, else None."""

    def __init__(self, reason: str, seconds: float | None) -> None:
        super().__init__(reason)
        self.seconds = seconds


def render_invite(invite: Invite) -> EmailMessage:
    """The message of an invite, without sender, date and id."""
    message = EmailMessage()
    message["To"] = invite.to
    message["Subject"] = f"You are invited to {invite.course}"
    message.set_content(f"Hello,\n\nyou are invited to {invite.course}.\nYour invitation: {invite.id}\n")
    return message


def render_test(email: TestEmail) -> EmailMessage:
    """The message of a test mail, without sender, date and id."""
    message = EmailMessage()
    message["To"] = email.to
    message["Subject"] = email.subject
    message.set_content(email.text)
    return message


def message_id(key: str, sender: str) -> str:
    """The Message-ID of the mail with this key, in the domain of the sender."""
    return f"<{key}@{sender.rpartition('@')[2]}>"


async def _at_once() -> None:
    """Nothing to wait for."""


class Mailer:
    """Sends messages through one mail server; any number of mails at a time, over the connections of its pool."""

    def __init__(self, pool: SmtpPool, sender: str) -> None:
        self.pool = pool
        self.sender = sender

    @classmethod
    def from_settings(cls, settings: Settings) -> "Mailer":
        """The mailer of an instance, with a pool of its own."""
        return cls(SmtpPool(settings), settings.email_from)

    def message_id(self, key: str) -> str:
        """The Message-ID of the mail with this key: equal on every attempt, so that a second copy can be recognised."""
        return message_id(key, self.sender)

    async def send(
        self, message: EmailMessage, *, key: str, may_connect: Step = _at_once, may_send: Step = _at_once
    ) -> str:
        """Hand the message to the server and return its reply. `key` names the mail for good (see `message_id`).

        `may_connect` is awaited when it is this mail's turn, `may_send` when its connection is ready; what they raise
        passes through. Raises MailRefused (5xx to sender, recipient or content), ServerPaused (421), ServerUnavailable
        (no session) or MailDeferred (everything else that may pass). Once the server has accepted, the mail is done.
        """
        message["From"] = self.sender
        message["Date"] = formatdate()
        message["Message-ID"] = self.message_id(key)
        recipient, content = str(message["To"]), message.as_bytes(policy=_POLICY)
        async with self.pool.turn() as turn:
            await may_connect()
            session = await turn.connect()
            await may_send()
            try:
                return await self._transfer(session, recipient, content)
            except _WentStale:
                return await self._transfer(await turn.connect(fresh=True), recipient, content)

    async def _transfer(self, session: Session, recipient: str, content: bytes) -> str:
        await self._begin(session)
        try:
            await session.client.rcpt(recipient)
            return (await session.client.data(content)).message
        except aiosmtplib.SMTPResponseException as error:
            await _reset(session)
            raise judge(error) from error
        except aiosmtplib.SMTPException as error:
            session.client.close()
            raise MailDeferred(_text(error), may_have_it=True) from error

    async def _begin(self, session: Session) -> None:
        """Name the sender. A warm session may turn out to be closed: the mail then takes another one."""
        try:
            await session.client.mail(self.sender)
        except aiosmtplib.SMTPServerDisconnected as error:
            if session.is_warm:
                raise _WentStale from error
            raise MailDeferred(_text(error)) from error
        except aiosmtplib.SMTPResponseException as error:
            if session.is_warm and error.code == _SERVICE_CLOSING:
                raise _WentStale from error
            await _reset(session)
            raise judge(error) from error
        except aiosmtplib.SMTPException as error:
            session.client.close()
            raise MailDeferred(_text(error)) from error

    async def close(self) -> None:
        """Close the connections."""
        await self.pool.close()


class _WentStale(Exception):
    """The server had closed a warm connection before we used it again."""


def judge(error: aiosmtplib.SMTPResponseException) -> MailRefused | MailDeferred | ServerPaused:
    """What an answer of the server in the middle of a mail means for the mail, and for the others."""
    text = _text(error)
    if error.code == _SERVICE_CLOSING:
        return ServerPaused(text, pause_in(text))
    return MailRefused(text) if error.code >= 500 else MailDeferred(text)


def pause_in(text: str) -> float | None:
    """Seconds that the server's text names, at most ten minutes; None if it names none."""
    found = _PAUSE.search(text)
    if found is None:
        return None
    seconds = int(found[1]) * (60 if found[2].lower().startswith("m") else 1)
    return min(float(seconds), _MAX_PAUSE_S)


async def _reset(session: Session) -> None:
    """Make the session ready for another mail; where that fails it is closed, and the pool drops it."""
    try:
        await session.client.rset()
    except (aiosmtplib.SMTPException, ConnectionError):
        session.client.close()


def _text(error: Exception) -> str:
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return f"{error.code} {error.message}"
    return str(error) or type(error).__name__


__all__ = [
    "MailDeferred",
    "MailRefused",
    "Mailer",
    "ServerPaused",
    "ServerUnavailable",
    "judge",
    "message_id",
    "pause_in",
    "render_invite",
    "render_test",
]
