"""Which names queues, prefixes, workers and jobs may have."""

from __future__ import annotations

import pytest

from pyqueue._redis.keys import SUFFIXES
from pyqueue.errors import ConfigurationError
from pyqueue.names import check_job_id, check_job_name, check_prefix, check_queue_name, check_worker_name

#: The list of robustness cases, and the first parts of keys that carry an id.
RESERVED = {
    "active", "completed", "de", "delayed", "dn", "events", "failed", "id", "limiter", "marker", "meta", "metrics",
    "paused", "pc", "prioritized", "pyq", "repeat", "stalled", "stalled-check", "wait", "waiting-children",
}  # fmt: skip


@pytest.mark.parametrize(
    "job_id",
    ["invite-42", "a", "007", "1a", "-", "--5", "a:b:c", "a::c", "überprüfung", "x" * 255, "a b", "/..?#%", "-05", "٣"],
)
def test_ids_of_users_are_kept(job_id: str) -> None:
    assert check_job_id(job_id) == job_id


@pytest.mark.parametrize(
    "job_id",
    sorted(RESERVED),
)
def test_keys_of_the_queue_are_no_ids(job_id: str) -> None:
    with pytest.raises(ConfigurationError, match="a key of the queue itself"):
        check_job_id(job_id)


@pytest.mark.parametrize("suffix", SUFFIXES.values())
def test_no_id_can_be_a_key_of_the_queue(suffix: str) -> None:
    with pytest.raises(ConfigurationError):
        check_job_id(suffix)


@pytest.mark.parametrize("job_id", ["0", "1", "42", "-5", "-1", "123456789012345678901234567890"])
def test_integers_are_for_generated_ids(job_id: str) -> None:
    with pytest.raises(ConfigurationError, match=f"job_id is '{job_id}': integers"):
        check_job_id(job_id)


@pytest.mark.parametrize("job_id", ["a:b", "0:1", "0:a:b", "a:b:c:d", ":", "a:", ":b"])
def test_a_colon_is_allowed_only_in_three_parts(job_id: str) -> None:
    with pytest.raises(ConfigurationError, match="':' separates"):
        check_job_id(job_id)


@pytest.mark.parametrize("job_id", ["metrics:completed:data", "repeat:s:1", "de:a:b", "dn:a:b", "pyq:x:uuid"])
def test_the_first_of_three_parts_is_no_name_of_the_queue(job_id: str) -> None:
    with pytest.raises(ConfigurationError, match="the queue's own"):
        check_job_id(job_id)


@pytest.mark.parametrize("job_id", ["a\nb", "a\r\nb", "\x00", "a\x7f", "a\x85", "\t"])
def test_control_characters_are_refused(job_id: str) -> None:
    with pytest.raises(ConfigurationError, match="control characters"):
        check_job_id(job_id)


@pytest.mark.parametrize("job_id", [5, True, b"a", ["a"], 1.5, None])
def test_an_id_is_a_text(job_id: object) -> None:
    with pytest.raises(ConfigurationError, match="give a text"):
        check_job_id(job_id)


def test_an_empty_id_is_no_silent_request_for_a_generated_one() -> None:
    with pytest.raises(ConfigurationError, match="job_id is empty"):
        check_job_id("")


def test_a_lone_surrogate_is_refused() -> None:
    for check in (check_job_id, check_job_name, check_queue_name, check_prefix):
        with pytest.raises(ConfigurationError, match="lone surrogate"):
            check("a\ud800")


def test_the_length_of_an_id_counts_bytes() -> None:
    assert check_job_id("é" * 127)
    with pytest.raises(ConfigurationError, match="256 bytes"):
        check_job_id("é" * 128)
    with pytest.raises(ConfigurationError, match="100000 bytes"):
        check_job_id("x" * 100_000)


@pytest.mark.parametrize("name", ["", "a:b", 5, None, "a\n"])
def test_bad_queue_names_are_refused(name: object) -> None:
    with pytest.raises(ConfigurationError, match="queue name"):
        check_queue_name(name)


@pytest.mark.parametrize("prefix", ["", 5, None, "a\x00"])
def test_bad_prefixes_are_refused(prefix: object) -> None:
    with pytest.raises(ConfigurationError, match="prefix"):
        check_prefix(prefix)


def test_good_names_are_returned() -> None:
    assert check_queue_name("e-mail.über") == "e-mail.über"
    assert check_prefix("{bull}:eu") == "{bull}:eu"
    assert check_worker_name("worker-1.local") == "worker-1.local"
    assert check_worker_name("") == ""
    assert check_job_name("") == ""
    assert check_job_name("course: invite\n") == "course: invite\n"


@pytest.mark.parametrize("name", ["worker 1", "wörker", "a\n", 5, None])
def test_a_worker_name_must_fit_into_a_client_name(name: object) -> None:
    with pytest.raises(ConfigurationError, match="worker name"):
        check_worker_name(name)


@pytest.mark.parametrize("name", [5, None, b"x"])
def test_a_job_name_is_a_text(name: object) -> None:
    with pytest.raises(ConfigurationError, match="job name"):
        check_job_name(name)
