"""The HTTP instances: they put mails into the queue and, unless START_EMAIL_WORKER is false, also send them.

    python -m examples.email_service.api

POST /api/invites              {"id", "to", "course"?}       202 {"job_id", "duplicate"}; one id, one job
POST /api/email-queue/test     {"to", "subject"?, "text"?}   202 {"job_id"}
GET  /api/email-queue/stats    200 counts by state, "paused", "oldest_waiting_seconds", "instances", "gate", "limits"
GET  /api/email-queue/scale    200 {"direction", "reasons", "useful_workers", "load"}
     /api/email-queue/dead-letters...   see `dead_letters`
     /livez /readyz /health /metrics    see `probes`

An answer that is not a success is {"error": "...", "fields": {...}}: 400 for a body that is not JSON, 413 for one that
is too long, 422 with the reason per field, 503 while Redis does not answer. On SIGTERM: no new requests, answer those
in progress, close the worker as `worker` does, and exit 0.
"""

import contextlib
from collections.abc import AsyncGenerator
from time import monotonic
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from examples.email_service.bodies import read_payload
from examples.email_service.dead_letters import DeadLetters
from examples.email_service.instance import Instance, Role
from examples.email_service.jobs import enqueue_invite, enqueue_test, is_duplicate
from examples.email_service.payloads import Invite, TestEmail
from examples.email_service.probes import Probes
from examples.email_service.scaling import decide, load_of
from examples.email_service.serving import application, run_process
from examples.email_service.settings import Settings, load_settings

DEFAULT_PORT = 8000

# Somebody waits for the answer. The queue itself would keep trying for longer; an invite may then be queued after all,
# which is what its sender wanted, and posting it again makes no second one.
ENQUEUE_TIMEOUT_S = 5.0


class EmailApi:
    """The endpoints of one instance."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self.dead_letters = DeadLetters(instance.queue, instance.redis)

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("/api/invites", self.post_invite, methods=["POST"]),
            Route("/api/email-queue/test", self.post_test, methods=["POST"]),
            Route("/api/email-queue/stats", self.get_stats),
            Route("/api/email-queue/scale", self.get_scale),
            *self.dead_letters.routes(),
            *Probes(self._instance).routes(),
        ]

    async def post_invite(self, request: Request) -> JSONResponse:
        """Queue an invite. Answers before the mail is sent, and says whether this id was posted before."""
        invite = await read_payload(request, Invite)
        with anyio.fail_after(ENQUEUE_TIMEOUT_S):
            job = await enqueue_invite(self._instance.queue, invite)
        return JSONResponse({"job_id": job.id, "duplicate": is_duplicate(job)}, status_code=202)

    async def post_test(self, request: Request) -> JSONResponse:
        """Queue a test mail."""
        email = await read_payload(request, TestEmail)
        with anyio.fail_after(ENQUEUE_TIMEOUT_S):
            job = await enqueue_test(self._instance.queue, email)
        return JSONResponse({"job_id": job.id}, status_code=202)

    async def get_stats(self, _request: Request) -> JSONResponse:
        """The queue over all instances, and every instance as its last heartbeat describes it."""
        snapshot, gate = await self._instance.look()
        settings = self._instance.settings
        instances = await self._instance.heartbeats.all()
        body: dict[str, Any] = {
            **snapshot.counts,
            "paused": snapshot.is_paused,
            "oldest_waiting_seconds": snapshot.oldest_waiting_s,
            "backlog": snapshot.backlog,
            "gate": {"circuit": gate.circuit, "reason": gate.reason, "paused_ms": gate.paused_ms},
            "rate": {"max": settings.email_rate_max, "duration_ms": settings.email_rate_duration},
            "answered_by": settings.instance_id,
            "instances": [instance.model_dump() for instance in instances],
        }
        return JSONResponse(body)

    async def get_scale(self, _request: Request) -> JSONResponse:
        """Whether more workers would help."""
        snapshot, gate = await self._instance.look()
        load = load_of(
            snapshot,
            await self._instance.heartbeats.all(),
            gate_reason=gate.reason,
            response_p95_ms=self._instance.response_times.p95_ms(),
            rate_per_s=rate_per_s(self._instance.settings),
        )
        return JSONResponse(decide(load).as_json())


def rate_per_s(settings: Settings) -> float | None:
    """Mails per second that the rate limit allows; None without one."""
    if settings.email_rate_max is None:
        return None
    return settings.email_rate_max / settings.email_rate_duration * 1000


class TimedRequests:
    """ASGI middleware: measures every request, under the path of its route: ids would make endless series."""

    def __init__(self, app: ASGIApp, instance: Instance, routes: list[Route]) -> None:
        self._app = app
        self._instance = instance
        self._paths: dict[Any, str] = {route.endpoint: route.path for route in routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and look at the clock."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        started = monotonic()

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            path = self._paths.get(scope.get("endpoint"), "unknown")
            seconds = monotonic() - started
            self._instance.metrics.http_seconds.labels(scope["method"], path, str(status)).observe(seconds)
            if path.startswith("/api/"):
                self._instance.response_times.add(seconds)


def create_app(instance: Instance) -> Starlette:
    """The ASGI application of one instance, for any server."""
    api = EmailApi(instance)
    routes = api.routes()

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        async with instance.lifespan(app), anyio.create_task_group() as api.dead_letters.tasks:
            yield
            api.dead_letters.tasks.cancel_scope.cancel()

    app = application(lifespan, routes)
    app.add_middleware(TimedRequests, instance=instance, routes=routes)
    return app


def create_instance(settings: Settings) -> Instance:
    """The instance of an API, with or without a worker."""
    role: Role = "api+worker" if settings.start_email_worker else "api"
    return Instance(settings, role)


def main() -> None:
    """Entry point of an API instance."""
    instance = create_instance(load_settings())
    run_process(instance, create_app(instance), DEFAULT_PORT)


if __name__ == "__main__":
    main()
