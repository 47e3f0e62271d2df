"""A workload with a million jobs, for pyqueue alone: no script call keeps the server for long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

import redis

from benchmarks import script_calls
from benchmarks.bench import Bench, Figures
from benchmarks.control import Control
from benchmarks.longer import limit
from benchmarks.priority import favoured
from benchmarks.program import ProgramError
from benchmarks.script_calls import Phase, Run, Total
from pyqueue import Job, JobSpec, JobState, Queue, Retention, Worker
from pyqueue.options import JobOptions

MILLION: Final = 1_000_000
#: Runs of each situation, with the same calls.
RUNS: Final = 3
#: More than a phase has, of which the slow log keeps all.
LONGEST_LOG: Final = 500_000
#: The server's own settings.
ORDINARY_LOG: Final = {"slowlog-log-slower-than": 10_000, "slowlog-max-len": 128}
#: The control's: tables of keys grow at the same calls in each run, whatever its pace.
CONTROL_DATABASE: Final = 1
HOUR_MS: Final = 3_600_000
BULK: Final = 1000
#: Jobs that are added and processed while a million others are there.
BESIDE: Final = 5_000


class Situation(NamedTuple):
    """What a million jobs are while a queue is used in every way."""

    name: str
    fill: Callable[[Bench, int], None]
    end: Callable[[Queue[Any, Any]], Awaitable[object]]
    """What only this situation has much to do for."""


def slow_log(bench: Bench) -> Figures:
    """Use a queue in every way with a million jobs waiting, then delayed, then completed; the slow log tells the rest.

    Its durations are wall time, so the server gets the highest priority, where we may give it; without, calls on a busy
    machine seem slow because the server did not run. Each situation is run several times, because a call that has much
    to do is slow each time; only memory that is touched for the first time since the server started is new in the first
    run alone. And a control (`benchmarks.control`) runs beside: how many of its calls, which always do the same, are
    above the bound tells what the machine adds. The longer calls take, the more of them the machine hits: both are told
    per second of the server's time, too.
    """
    with favoured(bench.server.pid) as is_favoured:
        if not is_favoured:
            bench.notes.append("no right to raise the server's priority: on a busy machine durations include waiting")
        return _slow_log(bench)


def _slow_log(bench: Bench) -> Figures:
    jobs = bench.jobs(MILLION)
    measured: list[list[Run]] = []
    try:
        for situation in SITUATIONS:
            runs = [_run(bench, situation, jobs) for _ in range(RUNS)]
            bench.notes.extend(script_calls.describe(f"{jobs:,} {situation.name}", runs))
            measured.append(runs)
    finally:
        _set(bench.server.client, ORDINARY_LOG)
    return script_calls.measure(measured)


def _run(bench: Bench, situation: Situation, jobs: int) -> Run:
    client, url = bench.server.client, _url(bench)
    bench.server.empty()
    client.script_flush()
    _set(client, {"slowlog-log-slower-than": script_calls.LOGGED_US, "slowlog-max-len": LONGEST_LOG})
    with redis.Redis(port=bench.server.port, db=CONTROL_DATABASE) as apart, Control(apart) as control:
        situation.fill(bench, jobs)
        filled = _phase(client, is_ordered=True)
        asyncio.run(_with_queue(url, partial(_use, url)))
        used = _phase(client, is_ordered=False)  # how many jobs a call of a busy worker settles is left to chance
        asyncio.run(_with_queue(url, situation.end))
        ended = _phase(client, is_ordered=True)
    stats: dict[str, Any] = client.info("commandstats")
    called, evaluated = stats["cmdstat_evalsha"], stats["cmdstat_eval"]
    ours = Total(called["calls"] + evaluated["calls"] - control.calls, called["usec"])
    return Run((filled, used, ended), ours, Total(control.calls, evaluated["usec"]))


def _set(client: redis.Redis, settings: Mapping[str, int]) -> None:
    for name, value in settings.items():
        client.config_set(name, value)


def _phase(client: redis.Redis, *, is_ordered: bool) -> Phase:
    """What the slow log has got since the last phase."""
    entries = client.slowlog_get(LONGEST_LOG)
    client.slowlog_reset()
    if len(entries) >= LONGEST_LOG:
        raise ProgramError(f"the slow log has overflowed: it keeps {LONGEST_LOG:,} entries")
    return Phase(script_calls.read(entries), is_ordered)


def _url(bench: Bench) -> str:
    return f"redis://127.0.0.1:{bench.server.port}"


async def _with_queue(url: str, act: Callable[[Queue[Any, Any]], Awaitable[object]]) -> None:
    async with Queue[Any, Any]("bench", connection=url) as queue:
        await act(queue)


def _fill_waiting(bench: Bench, jobs: int) -> None:
    bench.add(jobs)


def _fill_delayed(bench: Bench, jobs: int) -> None:
    async def fill(queue: Queue[Any, Any]) -> None:
        spec = JobSpec("job", {"payload": "x" * bench.payload_bytes}, JobOptions(delay=HOUR_MS))
        for first in range(0, jobs, BULK):
            await queue.add_bulk([spec] * min(BULK, jobs - first))

    asyncio.run(_with_queue(_url(bench), fill))


def _fill_completed(bench: Bench, jobs: int) -> None:
    bench.add(jobs)
    limit(bench, "process", jobs)


async def _use(url: str, queue: Queue[Any, Any]) -> None:
    spec = JobSpec("job", {"payload": "x" * 200})
    await queue.pause()
    await queue.resume()
    await queue.jobs.counts()
    for state in JobState:
        if state is not JobState.UNKNOWN:
            await queue.jobs.list(state, 0, 99)
    for _ in range(BESIDE // BULK):
        await queue.add_bulk([spec] * BULK)
    await asyncio.gather(*(queue.add("job", spec.data) for _ in range(BULK)))
    await _work(url, queue, BESIDE, None)
    await _work(url, queue, BESIDE, Retention(count=1000))


async def _work(url: str, queue: Queue[Any, Any], jobs: int, retention: Retention | None) -> None:
    left, done = jobs, asyncio.Event()

    async def process(_: Job[Any, Any]) -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            done.set()

    async with Worker("bench", process, connection=url, concurrency=100, remove_on_complete=retention):
        # With nothing but delayed or completed jobs there, only those beside them can be worked on.
        await asyncio.wait_for(_either(done, queue), 120)


async def _either(done: asyncio.Event, queue: Queue[Any, Any]) -> None:
    while not done.is_set():
        counts = await queue.jobs.counts()
        if not counts[JobState.WAITING] and not counts[JobState.ACTIVE]:
            return
        await asyncio.sleep(0.1)


async def _end_waiting(queue: Queue[Any, Any]) -> None:
    await queue.jobs.clean(state=JobState.WAITING, limit=BESIDE)
    await queue.drain()


async def _end_delayed(queue: Queue[Any, Any]) -> None:
    await queue.jobs.promote_all()
    await queue.drain(delayed=True)


async def _end_completed(queue: Queue[Any, Any]) -> None:
    await queue.jobs.clean(state=JobState.COMPLETED, limit=BESIDE)
    await queue.jobs.retry_all(JobState.COMPLETED)
    await queue.obliterate(force=True)


SITUATIONS: Final = (
    Situation("waiting", _fill_waiting, _end_waiting),
    Situation("delayed", _fill_delayed, _end_delayed),
    Situation("completed", _fill_completed, _end_completed),
)
