"""Run commands and scripts on whatever carries them, each under a deadline of its own.

Does: EVALSHA, loading scripts that the server does not know, deadlines, refusals of the server as `RedisRefused`.
Does not: repeat anything, wait for a server to come back (`outage` is for that) or know where the server is
(`sources`). `connection` builds these; the store and the worker use them through the protocol `Commands`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from redis.exceptions import AskError, NoScriptError, RedisError, ResponseError, TryAgainError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pyqueue._redis.links import Carrier, Link, is_unsent, mark_unsent
from pyqueue._redis.packing import pack, pack_script
from pyqueue._redis.refusals import refusal_of
from pyqueue._redis.resp3 import as_resp2
from pyqueue._redis.scripts import Script
from pyqueue.errors import RedisRefused
from pyqueue.types import Arg

T = TypeVar("T")

#: Longest wait for one command, connecting included. Long enough for a loaded server, short enough for a web request.
DEADLINE_S: Final = 10.0
#: What a blocking command gets on top of the time it asks the server to block.
BLOCK_MARGIN_S: Final = 5.0


#: The server does not know the script, or another node has its keys.
_ASK_ELSEWHERE: Final = (NoScriptError, AskError, TryAgainError)


class NothingRan(Exception):
    """A script that was started has not run, and `Commands.call` knows what to do about it."""


class Commands(Protocol):
    """What runs commands: the seam behind which a leaner connection can take redis-py's place.

    Replies are raw: bytes or text, integers, lists, None. Raises redis.ConnectionError where the connection broke and
    redis.TimeoutError after the deadline (either way the command may have run), RedisRefused where the server refused,
    and redis.ResponseError for other error replies.
    """

    async def call(
        self, script: Script, keys: Sequence[str], args: Sequence[Arg], *, timeout_s: float | None = None
    ) -> Any:
        """Run a script; one round trip, three where the server does not know it yet, four where it must not load it."""
        ...

    def idle(self, key: str) -> Link | None:
        """A connection on which a script that has this key can be started: open and free, and nobody waits for it."""
        ...

    def start(
        self,
        link: Link,
        script: Script,
        keys: Sequence[str],
        args: Sequence[Arg],
        read: Callable[[Any], T],
        told: Callable[[T | Exception], None],
        *,
        timeout_s: float | None = None,
    ) -> None:
        """Send a script at once, on a connection that is idle; or that is followable: then behind what is in flight.

        `told` is called as soon as the reply is there, with what `read` makes of it, or with what `call` or `read`
        would raise: that saves the coroutines and a turn of the event loop. It may also be `NothingRan`: then `call`.
        """
        ...

    def start_command(
        self,
        link: Link,
        command: Sequence[Arg],
        read: Callable[[Any], T],
        told: Callable[[T | Exception], None],
        *,
        timeout_s: float,
    ) -> None:
        """The same for any other command; after `NothingRan`, `execute`."""
        ...

    async def execute(self, *command: Arg, timeout_s: float | None = None, at: str | None = None) -> Any:
        """Run any other command; one round trip. A blocking command's deadline defaults to its block time + 5 s.

        `at`: a key; a cluster runs a command that names no key (SCAN, CLIENT LIST) on that key's node.
        """
        ...

    async def aclose(self) -> None:
        """Close what belongs to these commands alone; a command in flight fails with redis.ConnectionError."""
        ...


class RedisCommands:
    """Commands on a carrier."""

    __slots__ = ("_carrier", "_deadline_s", "_label", "_on_close")

    def __init__(
        self,
        carrier: Carrier,
        *,
        label: str,
        deadline_s: float = DEADLINE_S,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self._carrier = carrier
        self._on_close = on_close
        self._label = label
        self._deadline_s = deadline_s

    async def call(
        self, script: Script, keys: Sequence[str], args: Sequence[Arg], *, timeout_s: float | None = None
    ) -> Any:
        deadline_s = self._deadline_s if timeout_s is None else timeout_s
        key = keys[0] if keys else None
        until = time.monotonic() + deadline_s
        packed = pack_script(script.sha, tuple(keys), args)
        try:
            return await self._exchange(packed, key, deadline_s)
        except NoScriptError:
            await self._load(script, key, self._left_s(until))
        try:
            return await self._exchange(packed, key, self._left_s(until))
        except NoScriptError:  # forgotten again, not to be loaded by this user, or asked of another node (ASK)
            text = pack(("EVAL", script.text, len(keys), *keys, *args))
            return await self._exchange(text, key, self._left_s(until))

    async def _load(self, script: Script, key: str | None, timeout_s: float) -> None:
        """Let the server compile a script, apart from the call: both may take it as long as the longest calls do."""
        try:
            await self._exchange(pack(("SCRIPT", "LOAD", script.text)), key, timeout_s)
        except (RedisRefused, ResponseError):
            return
        except BaseException as error:
            mark_unsent(error)  # the call itself was refused
            raise

    def _left_s(self, until: float) -> float:
        """Time for another try of a call that the server has refused to run."""
        left_s = until - time.monotonic()
        if left_s > 0:
            return left_s
        late = RedisTimeoutError(f"{self._label}: no time left to let the server know the script")
        mark_unsent(late)
        raise late

    def idle(self, key: str) -> Link | None:
        return self._carrier.idle(key)

    def start(
        self,
        link: Link,
        script: Script,
        keys: Sequence[str],
        args: Sequence[Arg],
        read: Callable[[Any], T],
        told: Callable[[T | Exception], None],
        *,
        timeout_s: float | None = None,
    ) -> None:
        deadline_s = self._deadline_s if timeout_s is None else timeout_s
        packed = pack_script(script.sha, tuple(keys), args)
        link.start(packed, deadline_s, partial(self._received, read, told, deadline_s))

    def start_command(
        self,
        link: Link,
        command: Sequence[Arg],
        read: Callable[[Any], T],
        told: Callable[[T | Exception], None],
        *,
        timeout_s: float,
    ) -> None:
        link.start(pack(command), timeout_s, partial(self._received, read, told, timeout_s))

    def _received(
        self, read: Callable[[Any], T], told: Callable[[T | Exception], None], timeout_s: float, reply: Any
    ) -> None:
        answer: T | Exception
        if isinstance(reply, Exception):
            answer = NothingRan(str(reply)) if isinstance(reply, _ASK_ELSEWHERE) else self._meaning(reply, timeout_s)
        else:
            try:
                answer = read(reply)
            except Exception as error:
                answer = error
        told(answer)

    async def execute(self, *command: Arg, timeout_s: float | None = None, at: str | None = None) -> Any:
        if timeout_s is None:
            block_s = block_time_s(command)
            timeout_s = self._deadline_s if block_s is None else block_s + BLOCK_MARGIN_S
        reply = await self._exchange(pack(command), at or key_of(command), timeout_s)
        return as_resp2(str(command[0]).upper(), reply) if self._carrier.may_speak_resp3 else reply

    async def aclose(self) -> None:
        self._on_close()
        await self._carrier.aclose()

    async def _exchange(self, packed: bytes, key: str | None, timeout_s: float) -> Any:
        try:
            return await self._carrier.exchange(packed, key, timeout_s)
        except (TimeoutError, RedisError) as error:
            meaning = self._meaning(error, timeout_s)
            if meaning is error:
                raise
            raise meaning from meaning.__cause__

    def _meaning(self, error: Exception, timeout_s: float) -> Exception:
        """The error that is raised for what a carrier raises."""
        if isinstance(error, TimeoutError) and not isinstance(error, RedisError):
            unsent = is_unsent(error) or is_unsent(error.__cause__)  # the cancellation that the deadline was
            late = RedisTimeoutError(
                f"{self._label}: no {'connection' if unsent else 'reply'} within {timeout_s:.3g} s"
            )
            if unsent:
                mark_unsent(late)
            return late
        refusal = refusal_of(error) if isinstance(error, RedisError) else None
        if refusal is None:
            return error
        refusal.__cause__ = error
        return refusal


def block_time_s(command: Sequence[Arg]) -> float | None:
    """How long the server may block in this command; None for a command that does not block.

    ValueError for a command that would block for ever: no deadline could tell it from a dead connection.
    """
    name = str(command[0]).upper()
    if name == "BZPOPMIN":
        seconds = float(command[-1])
    elif name == "XREAD" and (at := _position(command, "BLOCK")) is not None:
        seconds = float(command[at + 1]) / 1000
    else:
        return None
    if seconds <= 0:
        raise ValueError(f"{name} without an end is not supported: give it a block time")
    return seconds


def key_of(command: Sequence[Arg]) -> str | None:
    """The key that decides where a cluster runs the command; None for a command without keys."""
    name = str(command[0]).upper()
    if name in {"PING", "INFO", "TIME", "CLIENT", "CONFIG", "SCRIPT", "SCAN", "DBSIZE"} or len(command) < 2:
        return None
    position = 1
    if name == "XREAD":
        streams = _position(command, "STREAMS")
        position = 1 if streams is None else streams + 1
    key = command[position]
    return key.decode() if isinstance(key, bytes) else str(key)


def _position(command: Sequence[Arg], keyword: str) -> int | None:
    return next((i for i, word in enumerate(command) if isinstance(word, str) and word.upper() == keyword), None)
