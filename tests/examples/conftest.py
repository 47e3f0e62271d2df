"""Fixtures of the example tests: a real Redis, a mail server, and the settings of an instance beside them.

The service keeps state of its own in Redis, through an ordinary client: it is tested with an ordinary server.
"""

from collections.abc import AsyncIterator

import pytest

from examples.email_service.settings import Settings
from examples.email_service.smtp_sink import SmtpSink
from tests.support.server import RedisServer


@pytest.fixture
def redis_url(server: RedisServer) -> str:
    """An empty database."""
    return server.url


@pytest.fixture
async def sink() -> AsyncIterator[SmtpSink]:
    """A mail server of this test's own; slow recipients take 2 s."""
    async with SmtpSink(slow_s=2.0) as running:
        yield running


@pytest.fixture
def settings(redis_url: str, prefix: str, sink: SmtpSink) -> Settings:
    """An instance without a worker, on the test's Redis and mail server."""
    return Settings(
        redis_url=redis_url,
        queue_prefix=prefix,
        instance_id="instance-1",
        start_email_worker=False,
        port=0,
        email_concurrency=10,
        smtp_host=sink.host,
        smtp_port=sink.port,
        smtp_timeout=5,
        shutdown_timeout=5,
    )
