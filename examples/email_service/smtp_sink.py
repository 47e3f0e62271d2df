"""A real SMTP server that delivers nowhere: it answers as the recipient's name asks and remembers what it accepted.

    python -m examples.email_service.smtp_sink --port 1025

greylisted-...@   450 the first time that this recipient is named, accepted afterwards
unknown-...@      550, always
slow-...@         accepted, after the delay given at construction
anything else@    accepted

The demonstration and the tests run it in their own process, with every mail going through a socket.
"""

import argparse
import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from email import message_from_bytes
from email.policy import default as modern
from typing import Protocol, Self

from aiosmtpd.smtp import SMTP

GREYLISTED = "greylisted-"
UNKNOWN = "unknown-"
SLOW = "slow-"


@dataclass(slots=True)
class Ledger:
    """What the server answered. A mail is known by its Message-ID and its recipient."""

    accepted: Counter[tuple[str, str]] = field(default_factory=Counter)
    deferred: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    receiving: int = 0
    """Mails whose content is there and whose answer is not."""

    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def deliveries(self) -> int:
        """Mails accepted, second copies included."""
        return self.accepted.total()

    async def until(self, condition: Callable[[], bool], timeout: float = 10.0) -> None:
        """Wait until the condition, which looks at this ledger, holds; TimeoutError after so many seconds."""
        async with asyncio.timeout(timeout), self.changed:
            await self.changed.wait_for(condition)


class Envelope(Protocol):
    """The part of aiosmtpd's envelope that is used here (it ships no types)."""

    rcpt_tos: list[str]
    content: bytes


class Postmaster:
    """Decides about each mail; the method names are aiosmtpd's hooks."""

    def __init__(self, ledger: Ledger, slow_s: float, on_accepted: Callable[[str], None] | None) -> None:
        self._ledger = ledger
        self._slow_s = slow_s
        self._on_accepted = on_accepted

    async def handle_RCPT(  # noqa: N802 (the name of the hook)
        self, _server: object, _session: object, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """Take or refuse a recipient."""
        async with self._ledger.changed:
            self._ledger.changed.notify_all()
            if address.startswith(UNKNOWN):
                self._ledger.refused[address] += 1
                return "550 5.1.1 no such mailbox"
            if address.startswith(GREYLISTED) and not self._ledger.deferred[address]:
                self._ledger.deferred[address] += 1
                return "450 4.2.0 greylisted, come back later"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 ok"

    async def handle_DATA(  # noqa: N802 (the name of the hook)
        self, _server: object, _session: object, envelope: Envelope
    ) -> str:
        """Take the content; from here on the mail is delivered, whatever becomes of the connection."""
        async with self._receiving():
            if any(address.startswith(SLOW) for address in envelope.rcpt_tos):
                await asyncio.sleep(self._slow_s)
        message_id = str(message_from_bytes(envelope.content, policy=modern)["Message-ID"])
        async with self._ledger.changed:
            self._ledger.changed.notify_all()
            self._ledger.accepted.update((message_id, address) for address in envelope.rcpt_tos)
        if self._on_accepted is not None:
            self._on_accepted(", ".join(envelope.rcpt_tos))
        return "250 2.0.0 accepted"

    @contextlib.asynccontextmanager
    async def _receiving(self) -> AsyncGenerator[None]:
        async with self._ledger.changed:
            self._ledger.receiving += 1
            self._ledger.changed.notify_all()
        try:
            yield
        finally:  # also when the client went away, which cancels the handler
            async with self._ledger.changed:
                self._ledger.receiving -= 1
                self._ledger.changed.notify_all()


class SmtpSink:
    """The server, as an async context manager; `port` is known once it is entered."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        slow_s: float = 1.0,
        on_accepted: Callable[[str], None] | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.ledger = Ledger()
        self._postmaster = Postmaster(self.ledger, slow_s, on_accepted)
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        # The host name is given because looking it up (getfqdn, once per connection) may take seconds.
        self._server = await loop.create_server(
            lambda: SMTP(self._postmaster, hostname="sink.example", loop=loop), self.host, self.port
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_exc_info: object) -> None:
        assert self._server is not None
        self._server.close()


async def serve(host: str, port: int) -> None:
    """Accept mails until cancelled, a line on standard output for each."""
    async with SmtpSink(host=host, port=port, on_accepted=lambda address: print("accepted", address)) as sink:
        print(f"listening on {sink.host}:{sink.port}", flush=True)
        await asyncio.Event().wait()


def main() -> None:
    """Entry point of the stand-alone server."""
    parser = argparse.ArgumentParser(prog="smtp_sink", description="An SMTP server that delivers nowhere.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=1025)
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(options.host, options.port))


if __name__ == "__main__":
    main()
