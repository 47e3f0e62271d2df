"""What a mail is made from: the request bodies of the API, which are also the data of the jobs.

Validated twice with the same models: by the API before anything is queued, and by the worker, because a queue is open
to every producer that can reach Redis.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from examples.email_service.addresses import EmailAddress

# One line of text for a subject: a line break there would start a header of the sender's choosing.
Line = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]


class Payload(BaseModel):
    """What a request carries and what its job stores: the same fields, nothing else."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)


class Invite(Payload):
    """An invitation to a course. `id` is the caller's own key: one id, one mail."""

    id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    to: EmailAddress
    course: Line = "our course"

    @property
    def job_id(self) -> str:
        """The id under which the queue refuses a second copy of this invite."""
        return f"invite-{self.id}"


class TestEmail(Payload):
    """A mail to see whether mails arrive. Every request makes a new one."""

    __test__ = False  # pytest would take the name for a test class wherever it is imported

    to: EmailAddress
    subject: Line = "Test of the e-mail queue"
    text: Annotated[str, Field(max_length=10_000)] = "If you can read this, the queue works.\n"
