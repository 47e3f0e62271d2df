"""The traffic of the demonstration: which invites there are, what should become of each, and how they are posted.

Everything follows from the invite's number, so two runs post the same.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

import anyio
import httpx

from examples.email_service.smtp_sink import GREYLISTED, UNKNOWN

# Requests in progress over all API instances: enough to keep them busy, few enough for one demonstrating process.
POSTS_IN_FLIGHT = 50

# The states of the stats that an invite passes through.
COUNTED_STATES = ("waiting", "active", "completed", "failed", "delayed")


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


class ApiInstances:
    """The API instances of a run as their clients see them, over one pool of connections; an async context manager."""

    def __init__(self, urls: Mapping[str, str]) -> None:
        self.answers = Answers()
        self._urls = dict(urls)
        self._client = httpx.AsyncClient(timeout=30, trust_env=False)

    @property
    def names(self) -> list[str]:
        """The instances, in the order in which they were started."""
        return list(self._urls)

    async def post_invites(self, invites: Iterable[PlannedInvite]) -> None:
        """Post all invites, the copies of one at the same moment to different instances."""
        urls = list(self._urls.values())
        slots = anyio.CapacityLimiter(POSTS_IN_FLIGHT)

        async def post(invite: PlannedInvite, url: str) -> None:
            async with slots:
                await self._post_one(invite, url)

        async with anyio.create_task_group() as tasks:
            for invite in invites:
                for copy in range(invite.posts):
                    tasks.start_soon(post, invite, urls[(invite.number + copy) % len(urls)])

    async def stats(self, name: str) -> dict[str, int]:
        """The counts that an instance reports; raises httpx.HTTPError when it does not answer well."""
        response = await self._client.get(f"{self._urls[name]}/api/email-queue/stats")
        stats = response.raise_for_status().json()
        return {state: stats[state] for state in COUNTED_STATES}

    async def _post_one(self, invite: PlannedInvite, url: str) -> None:
        try:
            response = await self._client.post(f"{url}/api/invites", json=invite.body)
        except httpx.HTTPError as error:
            self.answers.faults.append(f"POST {url}/api/invites, {invite.job_id}: {error!r}")
            return
        if response.status_code != 202 or response.json()["job_id"] != invite.job_id:
            answer = f"{response.status_code} {response.text}"
            self.answers.faults.append(f"POST {url}/api/invites, {invite.job_id}: {answer}")
        elif response.json()["duplicate"]:
            self.answers.duplicates[invite.job_id] += 1

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc_info: object) -> None:
        await self._client.aclose()
