"""Mails and the mail server: renders a job's payload as a message, sends it, and tells a refusal from a delay.

Knows SMTP and nothing of the queue; `worker` turns these errors into what the queue should do. One connection per
mail: simple, and right for a server on the same network.
"""

import asyncio
import contextlib
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate

import aiosmtplib

from examples.email_service.payloads import Invite, TestEmail
from examples.email_service.settings import Settings

# A server that has answered about the mail owes us nothing more than a short answer to QUIT.
QUIT_TIMEOUT_S = 2.0


class MailRefused(Exception):
    """The mail server refused this mail for good (5xx): sending it again would be refused again."""


class MailDeferred(Exception):
    """The mail was not accepted now (4xx, no connection, no reply in time, a refused login) but may be later."""


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


@dataclass(frozen=True, slots=True)
class Mailer:
    """Sends messages through one mail server; any number of mails at a time."""

    host: str
    port: int
    timeout: float
    sender: str

    @classmethod
    def from_settings(cls, settings: Settings) -> "Mailer":
        """The mailer of an instance."""
        return cls(settings.smtp_host, settings.smtp_port, settings.smtp_timeout, settings.email_from)

    def message_id(self, key: str) -> str:
        """The Message-ID of the mail with this key: equal on every attempt, so that a second copy can be recognised."""
        return f"<{key}@{self.sender.rpartition('@')[2]}>"

    async def send(self, message: EmailMessage, *, key: str) -> str:
        """Hand the message to the server and return its reply. `key` names the mail for good (see `message_id`).

        Raises MailRefused (5xx to sender, recipient or content) or MailDeferred (everything else that may pass). When
        the connection breaks between the server's acceptance and its reply, the mail counts as deferred: the next
        attempt may deliver a second copy, with the same Message-ID.
        """
        message["From"] = self.sender
        message["Date"] = formatdate()
        message["Message-ID"] = self.message_id(key)
        client = aiosmtplib.SMTP(hostname=self.host, port=self.port, timeout=self.timeout)
        try:
            await client.connect()
            _, reply = await client.send_message(message)
        except aiosmtplib.SMTPException as error:
            await _say_goodbye(client)
            raise judge(error) from error
        except OSError as error:
            raise MailDeferred(f"{self.host}:{self.port}: {error}") from error
        else:
            await _say_goodbye(client)
            return reply
        finally:
            client.close()  # at once when cancelled: a QUIT would wait behind the command in progress


async def _say_goodbye(client: aiosmtplib.SMTP) -> None:
    """QUIT; never raises, not even when cancelled: the server has spoken, and nothing later may change that."""
    with contextlib.suppress(aiosmtplib.SMTPException, asyncio.CancelledError):
        await client.quit(timeout=QUIT_TIMEOUT_S)


def judge(error: aiosmtplib.SMTPException) -> MailRefused | MailDeferred:
    """Whether the server's answer is final for this mail.

    Only a 5xx about the mail itself is: one at connect, hello or login is about us, and would condemn every mail of
    the queue while somebody mends the configuration.
    """
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        error = error.recipients[0]  # one recipient per mail
    text = str(error)
    if isinstance(error, aiosmtplib.SMTPResponseException):
        text = f"{error.code} {error.message}"
        if error.code >= 500 and not isinstance(error, _ABOUT_US):
            return MailRefused(text)
    return MailDeferred(text)


_ABOUT_US = (
    aiosmtplib.SMTPConnectResponseError,
    aiosmtplib.SMTPHeloError,
    aiosmtplib.SMTPAuthenticationError,
)
