"""All scenarios by the name that the command line takes."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TypeAlias

import anyio

from tests.chaos.crashes import (
    kill_workers,
    kill_workers_by_default,
    kill_workers_with_jobs_ahead,
    poison_exit,
    poison_segfault,
    restart_workers,
)
from tests.chaos.freezes import block_loops, stop_workers
from tests.chaos.inputs import refuse_inputs
from tests.chaos.lateness import Lateness
from tests.chaos.networks import bad_network
from tests.chaos.report import Report
from tests.chaos.schedules import kill_schedules
from tests.chaos.servers import disturb_redis, kill_redis
from tests.chaos.volume import leave_nothing

#: `scenario(directory for its server and ledger, full form?)`
Scenario: TypeAlias = Callable[[Path, bool], Awaitable[Report]]

SCENARIOS: Final[dict[str, Scenario]] = {
    "kill": kill_workers,
    "kill-default": kill_workers_by_default,
    "kill-prefetch": kill_workers_with_jobs_ahead,
    "restart": restart_workers,
    "redis": kill_redis,
    "network": bad_network,
    "stop": stop_workers,
    "block": block_loops,
    "exit": poison_exit,
    "segfault": poison_segfault,
    "disturb": disturb_redis,
    "schedules": kill_schedules,
    "inputs": refuse_inputs,
    "volume": leave_nothing,
}


async def play(name: str, directory: Path, *, full: bool) -> Report:
    """Run one scenario in a directory of its own."""
    began = time.monotonic()
    own = directory / name
    await anyio.to_thread.run_sync(lambda: own.mkdir(parents=True))
    with Lateness() as machine:
        report = await SCENARIOS[name](own, full)
    report.machine_late_s = machine.longest_s
    report.seconds = time.monotonic() - began
    return report
