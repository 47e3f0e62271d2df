"""Random scenarios: sequences of operations that make sense most of the time, from a seed.

A small model predicts which job a `take` will hand out, so that most settlements meet an active job; where it is wrong
the scenario just exercises an error. `differential` runs the scenarios; by hand:

    python -m tests.conformance.generate --seed 7 --length 40 --features core,jobs
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

Op = dict[str, Any]

EPOCH_MS: Final = 1_700_000_000_000
#: Job ids that scenarios choose themselves; few, so that duplicates happen.
_CUSTOM_IDS: Final = ("alpha", "beta", "gamma", "delta", "a b/ü", "x:y:z")
_REFUSED_IDS: Final = ("12", "0:1", "p:q")
_TOKENS: Final = ("t", "t2", "t3")
_DEDUPLICATION_IDS: Final = ("D", "E")
POLICIES: Final = (
    "failParentOnFailure",
    "continueParentOnFailure",
    "ignoreDependencyOnFailure",
    "removeDependencyOnFailure",
)
_SCHEDULER_IDS: Final = ("s", "s2")
_PATTERNS: Final = ("*/10 * * * * *", "* * * * *", "0 9 * * 1-5", "*/15 3 * * *", "0 0 1 1 *")
_CLEANABLE: Final = ("completed", "failed", "delayed", "prioritized", "wait", "waiting", "active", "paused")
_PAYLOADS: Final[tuple[Any, ...]] = (
    {},
    {"x": 1},
    {"u": "héllo ☃", "e": {}, "l": []},
    [1, 2, {"y": None}],
    "text",
    "",
    0,
    -1.5,
    True,
    None,
    {"deep": {"a": [[], {"b": 'c\n"\\/'}]}},
)
#: Real time passes while a scenario runs: keys that expire must outlive it, and not sit on the edge of a second.
_LONG_MS: Final = (60_500, 90_500, 3_600_500)


@dataclass(slots=True)
class _Job:
    id: str
    queue: str
    priority: int = 0
    due_ms: int = 0
    attempts: int = 0
    backoff_ms: int = 0
    made: int = 0
    state: str = "wait"
    token: str = "t"


@dataclass(slots=True)
class _Queue:
    counter: int = 0
    wait: list[str] = field(default_factory=list)  # served from the front
    prioritized: list[tuple[int, int, str]] = field(default_factory=list)
    paused: bool = False
    concurrency: int = 0


class Generator:
    """One scenario; the same seed gives the same operations."""

    def __init__(self, seed: int, length: int, features: Sequence[str]) -> None:
        self.random = random.Random(f"{seed}/{length}/{','.join(features)}")
        self.length = length
        self.features = frozenset(features)
        self.now_ms = EPOCH_MS
        self.serial = 0
        self.jobs: dict[tuple[str, str], _Job] = {}
        self.queues: dict[str, _Queue] = {"q": _Queue(), "c": _Queue()}
        self.ops: list[Op] = []
        self.trees: list[Op] = []

    def scenario(self) -> Op:
        """The operations, with queue and worker options in front of them."""
        scenario: Op = {"ops": self.ops}
        if self._chance(0.2):
            scenario["queueOpts"] = {"q": {"defaultJobOptions": self._default_options()}}
        if self._chance(0.4):
            self._emit({"op": "worker", "opts": self._worker_options()})
        choices = [row for row in _TABLE if row[0] in self.features]
        # A queue that is paused or limited does little: most scenarios have one such brake, or none.
        brakes = self.random.choices(_BRAKES, k=self.random.randint(0, 2))
        choices = [row for row in choices if row[0] != "core" or row[2] not in _BRAKES or row[2] in brakes]
        if "schedulers" in self.features:  # differ on purpose where a pending run is in wait
            choices = [row for row in choices if row[2] not in (Generator.drain, Generator.obliterate, Generator.pause)]
        while len(self.ops) < self.length:
            make = self.random.choices([row[2] for row in choices], [row[1] for row in choices])[0]
            op = make(self)
            if op:
                self._emit(op)
        return scenario

    # ------------------------------------------------------------------------------------------------- small choices

    def _chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def _emit(self, op: Op) -> None:
        self.now_ms += 1 + (op["ms"] if op["op"] == "advance" else 0)
        self.ops.append(op)

    def _queue_name(self) -> str:
        return "c" if self._chance(0.3 if self.features & {"flows", "parents"} else 0.05) else "q"

    def _in(self, queue: str, op: Op) -> Op:
        return op if queue == "q" else {**op, "queue": queue}

    def _payload(self) -> Any:
        return self.random.choice(_PAYLOADS)

    def _some(self, *states: str) -> _Job | None:
        """A job in one of the states by the model; now and then any job."""
        jobs = list(self.jobs.values())
        fitting = [job for job in jobs if job.state in states] if self._chance(0.9) else jobs
        return self.random.choice(fitting) if fitting else None

    def _about(self, op: Op, *states: str) -> Op | None:
        job = self._some(*states)
        return self._in(job.queue, {**op, "id": job.id}) if job else None

    def _on_queue(self, op: Op) -> Op:
        return self._in(self._queue_name(), op)

    # ------------------------------------------------------------------------------------------------------- options

    def _retention(self, *, worker: bool = False) -> Any:
        objects: list[Any] = [
            {"count": self.random.randint(0, 3)},
            {"age": self.random.choice([0, 1, 10])},
            {"age": self.random.choice([1, 10]), "count": 2},
            {"age": 1, "limit": 1},
        ]
        return self.random.choice(objects if worker else [*objects, True, False, 0, 1, 2])

    def _default_options(self) -> Op:
        options: Op = {}
        if self._chance(0.5):
            options["attempts"] = self.random.randint(1, 4)
        if self._chance(0.4):
            backoff = self._backoff()  # pyqueue stores a number as an object in schedulers, too
            options["backoff"] = {"type": "fixed", "delay": backoff} if isinstance(backoff, int) else backoff
        for name in ("removeOnComplete", "removeOnFail"):
            if self._chance(0.4):
                options[name] = self._retention()
        return options

    def _worker_options(self) -> Op:
        options: Op = {}
        if self._chance(0.3):
            options["name"] = "w-1"
        if self._chance(0.3):
            options["lockDuration"] = 45_000
        if self._chance(0.15):
            options["limiter"] = {"max": self.random.randint(1, 4), "duration": self.random.choice(_LONG_MS)}
        if self._chance(0.3):
            options["metrics"] = {"maxDataPoints": self.random.randint(1, 4)}
        if self._chance(0.2):
            options["maxStalledCount"] = self.random.randint(0, 2)
        if self._chance(0.2):
            options["maxStartedAttempts"] = self.random.randint(1, 4)
        for name in ("removeOnComplete", "removeOnFail"):
            if self._chance(0.3):
                options[name] = self._retention(worker=True)
        return options

    def _backoff(self) -> Any:
        return self.random.choice(
            [
                100,
                {"type": "fixed", "delay": self.random.choice([0, 50, 2000])},
                {"type": "exponential", "delay": self.random.choice([10, 1000])},
            ]
        )

    def _job_options(self) -> Op:
        options: Op = {}
        if self._chance(0.15):
            options["jobId"] = self.random.choice(_CUSTOM_IDS)
        if self._chance(0.25):
            options["delay"] = self.random.choice([0, 1, 100, 100, 5000, 100_000])
        if self._chance(0.3):
            options["priority"] = self.random.choice([0, 1, 1, 2, 7, 2_097_151])
        if self._chance(0.15):
            options["lifo"] = self._chance(0.8)
        if self._chance(0.4):
            options["attempts"] = self.random.randint(0, 4)
        if self._chance(0.25):
            options["backoff"] = self._backoff()
        for name in ("removeOnComplete", "removeOnFail"):
            if self._chance(0.2):
                options[name] = self._retention()
        if self._chance(0.08):
            options["timestamp"] = self.now_ms - self.random.choice([0, 5, 60_000])
        if self._chance(0.1):
            options["stackTraceLimit"] = self.random.randint(0, 2)
        if self._chance(0.05):
            options["keepLogs"] = 2
        if self._chance(0.05):
            options["sizeLimit"] = self.random.choice([3, 1000])
        if self._chance(0.02):  # refused
            options.update(self.random.choice([{"priority": 1.5}, *({"jobId": job_id} for job_id in _REFUSED_IDS)]))
        if "dedup" in self.features and self._chance(0.4):
            options["deduplication"] = self._deduplication()
        return options

    def _deduplication(self) -> Op:
        options: Op = {"id": self.random.choice(_DEDUPLICATION_IDS)}
        if self._chance(0.5):
            options["ttl"] = self.random.choice(_LONG_MS)
        for name in ("extend", "replace", "keepLastIfActive", "reschedule"):
            if self._chance(0.3):
                options[name] = True
        return options

    def _child_policy(self) -> Op:
        return {self.random.choice(POLICIES): True} if self._chance(0.6) else {}

    # ----------------------------------------------------------------------------------------------------- producers

    def _spec(self, queue: str) -> Op:
        self.serial += 1
        spec: Op = {"name": f"n{self.serial}", "data": self._payload()}
        if self._chance(0.05):
            del spec["data"]
        options = self._job_options()
        if self.features & {"flows", "parents"} and self._chance(0.15):
            parent = self._some("active", "waiting-children")
            if parent and ":" not in parent.id:
                options["parent"] = {"id": parent.id, "queue": f"orc:{parent.queue}"}
                options.update(self._child_policy())
                if ":" in options.get("jobId", ""):  # unusable as a child: keys are split at their last colon
                    del options["jobId"]
        if options:
            spec["opts"] = options
        self._predict_add(queue, options)
        return spec

    def _predict_add(self, queue: str, options: Op) -> None:
        if options.get("sizeLimit") == 3 or options.get("priority") == 1.5 or options.get("jobId") in _REFUSED_IDS:
            return
        state = self.queues[queue]
        state.counter += 1
        job_id = options.get("jobId") or str(state.counter)
        if (queue, job_id) in self.jobs and self.jobs[queue, job_id].state != "gone":
            return
        job = self.jobs[queue, job_id] = _Job(
            job_id,
            queue,
            priority=int(options.get("priority") or 0),
            attempts=options.get("attempts", 0),
            backoff_ms=100 if "backoff" in options else 0,
        )
        delay_ms = options.get("delay") or 0
        if delay_ms:
            job.state, job.due_ms = "delayed", options.get("timestamp", self.now_ms + 1) + delay_ms
        else:
            self._enqueue(job, front=bool(options.get("lifo")))

    def _enqueue(self, job: _Job, *, front: bool = False) -> None:
        queue = self.queues[job.queue]
        if job.priority:
            self.serial += 1
            job.state = "prioritized"
            queue.prioritized.append((job.priority, -1 if front else self.serial, job.id))
        else:
            job.state = "wait"
            queue.wait.insert(0 if front else len(queue.wait), job.id)

    def add(self) -> Op:
        queue = self._queue_name()
        return self._in(queue, {"op": "add", **self._spec(queue)})

    def add_bulk(self) -> Op:
        queue = self._queue_name()
        known = set(self.jobs)
        specs = [self._spec(queue) for _ in range(self.random.randint(0, 4))]
        for spec in specs:
            options = spec.get("opts", {})
            # pyqueue adds a bulk in one call: a job cannot name the generated id of another one as its parent, and a
            # delayed job that is replaced within the call leaves no marker behind.
            parent = options.get("parent")
            if parent and (parent["queue"].removeprefix("orc:"), parent["id"]) not in known:
                del options["parent"]
            options.get("deduplication", {}).pop("replace", None)
        return self._in(queue, {"op": "addBulk", "jobs": specs})

    def _flow_node(self, depth: int) -> Op:
        queue = self._queue_name()
        self.serial += 1
        options = {name: value for name, value in self._job_options().items() if name != "deduplication"}
        # Ids of their own: pyqueue refuses a flow with a job that belongs to another parent, which BullMQ half-adds.
        options["jobId"] = f"F{self.serial}"
        node: Op = {"name": f"f{self.serial}", "queueName": queue, "data": self._payload(), "opts": options}
        self._predict_add(queue, options)
        children = self.random.randint(0, 3) if depth else 0
        if children:
            self._predict_parent(queue, options["jobId"])
            node["children"] = [self._flow_node(depth - 1) for _ in range(children)]
            for child in node["children"]:
                child["opts"].update(self._child_policy())
        return node

    def _predict_parent(self, queue_name: str, job_id: str) -> None:
        job, queue = self.jobs.get((queue_name, job_id)), self.queues[queue_name]
        if job is not None:
            job.state = "waiting-children"
            queue.wait = [other for other in queue.wait if other != job_id]
            queue.prioritized = [entry for entry in queue.prioritized if entry[2] != job_id]

    def _tree(self) -> Op:
        """A new tree, or one that was added before: whole, or without its last child."""
        if not self.trees or self._chance(0.7):
            tree = self._flow_node(2)
            self.trees.append(tree)
            return tree
        tree = copy.deepcopy(self.random.choice(self.trees))
        if self._chance(0.3) and len(tree.get("children") or []) > 1:
            tree["children"].pop()
        return tree

    def flow(self) -> Op:
        return {"op": "flow", "flow": self._tree()}

    def flow_bulk(self) -> Op:
        first, second = self._tree(), self._tree()
        same = first["opts"]["jobId"] == second["opts"]["jobId"]
        return {"op": "flowBulk", "flows": [first] if same else [first, second]}

    def get_flow(self) -> Op | None:
        op = self._about({"op": "getFlow"}, *_ANY)
        return None if op and ":" in op["id"] else op

    def _repeat(self) -> Op:
        repeat: Op = {}
        if self._chance(0.6):
            repeat["every"] = self.random.choice([1000, 10_000, 60_000])
            if self._chance(0.3):
                repeat["offset"] = self.random.choice([1, 300, 999])
        else:
            repeat["pattern"] = self.random.choice(_PATTERNS)
            if self._chance(0.3):
                repeat["immediately"] = True
            if self._chance(0.3):
                repeat["tz"] = self.random.choice(["Europe/Berlin", "UTC", "Asia/Kolkata"])
        if self._chance(0.2) and "immediately" not in repeat:
            repeat["startDate"] = self.now_ms + self.random.choice([-5000, 1, 20_000])
        if self._chance(0.2):
            # An end before the first run is refused by pyqueue, and makes BullMQ do nothing.
            repeat["endDate"] = self.now_ms + self.random.choice([-5000, 30_000 if "every" in repeat else 10**12])
        if self._chance(0.2):
            repeat["limit"] = self.random.randint(1, 3)
        return repeat

    def upsert_scheduler(self) -> Op:
        op: Op = {"op": "upsertJobScheduler", "id": self.random.choice(_SCHEDULER_IDS), "repeat": self._repeat()}
        if self._chance(0.6):
            template: Op = {"name": "tick", "data": self._payload() or {}}
            options = self._job_options()
            if options.get("priority") == 1.5:
                del options["priority"]
            template["opts"] = {name: options[name] for name in ("attempts", "priority", "lifo") if name in options}
            op["template"] = template
        return op

    def about_scheduler(self) -> Op:
        verb = self.random.choice(["getJobScheduler", "getJobScheduler", "removeJobScheduler"])
        return {"op": verb, "id": self.random.choice(_SCHEDULER_IDS)}

    def list_schedulers(self) -> Op:
        return {"op": "getJobSchedulers", "start": 0, "end": self.random.choice([-1, 0, 1]), "asc": self._chance(0.5)}

    # ----------------------------------------------------------------------------------------------------- consumers

    def _predict_take(self, queue_name: str, token: str) -> _Job | None:
        queue = self.queues[queue_name]
        for job in list(self.jobs.values()):
            if job.queue == queue_name and job.state == "delayed" and job.due_ms <= self.now_ms + 1:
                self._enqueue(job)
        active = sum(job.state == "active" and job.queue == queue_name for job in self.jobs.values())
        if queue.paused or (queue.concurrency and active >= queue.concurrency):
            return None
        if queue.wait:
            job_id = queue.wait.pop(0)
        elif queue.prioritized:
            queue.prioritized.sort()
            job_id = queue.prioritized.pop(0)[2]
        else:
            return None
        job = self.jobs[queue_name, job_id]
        job.state, job.token = "active", token
        return job

    def take(self) -> Op:
        queue, token = self._queue_name(), self.random.choice(_TOKENS)
        self._predict_take(queue, token)
        return self._in(queue, {"op": "take", "token": token})

    def _settle(self, op: Op) -> tuple[_Job, Op] | None:
        job = self._some("active")
        if not job:
            return None
        token = job.token if self._chance(0.95) else self.random.choice([*_TOKENS, "0"])
        return job, self._in(job.queue, {**op, "id": job.id, "token": token})

    def _fetch_next(self, job: _Job, op: Op) -> Op:
        if self._chance(0.5):
            op["fetchNext"] = True
            if job.state not in {"wait", "prioritized"}:  # a job that goes back at once does not bring another one
                self._predict_take(job.queue, op.get("token", "t"))
        return op

    def complete(self) -> Op | None:
        settled = self._settle({"op": "complete", "returnvalue": self._payload()})
        if not settled:
            return None
        settled[0].state = "completed"
        return self._fetch_next(*settled)

    def _predict_failure(self, job: _Job) -> None:
        job.made += 1
        if job.made >= job.attempts:
            job.state = "failed"
        elif job.backoff_ms:
            job.state, job.due_ms = "delayed", self.now_ms + job.backoff_ms
        else:
            self._enqueue(job)

    def fail(self) -> Op | None:
        settled = self._settle({"op": "fail", "message": self.random.choice(["boom", "x", "", "ü\nsecond line"])})
        if not settled:
            return None
        job, op = settled
        if self._chance(0.15):
            op["unrecoverable"] = True
            job.state = "failed"
        else:
            self._predict_failure(job)
        return self._fetch_next(job, op)

    def process(self) -> Op | None:
        outcome = self.random.choice(
            [
                {"type": "complete", "returnvalue": self._payload()},
                {"type": "complete"},
                {"type": "fail", "message": "p"},
                {"type": "fail", "message": "u", "unrecoverable": True},
                {"type": "rateLimit", "ms": self.random.choice(_LONG_MS)},
                {"type": "delay", "ms": self.random.choice([0, 100, 5000])},
                {"type": "wait"},
                {"type": "waitChildren"},
            ]
        )
        if self._chance(0.4):
            settled = self._settle({"op": "process", "outcome": outcome})
            job, op = settled or (None, None)
        else:
            queue, token = self._queue_name(), self.random.choice(_TOKENS)
            job = self._predict_take(queue, token)
            op = self._in(queue, {"op": "process", "token": token, "outcome": outcome})
        if job and op:
            self._predict_outcome(job, outcome)
            self._fetch_next(job, op)
        return op

    def _predict_outcome(self, job: _Job, outcome: Op) -> None:
        kind = outcome["type"]
        if kind == "fail" and not outcome.get("unrecoverable"):
            self._predict_failure(job)
        elif kind in {"rateLimit", "wait"}:
            self._enqueue(job, front=True)
        elif kind == "delay":
            job.state, job.due_ms = "delayed", self.now_ms + outcome["ms"]
        else:
            job.state = "failed" if kind == "fail" else "completed"

    def move_to_delayed(self) -> Op | None:
        settled = self._settle({"op": "moveToDelayed"})
        if not settled:
            return None
        job, op = settled
        if self._chance(0.7):
            op["ms"] = self.random.choice([0, 1, 100, 5000])
        else:
            op["timestamp"] = self.now_ms + self.random.choice([-5000, 0, 100])
        job.state, job.due_ms = "delayed", op.get("timestamp", self.now_ms + op.get("ms", 0))
        return op

    def move_to_wait(self) -> Op | None:
        settled = self._settle({"op": "moveToWait"})
        if not settled:
            return None
        self._enqueue(settled[0], front=True)
        return settled[1]

    def move_to_waiting_children(self) -> Op | None:
        settled = self._settle({"op": "moveToWaitingChildren"})
        if not settled:
            return None
        if self._chance(0.3):
            child = self._some("wait", "completed", "failed")
            if child:
                settled[1]["opts"] = {"child": {"id": child.id, "queue": f"orc:{child.queue}"}}
        return settled[1]

    def extend_lock(self) -> Op | None:
        settled = self._settle({"op": "extendLock", "duration": self.random.choice(_LONG_MS)})
        return settled[1] if settled else None

    def extend_locks(self) -> Op | None:
        jobs = [job for job in self.jobs.values() if job.state == "active" and job.queue == "q"]
        if not jobs:
            return None
        tokens = [job.token if self._chance(0.8) else "other" for job in jobs]
        return {"op": "extendLocks", "ids": [job.id for job in jobs], "tokens": tokens, "duration": 60_500}

    def lose_lock(self) -> Op | None:
        job = self._some("active")
        return {"op": "del", "keys": [f"{job.queue}:{job.id}:lock"]} if job else None

    def stalled_check(self) -> Op:
        return self._on_queue({"op": "stalledCheck", "resetCheck": self._chance(0.8)})

    # -------------------------------------------------------------------------------------------------- queue control

    def advance(self) -> Op:
        return {"op": "advance", "ms": self.random.choice([1, 100, 100, 1500, 11_000, 60_000, 180_000])}

    def pause(self) -> Op:
        self.queues["q"].paused = True
        return {"op": "pause"}

    def resume(self) -> Op:
        self.queues["q"].paused = False
        return {"op": "resume"}

    def set_concurrency(self) -> Op:
        self.queues["q"].concurrency = self.random.randint(1, 3)
        return {"op": "setGlobalConcurrency", "concurrency": self.queues["q"].concurrency}

    def remove_concurrency(self) -> Op:
        self.queues["q"].concurrency = 0
        return {"op": "removeGlobalConcurrency"}

    def set_rate(self) -> Op:
        return {"op": "setGlobalRateLimit", "max": self.random.randint(1, 4), "duration": self.random.choice(_LONG_MS)}

    def rate_limit(self) -> Op:
        return {"op": "rateLimit", "ms": self.random.choice(_LONG_MS)}

    def drain(self) -> Op | None:
        if len(self.trees) > 1:  # which parent is released first, is nobody's promise
            return None
        for job in self.jobs.values():
            if job.state in {"wait", "prioritized"} and job.queue == "q":
                job.state = "gone"
        self.queues["q"].wait.clear()
        self.queues["q"].prioritized.clear()
        return {"op": "drain", "delayed": self._chance(0.5)}

    def obliterate(self) -> Op | None:
        if len(self.trees) > 1:
            return None
        return {"op": "obliterate", "opts": {"force": self._chance(0.5)}}

    def legacy_paused(self) -> Op:
        self.serial += 1
        job_id = f"old{self.serial}"
        fields = ["name", "o", "data", "{}", "opts", "{}", "timestamp", "1", "delay", "0", "priority", "0"]
        self._emit({"op": "redis", "args": ["HSET", f"{{p}}:q:{job_id}", *fields]})
        return {"op": "redis", "args": ["LPUSH", "{p}:q:paused", job_id]}

    def foreign_setting(self) -> Op:
        settings = [["concurrency", 1], ["max", 1, "duration", 60_500], ["paused", 1], ["duration", 60_500]]
        return {"op": "redis", "args": ["HSET", "{p}:q:meta", *self.random.choice(settings)]}

    def lose_key(self) -> Op:
        return {"op": "del", "keys": [f"q:{self.random.choice(['meta', 'pc', 'limiter', 'stalled', 'events'])}"]}

    def suspect(self) -> Op | None:
        job = self._some("wait", "active", "delayed")
        return {"op": "redis", "args": ["SADD", f"{{p}}:{job.queue}:stalled", job.id]} if job else None

    def steal_lock(self) -> Op | None:
        job = self._some("active")
        return {"op": "redis", "args": ["SET", f"{{p}}:{job.queue}:{job.id}:lock", "thief"]} if job else None

    def doom(self) -> Op | None:
        job = self._some("wait", "active", "delayed")
        return {"op": "redis", "args": ["HSET", f"{{p}}:{job.queue}:{job.id}", "defa", "doomed"]} if job else None

    def lose_marker(self) -> Op:
        return {"op": "del", "keys": ["q:marker"]}

    # ------------------------------------------------------------------------------------------------------ job verbs

    def change_priority(self) -> Op | None:
        options: Op = {"priority": self.random.choice([0, 1, 3])} if self._chance(0.9) else {}
        if self._chance(0.3):
            options["lifo"] = True
        return self._about({"op": "changePriority", "opts": options}, "wait", "prioritized", "delayed")

    def retry(self) -> Op | None:
        job = self._some("failed", "completed")
        if not job:
            return None
        op: Op = {"op": "retry", "id": job.id}
        if job.state == "completed":
            op["state"] = "completed"
        if self._chance(0.4):
            op["opts"] = {"resetAttemptsMade": self._chance(0.5), "resetAttemptsStarted": self._chance(0.5)}
        self._enqueue(job)
        return self._in(job.queue, op)

    def remove(self) -> Op | None:
        verb = self.random.choice(["remove", "removeJob"])
        op = self._about({"op": verb}, "wait", "delayed", "failed", "prioritized")
        if op and self._chance(0.3):
            op["removeChildren"] = False
        return op

    def clean(self) -> Op:
        kind = self.random.choice(_CLEANABLE)
        # A limit counts removed jobs with pyqueue and jobs looked at with BullMQ: the same where all are old enough.
        limit = self.random.randint(0, 2) if kind != "active" else 0
        ages: Op = {"grace": 0, "limit": limit} if self._chance(0.6) else {"grace": 11_000, "limit": 0}
        return self._on_queue({"op": "clean", **ages, "type": kind})

    def retry_jobs(self) -> Op:
        options: Op = {"state": self.random.choice(["failed", "completed"])}
        if self._chance(0.3):
            options["count"] = self.random.randint(1, 2)
        if self._chance(0.2):
            options["timestamp"] = self.now_ms - 1000
        return {"op": "retryJobs", "opts": options}

    def promote_jobs(self) -> Op:
        options = {"opts": {"count": self.random.randint(1, 3)}} if self._chance(0.5) else {}
        return {"op": "promoteJobs", **options}

    def log(self) -> Op | None:
        op = self._about({"op": "log", "row": f"row {self.serial}"}, "active", "wait")
        if op and self._chance(0.3):
            op["keepLogs"] = self.random.randint(1, 2)
        return op

    def get_logs(self) -> Op | None:
        part: Op = {"start": 0, "end": self.random.choice([-1, 0, 1]), "asc": self._chance(0.5)}
        return self._about({"op": "getLogs", **part}, "active")

    def get_jobs(self) -> Op:
        states = ["waiting", "active", "delayed", "prioritized", "completed", "failed", "waiting-children"]
        types = self.random.sample(states, self.random.randint(1, 3))
        op = {"op": self.random.choice(["getJobs", "getRanges"]), "types": types, "start": 0, "end": -1}
        if self._chance(0.5):
            op.update(start=self.random.randint(0, 2), end=self.random.randint(0, 4))
        return self._on_queue({**op, "asc": self._chance(0.5)})

    def get_counts(self) -> Op:
        return self._on_queue({"op": "getCounts"})

    def get_metrics(self) -> Op:
        return {"op": "getMetrics", "type": self.random.choice(["completed", "failed"])}


def _simple(op: Op) -> Callable[[Generator], Op | None]:
    return lambda _generator: dict(op)


def _about(op: Op, *states: str) -> Callable[[Generator], Op | None]:
    return lambda generator: generator._about(op, *states)


#: Operations that hold jobs back.
_BRAKES: Final = (Generator.pause, Generator.set_concurrency, Generator.set_rate, Generator.rate_limit)
_ANY: Final = ("wait", "active", "delayed", "prioritized", "completed", "failed", "waiting-children")

#: Feature, weight, how to make the operation.
_TABLE: Final[tuple[tuple[str, int, Callable[[Generator], Op | None]], ...]] = (
    ("core", 60, Generator.add),
    ("core", 10, Generator.add_bulk),
    ("core", 45, Generator.take),
    ("core", 30, Generator.complete),
    ("core", 28, Generator.fail),
    ("core", 30, Generator.process),
    ("core", 20, Generator.advance),
    ("core", 8, Generator.move_to_delayed),
    ("core", 8, Generator.move_to_wait),
    ("core", 4, Generator.move_to_waiting_children),
    ("core", 4, Generator.extend_lock),
    ("core", 3, Generator.extend_locks),
    ("core", 6, Generator.lose_lock),
    ("core", 10, Generator.stalled_check),
    ("core", 4, Generator.pause),
    ("core", 5, Generator.resume),
    ("core", 3, Generator.set_concurrency),
    ("core", 2, Generator.remove_concurrency),
    ("core", 2, Generator.set_rate),
    ("core", 2, _simple({"op": "removeGlobalRateLimit"})),
    ("core", 2, Generator.rate_limit),
    ("core", 3, _simple({"op": "removeRateLimitKey"})),
    ("core", 2, _simple({"op": "getRateLimitTtl"})),
    ("core", 1, _simple({"op": "getRateLimitTtl", "maxJobs": 2})),
    ("core", 2, Generator.drain),
    ("core", 1, Generator.obliterate),
    ("core", 2, Generator.legacy_paused),
    ("core", 2, Generator.lose_marker),
    ("core", 4, _about({"op": "getState"}, *_ANY)),
    ("core", 4, _about({"op": "getJob"}, *_ANY)),
    ("core", 2, Generator.get_counts),
    ("core", 4, Generator.get_jobs),
    ("core", 1, _simple({"op": "getMeta"})),
    ("core", 1, _simple({"op": "isPaused"})),
    ("core", 1, _simple({"op": "isMaxed"})),
    ("core", 2, _simple({"op": "dump"})),
    ("jobs", 6, _about({"op": "promote"}, "delayed")),
    ("jobs", 8, Generator.change_priority),
    ("jobs", 5, _about({"op": "changeDelay", "delay": 700}, "delayed")),
    ("jobs", 3, _about({"op": "updateData", "data": {"new": [1]}}, *_ANY)),
    ("jobs", 3, _about({"op": "updateProgress", "progress": 42}, *_ANY)),
    ("jobs", 2, _about({"op": "updateProgress", "progress": {"p": "ü"}}, *_ANY)),
    ("jobs", 4, Generator.log),
    ("jobs", 1, _about({"op": "clearLogs"}, "active")),
    ("jobs", 1, _about({"op": "clearLogs", "keepLogs": 1}, "active")),
    ("jobs", 2, Generator.get_logs),
    ("jobs", 10, Generator.retry),
    ("jobs", 6, Generator.remove),
    ("jobs", 4, Generator.clean),
    ("jobs", 3, Generator.retry_jobs),
    ("jobs", 3, Generator.promote_jobs),
    ("jobs", 2, Generator.get_metrics),
    ("jobs", 1, _simple({"op": "getDelayedCount", "timestamp": EPOCH_MS + 5000})),
    ("jobs", 1, _simple({"op": "getCountsPerPriority", "priorities": [0, 1, 2]})),
    ("jobs", 1, _about({"op": "isFinished"}, *_ANY)),
    ("jobs", 1, _about({"op": "isFinished", "value": True}, *_ANY)),
    ("jobs", 1, _simple({"op": "trimEvents", "maxLength": 0})),
    ("foreign", 4, Generator.foreign_setting),
    ("foreign", 4, Generator.lose_key),
    ("foreign", 4, Generator.suspect),
    ("foreign", 3, Generator.steal_lock),
    ("foreign", 4, Generator.doom),
    ("events", 2, _simple({"op": "publishEvent", "event": {"eventName": "custom", "foo": "bar", "n": 1}})),
    ("orphans", 4, _simple({"op": "removeOrphanedJobs"})),
    ("dedup", 6, _simple({"op": "getDeduplicationJobId", "id": "D"})),
    ("dedup", 4, _simple({"op": "removeDeduplicationKey", "id": "D"})),
    ("dedup", 3, _about({"op": "removeJobDeduplicationKey"}, *_ANY)),
    ("schedulers", 25, Generator.upsert_scheduler),
    ("schedulers", 8, Generator.about_scheduler),
    ("schedulers", 3, Generator.list_schedulers),
    ("flows", 30, Generator.flow),
    ("flows", 4, Generator.flow_bulk),
    ("flows", 4, _about({"op": "getDependencies"}, "active", "waiting-children", "completed")),
    ("flows", 4, _about({"op": "getDependenciesCount"}, "active", "waiting-children")),
    ("flows", 3, _about({"op": "getChildrenValues"}, "active", "completed")),
    ("flows", 3, _about({"op": "getIgnoredChildrenFailures"}, "active", "completed")),
    ("flows", 3, Generator.get_flow),
    ("flows", 4, _about({"op": "removeChildDependency"}, *_ANY)),
    ("flows", 4, _about({"op": "removeUnprocessedChildren"}, *_ANY)),
)

#: Groups of operations; `parents` adds jobs below active ones, without the operations of flows.
FEATURES: Final = (*dict.fromkeys(feature for feature, _, _ in _TABLE), "parents")


def main() -> None:
    """Print one scenario."""
    parser = argparse.ArgumentParser(description="Print a random scenario.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--length", type=int, default=40)
    parser.add_argument("--features", default="core", help=f"comma separated, of {', '.join(FEATURES)}")
    options = parser.parse_args()
    scenario = Generator(options.seed, options.length, options.features.split(",")).scenario()
    lines = ",\n  ".join(json.dumps(op, ensure_ascii=False) for op in scenario.pop("ops"))
    sys.stdout.write(f'{json.dumps(scenario)[:-1]}{", " if scenario else ""}"ops": [\n  {lines}\n]}}\n')


if __name__ == "__main__":
    main()
