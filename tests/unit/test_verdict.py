"""The verdict on a run: outcomes of results, exceptions and directives; what is stored of a failure."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pyqueue.errors import (
    DelayJob,
    FailedChildren,
    PendingChildren,
    RateLimitJob,
    ReleaseJob,
    Unrecoverable,
    WaitForChildren,
)
from pyqueue.options import Backoff, JobOptions, Retention
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
from pyqueue.verdict import MAX_FRAMES, Verdicts, describe_error

pytestmark = pytest.mark.anyio


class FakeJob:
    """What a verdict reads of a job."""

    def __init__(self, options: JobOptions | None = None, *, made: int = 0, started: int = 1) -> None:
        self.id = "7"
        self.options = options or JobOptions()
        self.attempts_made = made
        self.attempts_started = started
        self.deferred_failure = ""
        self.stack_trace: list[str] = []


def test_a_result_completes_the_job_under_its_retention_or_the_workers() -> None:
    verdicts = Verdicts(remove_on_complete=Retention(count=5))
    assert verdicts.completed(FakeJob(), {"a": 1}) == Completed('{"a":1}', Keep(count=5))
    assert verdicts.completed(FakeJob(JobOptions(remove_on_complete=True)), None) == Completed("null", Keep(count=0))


def test_a_result_that_cannot_be_stored_fails_the_job_without_retry() -> None:
    outcome = Verdicts().completed(FakeJob(JobOptions(attempts=5)), float("nan"))
    assert isinstance(outcome, Failed)
    assert "return value" in outcome.reason


@pytest.mark.parametrize(
    ("directive", "outcome"),
    [
        (DelayJob(5), Delayed(5)),
        (DelayJob(until=1_800_000_000_000), Delayed(0, 1_800_000_000_000)),
        (ReleaseJob(), Released()),
        (WaitForChildren(), WaitingForChildren()),
        (WaitForChildren(child={"id": "1", "queue": "bull:c"}), WaitingForChildren("bull:c:1")),
        (RateLimitJob(9), RateLimited(9)),
        (ExceptionGroup("task group", [ExceptionGroup("inner", [DelayJob(5)])]), Delayed(5)),
    ],
)
async def test_a_directive_chooses_the_outcome(directive: Exception, outcome: Outcome) -> None:
    assert await Verdicts().failed(FakeJob(), directive) == outcome


@pytest.mark.parametrize(
    ("attempts", "made", "retries"), [(0, 0, False), (1, 0, False), (2, 0, True), (2, 1, False), (3, 1, True)]
)
async def test_attempts_decide_about_another_run(attempts: int, made: int, retries: bool) -> None:
    outcome = await Verdicts().failed(FakeJob(JobOptions(attempts=attempts), made=made), ValueError("x"))
    assert isinstance(outcome, Retried if retries else Failed)
    if isinstance(outcome, Failed):
        assert outcome.attempts == attempts


@pytest.mark.parametrize(
    ("error", "retries"),
    [(Unrecoverable("x"), False), (FailedChildren(job_id="7"), False), (PendingChildren(job_id="7"), True)],
)
async def test_some_errors_are_not_worth_another_run(error: Exception, retries: bool) -> None:
    outcome = await Verdicts().failed(FakeJob(JobOptions(attempts=9)), error)
    assert isinstance(outcome, Retried if retries else Failed)


async def test_a_job_that_was_started_as_often_as_allowed_is_not_retried() -> None:
    """E108."""
    verdicts = Verdicts(max_started_attempts=2)
    options = JobOptions(attempts=9)
    assert isinstance(await verdicts.failed(FakeJob(options, started=1), ValueError()), Retried)
    assert isinstance(await verdicts.failed(FakeJob(options, started=2), ValueError()), Failed)
    assert verdicts.refusal(FakeJob(options, started=2)) is None
    assert str(verdicts.refusal(FakeJob(options, started=3))) == "job started more than allowable limit"


def test_a_deferred_failure_refuses_the_job() -> None:
    job = FakeJob()
    job.deferred_failure = "job stalled more than allowable limit"
    assert isinstance(Verdicts().refusal(job), Unrecoverable)
    assert str(Verdicts().refusal(job)) == job.deferred_failure


@pytest.mark.parametrize(
    ("backoff", "made", "delay_ms"),
    [
        (None, 0, 0),
        (Backoff.fixed(100), 3, 100),
        (Backoff.exponential(100), 0, 100),
        (Backoff.exponential(100), 3, 800),
        (Backoff.exponential(100, jitter=0.5), 0, 75),
    ],
)
async def test_the_backoff_counts_the_failed_run(backoff: Backoff | None, made: int, delay_ms: int) -> None:
    """E97, E98."""
    verdicts = Verdicts(random_=lambda: 0.5)
    outcome = await verdicts.failed(FakeJob(JobOptions(attempts=9, backoff=backoff), made=made), ValueError("x"))
    assert isinstance(outcome, Retried)
    assert outcome.delay_ms == delay_ms


@pytest.mark.parametrize("delay", ["soon", 1.5, -2, float("nan"), True])
async def test_a_custom_backoff_must_return_a_duration(delay: Any) -> None:
    verdicts = Verdicts(backoffs={"mine": lambda *_: delay})
    job = FakeJob(JobOptions(attempts=9, backoff=Backoff.custom("mine")))
    outcome = await verdicts.failed(job, ValueError("the reason"))
    assert isinstance(outcome, Failed)
    assert outcome.reason.startswith("the reason (not retried")


async def test_the_new_stack_is_appended_and_the_oldest_are_dropped() -> None:
    job = FakeJob(JobOptions(stack_trace_limit=2))
    job.stack_trace = ["first", "second"]
    outcome = await Verdicts().failed(job, ValueError("third"))
    assert isinstance(outcome, Failed)
    assert json.loads(outcome.stacktrace) == ["second", "ValueError: third"]


def test_a_stack_reads_as_in_node_with_causes_and_without_local_variables() -> None:
    try:
        secret = "s3cret"
        try:
            raise KeyError(secret[:1])
        except KeyError as error:
            raise ValueError("outer") from error
    except ValueError as error:
        text = describe_error(error)
    lines = text.splitlines()
    assert lines[0] == "ValueError: outer"
    assert lines[1].startswith("    at test_a_stack_reads_as_in_node")
    assert lines[2] == "caused by: KeyError: 's'"
    assert "s3cret" not in text


def test_a_stack_of_endless_recursion_is_bounded() -> None:
    def recurse() -> None:
        recurse()

    with pytest.raises(RecursionError) as caught:
        recurse()
    assert len(describe_error(caught.value).splitlines()) <= MAX_FRAMES + 1


def test_errors_that_contain_themselves_are_described_once() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert describe_error(first).count("first") <= 3
