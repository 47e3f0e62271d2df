"""How one job becomes one mail: ask the ledger, wait for a connection, ask gate and rate limit, send, record.

Turns answers into outcomes of the job: accepted -> completed, 5xx -> failed at once (`Unrecoverable`), 4xx -> another
attempt after a backoff. What is not the mail's fault spends no attempt: a closed gate gives the job back and holds the
queue (`RateLimitJob`), the rate limit and a failed connection make this job wait (`DelayJob`).
"""

import contextlib
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from email.message import EmailMessage
from functools import partial
from time import monotonic
from typing import Any

import anyio
import redis.exceptions
from pydantic import ValidationError

from examples.email_service.gate import Gate, GateClosed
from examples.email_service.jobs import INVITE, TEST, EmailJob
from examples.email_service.mail import (
    MailDeferred,
    Mailer,
    MailRefused,
    ServerPaused,
    ServerUnavailable,
    render_invite,
    render_test,
)
from examples.email_service.payloads import Invite, TestEmail
from examples.email_service.send_ledger import Known, SendLedger
from examples.email_service.settings import Settings
from examples.email_service.smtp_pool import ServerBusy
from examples.email_service.tally import Result, Tally
from pyqueue import Consumed, DelayJob, RateLimiter, RateLimitExceeded, RateLimitJob, RedisRefused, Unrecoverable

log = logging.getLogger(__name__)

# One limit for everything that goes through the mail server, whatever queue it comes from.
RATE_KEY = "smtp"

# Until a job asks again whose connection or whose Redis failed; spread, so that they do not come back all at once.
RETRY_MS = (500, 1500)

# Once accepted, a mail is recorded although its job is being cancelled: for at most so long.
RECORD_TIMEOUT_S = 5.0


@dataclass(slots=True)
class Mail:
    """What is to be sent, and the name it has for good."""

    key: str
    message: EmailMessage
    place: Consumed | None = None
    """Its place in the rate limit, if there is one, once it has it."""


def render(job: EmailJob) -> Mail:
    """The mail of a job; a payload or a name that we do not understand is not worth a second attempt.

    An invite is named by its business key, whatever the id of its job; a test mail by its job.
    """
    try:
        if job.name == INVITE:
            invite = Invite.model_validate(job.data)
            return Mail(invite.job_id, render_invite(invite))
        if job.name == TEST:
            own_id = job.id if job.id.startswith(f"{TEST}-") else f"{TEST}-{job.id}-{job.timestamp}"
            return Mail(own_id, render_test(TestEmail.model_validate(job.data)))
    except ValidationError as error:
        raise Unrecoverable(f"bad payload of job {job.name!r}: {error}") from error
    raise Unrecoverable(f"unknown job name {job.name!r}; this worker knows {INVITE!r} and {TEST!r}")


class MailProcessor:
    """Sends the mail of one job. Any number of jobs at a time; holds no state of a single mail."""

    def __init__(
        self,
        mailer: Mailer,
        gate: Gate,
        ledger: SendLedger,
        limiter: RateLimiter | None,
        tally: Tally,
        settings: Settings,
        hold_back: Callable[[float], None],
    ) -> None:
        """`hold_back` keeps the worker from claiming jobs for so many seconds."""
        self._hold_back = hold_back
        self._mailer = mailer
        self._gate = gate
        self._ledger = ledger
        self._limiter = limiter
        self._tally = tally
        self._instance_id = settings.instance_id

    async def process(self, job: EmailJob) -> dict[str, str]:
        """Send the mail and return what is kept as the job's result; raises to have it retried or given up."""
        started = monotonic()
        try:
            return await self._process(job, render(job))
        except (DelayJob, RateLimitJob):
            self._tally.count_outcome("returned")
            raise
        except (redis.exceptions.RedisError, RedisRefused) as error:
            log.warning("mail not sent: Redis does not answer", extra={"job_id": job.id, "error": repr(error)})
            self._tally.count_outcome("returned")
            raise DelayJob(_soon_ms()) from error
        finally:
            self._tally.observe_since(started)

    async def _process(self, job: EmailJob, mail: Mail) -> dict[str, str]:
        fields = {"job_id": job.id, "attempt": job.attempts_made + 1}
        known = await self._ledger.known(mail.key)
        if known is Known.ACCEPTED:
            self._tally.count_result("already_sent")
            log.warning("mail was sent before, by a run that did not end", extra=fields)
            return self._result(mail)
        if known is Known.UNSURE:
            self._tally.count_result("unsure")
            log.warning("mail may have been sent before: sending it again", extra=fields)
        reply = await self._send(mail, fields)
        self._tally.count_result("accepted")
        with anyio.move_on_after(RECORD_TIMEOUT_S, shield=True):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._ledger.accept, mail.key, reply)
                tasks.start_soon(self._keep_place, mail)
        await self._gate.succeeded()
        log.info("mail sent", extra={**fields, "reply": reply})
        return self._result(mail)

    async def _send(self, mail: Mail, fields: dict[str, Any]) -> str:
        """Send, and return the server's reply; raises what its answer means for the job."""
        begin = partial(self._begin, mail)
        try:
            return await self._mailer.send(mail.message, key=mail.key, may_connect=self._pass_gate, may_send=begin)
        except MailRefused as refusal:
            await self._answered(mail, "refused")
            log.warning("mail refused", extra={**fields, "reply": str(refusal)})
            raise Unrecoverable(f"the mail server refused it: {refusal}") from refusal
        except MailDeferred as deferral:
            log.warning("mail deferred", extra={**fields, "reply": str(deferral)})
            if deferral.may_have_it:
                self._tally.count_result("deferred")
            else:
                await self._answered(mail, "deferred")
            raise
        except ServerPaused as pause:
            await self._answered(mail, "deferred")
            await self._gate.pause(str(pause), pause.seconds)
            raise DelayJob(_soon_ms()) from pause
        except ServerBusy as busy:
            log.warning("mail server takes no more connections", extra={**fields, "reason": str(busy)})
            self._tally.count_result("unavailable")
            if not self._mailer.pool.connections:
                self._hold_back(busy.seconds)  # others may have connections: leave the mails to them
            raise DelayJob(_soon_ms()) from busy
        except ServerUnavailable as failure:
            log.warning("mail server unavailable", extra={**fields, "reason": str(failure)})
            self._tally.count_result("unavailable")
            await self._ledger.forget(mail.key)
            await self._gate.failed(str(failure))
            raise DelayJob(_soon_ms()) from failure

    async def _pass_gate(self) -> None:
        """It is this mail's turn: a closed gate gives its job back and holds the queue."""
        try:
            await self._gate.check()
        except GateClosed as closed:
            raise RateLimitJob(closed.wait_ms) from closed

    async def _begin(self, mail: Mail) -> None:
        """The connection is ready: take a place in the rate limit, as late as possible, and note that it begins."""
        if self._limiter is not None:
            try:
                mail.place = await self._limiter.consume(RATE_KEY)
            except RateLimitExceeded as limit:
                self._tally.count_rate_limit_hit()
                raise DelayJob(limit.wait_ms) from limit
        await self._ledger.begin(mail.key)

    async def _keep_place(self, mail: Mail) -> None:
        """Let the mail count from its acceptance on, for that is when the server has counted it."""
        if self._limiter is not None and mail.place is not None:
            with contextlib.suppress(redis.exceptions.RedisError, RedisRefused):
                await self._limiter.renew(mail.place)

    async def _answered(self, mail: Mail, result: Result) -> None:
        """The server was reached and does not have the mail."""
        self._tally.count_result(result)
        await self._ledger.forget(mail.key)
        await self._gate.succeeded()

    def _result(self, mail: Mail) -> dict[str, str]:
        return {"message_id": self._mailer.message_id(mail.key), "instance": self._instance_id}


def _soon_ms() -> int:
    return random.randint(*RETRY_MS)
