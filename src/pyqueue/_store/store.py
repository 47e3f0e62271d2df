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
from pyqueue._redis.links import Link
from pyqueue._redis.scripts import Script
from pyqueue.types import SERVER_CLOCK, Arg, Clock

T = TypeVar("T")


class FinishWaiter(Protocol):
    """Whoever can wait for the end of a job (`listening.FinishListener`)."""

    async def wait(self, job_id: str, timeout_s: float | None) -> tuple[int, str]:
        """(code, value) as `inspecting.Finish`, when the job has ended; TimeoutError after `timeout_s`."""
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

    def start(
        self,
        script: Script,
        rows: Iterable[Sequence[Arg]],
        read: Callable[[Any], T],
        told: Callable[[T | Exception], None],
        *,
        timeout_s: float | None = None,
        behind: Link | None = None,
        **args: Arg,
    ) -> Link | None:
        """Send a script at once if a connection is idle, else None; `told` hears what comes (`Commands.start`).

        `read` shapes the reply, or raises what it means. `behind`: the result of an earlier start that is not answered;
        then this call follows it on the same connection, or (None) cannot be started.
        """
        link = self.commands.idle(self.keys.meta) if behind is None else behind
        if link is None or not (behind is None or link.is_followable):
            return None
        packed = self._pack(script, rows, args)
        self.commands.start(link, script, script.bind(self.keys), packed, read, told, timeout_s=timeout_s)
        return link

    def _pack(self, script: Script, rows: Iterable[Sequence[Arg]], args: dict[str, Arg]) -> list[Arg]:
        if "prefix" in script.args:
            args.setdefault("prefix", self.keys.base)
        if "now_ms" in script.args:
            args.setdefault("now_ms", self.clock.now_ms())
        elif "now_ms" in script.options and (now_ms := self.clock.now_ms()):
            args.setdefault("now_ms", now_ms)
        return script.pack(args, rows)
