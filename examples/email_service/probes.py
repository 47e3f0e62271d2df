"""What orchestrators and Prometheus ask every instance, API or worker.

GET /livez    200 while the event loop turns; knows nothing else, so that an outage of Redis restarts nobody
GET /readyz   200 if Redis answers and the instance is not draining, else 503 with the reason
GET /health   200 or 503 with everything about the instance
GET /metrics  the metrics for Prometheus
"""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from examples.email_service.instance import Instance
from examples.email_service.metrics import CONTENT_TYPE


class Probes:
    """The endpoints."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance

    def routes(self) -> list[Route]:
        """For the application of an API or a worker."""
        return [
            Route("/livez", self.livez),
            Route("/readyz", self.readyz),
            Route("/health", self.health),
            Route("/metrics", self.metrics),
        ]

    async def livez(self, _request: Request) -> Response:
        """The loop turns: this answer shows it."""
        return PlainTextResponse("ok")

    async def readyz(self, _request: Request) -> Response:
        """Whether to send requests here."""
        if self._instance.is_draining:
            return PlainTextResponse("draining", status_code=503)
        if not await self._instance.redis_answers():
            return PlainTextResponse("Redis does not answer", status_code=503)
        return PlainTextResponse("ok")

    async def health(self, _request: Request) -> Response:
        """Whether this instance can do its work: Redis answers, and its worker, if it has one, runs."""
        redis_answers = await self._instance.redis_answers()
        worker = self._worker()
        is_healthy = redis_answers and (worker is None or worker["running"])
        body = {
            "status": "ok" if is_healthy else "unavailable",
            "instance_id": self._instance.settings.instance_id,
            "role": self._instance.role,
            "redis": redis_answers,
            "draining": self._instance.is_draining,
            "worker": worker,
        }
        return JSONResponse(body, status_code=200 if is_healthy else 503)

    async def metrics(self, _request: Request) -> Response:
        """The scrape; 503 without Redis, for half the truth would look like an empty queue."""
        self._instance.metrics.observe_queue(*await self._instance.look())
        if self._instance.sender is not None:
            health = self._instance.sender.worker.health()
            self._instance.metrics.observe_worker(health.running, health.concurrency)
        return Response(self._instance.metrics.render(), media_type=CONTENT_TYPE)

    def _worker(self) -> dict[str, Any] | None:
        if self._instance.sender is None:
            return None
        health = self._instance.sender.worker.health()
        return {
            "running": health.state == "running",
            "paused": health.is_paused,
            "closing": health.state == "closing",
            "connected": health.is_connected,
            "active": health.running,
            "concurrency": health.concurrency,
            "idle_because": health.reason,
            "smtp_up": self._instance.sender.mailer.pool.is_up,
        }
