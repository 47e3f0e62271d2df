"""Dead letters over HTTP: listed by page and reason, retried one by one or all at a rate, deleted, exported."""

import json
from collections.abc import AsyncIterator
from functools import partial
from time import monotonic
from typing import Any

import httpx
import pytest

from examples.email_service.dead_letters import PATH, kind_of
from examples.email_service.jobs import EmailQueue, enqueue_invite, open_queue
from examples.email_service.payloads import Invite
from examples.email_service.settings import Settings
from examples.email_service.smtp_sink import SmtpSink
from pyqueue import JobState
from tests.examples.http import running
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.needs_server]

NO_MAILBOX = "the mail server refused it: 550 5.1.1 no such mailbox"


@pytest.fixture
async def queue(settings: Settings) -> AsyncIterator[EmailQueue]:
    async with open_queue(settings) as opened:
        yield opened


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """An instance with a worker, so that retried mails go out."""
    async with running(settings.model_copy(update={"start_email_worker": True})) as client:
        yield client


@pytest.fixture
async def dead(api: httpx.AsyncClient, queue: EmailQueue) -> list[str]:
    """Five mails to mailboxes that do not exist and two jobs that nobody understands, dead; their ids, oldest first."""
    for number in range(5):
        await enqueue_invite(queue, Invite(id=str(number), to=f"unknown-{number}@example.test"))
        await wait_until(partial(_dead, queue, number + 1))
    for number in (5, 6):
        await queue.add("newsletter", {"to": "guest@example.test"}, job_id=f"newsletter-{number}")
        await wait_until(partial(_dead, queue, number + 1))
    return [f"invite-{number}" for number in range(5)] + ["newsletter-5", "newsletter-6"]


async def _dead(queue: EmailQueue, count: int) -> bool:
    return (await queue.jobs.counts())[JobState.FAILED] == count


async def get(api: httpx.AsyncClient, path: str = "", **query: Any) -> Any:
    return (await api.get(f"{PATH}{path}", params=query)).raise_for_status().json()


async def test_a_dead_letter_says_who_should_have_got_it_and_why_not(api: httpx.AsyncClient, dead: list[str]) -> None:
    page = await get(api)

    assert (page["total"], page["page"], page["per_page"]) == (7, 1, 50)
    first = page["items"][0]
    assert (first["job_id"], first["to"], first["reason"]) == ("invite-0", "unknown-0@example.test", NO_MAILBOX)
    assert (first["attempts"], first["name"], first["processed_by"]) == (1, "invite", "instance-1")


async def test_pages_are_disjoint_and_complete_oldest_first(api: httpx.AsyncClient, dead: list[str]) -> None:
    pages = [await get(api, page=number, per_page=3) for number in (1, 2, 3, 4)]

    assert [item["job_id"] for page in pages for item in page["items"]] == dead
    assert [len(page["items"]) for page in pages] == [3, 3, 1, 0]


async def test_a_reason_selects_and_counts(api: httpx.AsyncClient, dead: list[str]) -> None:
    first = await get(api, reason="NO SUCH", per_page=3)
    second = await get(api, reason="no such", per_page=3, page=2)
    unknown_jobs = await get(api, reason="unknown job name")

    assert (first["total"], second["total"], unknown_jobs["total"]) == (5, 5, 2)
    assert [item["job_id"] for item in first["items"] + second["items"]] == dead[:5]


async def test_like_reasons_are_counted_together(api: httpx.AsyncClient, dead: list[str]) -> None:
    assert (await get(api, "/reasons"))["reasons"] == {
        NO_MAILBOX: 5,
        "unknown job name 'newsletter'; this worker knows 'invite' and 'test'": 2,
    }


def test_a_kind_of_reason_names_no_mail() -> None:
    assert kind_of("550 <ada@example.org> unknown, id 0f9e8d7c6b5a") == "550 ... unknown, id ..."
    assert kind_of("") == ""


async def test_one_is_retried_with_all_its_attempts(api: httpx.AsyncClient, dead: list[str], queue: EmailQueue) -> None:
    response = await api.post(f"{PATH}/{dead[0]}/retry")

    assert (response.status_code, response.json()) == (202, {"job_id": "invite-0"})

    async def died_again() -> bool:
        job = await queue.jobs.get(dead[0])
        return job is not None and job.attempts_started == 2 and await job.state() == JobState.FAILED

    await wait_until(died_again)
    job = await queue.jobs.get(dead[0])
    assert job is not None
    assert job.attempts_made == 1


async def test_all_of_a_reason_are_retried_at_a_rate_and_none_twice(
    api: httpx.AsyncClient, dead: list[str], sink: SmtpSink
) -> None:
    started = monotonic()
    ordered = await api.post(f"{PATH}/retry", json={"per_second": 4, "reason": "no such mailbox"})
    busy = await api.post(f"{PATH}/retry", json={"per_second": 10})

    assert (ordered.status_code, busy.status_code) == (202, 409)

    async def is_over() -> bool:
        return not (await get(api, "/retry"))["is_running"]

    await wait_until(is_over)
    assert monotonic() - started >= 1
    assert (await get(api, "/retry"))["retried"] == 5
    await sink.ledger.until(lambda: sink.ledger.refused.total() == 10)


async def test_one_is_deleted(api: httpx.AsyncClient, dead: list[str]) -> None:
    assert (await api.delete(f"{PATH}/{dead[1]}")).status_code == 204

    assert [item["job_id"] for item in (await get(api))["items"]] == [dead[0], *dead[2:]]


async def test_all_of_a_reason_are_deleted(api: httpx.AsyncClient, dead: list[str]) -> None:
    response = await api.delete(PATH, params={"reason": "unknown job name"})

    assert response.json() == {"deleted": 2}
    assert [item["job_id"] for item in (await get(api))["items"]] == dead[:5]


async def test_the_export_is_a_line_of_json_for_each(api: httpx.AsyncClient, dead: list[str]) -> None:
    response = await api.get(f"{PATH}/export")

    assert response.headers["content-type"].startswith("application/x-ndjson")
    lines = [json.loads(line) for line in response.text.splitlines()]
    assert lines == (await get(api))["items"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/nothing/retry", None, 404),
        ("DELETE", "/nothing", None, 404),
        ("GET", "?page=0", None, 422),
        ("GET", "?per_page=1000", None, 422),
        ("GET", "?reasn=x", None, 422),
        ("POST", "/retry", {"per_second": 0}, 422),
        ("POST", "/retry", {}, 422),
        ("GET", "/retry", None, 404),
    ],
)
async def test_what_cannot_be_done_is_refused_with_the_reason(
    api: httpx.AsyncClient, method: str, path: str, body: object, status: int
) -> None:
    response = await api.request(method, f"{PATH}{path}", json=body)

    assert response.status_code == status
    assert response.json()["error"]


async def test_a_mail_that_is_not_dead_is_neither_retried_nor_deleted(settings: Settings, queue: EmailQueue) -> None:
    job = await enqueue_invite(queue, Invite(id="1", to="guest@example.test"))
    async with running(settings) as api:
        for response in (await api.post(f"{PATH}/{job.id}/retry"), await api.delete(f"{PATH}/{job.id}")):
            assert (response.status_code, response.json()["error"]) == (409, "job 'invite-1' is waiting, not failed")
