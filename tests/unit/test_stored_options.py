"""Options on the wire: how they are stored, and that everything another client may store can be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyqueue._store.stored_options import (
    StoredOptions,
    decode_options,
    decode_parent,
    encode_options,
    expand_options,
    keep_of,
)
from pyqueue.errors import PayloadError
from pyqueue.options import Backoff, JobOptions, Retention, merge_options
from pyqueue.outcomes import Keep

CONFORMANCE = Path(__file__).resolve().parents[1] / "conformance"


def stored(options: dict[str, Any] | JobOptions) -> dict[str, Any]:
    text = encode_options(options if isinstance(options, JobOptions) else JobOptions.model_validate(options))
    decoded = json.loads(text)
    assert isinstance(decoded, dict)
    return decoded


def golden(name: str) -> dict[str, Any]:
    """Fields of the jobs that BullMQ stored in one scenario, by job id."""
    report = json.loads((CONFORMANCE / "goldens" / f"{name}.json").read_text())
    prefix = "orc:q:"
    return {key.removeprefix(prefix): entry["value"] for key, entry in report["keys"].items()}


def operations(name: str) -> list[dict[str, Any]]:
    scenario = json.loads((CONFORMANCE / "scenarios" / f"{name}.json").read_text())
    return list(scenario["ops"] if isinstance(scenario, dict) else scenario)


# Options on the wire


def test_options_are_stored_as_bullmq_stores_them() -> None:
    jobs = golden("009-add-all-options")
    adds = [operation for operation in operations("009-add-all-options") if operation["op"] == "add"]
    adds[3]["opts"].pop("unknownOpt")  # refused when given in Python
    jobs["4"]["opts"]["$json"].pop("unknownOpt")

    for job_id, add in zip(("1", "o2", "3", "4"), adds, strict=True):
        assert stored(add["opts"]) == jobs[job_id]["opts"]["$json"]


def test_merged_defaults_are_stored_as_bullmq_stores_them() -> None:
    defaults = JobOptions.model_validate(
        {"attempts": 4, "backoff": {"type": "fixed", "delay": 10}, "removeOnComplete": True}
    )
    jobs = golden("089-default-job-options")

    merged = merge_options(defaults, JobOptions(attempts=1, remove_on_complete=False))
    assert merged is not None
    assert stored(defaults) == jobs["1"]["opts"]["$json"]
    assert stored(merged) == jobs["2"]["opts"]["$json"]


def test_attempts_are_always_stored() -> None:
    assert encode_options(JobOptions()) == '{"attempts":0}'


def test_options_without_a_value_are_not_stored() -> None:
    assert stored(JobOptions(job_id=None, backoff=None, keep_logs=None, timestamp=None)) == {"attempts": 0}


def test_options_given_as_their_default_are_stored() -> None:
    assert stored(JobOptions(delay=0, priority=0, lifo=False)) == {
        "attempts": 0, "delay": 0, "priority": 0, "lifo": False
    }  # fmt: skip


@pytest.mark.parametrize(
    ("backoff", "expected"),
    [
        (500, {"type": "fixed", "delay": 500}),
        ({"type": "exponential"}, {"type": "exponential", "delay": 0}),
        (Backoff.exponential(100, jitter=0.5), {"type": "exponential", "delay": 100, "jitter": 0.5}),
        (Backoff.custom("moon"), {"type": "moon"}),
        (Backoff.custom("moon", delay=7), {"type": "moon", "delay": 7}),
    ],
)
def test_backoffs_are_stored_with_type_and_delay(backoff: Any, expected: dict[str, Any]) -> None:
    assert stored({"backoff": backoff})["backoff"] == expected


def test_retention_is_stored_as_it_was_given() -> None:
    for rule in (True, False, 0, 7, {"age": 10}, {"count": 5, "age": 1, "limit": 3}):
        assert stored({"removeOnComplete": rule, "removeOnFail": rule}) == {
            "attempts": 0, "removeOnComplete": rule, "removeOnFail": rule
        }  # fmt: skip


def test_deduplication_and_policies_have_short_names() -> None:
    options = stored(
        {
            "deduplication": {"id": "D", "ttl": 5, "keepLastIfActive": True, "replace": False},
            "continueParentOnFailure": True,
            "keepLogs": 3,
        }
    )

    assert options == {
        "attempts": 0,
        "de": {"id": "D", "ttl": 5, "keepLastIfActive": True, "replace": False},
        "cpof": True,
        "kl": 3,
    }


def test_a_parent_is_stored_with_its_qualified_queue() -> None:
    assert stored({"parent": {"id": "P", "queue": "orc:q"}})["parent"] == {"id": "P", "queue": "orc:q"}


# Reading


@pytest.mark.parametrize(
    "options",
    [
        JobOptions(),
        JobOptions(job_id="a", delay=5, priority=2, attempts=3, lifo=True, timestamp=7),
        JobOptions(backoff=Backoff.exponential(100, jitter=0.5), remove_on_complete=True, remove_on_fail=5),
        JobOptions(backoff=Backoff.custom("moon"), remove_on_fail=Retention(age=10, count=5, limit=2)),
        JobOptions(keep_logs=1, stack_trace_limit=0, size_limit=9, telemetry={"metadata": "m", "omitContext": False}),
        JobOptions(deduplication={"id": "D", "keepLastIfActive": True}, ignore_dependency_on_failure=True),
        JobOptions(parent={"id": "P", "queue": "bull:q"}, remove_dependency_on_failure=True),
    ],
)
def test_options_survive_the_wire(options: JobOptions) -> None:
    text = encode_options(options)
    expected = options.model_copy(update={"attempts": options.attempts})

    assert decode_options(text) == expected
    assert decode_options(text.encode()) == expected


def test_unknown_options_are_kept() -> None:
    raw = b'{"attempts":2,"repeat":{"every":5000,"count":1},"prevMillis":3,"remove_on_complete":"x"}'
    options = decode_options(raw)

    assert isinstance(options, StoredOptions)
    assert options.attempts == 2
    assert options.remove_on_complete is None
    assert options.model_extra == {"repeat": {"every": 5000, "count": 1}, "prevMillis": 3}


def test_known_options_alone_are_ordinary_options() -> None:
    assert type(decode_options(b'{"attempts":2}')) is JobOptions


@pytest.mark.parametrize(
    ("raw", "name", "value"),
    [
        ('{"delay":1.5}', "delay", 1),
        ('{"delay":-5}', "delay", -5),
        ('{"attempts":"3"}', "attempts", 3),
        ('{"attempts":true}', "attempts", 0),
        ('{"attempts":[]}', "attempts", 0),
        ('{"attempts":1e400}', "attempts", 0),
        ('{"priority":{}}', "priority", 0),
        ('{"kl":null}', "keep_logs", None),
        ('{"lifo":1}', "lifo", True),
        ('{"lifo":"yes"}', "lifo", False),
        ('{"jobId":5}', "job_id", None),
        ('{"jobId":"repeat:a:b:17"}', "job_id", "repeat:a:b:17"),
        ('{"backoff":7}', "backoff", Backoff.fixed(7)),
        ('{"backoff":{"delay":7}}', "backoff", None),
        ('{"backoff":{"type":"moon","delay":"x"}}', "backoff", None),
        ('{"removeOnComplete":-1}', "remove_on_complete", -1),
        ('{"removeOnComplete":{"count":2.0,"age":null}}', "remove_on_complete", Retention(count=2)),
        ('{"removeOnComplete":{"count":"x"}}', "remove_on_complete", None),
        ('{"removeOnComplete":[]}', "remove_on_complete", None),
        ('{"de":{"ttl":5}}', "deduplication", None),
        ('{"parent":"x"}', "parent", None),
        ('{"tm":5}', "telemetry", None),
        ('{"fpof":true,"idof":true}', "fail_parent_on_failure", True),
    ],
)
def test_odd_options_of_other_clients_never_stop_a_worker(raw: str, name: str, value: object) -> None:
    assert getattr(decode_options(raw), name) == value


@given(
    st.dictionaries(
        st.sampled_from(["attempts", "backoff", "de", "kl", "tm", "lifo", "removeOnFail", "parent", "jobId", "x", ""]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
            lambda inner: (
                st.lists(inner, max_size=2)
                | st.dictionaries(st.sampled_from(["type", "delay", "id", "count", "age", "queue"]), inner, max_size=3)
            ),
            max_leaves=4,
        ),
    )
)
def test_any_object_is_readable_as_options(fields: dict[str, Any]) -> None:
    assert isinstance(decode_options(json.dumps(fields)), JobOptions)


@pytest.mark.parametrize("raw", ["{", "5", '"x"', "null", "[1]", b"\xff", "nope"])
def test_options_that_are_no_object_are_one_clear_error(raw: str | bytes) -> None:
    with pytest.raises(PayloadError, match=r"^opts is "):
        decode_options(raw)


@pytest.mark.parametrize("raw", [None, "", b"", "{}", "[]"])
def test_absent_options_are_the_defaults(raw: str | bytes | None) -> None:
    assert decode_options(raw) == JobOptions()


def test_long_options_are_read_too() -> None:
    assert decode_options(json.dumps({"attempts": 2, "tm": "x" * 5000})).attempts == 2


def test_options_are_shown_under_their_public_names() -> None:
    shown = {result["result"]["id"]: result["result"]["opts"] for result in _jobs_shown_by_bullmq()}
    jobs = golden("009-add-all-options")

    assert shown
    for job_id, options in shown.items():
        assert expand_options(json.dumps(jobs[job_id]["opts"]["$json"])) == options


def _jobs_shown_by_bullmq() -> list[dict[str, Any]]:
    report = json.loads((CONFORMANCE / "goldens" / "009-add-all-options.json").read_text())
    return [result for result in report["results"] if result["op"] == "getJob"]


@pytest.mark.parametrize("raw", [None, "", "{", "5", "{}", '{"id":"1"}', '{"id":5,"queueKey":"bull:q"}', "[]"])
def test_an_unreadable_parent_is_none(raw: str | None) -> None:
    assert decode_parent(raw) is None


# Retention


@pytest.mark.parametrize(
    ("option", "worker_option", "keep"),
    [
        (None, None, Keep(-1, -1, 1000)),
        (True, None, Keep(0, -1, 1000)),
        (False, True, Keep(-1, -1, 1000)),
        (0, 5, Keep(0, -1, 1000)),
        (7, None, Keep(7, -1, 1000)),
        (-1, 5, Keep(-1, -1, 1000)),
        (None, 5, Keep(5, -1, 1000)),
        (None, Retention(age=10, count=3), Keep(3, 10, 1000)),
        (Retention(age=0), Retention(count=3), Keep(-1, 0, 1000)),
        (Retention(age=10, limit=1), None, Keep(-1, 10, 1)),
        (Retention(count=0), None, Keep(0, -1, 1000)),
        (Retention(), 5, Keep(-1, -1, 1000)),
        (Retention(count=-1, age=-1), 5, Keep(-1, -1, 1000)),
    ],
)
def test_the_job_decides_then_the_worker_then_all_are_kept(option: Any, worker_option: Any, keep: Keep) -> None:
    """E60, E62."""
    assert keep_of(option, worker_option) == keep
