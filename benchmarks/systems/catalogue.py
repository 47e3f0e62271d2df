"""The systems that are compared: how each is installed and started, what it can do, and which settings were chosen.

What a system cannot do is left out of its features, and the run says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ALL: Final = frozenset({"bulk", "delay", "keep", "remove", "concurrency"})


@dataclass(frozen=True, slots=True)
class System:
    """One row of the tables."""

    name: str
    title: str
    program: str
    """A module of `benchmarks.systems`, or the directory of a Node program."""
    requirements: tuple[str, ...]
    """What pip installs for it; empty: it is part of this checkout."""
    distribution: str
    module: str
    names: tuple[str, ...]
    """What a program imports from the module first; some modules load their parts only then. None for Node."""
    features: frozenset[str]
    """bulk: adds many in one call; delay; keep and remove: results kept or removed; concurrency: above 1."""
    settings: str
    """What was chosen for it and what to know when comparing; printed with the results."""
    scale: float = 1.0
    """Factor on the number of jobs, so that a slow system does not take minutes; rates are per second anyway."""
    variables: tuple[tuple[str, str], ...] = ()
    """Environment variables of its program."""
    uvloop: bool = False
    is_node: bool = False


PYQUEUE: Final = System(
    name="pyqueue",
    title="pyqueue",
    program="pyqueue_program",
    requirements=(),
    distribution="pyqueue-redis",
    module="pyqueue",
    names=("Queue", "Worker"),
    features=ALL,
    settings="Defaults, the default event loop of asyncio, hiredis installed (extra `fast`).",
)
SYSTEMS: Final = (
    PYQUEUE,
    System(
        name="pyqueue-uvloop",
        title="pyqueue on uvloop",
        program="pyqueue_program",
        requirements=(),
        distribution="pyqueue-redis",
        module="pyqueue",
        names=("Queue", "Worker"),
        features=ALL,
        settings="The same on uvloop.",
        uvloop=True,
    ),
    System(
        name="bullmq",
        title="BullMQ (Node)",
        program="bullmq_node",
        requirements=(),
        distribution="bullmq",
        module="bullmq",
        names=(),
        features=ALL,
        settings="Defaults, ioredis with `maxRetriesPerRequest: null` as its documentation asks.",
        is_node=True,
    ),
    System(
        name="bullmq-port",
        title="BullMQ (Python port)",
        program="bullmq_port_program",
        requirements=("bullmq>=3", "hiredis>=3"),
        distribution="bullmq",
        module="bullmq",
        names=("Queue", "Worker"),
        features=ALL,
        settings="Defaults with hiredis; `socket_timeout=None`, because the redis client's default of 5 s interrupts"
        " the blocking wait of an idle worker.",
        scale=0.2,
    ),
    System(
        name="arq",
        title="arq",
        program="arq_program",
        requirements=("arq>=0.26", "hiredis>=3"),
        distribution="arq",
        module="arq",
        names=("create_pool",),
        features=ALL - {"bulk"},
        settings="`poll_delay=0.01` s instead of 0.5, because it fetches by polling: throughput and latency gain, the"
        " idle cost pays. No bulk add.",
        scale=0.15,
    ),
    System(
        name="saq",
        title="saq",
        program="saq_program",
        requirements=("saq[redis,hiredis]>=0.24", "typing_extensions"),
        distribution="saq",
        module="saq",
        names=("Queue", "Worker"),
        features=ALL - {"bulk"},
        settings="Defaults with hiredis. No bulk add; schedules have whole seconds.",
        scale=0.15,
    ),
    System(
        name="taskiq-list",
        title="taskiq, list broker",
        program="taskiq_program",
        requirements=("taskiq>=0.11", "taskiq-redis>=1.1", "hiredis>=3"),
        distribution="taskiq-redis",
        module="taskiq_redis",
        names=("ListQueueBroker",),
        features=ALL - {"bulk", "delay"},
        settings="Defaults; `socket_timeout=None`, because the redis client's default of 5 s ends an idle worker."
        " ListQueueBroker has no acknowledgements, so a crash loses jobs: not the same promise. No bulk add; delays"
        " need a scheduler process of its own.",
        scale=0.15,
        variables=(("BENCHMARK_BROKER", "list"),),
    ),
    System(
        name="taskiq-stream",
        title="taskiq, stream broker",
        program="taskiq_program",
        requirements=("taskiq>=0.11", "taskiq-redis>=1.1", "hiredis>=3"),
        distribution="taskiq-redis",
        module="taskiq_redis",
        names=("RedisStreamBroker",),
        features=ALL - {"bulk", "delay"},
        settings="Defaults; the stream is never trimmed, which is RedisStreamBroker's default. No bulk add; delays need"
        " a scheduler process of its own.",
        scale=0.15,
        variables=(("BENCHMARK_BROKER", "stream"),),
    ),
    System(
        name="streaq",
        title="streaQ",
        program="streaq_program",
        requirements=("streaq>=5", "hiredis>=3"),
        distribution="streaq",
        module="streaq",
        names=("Worker",),
        features=ALL,
        settings="Defaults (its client is coredis; prefetch = concurrency), `silent` tasks.",
        scale=0.2,
    ),
    System(
        name="rq",
        title="rq",
        program="rq_program",
        requirements=("rq>=2", "hiredis>=3"),
        distribution="rq",
        module="rq",
        names=("Queue", "SimpleWorker"),
        features=ALL - {"concurrency"},
        settings="SimpleWorker, which runs jobs in its own process; the default worker forks one per job. One job at a"
        " time. A blocking client: 64 adds in flight are 64 threads. Delays: its scheduler process, once a second; due"
        " times are cut to whole seconds, so that jobs start up to a second early.",
        scale=0.06,
    ),
    System(
        name="dramatiq",
        title="dramatiq",
        program="dramatiq_program",
        requirements=("dramatiq[redis]>=1.17", "hiredis>=3"),
        distribution="dramatiq",
        module="dramatiq",
        names=("actor",),
        features=ALL - {"bulk"},
        settings="Concurrency is threads of one process. A blocking client: 64 adds in flight are 64 threads. No bulk"
        " add (a group sends one by one).",
        scale=0.1,
    ),
    System(
        name="celery",
        title="Celery",
        program="celery_program",
        requirements=("celery[redis]>=5.4", "hiredis>=3"),
        distribution="celery",
        module="celery",
        names=("Celery",),
        features=ALL - {"bulk"},
        settings="Pool `threads` (`solo` at concurrency 1), `worker_prefetch_multiplier=64` as its guide asks for short"
        " tasks; no gossip, mingle, heartbeat, events. A blocking client: 64 adds in flight are 64 threads. No bulk add"
        " (a group sends one by one).",
        scale=0.06,
    ),
)
BY_NAME: Final = {system.name: system for system in SYSTEMS}
