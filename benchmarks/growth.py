"""What a job costs Redis with more and more jobs waiting, beside a control that has nothing of a queue's logic.

A thousand jobs fit into the caches of a processor, a million do not: there every key that is looked up for the first
time costs some accesses to memory, and what they cost is the machine's. So the workload has a control: plain commands
that look up the same keys, on the same servers, between the same measurements. What a system's ratio has beyond the
control's is its own.

Each number of waiting jobs has a server of its own, and they are measured in turns, forwards and backwards. One
server that is filled further and further has one measurement per number, minutes apart; on a machine with neighbours
those differ by a quarter or more, and the ratio of the worst to the first says more about the minute than about jobs.
"""

from __future__ import annotations

import socket
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, Self, TypeAlias, TypeVar

import hiredis

from benchmarks.bench import Bench, Figures
from benchmarks.server import RedisServer
from benchmarks.statistics import summarize
from pyqueue._redis.packing import pack

Command: TypeAlias = tuple[bytes, ...]
Item = TypeVar("Item")

LEVELS: Final = (1_000, 10_000, 100_000, 1_000_000)
QUICK_LEVELS: Final = (1_000, 50_000)
#: Only these are filled up to a million and measured in turns; the others take too long, or too much memory. They have
#: the same keys, which the control shares.
FILLED_TO_A_MILLION: Final = ("pyqueue", "pyqueue-uvloop", "bullmq")
#: An odd number, so that the median is a measurement. Nine of the same, in turns, differed by up to 70 %.
TURNS: Final = 5
KINDS: Final = ("add_us", "process_us")
COLUMNS: Final = (
    *(f"{kind}@{level}" for level in sorted({*LEVELS, *QUICK_LEVELS}) for kind in KINDS),
    "control_ratio",
)
#: Jobs per pipeline of the control: as many as an exchange of pyqueue settles and claims.
BATCH: Final = 25


def growth(bench: Bench) -> Figures:
    """The Redis CPU of adding and of processing one more job; the worst against 1,000, and the control's."""
    is_full = bench.environment.system.name in FILLED_TO_A_MILLION
    wanted = QUICK_LEVELS if bench.quick else LEVELS
    levels = wanted if is_full else [level for level in wanted if level <= 100_000]
    costs: dict[str, list[float]] = defaultdict(list)
    with ExitStack() as stack:
        crowds = [Crowd(replace(bench, server=stack.enter_context(RedisServer())), level) for level in levels]
        for turn in range(TURNS if is_full and not bench.quick else 1):
            for crowd in crowds if turn % 2 == 0 else reversed(crowds):
                for name, cost in crowd.measure(with_control=is_full).items():
                    costs[f"{name}@{crowd.level}"].append(cost)
    return with_ratios({name: summarize(values).median for name, values in costs.items()})


def with_ratios(costs: Figures) -> Figures:
    """Add `worst_ratio`, and `control_ratio` where the control was measured."""
    controls = {name: cost for name, cost in costs.items() if name.startswith("control_")}
    result = {**costs, "worst_ratio": worst_ratio({n: cost for n, cost in costs.items() if n not in controls})}
    return {**result, "control_ratio": worst_ratio(controls)} if controls else result


def worst_ratio(costs: Figures) -> float:
    """The highest cost of adding and processing a job over that with the fewest waiting."""
    totals: dict[int, float] = defaultdict(float)
    for name, cost in costs.items():
        totals[int(name.partition("@")[2])] += cost
    return max(totals.values()) / totals[min(totals)]


class Crowd:
    """A server where so many jobs wait."""

    def __init__(self, bench: Bench, level: int) -> None:
        self.level = level
        self._bench = bench
        self._waiting = level
        bench.add(level)

    def measure(self, *, with_control: bool) -> Figures:
        """Add some more jobs and process as many, which are the oldest; microseconds of Redis per job.

        Processed jobs are removed, so that the number of waiting jobs is all that differs.
        """
        sample = self._bench.jobs(10_000)
        added = self._bench.add(sample + self.level - self._waiting, "concurrent")
        worked = self._bench.work(sample, 100, keep_results=False)  # some more, which were claimed already
        self._waiting = self.level + sample - int(worked["jobs"])
        costs = {"add_us": added["redis_cpu_us"], "process_us": worked["redis_cpu_us"]}
        return {**costs, "control_us": self._control(sample)} if with_control else costs

    def _control(self, jobs: int) -> float:
        with Control(self._bench.server.port) as control:
            before = self._bench.state().cpu_s
            control.add(jobs)
            control.process(jobs)
            return (self._bench.state().cpu_s - before) * 1e6 / jobs


class Control:
    """A queue of plain commands, in pipelines: per job it looks up the keys that a job of the system has or may have.

    It promises nothing, checks nothing and has no scripts. It adds copies of the newest job and takes the oldest.
    Context manager, because its connection is its own: a client that does more than pack would let the server idle, and
    waking up would be most of what is measured.
    """

    def __init__(self, port: int, prefix: bytes = b"bull:bench:") -> None:
        self._port = port
        self._prefix = prefix
        self._wait, self._active = prefix + b"wait", prefix + b"control:active"
        self._events = prefix + b"control:events"

    def __enter__(self) -> Self:
        self._socket = socket.create_connection(("127.0.0.1", self._port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def add(self, jobs: int) -> None:
        """Per job: its hash, its place, an event."""
        # They continue the ids, because the system will process them, too.
        newest, last = self._call([(b"LINDEX", self._wait, b"0"), (b"INCRBY", self._prefix + b"id", b"%d" % jobs)])
        (fields,) = self._call([(b"HGETALL", self._prefix + newest)])
        job_ids = [b"%d" % number for number in range(last - jobs + 1, last + 1)]
        for batch in batches(job_ids):
            self._call(
                command
                for job_id in batch
                for command in (
                    (b"HSET", self._prefix + job_id, *fields),
                    (b"LPUSH", self._wait, job_id),
                    self._event(job_id),
                )
            )

    def process(self, jobs: int) -> None:
        """Take the oldest, lock them, start them, and remove them with all that may belong to them."""
        for batch in batches(range(jobs)):
            job_ids = self._call((b"RPOPLPUSH", self._wait, self._active) for _ in batch)
            self._call(command for job_id in job_ids for command in self._start(job_id, self._prefix + job_id))
            self._call(command for job_id in job_ids for command in self._end(job_id, self._prefix + job_id))

    def _start(self, job_id: bytes, key: bytes) -> Sequence[Command]:
        return (
            (b"HGETALL", key),
            (b"SET", key + b":lock", b"token", b"PX", b"30000"),
            (b"HSET", key, b"processedOn", b"1700000000000", b"ats", b"1"),
            self._event(job_id),
        )

    def _end(self, job_id: bytes, key: bytes) -> Sequence[Command]:
        parts = (b":logs", b":dependencies", b":processed", b":failed", b":unsuccessful")
        return (
            (b"HMGET", key, b"ats", b"atm", b"parentKey"),
            (b"GET", key + b":lock"),
            (b"EXISTS", key + b":dependencies", key + b":unsuccessful"),
            (b"LREM", self._active, b"-1", job_id),
            (b"UNLINK", key, *(key + part for part in parts)),
            (b"DEL", key + b":lock"),
            self._event(job_id),
        )

    def _event(self, job_id: bytes) -> Command:
        return (b"XADD", self._events, b"MAXLEN", b"~", b"10000", b"*", b"event", b"control", b"jobId", job_id)

    def _call(self, commands: Iterable[Command]) -> list[Any]:
        packed = [pack(command) for command in commands]
        self._socket.sendall(b"".join(packed))
        replies: list[Any] = []
        while len(replies) < len(packed):
            reply = self._reader.gets()
            if reply is False:
                self._reader.feed(self._socket.recv(1 << 18))
            elif isinstance(reply, Exception):
                raise reply
            else:
                replies.append(reply)
        return replies


def batches(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """BATCH at a time."""
    return (items[first : first + BATCH] for first in range(0, len(items), BATCH))
