"""Fetch jobs by hand: one at a time, under the caller's token, without engine, slots or lease renewal.

For `Worker.get_next_job`. The caller settles the job with the verbs of `Job` and extends its lock.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import anyio

from pyqueue._redis.commands import Commands
from pyqueue._store.settling import Claimed, ClaimRequest, ExchangeReply, settle_and_claim
from pyqueue._store.store import Store
from pyqueue._worker.running_job import RunningJob
from pyqueue._worker.waiter import block_time_s, pop_marker


class ManualFetch:
    """Claims one job per call. `blocking` is a connection of its own; `is_closing` ends a wait."""

    def __init__(
        self,
        store: Store,
        blocking: Commands,
        claim: ClaimRequest,
        make_job: Callable[[Claimed], RunningJob],
        *,
        drain_delay_s: float,
        max_limit_s: float,
    ) -> None:
        self._store = store
        self._blocking = blocking
        self._claim = claim
        self._make_job = make_job
        self._drain_delay_s = drain_delay_s
        self._max_limit_s = max_limit_s
        self._waiting: set[anyio.CancelScope] = set()

    async def fetch(self, token: str) -> ExchangeReply:
        """One claim of at most one job. One round trip."""
        return await settle_and_claim(self._store, (), self._claim._replace(count=1, token=token, first_token=-1))

    async def next_job(self, token: str, *, block: bool) -> RunningJob | None:
        """The next job; without one, None (`block=False`, or the worker is closed meanwhile) or a wait for it."""
        with anyio.CancelScope() as scope:
            self._waiting.add(scope)
            try:
                while True:
                    reply = await self.fetch(token)
                    if reply.claimed:
                        return self._make_job(reply.claimed[0])
                    if not block:
                        return None
                    await self._wait(reply)
            finally:
                self._waiting.discard(scope)
        return None

    def interrupt(self) -> None:
        """End all waits."""
        for scope in self._waiting:
            scope.cancel()

    async def _wait(self, reply: ExchangeReply) -> None:
        if reply.limit_ms > 0:
            await anyio.sleep(min(reply.limit_ms / 1000, self._max_limit_s))
            return
        began = time.monotonic()
        due_ms = reply.next_delayed_ms
        while True:
            passed_ms = (time.monotonic() - began) * 1000
            block_s = block_time_s(due_ms - reply.now_ms - passed_ms if due_ms else None, self._drain_delay_s)
            score = await self._pop(block_s) if block_s else None
            if not score:
                return
            due_ms = min(due_ms or int(score), int(score))

    async def _pop(self, block_s: float) -> float | None:
        try:
            return await pop_marker(self._blocking, self._store.keys.marker, block_s)
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await settle_and_claim(self._store, (), self._claim._replace(count=0), rearm=True)
            raise
