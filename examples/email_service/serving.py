"""The HTTP server of every instance, and how its process ends.

SIGTERM or SIGINT: the instance drains at once, no new connections are taken, requests in progress are answered, then
the instance ends and the process exits with 0. If that has not happened when SHUTDOWN_TIMEOUT has passed, the process
exits with 0 all the same: what it held goes to other workers when its locks run out, as after a crash.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Generator

import redis.exceptions
import uvicorn
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import Lifespan

from examples.email_service.instance import Instance
from examples.email_service.logs import configure_logs
from pyqueue import AddOutcomeUnknown, RedisRefused

log = logging.getLogger(__name__)


def application(lifespan: Lifespan[Starlette], routes: list[Route]) -> Starlette:
    """The ASGI application of an instance, for any server; errors are answered in JSON."""
    return Starlette(
        routes=routes,
        exception_handlers={
            HTTPException: refuse_request,
            ValidationError: refuse_payload,
            redis.exceptions.RedisError: refuse_for_now,
            RedisRefused: refuse_for_now,
            AddOutcomeUnknown: refuse_for_now,
            TimeoutError: refuse_for_now,
        },
        lifespan=lifespan,
    )


async def refuse_request(_request: Request, error: Exception) -> JSONResponse:
    """Answer of the routing (404, 405) and of the endpoints."""
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

    def __init__(self, config: uvicorn.Config, on_signal: Callable[[int], None]) -> None:
        super().__init__(config)
        self._on_signal = on_signal

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Let SIGTERM and SIGINT start the graceful end; a second SIGINT drops the requests in progress."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._obey, number)
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell the port: with PORT=0 nobody else knows it."""
        await super().startup(sockets)
        if self.started and sockets:
            log.info("listening", extra={"port": sockets[0].getsockname()[1]})

    def _obey(self, number: int) -> None:
        self._on_signal(number)
        self.handle_exit(number, None)


async def serve(instance: Instance, app: Starlette, default_port: int) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status."""
    settings = instance.settings

    def drain(number: int) -> None:
        log.info("shutting down", extra={"signal": signal.Signals(number).name, "timeout": settings.shutdown_timeout})
        exit_after(settings.shutdown_timeout)
        instance.begin_drain()

    config = uvicorn.Config(
        app,
        host=settings.api_host,
        port=default_port if settings.port is None else settings.port,
        log_config=None,
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=max(1, round(settings.http_grace)),
    )
    server = Server(config, drain)
    await server.serve(sockets=[config.bind_socket()])
    return 0 if server.started else 1


def exit_after(seconds: float) -> None:
    """End the process when the time has passed, whatever its event loop does: a thread watches."""

    def give_up() -> None:
        log.error("shutdown timeout has passed: exiting with work in hand", extra={"timeout": seconds})
        logging.shutdown()
        os._exit(0)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()


def run_process(instance: Instance, app: Starlette, default_port: int) -> None:
    """The life of a process, logs first; ends it with its exit status."""
    configure_logs(instance.settings.instance_id, instance.settings.log_level)
    raise SystemExit(asyncio.run(serve(instance, app, default_port)))
