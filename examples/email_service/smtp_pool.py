"""A pool of warm connections to one mail server.

A connection is opened (STARTTLS or TLS, login) when a mail needs one and none is idle, serves many mails, and is closed
when it was idle for a minute, has served its share, or broke. Never more than `size` at a time: a mail waits for its
turn. Knows SMTP sessions; what an answer means for the mail is judged in `mail`.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from time import monotonic

import aiosmtplib
import anyio

from examples.email_service.settings import Settings

# Servers close idle connections, Postfix for example after five minutes: be earlier, so that few are found dead.
MAX_IDLE_S = 60.0

# Servers limit the mails of one connection, too (100 is a common choice).
MAX_MAILS = 100

# A server that is asked to end a session owes us nothing more than a short answer.
QUIT_TIMEOUT_S = 2.0

SWEEP_S = 5.0


class ServerUnavailable(Exception):
    """No session could be had: refused, no answer, no TLS, a refused login. It says nothing about any mail."""


@dataclass(slots=True)
class Session:
    """One connection that has said hello, been secured and logged in."""

    client: aiosmtplib.SMTP
    mails: int = 0
    idle_since: float = field(default_factory=monotonic)

    @property
    def is_warm(self) -> bool:
        """Whether it has served a mail before, so that the server may have closed it meanwhile."""
        return self.mails > 0

    @property
    def is_usable(self) -> bool:
        """Whether another mail may go through it."""
        return self.client.is_connected and self.mails < MAX_MAILS and monotonic() - self.idle_since < MAX_IDLE_S


class SmtpPool:
    """The connections of one instance."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._slots = anyio.CapacityLimiter(settings.pool_size)
        self._idle: list[Session] = []
        self._open: set[int] = set()
        self._is_closed = False
        self.opened = 0
        self.connect_failures = 0
        self.is_up: bool | None = None
        """Whether the last attempt to connect succeeded; None before the first."""

    @property
    def size(self) -> int:
        """Connections at most."""
        return self._settings.pool_size

    @property
    def in_use(self) -> int:
        """Connections that carry a mail at this moment."""
        return self._slots.borrowed_tokens

    @property
    def connections(self) -> int:
        """Connections that are open."""
        return len(self._open)

    @contextlib.asynccontextmanager
    async def session(self, *, fresh: bool = False) -> AsyncGenerator[Session]:
        """A session of one's own, a new one if `fresh`; it goes back to the pool if it is still good afterwards.

        Waits while all are in use. Raises ServerUnavailable. A block that is cancelled leaves the connection in the
        middle of something: it is dropped.
        """
        async with self._slots:
            session = (None if fresh else self._take()) or await self._connect()
            try:
                yield session
            except aiosmtplib.SMTPException:
                session.mails += 1
                await self._give_back(session)
                raise
            except BaseException:
                self._drop(session)
                raise
            session.mails += 1
            await self._give_back(session)

    async def probe(self) -> None:
        """See whether the server lets us in; raises ServerUnavailable. Waits for a free connection like a mail."""
        async with self.session(fresh=True):
            pass

    async def run(self) -> None:
        """Close what has been idle for too long, until cancelled."""
        while True:
            await anyio.sleep(SWEEP_S)
            stale = [session for session in self._idle if not session.is_usable]
            self._idle = [session for session in self._idle if session.is_usable]
            for session in stale:
                await self._quit(session)

    async def close(self) -> None:
        """Say goodbye on every idle connection; those in use are closed as they come back."""
        self._is_closed = True
        idle, self._idle = self._idle, []
        async with anyio.create_task_group() as tasks:
            for session in idle:
                tasks.start_soon(self._quit, session)

    def _take(self) -> Session | None:
        """The warmest idle session, so that those we do not need grow old and are closed."""
        while self._idle:
            session = self._idle.pop()
            if session.is_usable:
                return session
            self._drop(session)
        return None

    async def _connect(self) -> Session:
        client = self._client()
        try:
            await client.connect()
        except (aiosmtplib.SMTPException, OSError) as error:
            self.connect_failures += 1
            self.is_up = False
            raise ServerUnavailable(f"{self._settings.smtp_host}:{self._settings.smtp_port}: {_text(error)}") from error
        self.opened += 1
        self.is_up = True
        self._open.add(id(client))
        return Session(client)

    def _client(self) -> aiosmtplib.SMTP:
        settings = self._settings
        return aiosmtplib.SMTP(
            hostname=settings.smtp_host,
            port=settings.smtp_port,
            username=settings.smtp_user,
            password=None if settings.smtp_pass is None else settings.smtp_pass.get_secret_value(),
            timeout=settings.smtp_timeout,
            use_tls=settings.smtp_tls == "tls",
            start_tls={"auto": None, "none": False, "starttls": True, "tls": False}[settings.smtp_tls],
            tls_context=_tls_context(settings),
        )

    async def _give_back(self, session: Session) -> None:
        session.idle_since = monotonic()
        if self._is_closed or not session.is_usable:
            await self._quit(session)
        else:
            self._idle.append(session)

    async def _quit(self, session: Session) -> None:
        """End the session politely; never raises, not even when cancelled: its mails are done with."""
        with contextlib.suppress(aiosmtplib.SMTPException, asyncio.CancelledError):
            if session.client.is_connected:
                await session.client.quit(timeout=QUIT_TIMEOUT_S)
        self._drop(session)

    def _drop(self, session: Session) -> None:
        self._open.discard(id(session.client))
        session.client.close()


def _tls_context(settings: Settings) -> ssl.SSLContext | None:
    """None: what the system trusts."""
    return None if settings.smtp_ca_file is None else ssl.create_default_context(cafile=settings.smtp_ca_file)


def _text(error: Exception) -> str:
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return f"{error.code} {error.message}"
    return str(error) or type(error).__name__
