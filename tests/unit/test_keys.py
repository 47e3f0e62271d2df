"""Key names: BullMQ's layout, and the hash tag of a cluster."""

from __future__ import annotations

import dataclasses

import pytest

from pyqueue._redis.keys import SUFFIXES, QueueKeys, has_hash_tag

KEYS = QueueKeys("bull", "email")


@pytest.mark.parametrize(
    ("attribute", "name"),
    [
        ("base", "bull:email:"),
        ("qualified", "bull:email"),
        ("id", "bull:email:id"),
        ("meta", "bull:email:meta"),
        ("wait", "bull:email:wait"),
        ("paused", "bull:email:paused"),
        ("active", "bull:email:active"),
        ("prioritized", "bull:email:prioritized"),
        ("pc", "bull:email:pc"),
        ("delayed", "bull:email:delayed"),
        ("waiting_children", "bull:email:waiting-children"),
        ("completed", "bull:email:completed"),
        ("failed", "bull:email:failed"),
        ("stalled", "bull:email:stalled"),
        ("stalled_check", "bull:email:stalled-check"),
        ("limiter", "bull:email:limiter"),
        ("marker", "bull:email:marker"),
        ("events", "bull:email:events"),
        ("schedulers", "bull:email:repeat"),
        ("metrics_completed", "bull:email:metrics:completed"),
        ("metrics_completed_data", "bull:email:metrics:completed:data"),
        ("metrics_failed", "bull:email:metrics:failed"),
        ("metrics_failed_data", "bull:email:metrics:failed:data"),
        ("retention_check", "bull:email:pyq:retention"),
    ],
)
def test_the_keys_of_a_queue(attribute: str, name: str) -> None:
    assert getattr(KEYS, attribute) == name


def test_every_suffix_is_an_attribute() -> None:
    assert {attribute: getattr(KEYS, attribute) for attribute in SUFFIXES} == {
        attribute: f"bull:email:{suffix}" for attribute, suffix in SUFFIXES.items()
    }
    assert {field.name for field in dataclasses.fields(QueueKeys)} == {"prefix", "queue", "base", *SUFFIXES}


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("job", "bull:email:7"),
        ("lock", "bull:email:7:lock"),
        ("logs", "bull:email:7:logs"),
        ("dependencies", "bull:email:7:dependencies"),
        ("processed", "bull:email:7:processed"),
        ("failed_children", "bull:email:7:failed"),
        ("unsuccessful", "bull:email:7:unsuccessful"),
        ("deduplication", "bull:email:de:7"),
        ("deduplication_next", "bull:email:dn:7"),
        ("scheduler", "bull:email:repeat:7"),
        ("exchange", "bull:email:pyq:x:7"),
    ],
)
def test_the_keys_below_a_queue(method: str, name: str) -> None:
    assert getattr(KEYS, method)("7") == name


def test_an_iteration_of_a_scheduler_is_a_job() -> None:
    assert KEYS.job("repeat:s:5") == f"{KEYS.scheduler('s')}:5"


def test_keys_are_values() -> None:
    assert QueueKeys("bull", "email") == KEYS
    assert hash(QueueKeys("bull", "email")) == hash(KEYS)
    with pytest.raises(dataclasses.FrozenInstanceError):
        KEYS.wait = "other"  # type: ignore[misc]  # what the test is about


@pytest.mark.parametrize("prefix", ["{bull}", "a{b}c", "{a}{b}", "}{a}", "{{a}}"])
def test_a_prefix_with_a_hash_tag(prefix: str) -> None:
    assert has_hash_tag(prefix)


@pytest.mark.parametrize("prefix", ["bull", "{}", "{", "}", "}{", "{}{a}", "a{}b"])
def test_a_prefix_that_redis_hashes_as_a_whole(prefix: str) -> None:
    assert not has_hash_tag(prefix)
