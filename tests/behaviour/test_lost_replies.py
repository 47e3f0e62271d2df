"""Replies that are lost after the script has run: nothing is applied twice, nothing is orphaned, adds are stored once.

Exchanges are sent as the engine sends them (`Sender`), over a proxy that cuts the connection at the reply, and the key
space afterwards is compared with that of a sound connection. Whole workers and queues follow.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

import anyio
import pytest
from redis.asyncio import Redis
from redis.exceptions import TimeoutError as RedisTimeoutError

from pyqueue import (
    AddOutcomeUnknown,
    AddStatus,
    BulkAddError,
    DelayJob,
    Job,
    JobOptions,
    JobSpec,
    JobState,
    ParentNotFound,
    Queue,
    RateLimitJob,
    ReleaseJob,
    Unrecoverable,
    Worker,
)
from pyqueue._redis.connection import Connection
from pyqueue._redis.links import is_unsent
from pyqueue._redis.outage import Outage
from pyqueue._redis.scripts import load
from pyqueue._store import producer as producer_module
from pyqueue._store.adding import MAX_ADDS, Added, add_jobs
from pyqueue._store.record import encode_job
from pyqueue._store.sender import MAX_IN_FLIGHT, Sender
from pyqueue._store.settling import ClaimRequest, ExchangeReply, Settlement, settle_and_claim
from pyqueue._store.store import Store
from pyqueue.outcomes import (
    Completed,
    Delayed,
    Failed,
    Keep,
    Outcome,
    RateLimited,
    Released,
    Retried,
    Returned,
    WaitingForChildren,
)
from tests.support.keyspace import Key, dump
from tests.support.proxy import Mode, Proxy
from tests.support.script_bench import NOW, FixedClock
from tests.support.server import RedisServer
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.needs_server]

AnyQueue: TypeAlias = Queue[Any, Any]

#: Every kind of outcome -> the state that it leads to, and the attempts that it spends.
STATES: Final[dict[Outcome, tuple[JobState, int]]] = {
    Completed("1"): (JobState.COMPLETED, 1),
    Completed("1", Keep(count=0)): (JobState.UNKNOWN, 1),
    Completed("1", Keep(count=1)): (JobState.COMPLETED, 1),
    Failed("x", "[]", attempts=1): (JobState.FAILED, 1),
    Failed("x", "[]", attempts=1, keep=Keep(count=0)): (JobState.UNKNOWN, 1),
    Retried("x", "[]"): (JobState.WAITING, 1),
    Retried("x", "[]", delay_ms=500): (JobState.DELAYED, 1),
    Delayed(500): (JobState.DELAYED, 0),
    Delayed(until_ms=NOW + 500): (JobState.DELAYED, 0),
    Released(): (JobState.WAITING, 0),
    Returned(): (JobState.WAITING, 0),
    RateLimited(): (JobState.WAITING, 0),
    WaitingForChildren(): (JobState.WAITING_CHILDREN, 0),
}


def short(value: object) -> str:
    """An outcome, or several, in the name of a test."""
    if isinstance(value, list):
        return short(value[0]) if len(value) == 1 else "all together"
    return value if isinstance(value, str) else type(value).__name__


#: When a connection through the proxy gives a command up.
GIVE_UP_S: Final = 1.0


@pytest.fixture
async def direct(server: RedisServer, prefix: str) -> AsyncIterator[AnyQueue]:
    """A queue with a clock that stands still, reached without the proxy."""
    async with Queue[Any, Any]("q", connection=server.url, prefix=prefix, clock=FixedClock()) as queue:
        queue._producer.sender.uuid = "producer"
        yield queue


@pytest.fixture
async def sound(server: RedisServer, prefix: str) -> AsyncIterator[AnyQueue]:
    """The same in another database, for comparison."""
    async with Queue[Any, Any]("q", connection=server.url[:-1] + "1", prefix=prefix, clock=FixedClock()) as queue:
        queue._producer.sender.uuid = "producer"
        yield queue


@pytest.fixture
async def through(proxy: Proxy, direct: AnyQueue) -> AsyncIterator[Store]:
    """The queue through the proxy, over a connection that gives up early."""
    connection = Connection.open(proxy.url, deadline_s=GIVE_UP_S)
    yield Store(connection.lane(), direct._store.keys, FixedClock())
    await connection.aclose()


async def script_calls(client: Any) -> int:
    """Scripts that clients have run since the server's statistics were reset."""
    stats = await client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval"))


async def everything(queue: AnyQueue) -> dict[str, Key]:
    """All keys of a queue."""
    async with Redis.from_url(queue._connection.url_safe, decode_responses=True) as client:
        return await dump(client, queue._store.keys.base)


# Exchanges.


async def claim_jobs(queue: AnyQueue, ends: Sequence[Outcome]) -> list[Settlement]:
    """A job for each of these ends, locked by worker `w`, and three others that wait.

    One that will wait for children has a child.
    """
    await queue.add_bulk([JobSpec(type(end).__name__) for end in ends])
    reply = await settle_and_claim(queue._store, [], ClaimRequest(len(ends), "w", first_token=0))
    held = [Settlement(one.job_id, one.token, end) for one, end in zip(reply.claimed, ends, strict=True)]
    for settlement in held:
        if isinstance(settlement.outcome, WaitingForChildren):
            await queue.add("child", parent={"id": settlement.job_id, "queue": queue._store.keys.qualified})
    await queue.add_bulk([JobSpec("other")] * 3)
    return held


def worker(store: Store) -> Sender:
    """The sender of a worker; its uuid is the same on both sides of a comparison."""
    sender = Sender(Outage("the test"))
    sender.uuid = "w"
    return sender


async def exchange(
    store: Store, sender: Sender, settlements: Sequence[Settlement], *, claim: int = 2, timeout_s: float = 5
) -> ExchangeReply:
    """Settle and claim, again after a lost reply."""

    async def attempt(uuid: str, sequence: int) -> ExchangeReply:
        request = ClaimRequest(claim, "w", first_token=100 * sequence)
        return await settle_and_claim(store, settlements, request, sender=uuid, sequence=sequence)

    return await sender.send(attempt, timeout_s=timeout_s)


@pytest.mark.parametrize("ends", [*([end] for end in STATES), list(STATES)], ids=short)
async def test_an_exchange_whose_reply_is_cut_leaves_what_a_sound_one_leaves(
    direct: AnyQueue, sound: AnyQueue, through: Store, proxy: Proxy, client: Any, ends: list[Outcome]
) -> None:
    expected = await exchange(sound._store, worker(sound._store), await claim_jobs(sound, ends))
    settlements = await claim_jobs(direct, ends)
    await through.commands.execute("PING")
    await client.config_resetstat()
    proxy.mode = Mode.CUT_ONE_REPLY

    reply = await exchange(through, worker(through), settlements)

    assert (await script_calls(client), proxy.accepted) == (2, 2)
    # The worker asks again at once, and takes the jobs for what needs the most care.
    assert reply.claimed == expected.claimed
    assert reply == expected._replace(groups=reply.groups, next_delayed_ms=NOW, suspects=2, any_iteration=True)
    assert await everything(direct) == await everything(sound)


@pytest.mark.parametrize(("end", "state", "attempts"), [(end, *ended) for end, ended in STATES.items()], ids=short)
async def test_attempts_made_equal_the_runs_that_spent_one_when_replies_are_cut(
    direct: AnyQueue, through: Store, proxy: Proxy, end: Outcome, state: JobState, attempts: int
) -> None:
    settlements = await claim_jobs(direct, [end])
    proxy.mode = Mode.CUT_ONE_REPLY

    await exchange(through, worker(through), settlements, claim=0)

    job_id = settlements[0].job_id
    assert await direct.jobs.state(job_id) is state
    job = await direct.jobs.get(job_id)
    starts = 0 if isinstance(end, Returned) else 1
    assert job is None or (job.attempts_made, job.attempts_started) == (attempts, starts)


async def test_a_claim_whose_reply_is_cut_again_and_again_belongs_to_its_worker(
    direct: AnyQueue, through: Store, proxy: Proxy
) -> None:
    await direct.add_bulk([JobSpec("job")] * 3)
    sender = worker(through)
    replies: list[ExchangeReply] = []

    async def claim() -> None:
        replies.append(await exchange(through, sender, [], claim=3))

    async with anyio.create_task_group() as group:
        proxy.mode = Mode.CUT_ONE_REPLY
        group.start_soon(claim)
        for _ in range(4):
            await wait_until(lambda: proxy.mode is Mode.PASS)
            proxy.mode = Mode.CUT_ONE_REPLY

    [reply] = replies
    assert [one.job_id for one in reply.claimed] == ["1", "2", "3"]
    ends = [Settlement(one.job_id, one.token, Completed("1")) for one in reply.claimed]
    assert (await exchange(through, sender, ends)).codes == [0, 0, 0]
    assert [job.attempts_started for job in await direct.jobs.list("completed")] == [1, 1, 1]


@pytest.mark.parametrize("end", [Completed("1"), Failed("x", "[]"), Retried("x", "[]"), Released()], ids=short)
async def test_an_older_exchange_that_arrives_late_is_refused(
    direct: AnyQueue, through: Store, proxy: Proxy, client: Any, end: Outcome
) -> None:
    """The network holds an exchange back; its worker sends it again over another path, and goes on."""
    settlements = await claim_jobs(direct, [end])
    proxy.mode = Mode.LATE
    with pytest.raises(RedisTimeoutError):
        await exchange(through, worker(through), settlements, timeout_s=0)
    sender = worker(direct._store)
    first = await exchange(direct._store, sender, settlements)
    again = [Settlement(one.job_id, one.token, Completed("2")) for one in first.claimed]
    await exchange(direct._store, sender, again, claim=1)
    await client.config_resetstat()
    before = await everything(direct)

    proxy.mode = Mode.PASS
    await wait_until(lambda: _was_called(client))

    assert await everything(direct) == before


async def test_an_exchange_that_arrives_twice_is_applied_once(
    direct: AnyQueue, through: Store, proxy: Proxy, client: Any
) -> None:
    """The network holds an exchange back; its worker has sent it again, but no other since."""
    settlements = await claim_jobs(direct, [Retried("x", "[]")])
    proxy.mode = Mode.LATE
    with pytest.raises(RedisTimeoutError):
        await exchange(through, worker(through), settlements, timeout_s=0)
    await exchange(direct._store, worker(direct._store), settlements)
    await client.config_resetstat()
    before = await everything(direct)

    proxy.mode = Mode.PASS
    await wait_until(lambda: _was_called(client))

    assert await everything(direct) == before


async def _was_called(client: Any) -> bool:
    return await script_calls(client) > 0


# Workers.

#: What a processor does -> whether that spends an attempt.
SPENDS: Final = {"retry": True, "delay": False, "release": False, "limit": False}


async def test_attempts_made_equal_real_runs_while_replies_are_cut_all_the_time(
    direct: AnyQueue, proxy: Proxy, server: RedisServer, prefix: str
) -> None:
    """Each job follows a script of its own; the ledger is kept in this process."""
    choice = random.Random(7)
    scripts = [[*choice.choices(list(SPENDS), k=choice.randint(0, 5)), "end"] for _ in range(40)]
    ran: dict[int, list[str]] = {number: [] for number in range(40)}
    ended: Counter[int] = Counter()

    async def process(job: Job[int, int]) -> int:
        step = scripts[job.data][len(ran[job.data])]
        ran[job.data].append(step)
        match step:
            case "retry":
                raise ValueError(step)
            case "delay":
                raise DelayJob(1)
            case "release":
                raise ReleaseJob
            case "limit":
                raise RateLimitJob
            case _:
                ended[job.data] += 1
                if job.data % 2:
                    raise Unrecoverable("the end")
                return job.data

    def runs() -> int:
        return sum(map(len, ran.values()))

    def all_ended_or_more_runs(number: int) -> bool:
        return len(ended) == 40 or runs() > number

    async with Queue[int, int]("q", connection=server.url, prefix=prefix) as queue:
        jobs = await queue.add_bulk([JobSpec("job", number, JobOptions(attempts=9)) for number in range(40)])
        async with Worker("q", process, connection=proxy.url, prefix=prefix, concurrency=3) as worker:
            cuts = 0
            while len(ended) < 40:
                proxy.mode = Mode.CUT_ONE_REPLY
                enough = runs() + 4
                await wait_until(partial(all_ended_or_more_runs, enough))
                cuts += proxy.mode is Mode.PASS
            proxy.mode = Mode.PASS
            await worker.wait_idle()
        for number, job in enumerate(jobs):
            stored = await queue.jobs.get(job.id)
            assert stored is not None
            assert ran[number] == scripts[number]
            assert stored.attempts_started == len(ran[number])
            assert stored.attempts_made == 1 + sum(SPENDS[step] for step in ran[number][:-1])
        counts = await queue.jobs.counts()
    assert (counts[JobState.COMPLETED], counts[JobState.FAILED]) == (20, 20)
    assert set(ended.values()) == {1}
    assert cuts > 5


# Producers.


@pytest.fixture
async def queue(proxy: Proxy, prefix: str) -> AsyncIterator[AnyQueue]:
    """A queue behind the proxy, with its settings written and its scripts loaded; its first job has id 1."""
    connection = Connection.open(proxy.url, deadline_s=GIVE_UP_S)
    async with Queue[Any, Any]("q", connection=connection, prefix=prefix) as queue:
        await queue.add("warm up")
        yield queue
    await connection.aclose()


def given(job_id: str) -> dict[str, Any]:
    return {"job_id": job_id} if job_id else {}


@pytest.mark.parametrize("ids", [[""], ["mine"], ["", "mine", ""]], ids=["generated", "own", "coalesced"])
async def test_adds_whose_reply_is_cut_are_stored_once(
    direct: AnyQueue, queue: AnyQueue, proxy: Proxy, client: Any, ids: list[str]
) -> None:
    await client.config_resetstat()
    proxy.mode = Mode.CUT_ONE_REPLY

    jobs = await asyncio.gather(*(queue.add("job", number, **given(job_id)) for number, job_id in enumerate(ids)))

    assert await script_calls(client) == 2
    assert [job.add_status for job in jobs] == [AddStatus.CREATED] * len(ids)
    assert [job.id for job in jobs] == [job_id or str(number + 2) for number, job_id in enumerate(ids)]
    await assert_stored_once(direct, client, jobs)


@pytest.mark.parametrize("own", [False, True], ids=["generated", "own"])
async def test_a_bulk_whose_replies_are_cut_is_stored_once(
    direct: AnyQueue, queue: AnyQueue, proxy: Proxy, client: Any, own: bool
) -> None:
    """Every call of it: three."""
    specs = [JobSpec("job", number, JobOptions(**given(f"mine-{number}" if own else ""))) for number in range(250)]
    adding = asyncio.create_task(queue.add_bulk(specs))
    for _ in range(3):
        proxy.mode = Mode.CUT_ONE_REPLY
        await wait_until(lambda: proxy.mode is Mode.PASS)

    jobs = await adding

    assert {job.add_status for job in jobs} == {AddStatus.CREATED}
    await assert_stored_once(direct, client, jobs)


async def assert_stored_once(queue: AnyQueue, client: Any, jobs: Sequence[Job[Any, Any]]) -> None:
    """These jobs wait in their order, behind the one that was there, and each was announced once."""
    waiting = await client.lrange(queue._store.keys.wait, 0, -1)
    assert waiting[::-1] == ["1", *(job.id for job in jobs)]
    events = [fields for _, fields in await client.xrange(queue._store.keys.events)]
    announced = [(fields["event"], fields["jobId"]) for fields in events[2:]]
    assert announced == [(event, job.id) for job in jobs for event in ("added", "waiting")]


async def test_a_bad_job_and_a_cancelled_caller_among_64_leave_62_added_although_the_reply_is_cut(
    direct: AnyQueue, queue: AnyQueue, proxy: Proxy, client: Any
) -> None:
    await client.config_resetstat()
    proxy.mode = Mode.CUT_ONE_REPLY
    adding = [asyncio.create_task(queue.add("job", number)) for number in range(62)]
    bad = asyncio.create_task(queue.add("bad", parent={"id": "missing", "queue": "some:queue"}))
    leaving = asyncio.create_task(queue.add("leaving"))
    await wait_until(lambda: proxy.mode is Mode.PASS)
    leaving.cancel()  # its call has left already

    jobs = await asyncio.gather(*adding)

    assert await script_calls(client) == 2
    assert [job.data for job in jobs] == list(range(62))
    assert {job.add_status for job in jobs} == {AddStatus.CREATED}
    with pytest.raises(ParentNotFound):
        await bad
    names = Counter(job.name for job in await direct.jobs.list("waiting", 0, -1))
    assert names == {"warm up": 1, "job": 62, "leaving": 1}


async def test_an_add_that_arrives_late_is_not_stored_again(
    direct: AnyQueue, queue: AnyQueue, proxy: Proxy, client: Any, server: RedisServer
) -> None:
    """The network holds an add back, its producer sends it again over another path, and goes on."""
    proxy.mode = Mode.LATE
    adding = asyncio.create_task(queue.add("job"))
    await wait_until(lambda: queue._producer.sender._outage.is_down)
    rows = [encode_job("job", {})]
    first = await add_jobs(
        direct._store, rows, sender=queue._producer.sender.uuid, sequence=queue._producer.sender._sequence
    )
    await client.config_resetstat()

    proxy.mode = Mode.PASS

    assert (await adding).id == "2"
    await wait_until(lambda: _was_called(client))
    assert [one.job_id for one in first.results if isinstance(one, Added)] == ["2"]
    assert await direct.jobs.count() == 2


@pytest.fixture
def short_deadline(monkeypatch: pytest.MonkeyPatch) -> float:
    """Adds have half a second instead of ten."""
    monkeypatch.setattr(producer_module, "ADD_DEADLINE_S", 0.5)
    monkeypatch.setattr(producer_module, "ADD_TRY_S", 0.2)
    return 0.5


@pytest.mark.alone
async def test_adds_end_within_their_deadline_when_the_network_falls_silent(
    queue: AnyQueue, proxy: Proxy, short_deadline: float
) -> None:
    """Each of them, also those that wait for the call before theirs, and a bulk of several calls."""
    proxy.mode = Mode.SILENT
    took: list[float] = []
    errors: list[Exception] = []

    async def add(specs: Sequence[JobSpec[Any]], after_s: float) -> None:
        await anyio.sleep(after_s)
        began = time.monotonic()
        try:
            await (queue.add("job") if not specs else queue.add_bulk(specs))
        except Exception as error:
            errors.append(error)
        took.append(time.monotonic() - began)

    async with anyio.create_task_group() as group:
        for after_s in (0.0, 0.05, 0.2, 0.45, 0.6):
            group.start_soon(add, [], after_s)
        group.start_soon(add, [JobSpec("bulk")] * 450, 0.1)

    assert max(took) < 2 * short_deadline  # none has waited for the end of another
    assert {type(error).__name__ for error in errors} == {"AddOutcomeUnknown", "BulkAddError"}
    proxy.mode = Mode.PASS
    assert (await queue.add("after")).add_status is AddStatus.CREATED


async def test_the_rest_of_a_bulk_is_not_sent_into_a_silent_network(
    queue: AnyQueue, direct: AnyQueue, proxy: Proxy, short_deadline: float
) -> None:
    proxy.mode = Mode.SILENT

    with pytest.raises(BulkAddError) as caught:
        await queue.add_bulk([JobSpec("job")] * 250)

    errors = caught.value.results
    in_flight = MAX_IN_FLIGHT * MAX_ADDS
    assert {type(error) for error in errors} == {AddOutcomeUnknown}
    assert [error.may_be_stored for error in errors] == [True] * in_flight + [False] * (250 - in_flight)
    assert "not sent" in str(errors[-1])
    assert await direct.jobs.count() == 1


async def test_a_script_that_has_to_be_sent_keeps_the_deadline_of_the_call(
    through: Store, proxy: Proxy, client: Any
) -> None:
    """Three round trips of 0.4 s each: the server does not know the script, and is given it."""
    await through.commands.execute("PING")
    await client.script_flush()
    proxy.mode = Mode.DELAY

    with pytest.raises(RedisTimeoutError) as late:
        await through.call(load("count_jobs"), timeout_s=0.6)
    assert is_unsent(late.value), "the server was asked for the script, and given it, but it ran nothing"
