"""Posts the mails at their times and records what became of each request; targets on this machine only.

Each arrival is a task of its own. So that a service that hangs does not fill this process, at most `MAX_IN_FLIGHT`
requests are open at a time; an arrival beyond that is not posted and counts as an error.
"""

import ipaddress
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import anyio
import httpx

MAX_IN_FLIGHT = 1000
REQUEST_TIMEOUT_S = 10.0

# Answers that are not 202, by a name for the report.
NOT_POSTED = "not posted: too many open requests"


def check_target(url: str) -> str:
    """Return the URL without a path; raises ValueError unless it is http:// on the loopback interface."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        is_loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if parts.scheme != "http" or not is_loopback:
        raise ValueError(f"{url} is not on this machine; load tests go to http://127.0.0.1:PORT only")
    return f"http://{parts.netloc}"


@dataclass(slots=True)
class Mail:
    """One arrival and what became of it. Times are seconds from the start of the run; None: it did not come to that."""

    job_id: str
    to: str
    due_s: float
    sent_s: float | None = None
    answered_s: float | None = None
    error: str | None = None
    is_duplicate: bool = False
    delivered_s: float | None = None
    """When the mail server accepted it, where we can see that."""
    deliveries: int = 0


@dataclass(slots=True)
class Run:
    """All mails of a run, as they happen."""

    started: float = field(default_factory=time.monotonic)
    mails: list[Mail] = field(default_factory=list)
    in_flight: int = 0

    def now_s(self) -> float:
        """Seconds from the start."""
        return time.monotonic() - self.started

    def accepted_ids(self) -> set[str]:
        """The job ids that an API took."""
        return {mail.job_id for mail in self.mails if mail.answered_s is not None}

    @property
    def errors(self) -> int:
        """Requests that were not answered with 202."""
        return sum(1 for mail in self.mails if mail.error is not None)


class Generator:
    """Posts to the URLs in turn."""

    def __init__(
        self, run: Run, urls: Sequence[str], name: str, duplicate_every: int = 0, max_in_flight: int = MAX_IN_FLIGHT
    ) -> None:
        """name: makes the ids of this run its own. duplicate_every: post each such mail twice; 0: none."""
        self._run = run
        self._urls = [check_target(url) for url in urls]
        self._name = name
        self._duplicate_every = duplicate_every
        self._max_in_flight = max_in_flight
        self._by_address: dict[str, Mail] = {}

    async def post_all(self, arrivals: Iterable[float]) -> None:
        """Return when the last request is answered."""
        limits = httpx.Limits(max_connections=self._max_in_flight, max_keepalive_connections=100)
        async with (
            httpx.AsyncClient(timeout=REQUEST_TIMEOUT_S, limits=limits, trust_env=False) as client,
            anyio.create_task_group() as tasks,
        ):
            for number, due_s in enumerate(arrivals, 1):
                await anyio.sleep(max(0.0, due_s - self._run.now_s()))
                for copy in range(self._copies(number)):
                    mail = self._new_mail(number, due_s, is_first=copy == 0)
                    url = self._urls[(number + copy) % len(self._urls)]
                    if self._run.in_flight >= self._max_in_flight:
                        mail.error = NOT_POSTED
                        continue
                    self._run.in_flight += 1
                    tasks.start_soon(self._post, client, url, mail)

    def delivered(self, addresses: str) -> None:
        """Note that the mail server has accepted a mail to these addresses."""
        for address in addresses.split(", "):
            mail = self._by_address.get(address)
            if mail is not None:
                mail.deliveries += 1
                mail.delivered_s = mail.delivered_s or self._run.now_s()

    def _copies(self, number: int) -> int:
        return 2 if self._duplicate_every and number % self._duplicate_every == 0 else 1

    def _new_mail(self, number: int, due_s: float, *, is_first: bool) -> Mail:
        mail = Mail(f"invite-{self._name}-{number}", f"load-{self._name}-{number}@example.test", due_s)
        self._run.mails.append(mail)
        if is_first:
            self._by_address[mail.to] = mail
        return mail

    async def _post(self, client: httpx.AsyncClient, url: str, mail: Mail) -> None:
        body = {"id": mail.job_id.removeprefix("invite-"), "to": mail.to, "course": "load"}
        mail.sent_s = self._run.now_s()
        try:
            response = await client.post(f"{url}/api/invites", json=body)
        except httpx.HTTPError as error:
            mail.error = type(error).__name__
        else:
            if response.status_code == 202:
                mail.answered_s = self._run.now_s()
                mail.is_duplicate = response.json()["duplicate"]
            else:
                mail.error = f"HTTP {response.status_code}"
        finally:
            self._run.in_flight -= 1
