"""What can be seen from outside: stats of the queue and of every instance, probes, metrics, the scaling signal."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from examples.email_service import heartbeats
from examples.email_service.api import create_app, create_instance
from examples.email_service.heartbeats import Durations
from examples.email_service.instance import Instance
from examples.email_service.jobs import EmailQueue, enqueue_invite, open_queue
from examples.email_service.payloads import Invite
from examples.email_service.settings import Settings
from examples.email_service.smtp_sink import SmtpSink
from examples.email_service.worker import create_app as create_worker_app
from pyqueue import JobState
from tests.examples.http import running
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.needs_server]


@pytest.fixture
async def queue(settings: Settings) -> AsyncIterator[EmailQueue]:
    async with open_queue(settings) as opened:
        yield opened


@pytest.fixture
def quick_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeats, "BEAT_S", 0.05)


def named(settings: Settings, name: str, **more: Any) -> Settings:
    return settings.model_copy(update={"instance_id": name, **more})


async def finished(queue: EmailQueue, count: int) -> bool:
    counts = await queue.jobs.counts()
    return bool(counts[JobState.COMPLETED] + counts[JobState.FAILED] == count)


async def invite(queue: EmailQueue, count: int, to: str = "guest", first: int = 0) -> None:
    for number in range(first, first + count):
        await enqueue_invite(queue, Invite(id=str(number), to=f"{to}-{number}@example.test"))


async def stats(api: httpx.AsyncClient) -> Any:
    return (await api.get("/api/email-queue/stats")).raise_for_status().json()


@pytest.mark.usefixtures("quick_beats")
async def test_any_api_shows_every_instance_with_what_it_has_done(settings: Settings, queue: EmailQueue) -> None:
    workers = [Instance(named(settings, f"worker-{n}"), "worker") for n in (1, 2)]
    async with running(named(settings, "api-1")) as one, running(named(settings, "api-2")) as other:
        async with AsyncExitStack() as stack:
            for worker in workers:
                await stack.enter_async_context(worker.lifespan())
            await invite(queue, 30)
            await invite(queue, 2, to="unknown", first=30)
            await wait_until(lambda: finished(queue, 32))

            async def is_told() -> bool:
                rows = (await stats(one))["instances"]
                done = [row["worker"]["processed"] + row["worker"]["failed"] for row in rows if row["worker"]]
                return bool(sum(done) == 32)

            await wait_until(is_told)
            seen = await stats(one)
            assert [row["instance_id"] for row in seen["instances"]] == ["api-1", "api-2", "worker-1", "worker-2"]
            assert [row["role"] for row in seen["instances"]] == ["api", "api", "worker", "worker"]
            told = [row["worker"] for row in seen["instances"][2:]]
            assert sum(row["processed"] for row in told) == 30
            assert sum(row["failed"] for row in told) == 2
            assert all(row["average_ms"] > 0 and row["p95_ms"] >= row["average_ms"] / 2 for row in told)
            assert {row["concurrency"] for row in told} == {10}
            assert {row["state"] for row in told} == {"running"}
            assert sum(row["smtp"]["sent"] for row in told) == 30
            assert all(0 < row["smtp"]["success_rate"] <= 1 for row in told)
            assert [row["instance_id"] for row in (await stats(other))["instances"]][2:] == ["worker-1", "worker-2"]

        names = [row["instance_id"] for row in (await stats(other))["instances"]]
        assert names == ["api-1", "api-2"]  # those that have ended said so


async def test_an_instance_that_died_is_gone_from_the_stats_when_its_heartbeat_has_run_out(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeats, "LIFE_S", 3)
    dead = Instance(named(settings, "dead"), "api")
    await dead.heartbeats.beat(dead.report())
    async with running(settings) as api:
        assert "dead" in [row["instance_id"] for row in (await stats(api))["instances"]]

        async def is_gone() -> bool:
            return "dead" not in [row["instance_id"] for row in (await stats(api))["instances"]]

        await wait_until(is_gone)
    await dead.redis.aclose()
    await dead.queue.close()


async def test_the_stats_tell_a_paused_queue_and_how_long_the_oldest_has_waited(
    settings: Settings, queue: EmailQueue
) -> None:
    await queue.pause()
    await queue.add("invite", {"id": "1", "to": "a@example.test"}, job_id="invite-1")
    await queue.add("invite", {"id": "2", "to": "a@example.test"}, priority=1)
    await queue.add("invite", {"id": "3", "to": "a@example.test"}, delay=60_000)
    await queue.add("invite", {"id": "4", "to": "a@example.test"}, delay=1)
    async with running(settings) as api:

        async def has_aged() -> Any:
            seen = await stats(api)
            return seen if seen["oldest_waiting_seconds"] >= 0.1 and seen["due"] == 1 else None

        seen = await wait_until(has_aged)

    assert {state: seen[state] for state in ("waiting", "prioritized", "delayed", "due", "active")} == {
        "waiting": 1,
        "prioritized": 1,
        "delayed": 2,
        "due": 1,
        "active": 0,
    }
    assert (seen["paused"], seen["backlog"]) == (True, 0)


async def metrics_of(client: httpx.AsyncClient) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = (await client.get("/metrics")).raise_for_status().text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


async def test_the_metrics_count_what_happened_and_show_the_queue(settings: Settings, queue: EmailQueue) -> None:
    both = settings.model_copy(update={"start_email_worker": True})
    one = {"instance": "instance-1"}
    async with running(both) as api:
        for number, to in enumerate(["guest-1", "guest-2", "unknown-3"]):
            await api.post("/api/invites", json={"id": number, "to": f"{to}@example.test"})
        await wait_until(lambda: finished(queue, 3))
        await queue.add("invite", {"id": "9", "to": "a@example.test"}, delay=60_000)

        async def has_counted() -> Any:
            """The worker hears of an end after Redis."""
            found = await metrics_of(api)
            ends = [found.get(key("email_worker_jobs_total", outcome=end, **one), 0) for end in ("completed", "failed")]
            return found if sum(ends) == 3 and not found[key("email_worker_running", **one)] else None

        seen = await wait_until(has_counted)

    assert seen[key("email_queue_jobs", queue="email", state="completed")] == 2
    assert seen[key("email_queue_jobs", queue="email", state="delayed")] == 1
    assert seen[key("email_queue_jobs", queue="email", state="due")] == 0
    assert seen[key("email_queue_paused", queue="email")] == 0
    assert seen[key("email_queue_backlog", queue="email")] == 0
    assert seen[key("email_queue_oldest_waiting_seconds", queue="email")] == 0
    assert seen[key("email_worker_jobs_total", outcome="completed", **one)] == 2
    assert seen[key("email_worker_jobs_total", outcome="failed", **one)] == 1
    assert seen[key("email_worker_job_seconds_count", **one)] == 3
    assert seen[key("email_worker_concurrency", **one)] == 10
    assert seen[key("email_worker_running", **one)] == 0
    assert seen[key("email_worker_stalled_total", **one)] == 0
    assert seen[key("email_sent_total", result="accepted")] == 2
    assert seen[key("email_sent_total", result="refused")] == 1
    assert seen[key("email_rate_limit_hits_total")] == 0
    assert seen[key("email_smtp_up")] == 1
    invites = {"method": "POST", "route": "/api/invites", "status": "202"}
    assert seen[key("email_http_request_seconds_count", **invites)] == 3


async def test_the_backlog_counts_what_workers_have_to_do(settings: Settings, queue: EmailQueue) -> None:
    await invite(queue, 3)
    await queue.add("invite", {"id": "9", "to": "a@example.test"}, priority=1)
    async with running(settings) as api:
        assert (await metrics_of(api))[key("email_queue_backlog", queue="email")] == 4
        await queue.pause()
        paused = await metrics_of(api)

    assert paused[key("email_queue_backlog", queue="email")] == 0
    assert paused[key("email_queue_paused", queue="email")] == 1


async def test_an_unknown_path_makes_no_series_of_its_own(settings: Settings) -> None:
    async with running(settings) as api:
        await api.get("/api/nothing/4711")
        seen = await metrics_of(api)

    assert seen[key("email_http_request_seconds_count", method="GET", route="unknown", status="404")] == 1


async def test_a_worker_answers_probes_and_nothing_else(settings: Settings) -> None:
    instance = Instance(settings, "worker")
    app = create_worker_app(instance)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://worker") as client,
    ):
        answers = {path: (await client.get(path)).status_code for path in ("/livez", "/readyz", "/metrics", "/health")}
        assert set(answers.values()) == {200}
        assert (await client.post("/api/invites", json={})).status_code == 404
        health = (await client.get("/health")).json()
        assert health["worker"] == {
            "running": True,
            "paused": False,
            "closing": False,
            "connected": True,
            "active": 0,
            "concurrency": 10,
            "idle_because": health["worker"]["idle_because"],
            "smtp_up": None,
        }

        assert instance.sender is not None
        instance.sender.worker.pause()
        assert (await client.get("/health")).json()["worker"]["paused"] is True


async def test_a_draining_instance_lives_and_is_not_ready_and_claims_nothing(
    settings: Settings, sink: SmtpSink, queue: EmailQueue
) -> None:
    instance = create_instance(settings.model_copy(update={"start_email_worker": True}))
    app = create_app(instance)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://api") as client,
    ):
        await invite(queue, 1, to="slow")
        await sink.ledger.until(lambda: sink.ledger.receiving == 1)
        instance.begin_drain()

        assert (await client.get("/livez")).status_code == 200
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.text) == (503, "draining")
        health = await client.get("/health")
        assert (health.status_code, health.json()["draining"], health.json()["worker"]["closing"]) == (503, True, True)
        await invite(queue, 1, first=1)

    assert sink.ledger.deliveries == 1
    assert await queue.jobs.state("invite-1") == JobState.WAITING


async def test_without_redis_an_instance_lives_and_is_not_ready(settings: Settings, free_tcp_port: int) -> None:
    down = settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{free_tcp_port}"})
    async with running(down) as api:
        answers = {path: (await api.get(path)).status_code for path in ("/livez", "/readyz", "/health", "/metrics")}

    assert answers == {"/livez": 200, "/readyz": 503, "/health": 503, "/metrics": 503}


@pytest.mark.usefixtures("quick_beats")
async def test_the_scaling_signal_is_up_while_nobody_works_and_names_the_cap_of_the_rate_limit(
    settings: Settings, queue: EmailQueue
) -> None:
    await invite(queue, 120)
    limited = settings.model_copy(update={"email_rate_max": 1, "email_rate_duration": 60_000})
    async with running(limited) as api:
        idle = (await api.get("/api/email-queue/scale")).json()
        assert idle["direction"] == "up"
        # A loaded machine may be a reason, too.
        assert idle["reasons"][-2:] == ["120 mails wait and no worker takes them", "120 mails wait, more than 100"]

        async with Instance(named(limited, "worker-1"), "worker").lifespan():

            async def is_capped() -> Any:
                signal = (await api.get("/api/email-queue/scale")).json()
                return signal if signal["useful_workers"] == 1 and signal["load"]["workers"] == 1 else None

            capped = await wait_until(is_capped)
    assert capped["reasons"][-1] == "the rate limit keeps 1 workers busy and there are 1: more would not send faster"


def test_the_95th_percentile_is_the_value_that_95_percent_do_not_exceed() -> None:
    durations = Durations()
    assert (durations.average_ms(), durations.p95_ms()) == (0, 0)
    for milliseconds in range(1, 101):
        durations.add(milliseconds / 1000)

    assert (durations.average_ms(), durations.p95_ms()) == (50.5, 95)
