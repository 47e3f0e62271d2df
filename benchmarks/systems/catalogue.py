"""The systems that are compared: how each is installed and started, what it can do, and which settings were chosen.

What a system cannot do is left out of its features, and the run says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ALL: Final = frozenset({"bulk", "delay", "keep", "remove"})


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
    features: frozenset[str]
    """bulk: adds many in one call; delay; keep and remove: results kept or removed."""
    settings: str
    """What was chosen for it and what to know when comparing; printed with the results."""
    scale: float = 1.0
    """Factor on the number of jobs, so that a slow system does not take minutes; rates are per second anyway."""
    uvloop: bool = False
    is_node: bool = False


PYQUEUE: Final = System(
    name="pyqueue",
    title="pyqueue",
    program="pyqueue_program",
    requirements=(),
    distribution="pyqueue-redis",
    module="pyqueue",
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
        features=ALL,
        settings="Defaults with hiredis; `socket_timeout=None`, because the redis client's default of 5 s interrupts"
        " the blocking wait of an idle worker.",
        scale=0.2,
    ),
)
BY_NAME: Final = {system.name: system for system in SYSTEMS}
