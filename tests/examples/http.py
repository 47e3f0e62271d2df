"""An HTTP instance in the test's own process, and a client of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from examples.email_service.api import create_app, create_instance
from examples.email_service.settings import Settings


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of one instance."""
    app = create_app(create_instance(settings))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://instance") as client,
    ):
        yield client
