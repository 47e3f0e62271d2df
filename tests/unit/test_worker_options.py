"""Options of a worker: defaults, what is accepted, and what is refused with which message."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest

from pyqueue.errors import ConfigurationError, UnknownOption
from pyqueue.options import RateLimit, Retention
from pyqueue.worker_options import WorkerOptionFields, WorkerOptions


def worker_options(**options: Any) -> WorkerOptions:
    """WorkerOptions without the type checker's opinion, for values that are wrong on purpose."""
    return WorkerOptions(**options)


def test_the_typed_keywords_are_the_fields() -> None:
    assert set(WorkerOptionFields.__annotations__) == set(WorkerOptions.model_fields)


def test_worker_defaults_are_those_of_bullmq() -> None:
    options = WorkerOptions()

    assert (options.concurrency, options.lock_duration, options.lock_renew_ms) == (1, 30_000, 15_000)
    assert (options.stalled_interval, options.max_stalled_count, options.max_started_attempts) == (30_000, 1, None)
    assert (options.drain_delay, options.maximum_rate_limit_delay, options.run_retry_delay) == (5_000, 30_000, 15_000)
    assert options.max_loop_block == 300_000
    assert (options.remove_on_complete, options.remove_on_fail) == (None, None)


def test_a_worker_takes_durations_limits_and_strategies() -> None:
    def moon(attempts_made: int, kind: str, error: BaseException, job: Any) -> int:
        return 0

    options = WorkerOptions(
        concurrency=10,
        limiter={"max": 10, "duration": 1000},
        lock_duration=timedelta(seconds=10),
        lock_renew_time=4000,
        backoffs={"moon": moon},
        metrics={"maxDataPoints": 3},
        remove_on_complete={"count": 5},
    )

    assert options.limiter == RateLimit(max=10, duration=1000)
    assert options.lock_renew_ms == 4000
    assert options.backoffs["moon"] is moon
    assert options.metrics == 3
    assert options.remove_on_complete == Retention(count=5)


def test_half_of_a_short_lock_is_still_something() -> None:
    assert WorkerOptions(lock_duration=1).lock_renew_ms == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lock_duration": 0}, "lock_duration is 0: "),
        ({"lock_duration": 1000, "lock_renew_time": 1000}, "lock_renew_time is 1000 and lock_duration is 1000: "),
        ({"lock_renew_time": 40_000}, "lock_renew_time is 40000 and lock_duration is 30000: "),
        ({"lock_renew_time": 0}, "lock_renew_time is 0: "),
        ({"stalled_interval": 0}, "stalled_interval is 0: "),
        ({"max_stalled_count": -1}, "max_stalled_count is -1: "),
        ({"max_started_attempts": -1}, "max_started_attempts is -1: "),
        ({"concurrency": 0}, "concurrency is 0: "),
        ({"concurrency": 1.5}, "concurrency is 1.5: "),
        ({"concurrency": True}, "concurrency is True: "),
        ({"concurrency": math.inf}, "concurrency is inf: "),
        ({"drain_delay": 0}, "drain_delay is 0: "),
        ({"maximum_rate_limit_delay": 0}, "maximum_rate_limit_delay is 0: "),
        ({"max_loop_block": -1}, "max_loop_block is -1: "),
        ({"limiter": {"max": 0, "duration": 1}}, "limiter: max is 0: "),
        ({"limiter": {"max": 1, "duration": 0}}, "limiter: duration is 0: "),
        ({"limiter": {"max": 1}}, "limiter: duration is missing: "),
        ({"name": "a b"}, "worker name is 'a b': "),
        ({"prefix": ""}, "prefix is empty: "),
        ({"metrics": -1}, "metrics is -1: "),
        ({"metrics": {"points": 1}}, "metrics is {'points': 1}: "),
        ({"backoffs": 5}, "backoffs is 5: "),
        ({"backoffs": {"fixed": len}}, "backoffs has the name 'fixed': "),
        ({"backoffs": {"moon": 5}}, "backoffs['moon'] is 5: "),
        ({"remove_on_complete": "yes"}, "remove_on_complete is 'yes': "),
    ],
)
def test_bad_worker_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        worker_options(**options)
    assert str(caught.value).removeprefix("name: ").startswith(message)


@pytest.mark.parametrize(
    ("option", "remedy"),
    [
        ({"autorun": True}, "await worker.run()"),
        ({"settings": {}}, "'backoffs'"),
        ({"timeout": 30}, "in the processor"),
        ({"attempts": 3}, "give it to Queue.add"),
        ({"backoff": 3}, "give it to Queue.add"),
        ({"delay": 3}, "give it to Queue.add"),
        ({"jobId": "a"}, "an option of one job"),
        ({"id": "w1"}, "use 'name'"),
        ({"removeoncomplete": True}, "did you mean 'remove_on_complete'"),
        ({"max_retries": 3}, "use 'attempts', an option of jobs"),
        ({"url": "redis://"}, "use 'connection'"),
    ],
)
def test_options_of_bullmq_that_we_spell_differently_say_so(option: dict[str, Any], remedy: str) -> None:
    with pytest.raises(UnknownOption) as caught:
        worker_options(**option)
    assert remedy in str(caught.value)
