"""Options: what is accepted in which spelling, what is refused with which message, and how defaults are merged."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from pyqueue.errors import ConfigurationError, UnknownOption
from pyqueue.options import (
    PARENT_POLICIES,
    Backoff,
    Deduplication,
    JobOptionFields,
    JobOptions,
    JobSpec,
    ParentReference,
    QueueOptions,
    RateLimit,
    Retention,
    Telemetry,
    merge_options,
)


def job_options(**options: Any) -> JobOptions:
    """JobOptions without the type checker's opinion, for values that are wrong on purpose."""
    return JobOptions(**options)


# Spellings


def test_snake_case_keywords_and_camel_case_dictionaries_are_the_same() -> None:
    dictionary = {
        "jobId": "invite-42",
        "delay": 5000,
        "removeOnComplete": True,
        "removeOnFail": {"age": 10, "count": 5},
        "backoff": {"type": "exponential", "delay": 2000, "jitter": 0.5},
        "keepLogs": 2,
        "stackTraceLimit": 1,
        "sizeLimit": 1000,
        "deduplication": {"id": "D", "ttl": 1000, "keepLastIfActive": True},
        "failParentOnFailure": True,
        "telemetry": {"metadata": "md", "omitContext": True},
    }
    options = JobOptions(
        job_id="invite-42",
        delay=timedelta(seconds=5),
        remove_on_complete=True,
        remove_on_fail=Retention(age=timedelta(seconds=10), count=5),
        backoff=Backoff.exponential(timedelta(seconds=2), jitter=0.5),
        keep_logs=2,
        stack_trace_limit=1,
        size_limit=1000,
        deduplication=Deduplication(id="D", ttl=timedelta(seconds=1), keep_last_if_active=True),
        fail_parent_on_failure=True,
        telemetry=Telemetry(metadata="md", omit_context=True),
    )

    assert JobOptions.model_validate(dictionary) == options


def test_an_instance_is_accepted_as_it_is() -> None:
    options = JobOptions(attempts=3)

    assert JobOptions.model_validate(options) is options


@pytest.mark.parametrize(
    ("backoff", "expected"),
    [
        (500, Backoff.fixed(500)),
        (timedelta(seconds=1), Backoff.fixed(1000)),
        ({"type": "fixed", "delay": 10}, Backoff.fixed(10)),
        (Backoff.custom("moon"), Backoff.custom("moon")),
        (None, None),
    ],
)
def test_a_backoff_has_many_spellings(backoff: Any, expected: Backoff | None) -> None:
    assert JobOptions(backoff=backoff).backoff == expected


@pytest.mark.parametrize("rule", [True, False, 0, 7, -1, Retention(count=5), Retention(count=-1, age=-1), None])
def test_a_retention_is_kept_as_it_was_given(rule: Any) -> None:
    options = JobOptions(remove_on_complete=rule, remove_on_fail=rule)

    assert options.remove_on_complete is rule
    assert options.remove_on_fail is rule


def test_a_timestamp_is_milliseconds_or_an_aware_datetime() -> None:
    assert JobOptions(timestamp=datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)).timestamp == 1_700_000_000_000
    assert JobOptions(timestamp=1_700_000_000_000).timestamp == 1_700_000_000_000


def test_a_rate_limit_takes_a_dictionary_or_durations() -> None:
    expected = RateLimit(max=10, duration=1000)

    assert RateLimit.model_validate({"max": 10, "duration": 1000}) == expected
    assert RateLimit(max=10, duration=timedelta(seconds=1)) == expected


def test_the_bounds_of_a_priority_are_allowed() -> None:
    assert JobOptions(priority=0).priority == 0
    assert JobOptions(priority=2_097_151).priority == 2_097_151


def test_the_bounds_of_a_delay_are_allowed() -> None:
    assert JobOptions(delay=0).delay == 0
    assert JobOptions(delay=2**53).delay == 2**53


@pytest.mark.parametrize("attempts", [0, 1, 3])
def test_no_attempts_and_one_attempt_are_both_allowed(attempts: int) -> None:
    assert JobOptions(attempts=attempts).attempts == attempts


def test_the_defaults() -> None:
    options = JobOptions()

    assert (options.attempts, options.delay, options.priority, options.lifo) == (0, 0, 0, False)
    assert options.model_fields_set == set()


def test_options_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        JobOptions().attempts = 3


def test_the_typed_keywords_are_the_fields() -> None:
    assert set(JobOptionFields.__annotations__) == set(JobOptions.model_fields)


# Unknown names


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("job_ID", "job_id"),
        ("jobID", "job_id"),
        ("removeOnComplet", "remove_on_complete"),
        ("remove_on_completed", "remove_on_complete"),
        ("attempt", "attempts"),
        ("prio", "priority"),
        ("timeStamp", "timestamp"),
    ],
)
def test_an_unknown_option_names_the_nearest_one(name: str, nearest: str) -> None:
    message = f"^unknown option '{name}': did you mean '{nearest}'\\?$"
    with pytest.raises(UnknownOption, match=message):
        job_options(**{name: 1})
    with pytest.raises(TypeError, match=message):
        JobOptions.model_validate({name: 1})


def test_an_option_that_resembles_nothing_lists_what_there_is() -> None:
    with pytest.raises(UnknownOption, match="unknown option 'zzz': the options are attempts, backoff, continue_parent"):
        job_options(zzz=1)


@pytest.mark.parametrize(
    ("refused", "remedy"),
    [
        (lambda: job_options(debounce={"id": "x"}), "use 'deduplication'"),
        (lambda: job_options(repeat={"every": 5}), "use queue.schedulers.upsert"),
        (lambda: job_options(retries=3), "use 'attempts'"),
        (lambda: job_options(timeout=30), "in the processor"),
        (lambda: job_options(maxRetries=3), "use 'attempts'"),
        (lambda: job_options(countdown=30), "use 'delay'"),
        (lambda: job_options(cron="* * * * *"), "use queue.schedulers.upsert"),
        (lambda: QueueOptions.model_validate({"removeOnComplete": True}), "{'remove_on_complete': ...}"),
        (lambda: QueueOptions.model_validate({"host": "localhost"}), "use 'connection'"),
        (lambda: QueueOptions.model_validate({"url": "redis://"}), "use 'connection'"),
        (lambda: QueueOptions.model_validate({"job_id": "a"}), "give it to add"),
        (lambda: QueueOptions.model_validate({"attempts": 3}), "give default_job_options={'attempts': ...}"),
    ],
)
def test_options_that_others_have_say_what_to_use_here(refused: Callable[[], object], remedy: str) -> None:
    with pytest.raises(UnknownOption) as caught:
        refused()
    assert remedy in str(caught.value)


def test_an_unknown_name_inside_an_option_says_where() -> None:
    with pytest.raises(UnknownOption, match=r"remove_on_complete: unknown option 'cuont': did you mean 'count'\?"):
        JobOptions(remove_on_complete={"cuont": 3})


def test_one_option_in_two_spellings_is_refused() -> None:
    with pytest.raises(UnknownOption):
        JobOptions.model_validate({"keepLogs": 1, "keep_logs": 2})


# Refused values: message = the option, its value, a remedy


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attempts": -1}, "attempts is -1: "),
        ({"attempts": True}, "attempts is True: "),
        ({"attempts": 1.0}, "attempts is 1.0: "),
        ({"attempts": "3"}, "attempts is '3': "),
        ({"delay": -1}, "delay is -1: it must be between 0 and 9007199254740992 milliseconds"),
        ({"delay": math.nan}, "delay is nan: give a timedelta or an integer number of milliseconds"),
        ({"delay": 1.5}, "delay is 1.5: "),
        ({"delay": True}, "delay is True: "),
        ({"delay": 2**53 + 1}, "delay is 9007199254740993: "),
        ({"delay": timedelta(seconds=-1)}, "delay is datetime.timedelta(days=-1"),
        ({"priority": -1}, "priority is -1: give an integer between 0 (none) and 2097151"),
        ({"priority": 2_097_152}, "priority is 2097152: "),
        ({"priority": 1.0}, "priority is 1.0: "),
        ({"priority": True}, "priority is True: "),
        ({"priority": None}, "priority is None: "),
        ({"job_id": ""}, "job_id is empty: "),
        ({"job_id": 5}, "job_id is 5: give a text"),
        ({"job_id": "wait"}, "job_id is 'wait': "),
        ({"job_id": "a:b"}, "job_id is 'a:b': "),
        ({"lifo": 1}, "lifo is 1: it should be a valid boolean"),
        ({"keep_logs": -1}, "keep_logs is -1: "),
        ({"stack_trace_limit": 1.5}, "stack_trace_limit is 1.5: "),
        ({"size_limit": 0}, "size_limit is 0: "),
        ({"timestamp": -1}, "timestamp is -1: give unix milliseconds or an aware datetime"),
        ({"timestamp": 1.7e12}, "timestamp is 1700000000000.0: "),
        ({"timestamp": datetime(2030, 1, 1)}, "timestamp is datetime.datetime(2030, 1, 1, 0, 0): it has no time zone"),
        ({"backoff": -1}, "backoff is -1: "),
        ({"backoff": 1.5}, "backoff is 1.5: "),
        ({"backoff": "fixed"}, "backoff is 'fixed': give Backoff.fixed(1000)"),
        ({"backoff": "moon"}, "backoff is 'moon': give Backoff.custom('moon')"),
        (
            {"backoff": {"type": "moon"}},
            "backoff: type is 'moon': give 'fixed' or 'exponential', or use Backoff.custom",
        ),
        ({"backoff": {"type": "fixed", "delay": -1}}, "backoff: delay is -1: "),
        ({"backoff": {"type": "fixed", "delay": 1, "jitter": 1.1}}, "backoff: jitter is 1.1: "),
        ({"backoff": {"type": "fixed", "delay": 1, "jitter": math.nan}}, "backoff: jitter is nan: "),
        ({"backoff": {"delay": 1}}, "backoff: type is missing: "),
        ({"remove_on_complete": -1.5}, "remove_on_complete is -1.5: give True (remove at once), False (keep all), a"),
        ({"remove_on_fail": "yes"}, "remove_on_fail is 'yes': "),
        ({"remove_on_fail": 1.5}, "remove_on_fail is 1.5: "),
        ({"remove_on_fail": {"count": "1"}}, "remove_on_fail: count is '1': "),
        ({"remove_on_fail": {"age": 1.5}}, "remove_on_fail: age is 1.5: "),
        ({"remove_on_fail": {"limit": 0}}, "remove_on_fail: limit is 0: "),
        ({"deduplication": {}}, "deduplication: id is missing: "),
        ({"deduplication": {"id": ""}}, "deduplication: id is empty: "),
        ({"deduplication": {"id": "x", "ttl": -1}}, "deduplication: ttl is -1: "),
        (
            {"parent": {"id": "1", "queue": "pages"}},
            "parent: queue is 'pages': give the parent's queue with its prefix",
        ),
        ({"parent": {"id": "", "queue": "bull:pages"}}, "parent: id is empty: "),
        ({"parent": {"queue": "bull:pages"}}, "parent: id is missing: "),
        ({"telemetry": {"metadata": 5}}, "telemetry: metadata is 5: "),
    ],
)
def test_bad_values_are_refused_with_option_value_and_remedy(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        job_options(**options)
    assert str(caught.value).startswith(message)
    assert not isinstance(caught.value, UnknownOption)


def test_several_bad_values_are_reported_together() -> None:
    with pytest.raises(ConfigurationError, match=r"priority is 1\.5: .*; attempts is -1: "):
        job_options(attempts=-1, priority=1.5)


@pytest.mark.parametrize("value", [5, "x", ["attempts"]])
def test_options_are_a_dictionary(value: object) -> None:
    with pytest.raises(ConfigurationError, match="JobOptions is "):
        JobOptions.model_validate(value)


@pytest.mark.parametrize("first", PARENT_POLICIES)
@pytest.mark.parametrize("second", PARENT_POLICIES)
def test_a_child_has_at_most_one_policy_for_its_parent(first: str, second: str) -> None:
    if first == second:
        assert getattr(job_options(**{first: True}), first) is True
        return
    with pytest.raises(ConfigurationError, match="cannot be used together") as caught:
        job_options(**{second: True, first: True})
    assert first in str(caught.value)
    assert second in str(caught.value)


def test_policies_that_are_off_do_not_conflict() -> None:
    options = JobOptions(fail_parent_on_failure=True, ignore_dependency_on_failure=False)

    assert options.fail_parent_on_failure


def test_deduplication_and_parent_exclude_each_other() -> None:
    with pytest.raises(ConfigurationError, match="deduplication, parent cannot be used together"):
        JobOptions(deduplication={"id": "x"}, parent={"id": "1", "queue": "bull:q"})


@pytest.mark.parametrize(
    "refused",
    [
        lambda: Backoff.fixed(-1),
        lambda: Backoff.fixed(5, jitter=2),
        lambda: Backoff.exponential(1.5),  # type: ignore[arg-type]  # a float is the test
        lambda: Backoff.custom(""),
        lambda: Backoff.custom("fixed"),
        lambda: Backoff.custom("moon", delay=-1),
        lambda: RateLimit(max=0, duration=1000),
        lambda: RateLimit(max=1, duration=0),
        lambda: RateLimit(max=True, duration=timedelta()),
        lambda: Retention(limit=-1),
    ],
)
def test_values_inside_options_are_checked_where_they_are_made(refused: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=" is "):
        refused()


# Merging


def test_options_of_the_job_win_one_by_one() -> None:
    defaults = JobOptions(attempts=4, backoff=10, remove_on_complete=True)
    merged = merge_options(defaults, JobOptions(attempts=1, remove_on_complete=False))

    assert merged == JobOptions(attempts=1, backoff=10, remove_on_complete=False)


def test_an_option_set_to_its_default_wins_as_well() -> None:
    merged = merge_options(JobOptions(attempts=4, priority=5, backoff=10), JobOptions(priority=0, backoff=None))

    assert merged is not None
    assert (merged.attempts, merged.priority, merged.backoff) == (4, 0, None)


def test_nothing_is_copied_without_need() -> None:
    options = JobOptions(attempts=3)

    assert merge_options(None, options) is options
    assert merge_options(options, None) is options
    assert merge_options(options, JobOptions()) is options
    assert merge_options(None, None) is None


def test_an_id_is_never_inherited() -> None:
    defaults = JobOptions(job_id="d", attempts=2)

    for merged in (merge_options(defaults, None), merge_options(defaults, JobOptions(delay=5))):
        assert merged is not None
        assert merged.job_id is None
        assert merged.attempts == 2


def test_an_option_that_contradicts_a_default_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="cannot be used together"):
        merge_options(JobOptions(fail_parent_on_failure=True), JobOptions(ignore_dependency_on_failure=True))
    with pytest.raises(ConfigurationError, match="cannot be used together"):
        merge_options(JobOptions(deduplication={"id": "x"}), JobOptions(parent=ParentReference(id="1", queue="bull:q")))


# Job specs


def test_a_spec_is_a_dictionary_or_a_spec() -> None:
    spec = JobSpec("invite", {"to": "a"}, JobOptions(attempts=3))

    assert JobSpec.parse(spec) is spec
    assert JobSpec.parse({"name": "invite", "data": {"to": "a"}, "opts": {"attempts": 3}}) == spec
    assert JobSpec.parse({"name": "invite", "data": {"to": "a"}, "options": JobOptions(attempts=3)}) == spec


def test_data_that_is_left_out_is_an_empty_object_and_none_is_null() -> None:
    assert JobSpec("x").data == {}
    assert JobSpec.parse({"name": "x"}).data == {}
    assert JobSpec.parse({"name": "x", "data": None}).data is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "job name is None"),
        ({"name": 5}, "job name is 5"),
        ({"name": "x", "option": {}}, "unknown option 'option': did you mean"),
        ({"name": "x", "opts": {"attempts": -1}}, "attempts is -1"),
        ("x", "job is 'x': give a JobSpec or a dictionary"),
    ],
)
def test_a_bad_spec_is_refused(value: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        JobSpec.parse(value)


# Queues


def test_queue_options_know_the_spelling_of_bullmq() -> None:
    options = QueueOptions.model_validate(
        {"defaultJobOptions": {"attempts": 4}, "streams": {"events": {"maxLen": 50}}, "skipMetasUpdate": True}
    )

    assert options.default_job_options == JobOptions(attempts=4)
    assert options.max_len_events == 50
    assert options.skip_metas_update


@pytest.mark.parametrize("streams", [5, {}, {"events": {}}, {"events": {"maxLen": -1}}, {"event": {"maxLen": 1}}])
def test_a_bad_stream_option_is_refused(streams: object) -> None:
    with pytest.raises(ConfigurationError):
        QueueOptions.model_validate({"streams": streams})


def test_options_can_be_dumped_by_bullmqs_names() -> None:
    options = job_options(backoff=Backoff.fixed(10), remove_on_complete=Retention(count=5), remove_on_fail=True)
    assert options.model_dump(by_alias=True, exclude_unset=True, exclude_none=True) == {
        "backoff": {"type": "fixed", "delay": 10},
        "removeOnComplete": {"count": 5},
        "removeOnFail": True,
    }
