"""The worker that sends the queued mails, and the process that runs one without an API.

    python -m examples.email_service.worker

Turns the mail server's answers into what the queue should do: accepted -> completed, 5xx -> failed at once
(`Unrecoverable`), everything else -> another attempt after a backoff, until the attempts are spent. On SIGTERM or
SIGINT it claims nothing more, finishes what it sends, hands back at the deadline what is not finished, and exits 0.
"""

import logging
import signal
from email.message import EmailMessage

import anyio
from pydantic import ValidationError

from examples.email_service.jobs import INVITE, TEST, EmailJob, EmailWorker
from examples.email_service.logs import configure_logs
from examples.email_service.mail import MailDeferred, Mailer, MailRefused, render_invite, render_test
from examples.email_service.payloads import Invite, TestEmail
from examples.email_service.settings import Settings, load_settings
from pyqueue import Unrecoverable, Worker

log = logging.getLogger(__name__)


class MailProcessor:
    """Sends the mail of one job. Any number of jobs at a time; holds no state of a single mail."""

    def __init__(self, mailer: Mailer, instance_id: str) -> None:
        self._mailer = mailer
        self._instance_id = instance_id

    async def process(self, job: EmailJob) -> dict[str, str]:
        """Send the mail and return what is kept as the job's result; raises to have it retried or given up."""
        fields = {"job_id": job.id, "attempt": job.attempts_made + 1}
        message = render(job)
        try:
            reply = await self._mailer.send(message, key=job.id)
        except MailRefused as refusal:
            log.warning("mail refused", extra={**fields, "reply": str(refusal)})
            raise Unrecoverable(f"the mail server refused it: {refusal}") from refusal
        except MailDeferred as deferral:
            log.warning("mail deferred", extra={**fields, "reply": str(deferral)})
            raise
        log.info("mail sent", extra={**fields, "reply": reply})
        return {"message_id": self._mailer.message_id(job.id), "instance": self._instance_id}


def render(job: EmailJob) -> EmailMessage:
    """The message of a job; a payload or a name that we do not understand is not worth a second attempt."""
    try:
        if job.name == INVITE:
            return render_invite(Invite.model_validate(job.data))
        if job.name == TEST:
            return render_test(TestEmail.model_validate(job.data))
    except ValidationError as error:
        raise Unrecoverable(f"bad payload of job {job.name!r}: {error}") from error
    raise Unrecoverable(f"unknown job name {job.name!r}; this worker knows {INVITE!r} and {TEST!r}")


def build_worker(settings: Settings) -> EmailWorker:
    """The worker of an instance, not yet running; its name, and so `processed_by` of its jobs, is the instance id."""
    worker: EmailWorker = Worker(
        settings.queue_name,
        MailProcessor(Mailer.from_settings(settings), settings.instance_id).process,
        connection=settings.redis_url,
        prefix=settings.queue_prefix,
        concurrency=settings.email_concurrency,
        lock_duration=settings.lock_duration_ms,
        stalled_interval=settings.stalled_interval_ms,
        name=settings.instance_id,
    )
    worker.on("ready", lambda: log.info("worker ready", extra={"concurrency": settings.email_concurrency}))
    worker.on("stalled", lambda job_id: log.warning("mail of a dead worker taken back", extra={"job_id": job_id}))
    worker.on("lock_lost", lambda job: log.warning("mail lost to another worker", extra={"job_id": job.id}))
    worker.on("error", lambda error: log.error("worker error", extra={"error": repr(error)}))
    return worker


async def run_until_signalled(settings: Settings) -> None:
    """Run a worker until SIGTERM or SIGINT, then close it within the shutdown timeout."""
    worker = build_worker(settings)
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.run)
            async for number in signals:
                log.info("shutting down", extra={"signal": number.name, "timeout": settings.shutdown_timeout})
                await worker.close(timeout=settings.shutdown_timeout)
                break
    log.info("worker closed")


def main() -> None:
    """Entry point of the standalone worker."""
    settings = load_settings()
    configure_logs(settings.instance_id, settings.log_level)
    anyio.run(run_until_signalled, settings)


if __name__ == "__main__":
    main()
