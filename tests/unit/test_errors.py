"""The exception tree: messages, attributes, the code table, directives."""

from __future__ import annotations

import inspect
import pickle
from datetime import UTC, datetime, timedelta

import pytest

from pyqueue import errors
from pyqueue.errors import (
    CODES,
    AddOutcomeUnknown,
    BulkAddError,
    ConfigurationError,
    DelayJob,
    Directive,
    JobError,
    JobNotFound,
    JobNotInState,
    LockError,
    LockLost,
    PayloadTypeError,
    PyqueueError,
    RateLimitJob,
    RedisRefused,
    SchedulerIdTaken,
    ScriptError,
    StaleExchange,
    Unrecoverable,
    WaitForChildren,
    error_from_code,
)

ERRORS = [
    kind
    for kind in vars(errors).values()
    if inspect.isclass(kind) and issubclass(kind, (PyqueueError, Directive)) and kind.__module__ == errors.__name__
]


@pytest.mark.parametrize("kind", ERRORS)
def test_every_error_says_when_it_is_raised(kind: type[Exception]) -> None:
    assert kind.__doc__


@pytest.mark.parametrize("kind", [kind for kind in ERRORS if issubclass(kind, PyqueueError)])
def test_the_docstring_is_the_default_message(kind: type[PyqueueError]) -> None:
    assert str(kind()) == " ".join((kind.__doc__ or "").split())


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (-1, "JobNotFound"),
        (-2, "LockMissing"),
        (-3, "JobNotInState"),
        (-4, "PendingChildren"),
        (-5, "ParentNotFound"),
        (-6, "LockLost"),
        (-7, "ParentNotReplaceable"),
        (-8, "OwnedByScheduler"),
        (-9, "FailedChildren"),
        (-10, "SchedulerIdTaken"),
        (-11, "SchedulerSlotsBusy"),
        (-20, "StaleExchange"),
    ],
)
def test_each_code_of_the_protocol_has_its_error(code: int, kind: str) -> None:
    assert type(error_from_code(code)).__name__ == kind
    assert CODES[code].__name__ == kind


def test_an_error_of_a_job_names_job_queue_and_command() -> None:
    error = error_from_code(-1, job_id="invite-42", queue="email", command="promote_job")

    assert isinstance(error, JobNotFound)
    assert (error.job_id, error.queue) == ("invite-42", "email")
    assert str(error).endswith("[job 'invite-42', queue 'email', promote_job]")


def test_a_job_in_the_wrong_state_names_the_expected_one() -> None:
    error = error_from_code(-3, job_id="1", queue="q", command="promote_job", expected="delayed")

    assert isinstance(error, JobNotInState)
    assert error.expected == "delayed"
    assert "'delayed'" in str(error)


def test_an_error_of_a_scheduler_names_its_place_too() -> None:
    error = error_from_code(-10, job_id="repeat:s:1", queue="q")

    assert isinstance(error, SchedulerIdTaken)
    assert "repeat:s:1" in str(error)


def test_an_unknown_code_is_our_bug() -> None:
    error = error_from_code(-99, job_id="1", queue="q", command="x")

    assert type(error) is ScriptError
    assert "-99" in str(error)


def test_lock_errors_are_errors_of_a_job() -> None:
    assert issubclass(LockLost, LockError)
    assert issubclass(LockError, JobError)
    assert issubclass(StaleExchange, ScriptError)


def test_bad_options_are_value_errors_and_unknown_ones_type_errors_too() -> None:
    assert issubclass(ConfigurationError, ValueError)
    assert issubclass(errors.UnknownOption, (ConfigurationError, TypeError))
    assert issubclass(PayloadTypeError, ValueError)
    assert issubclass(PayloadTypeError, TypeError)


def test_directives_are_not_errors_of_pyqueue() -> None:
    assert not issubclass(Directive, PyqueueError)
    assert isinstance(Unrecoverable("no such address"), Directive)


@pytest.mark.parametrize(
    "error",
    [
        error_from_code(-3, job_id="1", queue="q", command="c", expected="delayed"),
        RedisRefused("OOM command not allowed", code="OOM"),
        BulkAddError("1 of 2 failed", results=["1", "2"]),
        AddOutcomeUnknown(queue="q"),
        DelayJob(500),
        RateLimitJob(timedelta(seconds=1)),
        Unrecoverable("no"),
    ],
)
def test_errors_survive_pickling(error: Exception) -> None:
    copy = pickle.loads(pickle.dumps(error))

    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


def test_a_directive_takes_durations_as_options_do() -> None:
    assert DelayJob(timedelta(seconds=5)).delay_ms == 5000
    assert DelayJob(250).delay_ms == 250
    assert RateLimitJob().delay_ms == 0


def test_a_job_can_be_delayed_until_a_moment() -> None:
    moment = datetime(2030, 1, 1, tzinfo=UTC)

    assert DelayJob(until=moment).until_ms == round(moment.timestamp() * 1000)
    assert DelayJob(until=1_900_000_000_000).until_ms == 1_900_000_000_000


@pytest.mark.parametrize("delay", [-1, 1.5, float("nan"), True, "5"])
def test_a_bad_delay_is_refused_where_the_directive_is_made(delay: object) -> None:
    with pytest.raises(ValueError, match="delay is"):
        DelayJob(delay)  # type: ignore[arg-type]  # the wrong types are the test


def test_a_naive_moment_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        DelayJob(until=datetime(2030, 1, 1))


def test_delay_and_until_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="both"):
        DelayJob(5, until=1_900_000_000_000)


def test_a_child_to_wait_for_is_named_by_its_key() -> None:
    assert WaitForChildren(child={"id": "7", "queue": "bull:pages"}).child_key == "bull:pages:7"
    assert WaitForChildren().child_key == ""
    with pytest.raises(ValueError, match="lone surrogate"):
        WaitForChildren(child={"id": "\ud800", "queue": "bull:pages"})
