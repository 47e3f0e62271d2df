"""Fixtures of the example tests: a mail server, and the settings of an instance beside it."""

from collections.abc import AsyncIterator

import pytest

from examples.email_service.settings import Settings
from examples.email_service.smtp_sink import SmtpSink


@pytest.fixture
async def sink() -> AsyncIterator[SmtpSink]:
    """A mail server of this test's own; slow recipients take 1 s."""
    async with SmtpSink(slow_s=1.0) as running:
        yield running


@pytest.fixture
def settings(redis_url: str, prefix: str, sink: SmtpSink) -> Settings:
    """An instance without a worker, on the test's Redis and mail server."""
    return Settings(
        redis_url=redis_url,
        queue_prefix=prefix,
        instance_id="instance-1",
        start_email_worker=False,
        smtp_host=sink.host,
        smtp_port=sink.port,
        smtp_timeout=5,
        shutdown_timeout=5,
    )
