"""Outcomes that wait to be sent: their order, and what is known of a limit that one of them closes."""

from __future__ import annotations

from typing import Any

import pytest

from pyqueue._redis.connection import Connection
from pyqueue._redis.keys import QueueKeys
from pyqueue._store.store import Store
from pyqueue._worker.held import Held
from pyqueue._worker.outbox import Outbox
from pyqueue._worker.running_job import RunningJob
from pyqueue.outcomes import Completed, Failed, Keep, Outcome, RateLimited, Returned

pytestmark = pytest.mark.anyio


def ended(job_id: str, outcome: Outcome | None = None) -> Held:
    """A job with this outcome, without Redis behind it."""
    store = Store(Connection.open("memory://outbox").commands, QueueKeys("bull", "q"))
    fields: Any = {"name": "x", "data": "1", "opts": "{}"}
    held = Held(RunningJob(store, job_id, fields, "t"), 0.0)
    held.outcome = outcome
    return held


def ids(jobs: Any) -> list[str]:
    return [held.job.id for held in jobs]


async def test_a_batch_is_unconfirmed_until_it_has_arrived() -> None:
    outbox = Outbox()
    outbox.waiting.extend(ended(n, Completed("1")) for n in "123")
    batch = outbox.take(2)
    assert (ids(batch), ids(outbox.waiting), outbox.unconfirmed) == (["1", "2"], ["3"], 3)
    outbox.arrived(batch)
    assert outbox.unconfirmed == 1


async def test_what_is_sent_again_goes_first_in_its_order() -> None:
    outbox = Outbox()
    outbox.waiting.extend(ended(n, Completed("1")) for n in "123")
    batch = outbox.take(2)
    outbox.arrived(batch)
    outbox.send_again(batch)
    assert ids(outbox.waiting) == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("outcome", "trims"),
    [
        (Completed("1"), False),
        (Completed("1", Keep(count=0)), False),
        (Completed("1", Keep(count=5)), True),
        (Failed("no", "[]", keep=Keep(age_s=0)), True),
        (RateLimited(5), False),
    ],
)
async def test_an_outbox_knows_whether_old_jobs_may_have_to_go(outcome: Outcome, trims: bool) -> None:
    """Until all outcomes have left, and again if they come back."""
    outbox = Outbox()
    for held in (ended("1", outcome), ended("2", Completed("1"))):
        outbox.add(held)
    assert outbox.trims is trims
    first = outbox.take(1)
    assert outbox.trims is trims
    outbox.take(1)
    assert not outbox.trims
    outbox.send_again(first)
    assert outbox.trims is trims


async def test_jobs_go_back_in_front_of_those_after_them() -> None:
    """The script puts each to the front, so the last one goes first."""
    outbox = Outbox()
    outbox.give_back([ended("1"), ended("2")], are_last=False)
    assert (ids(outbox.waiting), outbox.unconfirmed) == ([], 2)
    outbox.give_back([ended("3")], are_last=True)
    assert ids(outbox.waiting) == ["3", "2", "1"]
    assert all(isinstance(held.outcome, Returned) for held in outbox.waiting)
    assert outbox.returning == []


async def test_a_limit_is_closed_by_an_outcome_until_that_has_left_and_again_when_it_comes_back() -> None:
    outbox = Outbox()
    outbox.waiting.extend([ended("1", RateLimited(50)), ended("2", Completed("1"))])
    outbox.closes_limit = True
    batch = outbox.take(1)
    assert not outbox.closes_limit
    outbox.arrived(batch)
    outbox.send_again(batch)
    assert outbox.closes_limit


async def test_a_limit_stays_closed_while_another_outcome_closes_it() -> None:
    outbox = Outbox()
    outbox.waiting.extend([ended("1", RateLimited(50)), ended("2", RateLimited(50))])
    outbox.closes_limit = True
    outbox.take(1)
    assert outbox.closes_limit
