"""Workloads of a million jobs, for pyqueue alone: no script blocks the server, and a worker's memory is flat."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from benchmarks.bench import Bench, Figures
from benchmarks.control import Control, is_control
from benchmarks.longer import limit
from benchmarks.priority import favoured
from benchmarks.program import ProgramError
from pyqueue import Job, JobSpec, JobState, Queue, Retention, Worker
from pyqueue._redis import scripts
from pyqueue.options import JobOptions

MILLION: Final = 1_000_000
#: Longest that a script call may keep the server, at the default bounds.
BOUND_US: Final = 2000
#: Calls above this are collected, to name the slowest even where all are within the bound.
COLLECTED_US: Final = 500
LONGEST_LOG: Final = 300_000
#: The name of the control among scripts.
CONTROL: Final = "(control)"
HOUR_MS: Final = 3_600_000
BULK: Final = 1000
#: Jobs that are added and processed while a million others are there.
BESIDE: Final = 5_000
#: The soak adds so many at a time, so that Redis stays small.
PORTION: Final = 50_000
WARM_UP_PORTIONS: Final = 2


class SlowCall(NamedTuple):
    """One entry of the slow log that is a script call."""

    script: str
    duration_us: int


def slow_log(bench: Bench) -> Figures:
    """Use a queue in every way with a million jobs waiting, then delayed, then completed; the slow log tells the rest.

    Its durations are wall time, so the server gets the highest priority, where we may give it; without, calls on a busy
    machine seem slow because the server did not run. A control (`benchmarks.control`) runs beside: how many of its
    calls, which always do the same, are above the bound tells what the machine adds. The longer calls take, the more of
    them the machine hits: both are told per second of the server's time, too.
    """
    with favoured(bench.server.pid) as is_favoured:
        if not is_favoured:
            bench.notes.append("no right to raise the server's priority: on a busy machine durations include waiting")
        return _slow_log(bench)


def _slow_log(bench: Bench) -> Figures:
    client = bench.server.client
    client.config_set("slowlog-max-len", LONGEST_LOG)
    client.config_set("slowlog-log-slower-than", COLLECTED_US)
    ours, controls = Tally(), Tally()
    jobs = bench.jobs(MILLION)
    for name, fill in (("waiting", _fill_waiting), ("delayed", _fill_delayed), ("completed", _fill_completed)):
        bench.server.empty()
        with Control(client) as control:
            fill(bench, jobs)
            asyncio.run(_use(f"redis://127.0.0.1:{bench.server.port}", _ENDINGS[name]))
        slow = script_calls(client.slowlog_get(LONGEST_LOG))
        stats: dict[str, Any] = client.info("commandstats")
        evaluated = stats["cmdstat_eval"]  # the control's, and first calls of ours, which are a thousandth of it
        first_calls = evaluated["calls"] - control.calls
        ours.add(
            stats["cmdstat_evalsha"]["calls"] + first_calls, stats["cmdstat_evalsha"]["usec"], slow, of_control=False
        )
        controls.add(control.calls, evaluated["usec"], slow, of_control=True)
        bench.notes.extend(describe(f"{jobs:,} {name}", slow))
    client.config_set("slowlog-log-slower-than", 10_000)
    return {
        "slowest_ms": ours.slowest_us / 1000,
        "above_2_ms": ours.above_bound,
        "p999_ms": ours.p999_ms,
        "script_calls_made": ours.calls,
        "above_2_ms_per_s": ours.above_bound / ours.busy_s,
        "control_slowest_ms": controls.slowest_us / 1000,
        "control_above_2_ms": controls.above_bound,
        "control_p999_ms": controls.p999_ms,
        "control_calls": controls.calls,
        "control_above_2_ms_per_s": controls.above_bound / controls.busy_s,
    }


@dataclass(slots=True)
class Tally:
    """Script calls of one side, the control's or pyqueue's."""

    calls: int = 0
    busy_s: float = 0.0
    """The server's time that they took."""
    durations_us: list[int] = field(default_factory=list)
    """Of those above COLLECTED_US."""

    def add(self, calls: int, busy_us: int, slow: Iterable[SlowCall], *, of_control: bool) -> None:
        self.calls += calls
        self.busy_s += busy_us / 1e6
        self.durations_us += [call.duration_us for call in slow if (call.script == CONTROL) is of_control]

    @property
    def above_bound(self) -> int:
        """How many are beyond the bound."""
        return above_bound(self.durations_us)

    @property
    def slowest_us(self) -> int:
        """The longest."""
        return max(self.durations_us, default=0)

    @property
    def p999_ms(self) -> float:
        """What 99.9% of all do not exceed: what their own work takes, with few of those that the machine hits."""
        longer_ones = self.calls // 1000
        beyond = sorted(self.durations_us, reverse=True)[longer_ones:]
        return (beyond[0] if beyond else COLLECTED_US) / 1000


def above_bound(durations_us: Iterable[int]) -> int:
    """How many are beyond the bound."""
    return sum(duration > BOUND_US for duration in durations_us)


def script_calls(entries: Iterable[dict[str, Any]]) -> list[SlowCall]:
    """The script calls among the entries of SLOWLOG GET, by the names of pyqueue's scripts, and CONTROL."""
    names = {scripts.load(name).sha: name for name in scripts.names()}
    found = []
    for entry in entries:
        command, _, rest = entry["command"].decode(errors="replace").partition(" ")
        if is_control(entry):
            found.append(SlowCall(CONTROL, entry["duration"]))
        elif command.upper() in {"EVALSHA", "EVAL"}:
            found.append(SlowCall(names.get(rest.partition(" ")[0], "(first call, with its text)"), entry["duration"]))
    return found


def describe(situation: str, slow: Iterable[SlowCall]) -> list[str]:
    """Per script: its slowest call, and how many were beyond the bound; the slowest first."""
    by_script: dict[str, list[int]] = {}
    for script, duration_us in slow:
        by_script.setdefault(script, []).append(duration_us)
    ranked = sorted(by_script.items(), key=lambda item: -max(item[1]))
    return [
        f"{situation}: {script}: slowest {max(durations) / 1000:.2f} ms,"
        f" {above_bound(durations)} calls above {BOUND_US / 1000:g} ms,"
        f" {len(durations)} above {COLLECTED_US / 1000:g} ms"
        for script, durations in ranked
    ]


def _fill_waiting(bench: Bench, jobs: int) -> None:
    bench.add(jobs)


def _fill_delayed(bench: Bench, jobs: int) -> None:
    async def fill() -> None:
        spec = JobSpec("job", {"payload": "x" * bench.payload_bytes}, JobOptions(delay=HOUR_MS))
        async with Queue[Any, Any]("bench", connection=f"redis://127.0.0.1:{bench.server.port}") as queue:
            for first in range(0, jobs, BULK):
                await queue.add_bulk([spec] * min(BULK, jobs - first))

    asyncio.run(fill())


def _fill_completed(bench: Bench, jobs: int) -> None:
    bench.add(jobs)
    limit(bench, "process", jobs)


async def _use(url: str, end: Callable[[Queue[Any, Any]], Awaitable[object]]) -> None:
    async with Queue[Any, Any]("bench", connection=url) as queue:
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
        await _work(url, BESIDE, None)
        await _work(url, BESIDE, Retention(count=1000))
        await end(queue)


async def _work(url: str, jobs: int, retention: Retention | None) -> None:
    left, done = jobs, asyncio.Event()

    async def process(_: Job[Any, Any]) -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            done.set()

    async with Worker("bench", process, connection=url, concurrency=100, remove_on_complete=retention):
        # With nothing but delayed or completed jobs there, only those beside them can be worked on.
        await asyncio.wait_for(_either(done, url), 120)


async def _either(done: asyncio.Event, url: str) -> None:
    async with Queue[Any, Any]("bench", connection=url) as queue:
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


_ENDINGS: Final[dict[str, Callable[[Queue[Any, Any]], Awaitable[object]]]] = {
    "waiting": _end_waiting,
    "delayed": _end_delayed,
    "completed": _end_completed,
}


def soak(bench: Bench) -> Figures:
    """A worker executes a million jobs; how much its resident memory grows after the first ones."""
    jobs = bench.jobs(MILLION)
    portion = min(PORTION, max(1, jobs // 10))
    resident: list[int] = []
    with bench.start("work", concurrency=100, keep_results=False) as worker:
        worker.go()
        for target in range(portion, jobs + 1, portion):
            bench.add(portion)
            if not worker.await_count(target):
                raise ProgramError(f"the worker executed {worker.count} of {target} jobs in time")
            resident.append(worker.resident_bytes())
        worker.stop()
        worker.report()
    megabytes = [round(size / 1e6, 1) for size in resident]
    bench.notes.append(f"resident MB after every {portion:,} jobs: {megabytes}")
    settled = resident[WARM_UP_PORTIONS:]
    return {"growth_mb": (max(settled) - settled[0]) / 1e6, "resident_mb": resident[-1] / 1e6, "jobs": jobs}
