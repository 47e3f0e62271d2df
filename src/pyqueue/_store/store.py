"""What every transition needs: a connection, the key names of a queue, a clock.

`Store` is the only thing passed around above the connection. The typed functions beside this module call scripts
through it; nothing else does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from pyqueue._redis.commands import Commands
from pyqueue._redis.keys import QueueKeys
from pyqueue._redis.scripts import Script
from pyqueue.types import SERVER_CLOCK, Arg, Clock

T = TypeVar("T")


class FinishWaiter(Protocol):
    """Whoever can wait for the end of a job (`listening.FinishListener`)."""

    async def wait(self, job_id: str) -> tuple[int, str]:
        """(code, value) as `inspecting.Finish`, when the job has ended."""
        ...


@dataclass(frozen=True, slots=True)
class Store:
    """One queue as seen through one connection."""

    commands: Commands
    keys: QueueKeys
    clock: Clock = SERVER_CLOCK
    finishes: FinishWaiter | None = None

    async def call(
        self, script: Script, rows: Iterable[Sequence[Arg]] = (), *, timeout_s: float | None = None, **args: Arg
    ) -> Any:
        """Run a script in one round trip; `prefix` and `now_ms` are filled in where the script has them."""
        packed = self._pack(script, rows, args)
        return await self.commands.call(script, script.bind(self.keys), packed, timeout_s=timeout_s)

    @property
    def is_idle(self) -> bool:
        """Whether a call can be started at once."""
        return self.commands.is_idle(self.keys.meta)

    def prepare(self, script: Script, rows: Iterable[Sequence[Arg]] = (), **args: Arg) -> bytes:
        """A call of a script, encoded, to be started now or later."""
        return self.commands.prepare(script, script.bind(self.keys), self._pack(script, rows, args))

    def start(
        self,
        prepared: bytes,
        read: Callable[[Any], T],
        told: Callable[[T | Exception], None],
        *,
        timeout_s: float | None = None,
    ) -> None:
        """Send a prepared call at once, where `is_idle`; `told` hears what comes (`Commands.start`).

        `read` shapes the reply, or raises what it means.
        """

        def receive(reply: Any) -> None:
            try:
                answer: T | Exception = reply if isinstance(reply, Exception) else read(reply)
            except Exception as error:
                answer = error
            told(answer)

        self.commands.start(prepared, self.keys.meta, receive, timeout_s=timeout_s)

    def _pack(self, script: Script, rows: Iterable[Sequence[Arg]], args: dict[str, Arg]) -> list[Arg]:
        names = script.args
        if "prefix" in names:
            args.setdefault("prefix", self.keys.base)
        if "now_ms" in names:
            args.setdefault("now_ms", self.clock.now_ms())
        return script.pack(args, rows)
