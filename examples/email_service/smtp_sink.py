"""A real SMTP server that delivers nowhere: it answers as the recipient's name asks and remembers what it accepted.

    python -m examples.email_service.smtp_sink --port 1025

greylisted-...@   450 the first time that this recipient is named, accepted afterwards
unknown-...@      550, always
slow-...@         accepted, after the delay given at construction
anything else@    accepted

It can also be made to behave badly: to allow few connections, to ask everybody to pause, to demand TLS and a login, to
be gone for a while. The demonstration and the tests run it in their own process; every mail goes through a socket.
"""

import argparse
import asyncio
import contextlib
import math
import ssl
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from email import message_from_bytes
from email.policy import default as modern
from time import monotonic
from typing import Any, Protocol, Self

from aiosmtpd.smtp import SMTP, AuthResult

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

    accepted_at: list[float] = field(default_factory=list)
    """When each mail was accepted (monotonic seconds), in that order."""
    connections: int = 0
    """Taken since the start."""
    connections_refused: int = 0
    """Turned away because there were too many."""
    most_connections: int = 0
    """Open at the same time, at most."""
    pauses: int = 0
    """Times that a client was asked to pause."""

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

    mail_from: str
    mail_options: list[str]
    rcpt_tos: list[str]
    content: bytes


class Postmaster:
    """Decides about each mail; the method names are aiosmtpd's hooks."""

    def __init__(self, ledger: Ledger, slow_s: float, on_accepted: Callable[[str], None] | None) -> None:
        self._ledger = ledger
        self._slow_s = slow_s
        self._on_accepted = on_accepted
        self.paused_until = 0.0

    async def handle_MAIL(  # noqa: N802 (the name of the hook)
        self, _server: object, _session: object, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take the sender, or ask for a pause."""
        if (left_s := self.paused_until - monotonic()) > 0:
            self._ledger.pauses += 1
            return f"421 4.7.0 too much mail, try again in {math.ceil(left_s)} seconds"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 ok"

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
            self._ledger.accepted_at.append(monotonic())
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


class Connection(SMTP):
    """One client, counted; turned away when there are too many."""

    def __init__(self, sink: "SmtpSink", handler: Postmaster, **options: Any) -> None:
        super().__init__(handler, **options)
        self._sink = sink

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called again when the connection is secured."""
        ledger, clients = self._sink.ledger, self._sink.clients
        if self not in clients:
            ledger.connections += 1
            clients[self] = transport
            if len(clients) > self._sink.max_connections:
                ledger.connections_refused += 1
                assert isinstance(transport, asyncio.WriteTransport)
                transport.write(b"421 4.7.0 too many connections\r\n")
                transport.close()
            else:
                ledger.most_connections = max(ledger.most_connections, len(clients))
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """The client has gone."""
        self._sink.clients.pop(self, None)
        super().connection_lost(error)


class SmtpSink:
    """The server, as an async context manager; `port` is known once it is entered."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        slow_s: float = 1.0,
        on_accepted: Callable[[str], None] | None = None,
        max_connections: int = 1_000_000,
        tls: ssl.SSLContext | None = None,
        users: Mapping[str, str] | None = None,
    ) -> None:
        """`tls`: STARTTLS is offered. `users` (name -> password): nothing is taken before STARTTLS and a login."""
        self.host = host
        self.port = port
        self.max_connections = max_connections
        self.ledger = Ledger()
        self.clients: dict[Connection, asyncio.BaseTransport] = {}
        self._tls = tls
        self._users = users
        self._postmaster = Postmaster(self.ledger, slow_s, on_accepted)
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen; again on the same port after `close`."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: self._connection(loop), self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Refuse connections and drop those that are open."""
        if self._server is not None:
            self._server.close()
        for transport in list(self.clients.values()):
            transport.close()

    def pause(self, seconds: float) -> None:
        """Answer 421 to every mail for so long."""
        self._postmaster.paused_until = monotonic() + seconds

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_exc_info: object) -> None:
        self.close()

    def _connection(self, loop: asyncio.AbstractEventLoop) -> Connection:
        # The host name is given because looking it up (getfqdn, once per connection) may take seconds.
        return Connection(
            self,
            self._postmaster,
            hostname="sink.example",
            loop=loop,
            tls_context=self._tls,
            require_starttls=self._tls is not None and self._users is not None,
            auth_required=self._users is not None,
            authenticator=None if self._users is None else self._authenticate,
        )

    def _authenticate(self, _server: object, _session: object, _envelope: object, _mechanism: str, login: Any) -> Any:
        users = self._users or {}
        return AuthResult(success=users.get(login.login.decode()) == login.password.decode(), handled=False)


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
