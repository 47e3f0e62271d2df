"""Fetch jobs by hand: one at a time, under the caller's token, without engine, slots or lease renewal.

For `Worker.get_next_job`. The caller settles the job with the verbs of `Job` and extends its lock; a job
that must not run (unreadable, stalled too often) is failed here.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable
from typing import Final

import anyio
from redis.exceptions import RedisError

from pyqueue._redis.commands import Commands
from pyqueue._store.scheduling import follow
from pyqueue._store.settling import Claimed, ClaimRequest, ExchangeReply, Settlement, settle_and_claim
from pyqueue._store.store import Store
from pyqueue._worker.marker import CUT_OFF_S, MAX_BLOCK_S, pop_marker
from pyqueue._worker.running_job import RunningJob
from pyqueue.outcomes import Returned
from pyqueue.verdict import Verdicts

#: How long a wait that is cut off tries to put back the marker that it may have taken.
_REARM_S: Final = 1.0
#: Redis ends blocking up to 100 ms late (it looks ten times a second), so the last part of a wait is slept.
_NEAR_S: Final = 0.12


class ManualFetch:
    """Claims one job per call. `blocking` is a connection of its own."""

    def __init__(
        self,
        store: Store,
        blocking: Commands,
        claim: ClaimRequest,
        make_job: Callable[[Claimed], RunningJob],
        verdicts: Verdicts,
        *,
        drain_delay_s: float,
        max_limit_s: float,
    ) -> None:
        self._store = store
        self._blocking = blocking
        self._claim = claim
        self._make_job = make_job
        self._verdicts = verdicts
        self._drain_delay_s = drain_delay_s
        self._max_limit_s = max_limit_s
        self._waits: set[anyio.CancelScope] = set()
        self._calls = 0
        self._call_ended = asyncio.Event()
        self._is_ended = False

    async def fetch(self, token: str) -> ExchangeReply:
        """One claim of at most one job. One round trip; two for the job of a scheduler.

        A caller who is cancelled meanwhile gets no job, so what was claimed is given back first.
        """
        request = self._claim._replace(jobs=1, token=token, first_token=-1)
        # A task, because no scope keeps Task.cancel() from breaking the call, and its reply names the job.
        claim = asyncio.create_task(settle_and_claim(self._store, (), request))
        try:
            reply = await asyncio.shield(claim)
            await follow(self._store, reply.claimed)
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True), contextlib.suppress(Exception):
                await self._give_back(await claim)
            raise
        return reply

    async def _give_back(self, reply: ExchangeReply) -> None:
        """Put claimed jobs back in front of their lines, as if they had not been started."""
        settlements = [Settlement(job.job_id, job.token, Returned()) for job in reply.claimed]
        if settlements:
            await settle_and_claim(self._store, settlements, self._claim._replace(jobs=0))

    async def next_job(self, token: str, *, block: bool) -> RunningJob | None:
        """The next job; without one, None (`block=False`, or the worker is closed), or a wait for it."""
        self._calls += 1
        try:
            return await self._next_job(token, block=block)
        finally:
            self._calls -= 1
            self._call_ended.set()

    async def end(self) -> None:
        """End all waits, and what is under way; later calls return at once."""
        self._is_ended = True
        for scope in self._waits:
            scope.cancel()
        while self._calls:
            await self._call_ended.wait()
            self._call_ended.clear()

    async def _next_job(self, token: str, *, block: bool) -> RunningJob | None:
        while not self._is_ended:
            reply = await self.fetch(token)
            if reply.claimed:
                job = self._make_job(reply.claimed[0])
                refusal = job.unreadable() or self._verdicts.refusal(job)
                if refusal is None:
                    return job
                await job.move_to_failed(refusal)
            elif block:
                await self._wait(reply)
            else:
                break
        return None

    async def _wait(self, reply: ExchangeReply) -> None:
        with anyio.CancelScope() as scope:
            self._waits.add(scope)
            try:
                await self._wait_for_work(reply)
            finally:
                self._waits.discard(scope)

    async def _wait_for_work(self, reply: ExchangeReply) -> None:
        if reply.limit_ms > 0:
            await anyio.sleep(min(reply.limit_ms / 1000, self._max_limit_s))
            return
        began = time.monotonic()
        due_ms = reply.next_delayed_ms
        while True:
            due_s = (due_ms - reply.now_ms) / 1000 - (time.monotonic() - began) if due_ms else math.inf
            if due_s <= _NEAR_S:
                await anyio.sleep(max(0.0, due_s))
                return
            score = await self._pop(min(due_s - _NEAR_S, self._drain_delay_s, MAX_BLOCK_S))
            if (score is None and due_s > self._drain_delay_s) or score == 0:
                return
            due_ms = min(due_ms or int(score), int(score)) if score else due_ms

    async def _pop(self, block_s: float) -> float | None:
        try:
            return await pop_marker(self._blocking, self._store.keys.marker, block_s)
        except anyio.get_cancelled_exc_class():
            with anyio.move_on_after(_REARM_S, shield=True), contextlib.suppress(RedisError):
                await anyio.sleep(CUT_OFF_S)
                await settle_and_claim(self._store, (), self._claim._replace(jobs=0), rearm=True)
            raise
