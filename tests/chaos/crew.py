"""The worker processes of one scenario: start many quickly, kill, stop and count them."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from dataclasses import replace
from multiprocessing.context import ForkServerProcess
from typing import Final

from tests.chaos.ledger import Ledger
from tests.chaos.worker_process import Plan, main
from tests.support.waiting import wait_until

# The fork server imports the library once; importing it in each of hundreds of processes would take half a second each.
_context: Final = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["__main__", "tests.chaos.worker_process"])

_READY_S: Final = 15.0
_END_S: Final = 10.0


class Crew:
    """Worker processes, all alike unless told otherwise."""

    def __init__(self, plan: Plan, ledger: Ledger) -> None:
        self.members: list[ForkServerProcess] = []
        self.plan: Final = plan
        self._ledger = ledger

    def hire(self, url: str | None = None) -> ForkServerProcess:
        """Start one more; `url` if it reaches Redis another way."""
        plan = self.plan
        if url is not None:
            plan = replace(plan, url=url)
        process = _context.Process(target=main, args=(plan,), daemon=True)
        process.start()
        self.members.append(process)
        return process

    async def assemble(self, count: int, url: str | None = None) -> list[ForkServerProcess]:
        """Start some and wait until each has reached Redis."""
        new = [self.hire(url) for _ in range(count)]
        await self.until_ready(new)
        return new

    async def until_ready(self, members: list[ForkServerProcess]) -> None:
        """Wait until these have reached Redis."""
        pids = {member.pid for member in members}
        await wait_until(lambda: pids <= {record.pid for record in self._ledger.of("ready")}, _READY_S)

    def kill_one(self) -> tuple[float, int]:
        """SIGKILL to a random member; when and whom."""
        member = random.choice(self.members)
        self.members.remove(member)
        at = time.monotonic()
        member.kill()
        return at, member.pid or 0

    async def dismiss(self, member: ForkServerProcess) -> tuple[float, int]:
        """SIGTERM, and wait for the end; how long that took (s) and the exit code."""
        self.members.remove(member)
        began = time.monotonic()
        member.terminate()
        await wait_until(lambda: member.exitcode is not None, _END_S)
        return time.monotonic() - began, member.exitcode or 0

    def bury_dead(self) -> int:
        """Forget the members that have ended; how many those were."""
        dead = [member for member in self.members if member.exitcode is not None]
        for member in dead:
            self.members.remove(member)
        return len(dead)

    def signal(self, member: ForkServerProcess, number: signal.Signals) -> None:
        """Send any signal."""
        os.kill(member.pid or 0, number)

    def close(self) -> None:
        """SIGKILL to all."""
        for member in self.members:
            member.kill()
        for member in self.members:
            member.join(_END_S)
