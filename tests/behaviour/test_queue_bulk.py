"""Adding many jobs: all are checked before the first is sent, and each has its own result."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pyqueue import (
    AddStatus,
    BulkAddError,
    ConfigurationError,
    Job,
    JobOptions,
    JobSpec,
    ParentNotFound,
    PayloadError,
    Queue,
    UnknownOption,
)
from pyqueue.errors import PayloadTypeError
from pyqueue.queue import ConnectionSource
from tests.support.by_hand import take
from tests.support.keyspace import dump

pytestmark = pytest.mark.anyio


async def test_jobs_come_back_in_order_and_run_in_order(queue: Queue[Any, Any]) -> None:
    """E18"""
    jobs = await queue.add_bulk([JobSpec("a", number) for number in range(250)])

    assert [job.data for job in jobs] == list(range(250))
    assert [job.id for job in jobs] == [str(number + 1) for number in range(250)]
    assert [(await take(queue)).data for _ in range(3)] == [0, 1, 2]


async def test_specs_and_dictionaries_may_be_mixed(queue: Queue[Any, Any]) -> None:
    """E18"""
    jobs = await queue.add_bulk(
        [
            JobSpec("a", 1, JobOptions(job_id="one")),
            {"name": "b", "data": 2, "opts": {"jobId": "two", "removeOnComplete": True}},
            {"name": "c"},
        ]
    )

    # The counter also counts jobs with ids of their own.
    assert [(job.name, job.data, job.id) for job in jobs] == [("a", 1, "one"), ("b", 2, "two"), ("c", {}, "3")]
    assert jobs[1].options.remove_on_complete is True


async def test_nothing_to_add_adds_nothing(queue: Queue[Any, Any]) -> None:
    assert await queue.add_bulk([]) == []


async def test_the_queues_defaults_hold_for_every_job(source: ConnectionSource, prefix: str) -> None:
    defaults = JobOptions(attempts=3)
    async with Queue[Any, Any]("q", connection=source, prefix=prefix, default_job_options=defaults) as queue:
        plain, other = await queue.add_bulk([{"name": "a"}, {"name": "b", "opts": {"attempts": 5}}])

    assert (plain.options.attempts, other.options.attempts) == (3, 5)


async def test_duplicates_inside_a_bulk_are_found(queue: Queue[Any, Any]) -> None:
    jobs = await queue.add_bulk([JobSpec("a", number, JobOptions(job_id="x")) for number in range(3)])

    assert [job.add_status for job in jobs] == [AddStatus.CREATED, AddStatus.DUPLICATE, AddStatus.DUPLICATE]
    assert await queue.jobs.count() == 1


BAD: list[tuple[Any, type[Exception]]] = [
    (JobSpec("a", {1: 2}), PayloadTypeError),
    (JobSpec("a", {"at": float("nan")}), PayloadError),
    ({"name": "a", "opts": {"removeOnComplet": True}}, UnknownOption),
    ({"name": "a", "date": 1}, UnknownOption),
    ({"data": 1}, ConfigurationError),
    (("a", 1), ConfigurationError),
]


@pytest.mark.parametrize(("bad", "error"), BAD)
async def test_one_bad_job_is_found_before_the_first_is_sent(
    queue: Queue[Any, Any], redis_client: Any, bad: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"^specs\[150\]: ") as caught:
        await queue.add_bulk([*[JobSpec("good", number) for number in range(150)], bad, JobSpec("good")])

    assert type(caught.value) is error

    assert await dump(redis_client, queue.options.prefix) == {}


MISPLACED = {
    "delay": "'opts': {'delay': 1000}",
    "attempts": "'opts': {'attempts': 1000}",
    "priority": "'opts': {'priority': 1000}",
    "job_id": "'opts': {'job_id': 1000}",
    "jobId": "'opts': {'job_id': 1000}",
    "removeOnComplete": "'opts': {'remove_on_complete': 1000}",
    "dely": "'opts': {'delay': 1000}",
    "repeat": "use queue.schedulers.upsert",
}


@pytest.mark.parametrize("key", MISPLACED)
async def test_an_option_beside_the_name_is_told_to_go_into_opts(queue: Queue[Any, Any], key: str) -> None:
    with pytest.raises(UnknownOption, match=re.escape(MISPLACED[key])) as caught:
        await queue.add_bulk([{"name": "a", "data": {}, key: 1000}])

    assert repr(key) in str(caught.value)


async def test_a_key_that_is_like_no_option_is_told_the_keys_that_there_are(queue: Queue[Any, Any]) -> None:
    with pytest.raises(UnknownOption, match="'zzz': the options are data, name, opts"):
        await queue.add_bulk([{"name": "a", "zzz": 1}])


NO_LISTS: list[tuple[Any, str]] = [
    (None, "specs is None: give a list of jobs, each a JobSpec or a dictionary with name, data and opts"),
    ("abc", "specs is 'abc': give a list of jobs"),
    (b"abc", "specs is b'abc': give a list of jobs"),
    (17, "specs is 17: give a list of jobs"),
    ({"name": "a"}, "specs is {'name': 'a'}: put a single one into a list, as in [...]"),
    (JobSpec("a", 1), "specs is JobSpec(name='a', data=1, options=None): put a single one into a list, as in [...]"),
    ([None], "job is None: give a JobSpec or a dictionary with name, data and opts"),
    (["abc"], "job is 'abc': give a JobSpec"),
]


@pytest.mark.parametrize(("specs", "message"), NO_LISTS, ids=lambda value: repr(value)[:20])
async def test_what_is_no_list_of_jobs_is_refused_as_such(queue: Queue[Any, Any], specs: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        await queue.add_bulk(specs)


async def test_options_are_given_once(queue: Queue[Any, Any]) -> None:
    with pytest.raises(ConfigurationError, match="has both 'opts' and 'options'"):
        await queue.add_bulk([{"name": "a", "opts": {"attempts": 3}, "options": {"delay": 5}}])


async def test_jobs_may_come_from_a_generator(queue: Queue[Any, Any]) -> None:
    assert [job.data for job in await queue.add_bulk(JobSpec("a", number) for number in range(3))] == [0, 1, 2]


class ByIndex:
    """Specs for `for`, which needs no more than this."""

    def __getitem__(self, index: int) -> JobSpec[Any]:
        return [JobSpec[Any]("a"), JobSpec[Any]("b")][index]


async def test_jobs_may_come_from_whatever_a_loop_takes(queue: Queue[Any, Any]) -> None:
    specs: Any = ByIndex()
    assert [job.name for job in await queue.add_bulk(specs)] == ["a", "b"]


async def test_options_of_a_spec_are_job_options(queue: Queue[Any, Any]) -> None:
    wrong: Any = {"delay": 5}
    with pytest.raises(ConfigurationError, match=r"options of a JobSpec are \{'delay': 5\}: give JobOptions"):
        await queue.add_bulk([JobSpec("a", 1, wrong)])


async def test_a_job_that_the_server_refuses_is_told_apart_from_the_others(queue: Queue[Any, Any]) -> None:
    orphan = JobSpec("orphan", 0, JobOptions(parent={"id": "missing", "queue": "some:queue"}))

    with pytest.raises(BulkAddError, match="1 of 3") as caught:
        await queue.add_bulk([JobSpec("a", 1), orphan, JobSpec("b", 2)])

    first, refused, last = caught.value.results
    assert isinstance(refused, ParentNotFound)
    assert isinstance(first, Job)
    assert isinstance(last, Job)
    assert (first.data, last.data) == (1, 2)
    assert await queue.jobs.count() == 2
