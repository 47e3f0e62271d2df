"""The HTTP instances: they put mails into the queue and, unless START_EMAIL_WORKER is false, also send them.

    python -m examples.email_service.api

POST /api/invites              {"id", "to", "course"?}       202 {"job_id", "duplicate"}; one id, one job
POST /api/email-queue/test     {"to", "subject"?, "text"?}   202 {"job_id"}
GET  /api/email-queue/stats    200 {"waiting", "active", "completed", "failed", "delayed"}
GET  /health                   200 or 503 {"status", "instance_id", "redis", "worker"}

An answer that is not a success is {"error": "...", "fields": {...}}: 400 for a body that is not JSON, 413 for one that
is too long, 422 with the reason per field, 503 while Redis does not answer. On SIGTERM: no new requests, answer those
in progress, then close the worker as `worker` does, and exit 0.
"""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import AsyncGenerator, Generator
from typing import TypeVar

import anyio
import redis.exceptions
import uvicorn
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from examples.email_service.jobs import enqueue_invite, enqueue_test, is_duplicate, open_queue
from examples.email_service.logs import configure_logs
from examples.email_service.payloads import Invite, Payload, TestEmail
from examples.email_service.settings import Settings, load_settings
from examples.email_service.worker import build_worker
from pyqueue import AddOutcomeUnknown, JobState, RedisRefused

log = logging.getLogger(__name__)

STATS = (JobState.WAITING, JobState.ACTIVE, JobState.COMPLETED, JobState.FAILED, JobState.DELAYED)

# A mail of ours is at most 10,000 characters, which JSON may spell with six bytes each.
MAX_BODY_BYTES = 64 * 1024 + 1024

# Somebody waits for the answer. The queue itself would keep trying for longer; an invite may then be queued after all,
# which is what its sender wanted, and posting it again makes no second one.
ENQUEUE_TIMEOUT_S = 5.0

# Closing sends what was added and not yet sent. Nobody waits for that any more, so without Redis it is given up soon.
QUEUE_CLOSE_TIMEOUT_S = 1.0

# A probe that waited longer for Redis would itself time out in most orchestrators (Kubernetes: 1 s by default).
HEALTH_TIMEOUT_S = 0.8

PayloadT = TypeVar("PayloadT", bound=Payload)


class EmailApi:
    """The endpoints of one instance and the queue and worker behind them, which live from start-up to shutdown."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._queue = open_queue(settings)
        self._worker = build_worker(settings) if settings.start_email_worker else None

    @contextlib.asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncGenerator[None]:
        """Start the worker, serve, then close worker and queue; the worker first: its last outcomes need Redis."""
        try:
            async with self._worker or contextlib.nullcontext():
                yield
                if self._worker is not None:
                    await self._worker.close(timeout=self._settings.worker_grace)
        finally:
            with anyio.move_on_after(QUEUE_CLOSE_TIMEOUT_S):
                await self._queue.close()

    async def post_invite(self, request: Request) -> JSONResponse:
        """Queue an invite. Answers before the mail is sent, and says whether this id was posted before."""
        invite = await read_payload(request, Invite)
        with anyio.fail_after(ENQUEUE_TIMEOUT_S):
            job = await enqueue_invite(self._queue, invite)
        return JSONResponse({"job_id": job.id, "duplicate": is_duplicate(job)}, status_code=202)

    async def post_test(self, request: Request) -> JSONResponse:
        """Queue a test mail."""
        email = await read_payload(request, TestEmail)
        with anyio.fail_after(ENQUEUE_TIMEOUT_S):
            job = await enqueue_test(self._queue, email)
        return JSONResponse({"job_id": job.id}, status_code=202)

    async def get_stats(self, _request: Request) -> JSONResponse:
        """How many mails are in each state, over all instances."""
        counts = await self._queue.jobs.counts()
        return JSONResponse({state.value: counts[state] for state in STATS})

    async def get_health(self, _request: Request) -> JSONResponse:
        """Whether this instance can do its work: Redis answers, and its worker, if it has one, runs."""
        redis_answers = await self._redis_answers()
        worker_runs = None if self._worker is None else self._worker.is_running
        healthy = redis_answers and worker_runs is not False
        body = {
            "status": "ok" if healthy else "unavailable",
            "instance_id": self._settings.instance_id,
            "redis": redis_answers,
            "worker": worker_runs,
        }
        return JSONResponse(body, status_code=200 if healthy else 503)

    async def _redis_answers(self) -> bool:
        try:
            with anyio.fail_after(HEALTH_TIMEOUT_S):
                await self._queue.jobs.counts()
        except (TimeoutError, redis.exceptions.RedisError, RedisRefused):
            return False
        return True


def create_app(settings: Settings) -> Starlette:
    """The ASGI application of one instance, for any server."""
    api = EmailApi(settings)
    return Starlette(
        routes=[
            Route("/api/invites", api.post_invite, methods=["POST"]),
            Route("/api/email-queue/test", api.post_test, methods=["POST"]),
            Route("/api/email-queue/stats", api.get_stats),
            Route("/health", api.get_health),
        ],
        exception_handlers={
            HTTPException: refuse_request,
            ValidationError: refuse_payload,
            redis.exceptions.RedisError: refuse_for_now,
            RedisRefused: refuse_for_now,
            AddOutcomeUnknown: refuse_for_now,
            TimeoutError: refuse_for_now,
        },
        lifespan=api.lifespan,
    )


async def read_payload(request: Request, model: type[PayloadT]) -> PayloadT:
    """The validated body of a request; raises ValidationError, or HTTPException 413 once the limit is passed."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise HTTPException(413, f"the body is longer than {MAX_BODY_BYTES} bytes")
    return model.model_validate_json(bytes(body))


async def refuse_request(_request: Request, error: Exception) -> JSONResponse:
    """Answer of the routing (404, 405) and of `read_payload`."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, status_code=error.status_code, headers=error.headers)


async def refuse_payload(_request: Request, error: Exception) -> JSONResponse:
    """400 when the body is not JSON, 422 when it is but says something else than we need."""
    assert isinstance(error, ValidationError)
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    if faults[0]["type"] == "json_invalid":
        return JSONResponse({"error": f"the body is not JSON: {faults[0]['msg']}"}, status_code=400)
    fields = {".".join(str(part) for part in fault["loc"]) or "body": fault["msg"] for fault in faults}
    summary = "; ".join(f"{field}: {message}" for field, message in fields.items())
    return JSONResponse({"error": summary, "fields": fields}, status_code=422)


async def refuse_for_now(request: Request, error: Exception) -> JSONResponse:
    """503: Redis does not answer or refuses. Posting an invite again is safe, its id makes it the same job."""
    log.error("queue unavailable", extra={"path": request.url.path, "error": repr(error)})
    body = {"error": "the queue is not available at the moment; try again"}
    return JSONResponse(body, status_code=503, headers={"Retry-After": "1"})


class Server(uvicorn.Server):
    """uvicorn with an exit status of its own: it logs its port, and a signal ends it with 0.

    The stock server raises the signal again after its graceful end, so that the process counts as killed.
    """

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Let SIGTERM and SIGINT start the graceful end; a second SIGINT drops the requests in progress."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell the port: with API_PORT=0 nobody else knows it."""
        await super().startup(sockets)
        if self.started and sockets:
            log.info("listening", extra={"port": sockets[0].getsockname()[1]})


async def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status."""
    config = uvicorn.Config(
        create_app(settings),
        host=settings.api_host,
        port=settings.api_port,
        log_config=None,
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=max(1, round(settings.http_grace)),
    )
    server = Server(config)
    await server.serve(sockets=[config.bind_socket()])
    log.info("instance closed")
    return 0 if server.started else 1


def main() -> None:
    """Entry point of an API instance."""
    settings = load_settings()
    configure_logs(settings.instance_id, settings.log_level)
    raise SystemExit(asyncio.run(serve(settings)))


if __name__ == "__main__":
    main()
