"""Bad input is refused before anything is written, with an error that names the argument, and the queue still works."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from pyqueue import Backoff, ConfigurationError, Deduplication, JobOptions, PayloadError, Queue, UnknownOption
from pyqueue.queue import ConnectionSource
from tests.support.keyspace import dump

pytestmark = pytest.mark.anyio

OWN_KEYS = [
    *["wait", "paused", "active", "prioritized", "delayed", "completed", "failed", "stalled", "stalled-check"],
    *["limiter", "meta", "id", "pc", "marker", "events", "repeat", "de", "waiting-children", "metrics"],
]

#: Ids that must not be stored, by what is wrong with them.
BAD_IDS: list[Any] = [
    *OWN_KEYS,
    *["a:b", "a:b:c:d", ":", "metrics:completed:data", "de:x:y", "repeat:x:1", "0", "0:1", "0:1:2", "17", "-3"],
    *["", "x" * 256, "ü" * 128, "a\x00b", "a\nb", "a\rb", "\ud800"],
    *[17, 1.5, ["a"], b"a", True],
]

BAD_DATA: list[tuple[Any, str]] = [
    ({"a": [1, math.nan]}, "data['a'][1]"),
    ({"a": math.inf}, "data['a']"),
    ({"raw": b"x"}, "data['raw']"),
    ({"tags": {1, 2}}, "data['tags']"),
    ({"x": object()}, "data['x']"),
    ({1: "a", "1": "b"}, "data"),
]

BAD_OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"delay": -1}, "delay"),
    ({"delay": timedelta(seconds=-1)}, "delay"),
    ({"delay": math.nan}, "delay"),
    ({"delay": True}, "delay"),
    ({"delay": 1.5}, "delay"),
    ({"delay": 2**53 + 1}, "delay"),
    ({"priority": -1}, "priority"),
    ({"priority": 2_097_152}, "priority"),
    ({"priority": 1.5}, "priority"),
    ({"priority": True}, "priority"),
    ({"attempts": -1}, "attempts"),
    ({"attempts": 1.5}, "attempts"),
    ({"attempts": True}, "attempts"),
    ({"backoff": -1}, "backoff"),
    ({"backoff": {"type": "linear", "delay": 1}}, "linear"),
    ({"backoff": {"type": "fixed", "delay": -1}}, "delay"),
    ({"backoff": {"type": "fixed", "delay": 1, "jitter": 1.1}}, "jitter"),
    ({"backoff": {"type": "fixed", "delay": 1, "jitter": -0.1}}, "jitter"),
    ({"timestamp": datetime(2026, 1, 1)}, "time zone"),
    ({"remove_on_complete": 1.5}, "remove_on_complete"),
    ({"remove_on_complete": {"count": 1.5}}, "count"),
    ({"remove_on_fail": "yes"}, "remove_on_fail"),
    ({"keep_logs": -1}, "keep_logs"),
    ({"size_limit": 0}, "size_limit"),
    ({"deduplication": {"id": ""}}, "deduplication"),
    ({"deduplication": {"id": "d"}, "parent": {"id": "1", "queue": "a:b"}}, "cannot be used together"),
    ({"fail_parent_on_failure": True, "ignore_dependency_on_failure": True}, "cannot be used together"),
    ({"remove_dependency_on_failure": True, "continue_parent_on_failure": True}, "cannot be used together"),
    ({"removeOnComplet": True}, "did you mean"),
    ({"job_ID": "x"}, "did you mean"),
    ({"debounce": {"id": "x"}}, "deduplication"),
]


@pytest.fixture
def refused(queue: Queue[Any, Any], redis_client: Any) -> Callable[..., Any]:
    """Add a job that must be refused: with this error, nothing written, and the next job welcome."""

    async def refused(*args: Any, match: str, error: type[Exception], **options: Any) -> None:
        with pytest.raises(error, match=match):
            await queue.add(*args, **options)
        assert await dump(redis_client, queue.options.prefix) == {}
        assert (await queue.add("next")).id == "1"

    return refused


@pytest.mark.parametrize("job_id", BAD_IDS, ids=lambda job_id: repr(job_id)[:24])
async def test_ids_that_would_harm_the_queue_are_refused(refused: Callable[..., Any], job_id: Any) -> None:
    """E3, E4, E5"""
    await refused("a", 1, job_id=job_id, error=ConfigurationError, match="job_id")


@pytest.mark.parametrize("job_id", ["invite-42", "007", "a:b:c", "wait-1", "x" * 255, "ü", "a/b?c#d %"])
async def test_other_ids_are_welcome(queue: Queue[Any, Any], job_id: str) -> None:
    """E2, E5"""
    await queue.add("a", 1, job_id=job_id)

    found = await queue.jobs.get(job_id)
    assert found is not None
    assert found.data == 1


@pytest.mark.parametrize(("data", "path"), BAD_DATA, ids=[path for _, path in BAD_DATA])
async def test_data_that_json_cannot_carry_is_refused_with_its_path(
    refused: Callable[..., Any], data: Any, path: str
) -> None:
    """E17"""
    await refused("a", data, error=PayloadError, match=re.escape(path))


async def test_data_nested_too_deep_is_refused(refused: Callable[..., Any]) -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]

    await refused("a", deep, error=PayloadError, match="too deep")


@pytest.mark.parametrize("options", [{}, {"job_id": "x"}])
async def test_data_over_the_limit_is_refused_by_its_bytes(refused: Callable[..., Any], options: Any) -> None:
    """E10"""
    await refused("a", "ü" * 10, size_limit=21, error=PayloadError, match=r"22 bytes.*limit 21", **options)


async def test_data_within_the_limit_is_welcome(queue: Queue[Any, Any]) -> None:
    """E10"""
    assert (await queue.add("a", "ü" * 10, size_limit=22)).data == "ü" * 10


async def test_integers_beyond_2_to_53_are_refused_on_demand(source: ConnectionSource, prefix: str) -> None:
    async with Queue[Any, Any]("q", connection=source, prefix=prefix, strict_ints=True) as queue:
        with pytest.raises(PayloadError, match="data"):
            await queue.add("a", 2**53 + 1)


@pytest.mark.parametrize(("options", "match"), BAD_OPTIONS, ids=[str(options) for options, _ in BAD_OPTIONS])
async def test_bad_options_are_refused(refused: Callable[..., Any], options: dict[str, Any], match: str) -> None:
    """E12, E13, E14, E15"""
    await refused("a", 1, **options, error=ConfigurationError, match=match)


async def test_bad_values_are_value_errors_and_unknown_names_are_type_errors(queue: Queue[Any, Any]) -> None:
    with pytest.raises(ValueError, match="priority"):
        await queue.add("a", priority=-1)
    with pytest.raises(TypeError, match="did you mean 'priority'"):
        await queue.add("a", prioriti=1)  # type: ignore[call-arg]  # the wrong name is the point
    with pytest.raises(ValueError, match="data"):
        await queue.add("a", math.nan)


@pytest.mark.parametrize("name", [None, 1, b"a", "\ud800"])
async def test_bad_job_names_are_refused(refused: Callable[..., Any], name: Any) -> None:
    await refused(name, 1, error=ConfigurationError, match="name")


@pytest.mark.parametrize("name", ["", "a:b", None, 1, "a\x00b"])
def test_bad_queue_names_are_refused(name: Any) -> None:
    """E7"""
    with pytest.raises(ConfigurationError, match="queue name"):
        Queue(name, connection="memory://")


@pytest.mark.parametrize("prefix", ["", None, 1, "a\nb"])
def test_bad_prefixes_are_refused(prefix: Any) -> None:
    with pytest.raises(ConfigurationError, match="prefix"):
        Queue("q", connection="memory://", prefix=prefix)


def test_unknown_options_of_a_queue_name_the_nearest() -> None:
    with pytest.raises(UnknownOption, match="did you mean 'prefix'"):
        Queue("q", connection="memory://", prefx="x")  # type: ignore[call-arg]  # the wrong name is the point


@pytest.mark.parametrize("connection", ["http://localhost", "localhost:6379", 6379, object()])
def test_connections_of_an_unknown_kind_are_refused(connection: Any) -> None:
    with pytest.raises(ConfigurationError):
        Queue("q", connection=connection)


async def test_defaults_that_contradict_a_job_are_refused(source: ConnectionSource, prefix: str) -> None:
    defaults = JobOptions(deduplication=Deduplication(id="d"), backoff=Backoff.fixed(1))
    async with Queue[Any, Any]("q", connection=source, prefix=prefix, default_job_options=defaults) as queue:
        with pytest.raises(ConfigurationError, match="cannot be used together"):
            await queue.add("a", parent={"id": "1", "queue": "a:b"})
