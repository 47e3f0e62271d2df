"""A Redis that dies, forgets its scripts, throws clients out, stands still or has no memory left."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import anyio
import redis

from pyqueue import RedisRefused
from tests.chaos.crew import Crew
from tests.chaos.ledger import Ledger
from tests.chaos.report import Bar, Report, audit, nothing_lost
from tests.chaos.stage import Stage, adding, durations, logger, set_up
from tests.chaos.worker_process import PREFIX, QUEUE

_APPEND_ALWAYS: Final = ("--appendonly", "yes", "--appendfsync", "always")
_QUIET_S: Final = 2.0
#: What every job hash has from the moment it exists.
_JOB_FIELDS: Final = {"name", "data", "opts", "timestamp"}


async def kill_redis(directory: Path, full: bool) -> Report:
    """kill -9 of Redis, and a restart from its append-only file, while jobs are added and run."""
    kills, workers, backlog = (20, 4, 3500) if full else (1, 3, 150)
    async with set_up(directory, concurrency=4, max_stalled_count=5, server_options=_APPEND_ALWAYS) as stage:
        await stage.add(durations(backlog, 0.1, 0.5))  # a worker without work could not show that it works
        await stage.crew.assemble(workers)
        returns: list[float] = []
        quiet: list[tuple[float, float]] = []
        async with adding(stage, pause_s=0.03, job_s=(0.02, 0.3)) as adder:
            for number in range(kills):
                await anyio.sleep(3.5 if full else 2.2)
                quiet += [(at + _QUIET_S, time.monotonic()) for at in returns[-1:]]
                await anyio.to_thread.run_sync(stage.server.kill)
                await anyio.sleep(random.uniform(0, 1.5))
                await anyio.to_thread.run_sync(stage.server.start)
                returns.append(time.monotonic())
                logger.info("restart %d, %d jobs done", number + 1, len(stage.ledger.of("finished")))
            await anyio.sleep(2.5)
            quiet.append((returns[-1] + _QUIET_S, time.monotonic()))
        await stage.until_done(60)
        found = audit(stage)
        waits = resumed_after(stage.ledger, stage.crew, returns)
        slowest_s = max(waits, default=0.0)
        bars = [
            *nothing_lost(found),
            Bar("duplicates only after a lost lock", not found.unexcused),
            Bar("no worker exits", stage.crew.bury_dead() == 0),
            Bar("adds return", not adder.errors),
            Bar("every worker works within 2 s", len(waits) == kills * workers and slowest_s <= _QUIET_S),
            Bar("quiet 2 s after the return", not complaints(stage.ledger, quiet)),
        ]
        return Report("Redis kill -9, AOF always", len(stage.acknowledged), kills, found, bars, waits)


async def disturb_redis(directory: Path, full: bool) -> Report:
    """SCRIPT FLUSH all the time; CLIENT KILL, CLIENT PAUSE, DEBUG SLEEP and a full memory, one after another."""
    rounds, workers = (6, 4) if full else (1, 3)
    options = ("--enable-debug-command", "local")
    async with set_up(directory, concurrency=4, max_stalled_count=5, server_options=options) as stage:
        await stage.crew.assemble(workers)
        returned = time.monotonic()
        with stage.server.client() as client:
            async with anyio.create_task_group() as group, adding(stage, job_s=(0.02, 0.2)) as adder:
                group.start_soon(_flush_scripts, stage)
                for _ in range(rounds):
                    await _disturb_once(client)
                    logger.info("%d jobs done, %d adds refused", len(stage.ledger.of("finished")), len(adder.refused))
                returned = time.monotonic()
                await anyio.sleep(1.5)
                group.cancel_scope.cancel()
            await stage.until_done(60)
            half = _half_written(client, stage.acknowledged, adder.refused)
        found = audit(stage)
        waits = resumed_after(stage.ledger, stage.crew, [returned])
        bars = [
            *nothing_lost(found),
            Bar("reruns only after a lost lock", not found.unexcused),
            Bar("no error but RedisRefused on add when memory is full", _only_out_of_memory(adder.errors)),
            Bar(f"adds refused ({len(adder.refused)}) leave nothing", bool(adder.refused) and not half),
            Bar("no worker exits", stage.crew.bury_dead() == 0),
        ]
        return Report("SCRIPT FLUSH, CLIENT KILL, ...", len(stage.acknowledged), rounds * 4, found, bars, waits)


async def _disturb_once(client: redis.Redis) -> None:
    for _ in range(3):
        client.client_kill_filter(_type="normal", skipme=True)
        await anyio.sleep(0.3)
    client.client_pause(1000)
    await anyio.sleep(1.5)
    await anyio.to_thread.run_sync(client.execute_command, "DEBUG", "SLEEP", "1")
    await anyio.sleep(0.5)
    client.config_set("maxmemory", 1)
    await anyio.sleep(1)
    client.config_set("maxmemory", 0)
    await anyio.sleep(0.5)


async def _flush_scripts(stage: Stage) -> None:
    with stage.server.client() as client:
        while True:
            with contextlib.suppress(redis.ConnectionError):  # CLIENT KILL hits this client, too
                await anyio.to_thread.run_sync(client.script_flush)
            await anyio.sleep(0.02)


def _only_out_of_memory(errors: Sequence[Exception]) -> bool:
    return all(isinstance(error, RedisRefused) and error.code == "OOM" for error in errors)


def _half_written(client: redis.Redis, acknowledged: Sequence[str], refused: Sequence[str]) -> list[str]:
    """Jobs that lack a field, and refused ones of which anything exists."""
    base = f"{PREFIX}:{QUEUE}:"
    half = [job for job in acknowledged if not _JOB_FIELDS.issubset(client.hkeys(base + job))]
    return half + [job for job in refused if client.exists(base + job)]


def resumed_after(ledger: Ledger, crew: Crew, returns: Sequence[float]) -> list[float]:
    """Seconds from each return of Redis to the next start of a job, per worker that has one."""
    starts = ledger.of("started")
    waits: list[float] = []
    for returned in returns:
        for member in crew.members:
            after = [r.at - returned for r in starts if r.pid == member.pid and r.at > returned]
            waits += after[:1]
    return waits


def complaints(ledger: Ledger, spells: Sequence[tuple[float, float]]) -> list[str]:
    """Warnings and errors within spells in which there should be none."""
    return [r.note for r in ledger.of("log", "error") if any(first < r.at < last for first, last in spells)]
