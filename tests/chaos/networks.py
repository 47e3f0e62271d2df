"""A network that cuts, truncates, delays, delivers late, loses replies, or falls silent."""

from __future__ import annotations

import contextlib
import random
import time
from pathlib import Path
from typing import Any, Final

import anyio
from redis.exceptions import ConnectionError as RedisConnectionError

from pyqueue import AddOutcomeUnknown, Queue
from tests.chaos.report import Bar, Report, audit, nothing_lost
from tests.chaos.servers import resumed_after
from tests.chaos.stage import Stage, adding, logger, set_up
from tests.chaos.worker_process import PREFIX, QUEUE
from tests.support.proxy import Mode, Proxy
from tests.support.waiting import wait_until

_RETURN_S: Final = 15
#: A mode and how long it lasts (s); longer than a lock is where other workers take the jobs.
_FULL: Final = [
    (Mode.DELAY, 4.0),
    (Mode.LATE, 1.5),
    (Mode.LATE, 5.0),
    (Mode.LOSE_REPLIES, 1.5),
    (Mode.LOSE_REPLIES, 5.0),
    (Mode.SILENT, 1.5),
    (Mode.SILENT, 12.0),
]
_SHORT: Final = [(Mode.DELAY, 0.5), (Mode.LATE, 0.5)]
_BROKEN: Final = [Mode.TRUNCATE, Mode.PASS]


async def bad_network(directory: Path, full: bool) -> Report:
    """Workers and the producer reach Redis through a proxy that misbehaves; one worker reaches it directly."""
    cuts, spells, storm_s, workers = (20, _FULL, 25.0, 3) if full else (4, _SHORT, 1.5, 2)
    async with set_up(directory, concurrency=3, max_stalled_count=20) as stage, Proxy.to(stage.server.port) as proxy:
        await stage.crew.assemble(1)
        await stage.crew.assemble(workers, url=proxy.url)
        returns: list[float] = []
        async with (
            Queue[Any, Any](QUEUE, connection=proxy.url, prefix=PREFIX) as queue,
            adding(stage, pause_s=0.05, job_s=(0.05, 0.3)),
            adding(stage, queue, pause_s=0.05, job_s=(0.05, 0.3)) as adder,
        ):
            for number in range(cuts):
                await anyio.sleep(0.3)
                proxy.mode = _BROKEN[number % 2]
                if proxy.mode is Mode.PASS:
                    proxy.cut()
            proxy.mode = Mode.PASS
            returns.append(time.monotonic())
            for mode, seconds in spells:
                await anyio.sleep(1.0)
                proxy.mode = mode
                await anyio.sleep(seconds)
                proxy.mode = Mode.PASS
                returns.append(time.monotonic())
                logger.info("%s for %g s, %d jobs done", mode.value, seconds, len(stage.ledger.of("finished")))
                await _until_all_work(stage, returns[-1])
            storms = await _storm(proxy, storm_s)
            returns.append(time.monotonic())
            await _until_all_work(stage, returns[-1])
        await stage.until_done(60)
        found = audit(stage)
        waits = resumed_after(stage.ledger, stage.crew, returns)
        is_complete = len(waits) == len(returns) * len(stage.crew.members)
        allowed = (AddOutcomeUnknown, RedisConnectionError)
        bars = [
            *nothing_lost(found),
            Bar("duplicates only after a lost lock", not found.unexcused),
            Bar(f"adds end within 10 s (longest {adder.slowest_s:.1f} s)", adder.slowest_s <= 10),
            Bar("adds raise AddOutcomeUnknown only", all(isinstance(error, allowed) for error in adder.errors)),
            Bar("workers work again within 15 s", is_complete and max(waits) <= _RETURN_S),
            Bar("no worker exits", stage.crew.bury_dead() == 0),
        ]
        return Report("bad network", len(stage.acknowledged), cuts + len(spells) + storms, found, bars, waits)


async def _storm(proxy: Proxy, seconds: float) -> int:
    """Faults on top of each other: modes in random order, each too short to recover from, with cuts in between, so that
    what one held back arrives after the connections have gone. How many there were."""
    faults, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        proxy.mode = random.choice([mode for mode in Mode if mode is not Mode.CUT_ONE_REPLY])
        await anyio.sleep(random.uniform(0.02, 0.6))
        if random.random() < 0.4:
            proxy.cut()
        faults += 1
    proxy.mode = Mode.PASS
    logger.info("%d faults on top of each other", faults)
    return faults


async def _until_all_work(stage: Stage, returned: float) -> None:
    """Wait, for a while, until each worker has started a job after the network's return."""
    pids = {member.pid for member in stage.crew.members}
    with contextlib.suppress(TimeoutError):
        await wait_until(lambda: pids <= {r.pid for r in stage.ledger.of("started") if r.at > returned}, _RETURN_S + 1)
