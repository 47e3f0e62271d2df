"""docs/how-to/pyqueue.acl: users that may do what pyqueue needs and nothing else, loaded as it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from pyqueue import Backoff, Deduplication, FlowJob, FlowProducer, Job, JobState, Queue, RateLimit, RedisRefused, Worker
from pyqueue._redis import scripts
from tests.support.jobs import reach
from tests.support.server import RedisServer
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.needs_server]

ACL_FILE: Final = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "pyqueue.acl"

#: Scripts, and commands outside of scripts, by the user that needs them.
SCRIPTS: Final[dict[str, set[str]]] = {
    "pyqueue-producer": {
        *("add_jobs", "add_flow", "stage_nodes", "place_nodes", "discard_nodes"),
        *("get_state", "is_finished", "upsert_scheduler", "remove_scheduler", "get_schedulers"),
    },
    "pyqueue-worker": {
        *("settle_and_claim", "extend_locks", "recover_stalled", "next_iteration", "find_broken_schedulers"),
        *("add_log", "update_progress", "update_data", "get_state", "count_children", "read_nodes"),
    },
    "pyqueue-admin": set(scripts.names()),
}
COMMANDS: Final[dict[str, str]] = {
    "pyqueue-producer": "eval evalsha script|load hget hgetall hset info time xread xrevrange zcard",
    "pyqueue-worker": "eval evalsha script|load bzpopmin client|setname info hgetall hscan ltrim del sscan time zrange",
    "pyqueue-admin": "eval evalsha script|load client|list del get hdel hget hgetall hscan hset info llen ltrim scan"
    " set sscan time xadd xread xrevrange xtrim zcard zcount zrange",
}
FORBIDDEN: Final = "acl config debug flushall flushdb function keys module monitor script shutdown"
LOADING: Final = "script|load"  # what a call does where the server does not know its script

_CALL: Final = re.compile(r"(?:redis\.p?call|\bcall|\btry)\(([^,)]*)")
_COMMAND: Final = re.compile(r"'([A-Z]+)'")


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[RedisServer]:
    """A server with the users of the file; `default` stays as it is, to look at what was denied."""
    with RedisServer.started(tmp_path, ("--aclfile", str(ACL_FILE))) as server:
        yield server


def url(server: RedisServer, user: str) -> str:
    return f"redis://{user}:change-me@127.0.0.1:{server.port}/0"


def denials(server: RedisServer) -> list[Any]:
    with server.client() as client:
        return list(client.acl_log())


def rules() -> dict[str, set[str]]:
    """Granted commands per user."""
    lines = [line.split() for line in ACL_FILE.read_text().splitlines() if line]
    return {words[1]: {word[1:] for word in words if word.startswith("+")} for words in lines}


def commands_of(script: str) -> set[str]:
    """The commands in a script's text; a call of a computed command names its candidates."""
    calls = _CALL.findall(scripts.load(script).text)
    return {command.lower() for call in calls for command in _COMMAND.findall(call)}


@pytest.mark.parametrize("user", SCRIPTS)
async def test_a_user_may_run_what_its_scripts_contain_and_not_one_command_more(user: str) -> None:
    needed = set(COMMANDS[user].split()).union(*map(commands_of, SCRIPTS[user]))
    assert sorted(rules()[user]) == sorted(needed)


async def test_a_producer_and_a_worker_are_denied_nothing(guarded: RedisServer) -> None:
    attempts: list[str] = []

    async def process(job: Job[Any, Any]) -> str:
        attempts.append(job.id)
        await job.update_progress(50)
        await job.log("working")
        if job.name == "fails" and attempts.count(job.id) == 1:
            raise ValueError("once")
        if job.name == "parent":
            assert len(await job.children_values()) == 1
        return "done"

    worker = Worker(
        "q",
        process,
        connection=url(guarded, "pyqueue-worker"),
        concurrency=5,
        name="w",
        stalled_interval=100,
        lock_duration=1000,
        limiter=RateLimit(max=1000, duration=1000),
        remove_on_fail=5,
        metrics=10,
    )
    producer = Queue[Any, Any]("q", connection=url(guarded, "pyqueue-producer"))
    async with producer, FlowProducer(connection=url(guarded, "pyqueue-producer")) as flows, worker:
        jobs = [
            await producer.add("plain", {"a": 1}, keep_logs=1),
            await producer.add("late", delay=timedelta(milliseconds=20)),
            await producer.add("urgent", priority=3),
            await producer.add("fails", attempts=2, backoff=Backoff.fixed(10)),
            await producer.add("single", deduplication=Deduplication(id="d", ttl=1000)),
        ]
        flow = await flows.add(FlowJob("parent", "q", children=[FlowJob("child", "q")]))
        await producer.schedulers.upsert("often", every=50, name="tick")
        await reach(producer, [*jobs, flow.job], JobState.COMPLETED)
        assert await jobs[0].result(timeout=15) == "done"
        await wait_until(lambda: len(attempts) >= 10)
        await producer.schedulers.remove("often")

    assert denials(guarded) == []


async def test_an_administrator_is_denied_nothing(guarded: RedisServer) -> None:
    async with Queue[Any, Any]("q", connection=url(guarded, "pyqueue-admin")) as queue:
        job = await queue.add("x")
        await queue.pause()
        assert (await queue.jobs.counts())[JobState.WAITING] == 1
        await queue.jobs.list(JobState.WAITING)
        await queue.limits.set_concurrency(3)
        await queue.limits.remove_concurrency()
        await queue.workers()
        await queue.trim_events(10)
        await job.change_priority(priority=2)
        await job.remove()
        await queue.resume()
        await queue.drain(delayed=True)
        await queue.obliterate(force=True)

    assert denials(guarded) == []


async def test_users_may_do_nothing_else(guarded: RedisServer) -> None:
    async with Queue[Any, Any]("q", connection=url(guarded, "pyqueue-producer"), prefix="other") as elsewhere:
        with pytest.raises(RedisRefused) as refused:
            await elsewhere.add("x")
        assert refused.value.code == "NOPERM"
    async with Queue[Any, Any]("q", connection=url(guarded, "pyqueue-worker")) as queue:
        with pytest.raises(RedisRefused, match=r"security\.md"):
            await queue.obliterate(force=True)
    for granted in rules().values():
        assert not {command.partition("|")[0] for command in granted - {LOADING}}.intersection(FORBIDDEN.split())
