"""A pool of warm connections to one mail server.

A connection is opened (STARTTLS or TLS, login) when a mail needs one and none is idle, serves many mails, and is closed
when it was idle for a minute, has served its share, or broke. Never more than `size` at a time: a mail waits for its
turn. When the server has too many connections already (421 at the door), the pool makes do with those that it has, and
tries one more every few seconds. Knows SMTP sessions; what an answer means for the mail is judged in `mail`.
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

_PERMANENT = 500

SWEEP_S = 5.0

# After a 421 at the door the pool does not knock again for so long, doubling while it is turned away.
FIRST_BACKOFF_S = 1.0
MAX_BACKOFF_S = 10.0


class ServerUnavailable(Exception):
    """No session could be had: refused, no answer, no TLS, a refused login. It says nothing about any mail."""


class ServerBusy(ServerUnavailable):
    """The server lives and takes no further connection now (4xx at the door); `seconds` until the pool tries again."""

    def __init__(self, reason: str, seconds: float) -> None:
        super().__init__(reason)
        self.seconds = seconds


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
        self._backoff_s = 0.0
        self._busy_until = 0.0
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
    async def turn(self) -> AsyncGenerator["Turn"]:
        """The right to one connection, when others are done with theirs; `Turn.connect` then makes use of it.

        The connection goes back to the pool if it is still good afterwards. A block that is cancelled leaves it in the
        middle of something: it is dropped.
        """
        async with self._slots:
            turn = Turn(self)
            try:
                yield turn
            except Exception:
                await turn.give_back()
                raise
            except BaseException:
                turn.drop()
                raise
            await turn.give_back()

    async def probe(self) -> None:
        """See whether the server lets us in; raises ServerUnavailable. Waits for a free connection like a mail."""
        async with self.turn() as turn:
            session = await turn.connect()
            if session.is_warm:
                try:
                    await session.client.noop()
                except aiosmtplib.SMTPException:
                    await turn.connect(fresh=True)

    async def run(self) -> None:
        """Close what has been idle for too long and dare one more connection, until cancelled."""
        while True:
            await anyio.sleep(SWEEP_S)
            self._slots.total_tokens = min(self.size, self._slots.total_tokens + 1)
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

    def take(self) -> Session | None:
        """The warmest idle session, so that those we do not need grow old and are closed."""
        while self._idle:
            session = self._idle.pop()
            if session.is_usable:
                return session
            self.drop(session)
        return None

    async def connect(self) -> Session:
        """A new session; raises ServerUnavailable."""
        left_s = self._busy_until - monotonic()
        if left_s > 0:
            raise ServerBusy(f"{self._settings.smtp_host}: too many connections", left_s)
        client = self._client()
        try:
            await client.connect()
        except (aiosmtplib.SMTPException, OSError) as error:
            self.connect_failures += 1
            self.is_up = False
            reason = f"{self._settings.smtp_host}:{self._settings.smtp_port}: {_text(error)}"
            if isinstance(error, aiosmtplib.SMTPConnectResponseError) and error.code < _PERMANENT:
                raise ServerBusy(reason, self._make_do()) from error
            raise ServerUnavailable(reason) from error
        self.opened += 1
        self._backoff_s = 0.0
        self.is_up = True
        self._open.add(id(client))
        return Session(client)

    async def give_back(self, session: Session) -> None:
        """Keep it for the next mail, or end it."""
        session.mails += 1
        session.idle_since = monotonic()
        if self._is_closed or not session.is_usable:
            await self._quit(session)
        else:
            self._idle.append(session)

    def drop(self, session: Session) -> None:
        """End it without a word."""
        self._open.discard(id(session.client))
        session.client.close()

    def _make_do(self) -> float:
        """Be content with the connections that are open; returns seconds until the next attempt."""
        self._backoff_s = min(MAX_BACKOFF_S, max(FIRST_BACKOFF_S, 2 * self._backoff_s))
        self._busy_until = monotonic() + self._backoff_s
        self._slots.total_tokens = max(1, self.connections)
        return self._backoff_s

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

    async def _quit(self, session: Session) -> None:
        """End the session politely; never raises, not even when cancelled: its mails are done with."""
        with contextlib.suppress(aiosmtplib.SMTPException, asyncio.CancelledError):
            if session.client.is_connected:
                await session.client.quit(timeout=QUIT_TIMEOUT_S)
        self.drop(session)


class Turn:
    """One mail's right to a connection."""

    def __init__(self, pool: SmtpPool) -> None:
        self._pool = pool
        self._session: Session | None = None

    async def connect(self, *, fresh: bool = False) -> Session:
        """A session of one's own, a new one if `fresh`, instead of the one before; raises ServerUnavailable."""
        self.drop()
        self._session = (None if fresh else self._pool.take()) or await self._pool.connect()
        return self._session

    async def give_back(self) -> None:
        """Leave the session to others."""
        session, self._session = self._session, None
        if session is not None:
            await self._pool.give_back(session)

    def drop(self) -> None:
        """Let nobody use the session again."""
        session, self._session = self._session, None
        if session is not None:
            self._pool.drop(session)


def _tls_context(settings: Settings) -> ssl.SSLContext | None:
    """None: what the system trusts."""
    return None if settings.smtp_ca_file is None else ssl.create_default_context(cafile=settings.smtp_ca_file)


def _text(error: Exception) -> str:
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return f"{error.code} {error.message}"
    return str(error) or type(error).__name__
