"""One exchange that settles and claims many jobs leaves what as many exchanges of one job leave.

The scenarios show that a call for one job does what BullMQ does; this shows that batches add up. What may differ is
left out: `drained`, which a batch announces once; when the marker of delayed jobs was written last; the order among
jobs that become ready in one call through a promotion or a retention, which a batch does at its beginning and its end.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

import pytest

from pyqueue._store.settling import ClaimRequest, ExchangeReply, Settlement, settle_and_claim
from pyqueue.outcomes import (
    Completed,
    Delayed,
    Failed,
    Keep,
    Outcome,
    RateLimited,
    Released,
    Retried,
    WaitingForChildren,
)
from tests.conformance.generate import POLICIES
from tests.conformance.normal_form import differences, dump
from tests.conformance.operations import OPERATIONS
from tests.conformance.session import Op, Session

pytestmark = pytest.mark.anyio

_SEEDS: Final = range(15)
_DELAYED_MARKER: Final = "1"


class _Case:
    """A queue with active and ready jobs, and what to settle and claim; the same seed gives the same one."""

    def __init__(self, seed: int, session: Session) -> None:
        self.random = random.Random(seed)
        self.session = session
        self.request = ClaimRequest(
            0,
            "token",
            first_token=0,
            metrics_points=self.random.choice([0, 3]),
            limiter_max=self.random.choice([0, 0, 5, 20]),
            limiter_duration_ms=60_500,
        )
        # A parent doomed by its child starts without counting for the rate limit: a batch may then claim one job less.
        self.policies = POLICIES[1:] if self.request.limiter_max else POLICIES
        self.keep = self.random.choice([Keep(), Keep(count=0), Keep(count=2), Keep(count=3, age_s=1)])

    async def prepare(self) -> None:
        await self._do(op="add", name="parent", opts={"jobId": "P"})
        await self._do(op="take")
        if self.random.random() < 0.3:
            await self._do(op="setGlobalConcurrency", concurrency=self.random.randint(8, 15))
        added = [await self._add(i) for i in range(self.random.randint(1, 12))]
        if self.random.random() < 0.5:
            await self._do(op="moveToWaitingChildren", id="P")
        taken = [(await self._do(op="take", token=f"t{n}"), f"t{n}") for n, _ in enumerate(added)]
        self.active = [(job["id"], token) for job, token in taken if "id" in job]
        for options in added:
            if "keepLastIfActive" in options.get("deduplication", {}):
                await self._do(op="add", name="kept back", opts=options)
        places: list[Op] = [{}, {"priority": 2}, {"delay": 1000}, {"lifo": True}]
        for options in self.random.choices(places, k=5):
            await self._do(op="add", name="ready", opts=options)
        if self.random.random() < 0.2:
            await self._do(op="pause")
        self.session.clock.now += 5

    async def _do(self, **op: Any) -> Any:
        self.session.clock.now += 1
        return await OPERATIONS[op["op"]](self.session, op)

    async def _add(self, number: int) -> Op:
        options: Op = self.random.choice([{}, {"priority": self.random.randint(1, 3)}, {"lifo": True, "attempts": 3}])
        kind = self.random.randrange(4)
        if kind == 0:
            modes: list[Op] = [{}, {"keepLastIfActive": True}, {"ttl": 60_500}]
            options = {**options, "deduplication": {"id": f"D{number}", **self.random.choice(modes)}}
        elif kind == 1:
            policy = {self.random.choice(self.policies): True} if self.random.random() < 0.7 else {}
            options = {**options, "parent": {"id": "P", "queue": "orc:q"}, **policy}
        await self._do(op="add", name="job", data=number, opts=options)
        return options

    def settlements(self) -> list[Settlement]:
        return [self._settlement(job_id, token) for job_id, token in self.active if self.random.random() < 0.9]

    def _settlement(self, job_id: str, token: str) -> Settlement:
        outcomes: list[Outcome] = [
            Completed('{"v":1}', self.keep),
            Completed("2", self.keep),
            Failed("boom", '["stack"]', 1, self.keep),
            Retried("again", '["stack"]'),
            Retried("later", '["stack"]', 50),
            Delayed(100),
            Released(),
            WaitingForChildren(),
            RateLimited(),
        ]
        wrong = self.random.random()
        job_id = "missing" if wrong < 0.05 else job_id
        return Settlement(job_id, "other" if 0.05 < wrong < 0.12 else token, self.random.choice(outcomes))


async def _in_one_call(case: _Case, settlements: Sequence[Settlement], jobs: int) -> list[ExchangeReply]:
    store = case.session.worker({})._parts._jobs
    return [await settle_and_claim(store, settlements, case.request._replace(jobs=jobs))]


async def _one_by_one(case: _Case, settlements: Sequence[Settlement], jobs: int) -> list[ExchangeReply]:
    store = case.session.worker({})._parts._jobs
    replies = [await settle_and_claim(store, [settlement], case.request) for settlement in settlements]
    claims = 0
    for _ in range(jobs):
        reply = await settle_and_claim(store, (), case.request._replace(jobs=1, first_token=claims))
        claims += len(reply.claimed)
        replies.append(reply)
    return replies


async def _outcome(seed: int, url: str, exchange: Any) -> Any:
    async with Session({"ops": []}, url) as session:
        case = _Case(seed, session)
        await case.prepare()
        replies = await exchange(case, case.settlements(), case.random.randint(0, 8))
        keys = await dump(session.client, session.prefix)
    events = {key: keys.pop(key)["value"] for key in list(keys) if key.endswith(":events")}
    for key, entry in keys.items():
        if "ttl" in entry:
            entry["ttl"] = round(entry["ttl"], -4)  # to 10 s: a busy machine takes seconds between the two
        if key.endswith(":marker"):
            entry["value"] = [member for member in entry["value"] if member[0] != _DELAYED_MARKER]
    return {
        "codes": [code for reply in replies for code in reply.codes],
        "claimed": [[job.job_id, job.token] for reply in replies for job in reply.claimed],
        "keys": keys,
        "events": _by_job(events),
    }


def _by_job(events: dict[str, Any]) -> dict[str, Any]:
    """The events of each job in order: those of different jobs may change places."""
    found: dict[str, Any] = defaultdict(list)
    for key, entries in events.items():
        for entry in map(dict, entries):
            if entry["event"] != "drained":
                found[f"{key} {entry.get('jobId')}"].append(entry)
    return dict(found)


@pytest.mark.parametrize("seed", _SEEDS)
async def test_many_jobs_in_one_exchange_end_as_they_would_one_by_one(seed: int, redis_url: str) -> None:
    one_by_one = await _outcome(seed, redis_url, _one_by_one)
    assert differences(one_by_one, await _outcome(seed, redis_url, _in_one_call)) == []
