"""The planner: what goes into the next exchange, and when there is nothing to say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyqueue._worker.batch import (
    MAX_CLAIMS,
    MAX_OUTCOMES,
    MAX_SUSPECTS,
    MAX_TRIMMING_OUTCOMES,
    Exchange,
    Situation,
    plan,
    share,
)

IDLE = Situation(
    finished=0, max_outcomes=25, share=25, free_slots=1, may_claim=True, is_ready=False, rearm=False, suspects=0
)


def test_a_drained_worker_with_nothing_to_settle_says_nothing() -> None:
    assert plan(IDLE) is None


def test_a_ready_worker_claims_for_its_free_slots() -> None:
    assert plan(IDLE._replace(is_ready=True, free_slots=7)) == Exchange(settle=0, claim=7, suspects=1, rearm=False)


def test_a_ready_worker_without_a_free_slot_says_nothing() -> None:
    assert plan(IDLE._replace(is_ready=True, free_slots=0)) is None


def test_a_lowered_concurrency_claims_nothing_and_settles() -> None:
    """E69: lowering the concurrency below what runs takes effect."""
    assert plan(IDLE._replace(is_ready=True, free_slots=-3)) is None
    assert plan(IDLE._replace(finished=1, free_slots=-2)) == Exchange(1, 0, 1, rearm=False)


def test_one_outcome_leaves_at_once_and_fills_the_free_slots_though_drained() -> None:
    """A queue at its global concurrency writes no marker: the settling worker goes on."""
    assert plan(IDLE._replace(finished=1, free_slots=3)) == Exchange(1, 3, 1, rearm=False)


def test_an_exchange_is_bounded_and_the_rest_stays_for_the_next() -> None:
    assert plan(IDLE._replace(finished=500, free_slots=500)) == Exchange(MAX_OUTCOMES, MAX_CLAIMS, 1, rearm=False)


@pytest.mark.parametrize(("concurrency", "half"), [(1, 1), (7, 7), (8, 4), (9, 5), (10, 5), (49, 25), (500, 25)])
def test_half_of_the_slots_are_worth_an_exchange_that_follows(concurrency: int, half: int) -> None:
    """With few slots a second one is not worth its cost."""
    assert share(concurrency, pairs=True, max_outcomes=25) == half
    assert share(concurrency, pairs=False, max_outcomes=25) == min(concurrency, 25)
    assert share(concurrency, pairs=True, max_outcomes=4) == min(half, 4)


def test_outcomes_that_remove_old_jobs_are_fewer_in_a_call() -> None:
    """Both together keep Redis no longer than an exchange that removes nothing."""
    situation = IDLE._replace(max_outcomes=MAX_TRIMMING_OUTCOMES, share=10, free_slots=100)

    assert plan(situation._replace(finished=19)) == Exchange(16, 16, 1, rearm=False)
    assert plan(situation._replace(finished=20)) == Exchange(10, 10, 1, rearm=False)
    assert plan(situation._replace(finished=0, is_ready=True)) == Exchange(0, MAX_CLAIMS, 1, rearm=False)


def test_outcomes_for_two_exchanges_are_divided_and_each_brings_as_many_jobs() -> None:
    situation = IDLE._replace(share=8, free_slots=16)

    assert plan(situation._replace(finished=16)) == Exchange(8, 8, 1, rearm=False)
    assert plan(situation._replace(finished=12)) == Exchange(12, 12, 1, rearm=False)
    assert plan(situation._replace(finished=3)) == Exchange(3, 8, 1, rearm=False)


def test_a_worker_with_nothing_to_settle_fills_its_slots_at_once() -> None:
    assert plan(IDLE._replace(share=8, is_ready=True, free_slots=16)) == Exchange(0, 16, 1, rearm=False)


def test_a_worker_that_may_not_claim_settles_only() -> None:
    """Paused, closing or rate limited."""
    situation = IDLE._replace(may_claim=False, is_ready=True, free_slots=5)
    assert plan(situation) is None
    assert plan(situation._replace(finished=2)) == Exchange(2, 0, 1, rearm=False)


def test_a_marker_that_cannot_be_used_is_put_back_even_without_outcomes() -> None:
    assert plan(IDLE._replace(rearm=True, may_claim=False)) == Exchange(0, 0, 1, rearm=True)


def test_while_a_suspect_runs_no_other_is_claimed() -> None:
    exchange = plan(IDLE._replace(is_ready=True, free_slots=5, suspects=1))
    assert exchange is not None
    assert exchange.suspects == 0


situations = st.builds(
    Situation,
    finished=st.integers(0, 200),
    max_outcomes=st.sampled_from([MAX_OUTCOMES, MAX_TRIMMING_OUTCOMES]),
    share=st.integers(1, 25),
    free_slots=st.integers(-50, 200),
    may_claim=st.booleans(),
    is_ready=st.booleans(),
    rearm=st.booleans(),
    suspects=st.integers(0, 3),
)


@given(situations)
def test_every_exchange_is_bounded_and_says_something(now: Situation) -> None:
    exchange = plan(now)
    if exchange is None:
        assert not now.finished
        assert not now.rearm
        return
    assert 0 <= exchange.settle <= min(now.finished, max(now.max_outcomes, now.share))
    assert 0 <= exchange.claim <= min(max(0, now.free_slots), MAX_CLAIMS)
    assert 0 <= exchange.suspects <= MAX_SUSPECTS
    assert exchange.settle or exchange.claim or exchange.rearm
    assert now.may_claim or not exchange.claim
