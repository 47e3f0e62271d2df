"""The traffic of the demonstration: which invites there are, what should become of each, and how they are posted.

Everything follows from the invite's number, so two runs post the same.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import anyio
import httpx

from examples.email_service.smtp_sink import GREYLISTED, UNKNOWN

# Requests in progress over all API instances: enough to keep them busy, few enough for one demonstrating process.
POSTS_IN_FLIGHT = 50


class Fate(StrEnum):
    """What the mail server will say to an invite."""

    ACCEPTED = "accepted at once"
    GREYLISTED = "4xx once, then accepted"
    UNKNOWN = "5xx always"


@dataclass(frozen=True, slots=True)
class PlannedInvite:
    """One invite to post, `posts` times, each time to another API instance."""

    number: int
    fate: Fate
    posts: int

    @property
    def job_id(self) -> str:
        """The id that its job must have."""
        return f"invite-{self.number}"

    @property
    def to(self) -> str:
        """The address, whose first part tells the SMTP sink what to answer."""
        prefix = {Fate.ACCEPTED: "guest-", Fate.GREYLISTED: GREYLISTED, Fate.UNKNOWN: UNKNOWN}[self.fate]
        return f"{prefix}{self.number}@example.test"

    @property
    def body(self) -> dict[str, str]:
        """The request body."""
        return {"id": str(self.number), "to": self.to, "course": f"course {self.number % 7}"}


def plan_invites(count: int) -> list[PlannedInvite]:
    """Every tenth invite is posted twice; 6 % are greylisted and 4 % unknown, some of each posted twice."""
    return [PlannedInvite(number, _fate(number), posts=2 if number % 10 == 0 else 1) for number in range(1, count + 1)]


def _fate(number: int) -> Fate:
    if number % 50 in (10, 17, 37):
        return Fate.GREYLISTED
    if number % 50 in (20, 33):
        return Fate.UNKNOWN
    return Fate.ACCEPTED


@dataclass(slots=True)
class Answers:
    """What the instances answered to the posts."""

    duplicates: Counter[str] = field(default_factory=Counter)
    """Job id -> posts that were answered as duplicates."""
    faults: list[str] = field(default_factory=list)


async def post_invites(invites: Iterable[PlannedInvite], apis: Sequence[str]) -> Answers:
    """Post all invites, the copies of one at the same moment to different instances."""
    answers = Answers()
    slots = anyio.CapacityLimiter(POSTS_IN_FLIGHT)
    limits = httpx.Limits(max_connections=POSTS_IN_FLIGHT)
    async with (
        httpx.AsyncClient(timeout=30, limits=limits, trust_env=False) as client,
        anyio.create_task_group() as tasks,
    ):

        async def post(invite: PlannedInvite, url: str) -> None:
            async with slots:
                await _post_one(client, invite, url, answers)

        for invite in invites:
            for copy in range(invite.posts):
                tasks.start_soon(post, invite, apis[(invite.number + copy) % len(apis)])
    return answers


async def _post_one(client: httpx.AsyncClient, invite: PlannedInvite, url: str, answers: Answers) -> None:
    try:
        response = await client.post(f"{url}/api/invites", json=invite.body)
    except httpx.HTTPError as error:
        answers.faults.append(f"POST {url}/api/invites, {invite.job_id}: {error!r}")
        return
    if response.status_code != 202 or response.json()["job_id"] != invite.job_id:
        answers.faults.append(f"POST {url}/api/invites, {invite.job_id}: {response.status_code} {response.text}")
    elif response.json()["duplicate"]:
        answers.duplicates[invite.job_id] += 1
