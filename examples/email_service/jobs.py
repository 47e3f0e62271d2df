"""The jobs of the e-mail queue: their names, their ids and their options. Producers and workers share this module.

An invite's job id comes from its business key, so that the same invite posted twice, to whichever instance, is one
job. That holds as long as the queue remembers the job: completed ones for `KEEP_COMPLETED`, failed ones until somebody
removes them.
"""

import uuid
from datetime import timedelta
from typing import Any

from examples.email_service.payloads import Invite, TestEmail
from examples.email_service.settings import Settings
from pyqueue import AddStatus, Backoff, Job, JobOptions, Queue, Retention, Worker

INVITE = "invite"
TEST = "test"

KEEP_COMPLETED = timedelta(days=1)

# Three runs: at once, after 2 s and after another 4 s. A mail server that greylists wants a second try a little later.
JOB_OPTIONS = JobOptions(
    attempts=3,
    backoff=Backoff.exponential(2000),
    remove_on_complete=Retention(age=KEEP_COMPLETED),
)

EmailQueue = Queue[dict[str, Any], dict[str, str]]
EmailJob = Job[dict[str, Any], dict[str, str]]
EmailWorker = Worker[dict[str, Any], dict[str, str]]


def open_queue(settings: Settings, connection: str | None = None) -> EmailQueue:
    """The producing end of the e-mail queue; connects at the first use and is closed by whoever opened it.

    `connection` is another URL of the same Redis than that of the settings.
    """
    return Queue(
        settings.queue_name,
        connection=connection or settings.redis_url,
        prefix=settings.queue_prefix,
        default_job_options=JOB_OPTIONS,
    )


async def enqueue_invite(queue: EmailQueue, invite: Invite) -> EmailJob:
    """Queue an invite, or return the job that this id already has. One round trip."""
    return await queue.add(INVITE, invite.model_dump(), job_id=invite.job_id)


def is_duplicate(job: EmailJob) -> bool:
    """Whether the queue had a job of this id already, so that adding this one changed nothing."""
    return job.add_status is AddStatus.DUPLICATE


async def enqueue_test(queue: EmailQueue, email: TestEmail) -> EmailJob:
    """Queue a test mail, a new one each time. One round trip."""
    return await queue.add(TEST, email.model_dump(), job_id=f"{TEST}-{uuid.uuid4().hex}")
