"""The HTTP API: what it queues, what it refuses and how it says so."""

import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx
import pytest

from examples.email_service.bodies import MAX_BODY_BYTES
from examples.email_service.jobs import open_queue
from examples.email_service.settings import Settings
from examples.email_service.smtp_sink import SmtpSink
from tests.examples.http import running

pytestmark = [pytest.mark.anyio, pytest.mark.needs_server]

INVITE = {"id": "42", "to": "guest@example.test", "course": "Analytical engines"}
NOTHING_QUEUED = {"waiting": 0, "active": 0, "completed": 0, "failed": 0, "delayed": 0}


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """An instance that only queues."""
    async with running(settings) as client:
        yield client


async def stats(api: httpx.AsyncClient) -> dict[str, int]:
    answer = (await api.get("/api/email-queue/stats")).raise_for_status().json()
    return {state: answer[state] for state in NOTHING_QUEUED}


async def test_an_invite_is_queued_under_its_own_id(api: httpx.AsyncClient) -> None:
    response = await api.post("/api/invites", json=INVITE)

    assert (response.status_code, response.json()) == (202, {"job_id": "invite-42", "duplicate": False})
    assert await stats(api) == {**NOTHING_QUEUED, "waiting": 1}


async def test_an_invite_is_stored_with_three_attempts_and_a_backoff_of_two_seconds(
    api: httpx.AsyncClient, settings: Settings
) -> None:
    await api.post("/api/invites", json=INVITE)

    async with open_queue(settings) as queue:
        job = await queue.jobs.get("invite-42")
    assert job is not None
    assert (job.name, job.data) == ("invite", INVITE)
    assert job.options.attempts == 3
    assert job.options.backoff is not None
    assert (job.options.backoff.type, job.options.backoff.delay) == ("exponential", 2000)


async def test_the_same_invite_posted_to_two_instances_at_once_is_one_job(settings: Settings) -> None:
    second = settings.model_copy(update={"instance_id": "instance-2"})
    answers: list[Any] = []

    async def post(api: httpx.AsyncClient) -> None:
        answers.append((await api.post("/api/invites", json=INVITE)).json())

    async with running(settings) as one, running(second) as other:
        async with anyio.create_task_group() as tasks:
            for api in (one, other, one, other):
                tasks.start_soon(post, api)
        assert [answer["job_id"] for answer in answers] == ["invite-42"] * 4
        assert sorted(answer["duplicate"] for answer in answers) == [False, True, True, True]
        assert await stats(one) == await stats(other) == {**NOTHING_QUEUED, "waiting": 1}


async def test_an_id_may_be_a_number(api: httpx.AsyncClient) -> None:
    response = await api.post("/api/invites", json={**INVITE, "id": 42})

    assert response.json()["job_id"] == "invite-42"


async def test_every_test_mail_is_a_job_of_its_own(api: httpx.AsyncClient) -> None:
    ids = {(await api.post("/api/email-queue/test", json={"to": "a@example.test"})).json()["job_id"] for _ in range(2)}

    assert len(ids) == 2
    assert await stats(api) == {**NOTHING_QUEUED, "waiting": 2}


def without(field: str) -> dict[str, str]:
    return {name: value for name, value in INVITE.items() if name != field}


@pytest.mark.parametrize(
    ("body", "field", "reason"),
    [
        (without("id"), "id", "required"),
        (without("to"), "to", "required"),
        ({**INVITE, "to": "nobody"}, "to", "not an e-mail address"),
        ({**INVITE, "to": "a@example.test\r\nBcc: all@example.test"}, "to", "not an e-mail address"),
        ({**INVITE, "to": ["a@example.test"]}, "to", "valid string"),
        ({**INVITE, "id": "a:b"}, "id", "pattern"),
        ({**INVITE, "id": ""}, "id", "pattern"),
        ({**INVITE, "id": "x" * 65}, "id", "pattern"),
        ({**INVITE, "course": "engines\r\nBcc: all@example.test"}, "course", "pattern"),
        ({**INVITE, "curse": "engines"}, "curse", "not permitted"),
        ([INVITE], "body", "object"),
        (None, "body", "object"),
    ],
)
async def test_an_invalid_invite_is_answered_with_the_reason_and_not_queued(
    api: httpx.AsyncClient, body: object, field: str, reason: str
) -> None:
    response = await api.post("/api/invites", content=json.dumps(body))

    assert response.status_code == 422
    assert reason in response.json()["fields"][field]
    assert field in response.json()["error"]
    assert await stats(api) == NOTHING_QUEUED


@pytest.mark.parametrize("body", [b"", b"{", b"{'id': 1}", b"\xff\xfe", b'{"id": "1", "to": "a@example.test"} x'])
@pytest.mark.parametrize("path", ["/api/invites", "/api/email-queue/test"])
async def test_a_body_that_is_not_json_is_a_bad_request(api: httpx.AsyncClient, path: str, body: bytes) -> None:
    response = await api.post(path, content=body)

    assert response.status_code == 400
    assert "not JSON" in response.json()["error"]
    assert await stats(api) == NOTHING_QUEUED


async def test_a_body_that_is_too_long_is_refused(api: httpx.AsyncClient) -> None:
    response = await api.post("/api/invites", content=b" " * (MAX_BODY_BYTES + 1))

    assert response.status_code == 413
    assert str(MAX_BODY_BYTES) in response.json()["error"]


async def test_an_unknown_path_and_a_wrong_method_are_answered_in_json(api: httpx.AsyncClient) -> None:
    unknown = await api.get("/api/nothing")
    wrong = await api.get("/api/invites")

    assert (unknown.status_code, unknown.json()) == (404, {"error": "Not Found"})
    assert (wrong.status_code, wrong.json()) == (405, {"error": "Method Not Allowed"})
    assert wrong.headers["allow"] == "POST"


async def test_a_healthy_instance_says_so(api: httpx.AsyncClient) -> None:
    response = await api.get("/health")

    assert response.status_code == 200
    assert response.json() == {
        "status": "ok",
        "instance_id": "instance-1",
        "role": "api",
        "redis": True,
        "draining": False,
        "worker": None,
    }


async def test_an_instance_with_a_worker_sends_what_it_is_given(settings: Settings, sink: SmtpSink) -> None:
    async with running(settings.model_copy(update={"start_email_worker": True})) as api:
        await api.post("/api/invites", json=INVITE)
        await sink.ledger.until(lambda: sink.ledger.deliveries == 1)
        health = (await api.get("/health")).json()

    assert health["worker"]["running"] is True
    assert dict(sink.ledger.accepted) == {("<invite-42@example.org>", "guest@example.test"): 1}


async def test_without_redis_the_instance_is_unavailable_and_says_when_to_try_again(
    sink: SmtpSink, free_tcp_port: int
) -> None:
    settings = Settings(
        redis_url=f"redis://127.0.0.1:{free_tcp_port}",
        smtp_host=sink.host,
        instance_id="instance-1",
        start_email_worker=False,
    )

    async with running(settings) as api:
        health = await api.get("/health")
        refusal = await api.post("/api/invites", json=INVITE)

    assert (health.status_code, health.json()["redis"]) == (503, False)
    assert refusal.status_code == 503
    assert refusal.headers["retry-after"] == "1"
    assert "try again" in refusal.json()["error"]
