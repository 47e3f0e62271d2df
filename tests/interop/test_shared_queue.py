"""One queue that both languages fill and work: every job once; a killed worker costs repeats, never a job."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import anyio
import pytest

from tests.chaos.ledger import Ledger
from tests.interop.conftest import Pair, Show
from tests.interop.crew import Audit, Crew, audit
from tests.interop.sides import NodeSide, PythonSide, Side
from tests.support.server import RedisServer
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.needs_server, pytest.mark.needs_node]

_BULK = 250
#: What a job's work takes, in milliseconds.
_WORK_MS = 2


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """The common ledger of a test's worker processes."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    yield ledger
    ledger.close()


async def fill(sides: tuple[Side, Side], count: int) -> list[str]:
    """Let both add half of the jobs, in bulks, at the same time; the ids."""
    added: list[str] = []

    async def add(side: Side) -> None:
        for _ in range(count // 2 // _BULK):
            added.extend(await side.add_many([{"name": "note", "data": _WORK_MS}] * _BULK))

    async with anyio.create_task_group() as tasks:
        for side in sides:
            tasks.start_soon(add, side)
    assert len(set(added)) == count
    return added


async def completed(side: Side, count: int) -> bool:
    return (await side.counts())["completed"] >= count


@pytest.mark.parametrize("jobs", [2000, pytest.param(10_000, marks=[pytest.mark.long, pytest.mark.timeout(120)])])
async def test_two_languages_share_a_queue_and_every_job_runs_once(
    node: NodeSide, python: PythonSide, server: RedisServer, prefix: str, ledger: Ledger, show: Show, jobs: int
) -> None:
    began = time.monotonic()
    with Crew(server, prefix, ledger) as crew:
        for language in ("node", "python"):
            await crew.hire(language)
        added = await fill((node, python), jobs)
        await wait_until(lambda: completed(python, jobs), 60)
    found = audit(ledger, added, set())

    assert await node.counts() == await python.counts()
    assert (await python.counts())["completed"] == jobs
    assert not found.undone
    assert not found.repeated
    assert min(found.shares.get("node", 0), found.shares.get("python", 0)) > jobs / 20, "one side had hardly any"
    show("both fill it and work it", jobs=jobs, seconds=time.monotonic() - began, **_runs(found))


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("jobs", "kills"), [(1000, 2), pytest.param(10_000, 40, marks=[pytest.mark.long, pytest.mark.timeout(300)])]
)
async def test_killed_workers_of_both_languages_cost_no_job(
    node: NodeSide,
    python: PythonSide,
    server: RedisServer,
    prefix: str,
    ledger: Ledger,
    show: Show,
    jobs: int,
    kills: int,
) -> None:
    began = time.monotonic()
    with Crew(server, prefix, ledger, max_stalled_count=100) as crew:
        for language in ("node", "python", "node", "python"):
            await crew.hire(language)
        added = await fill((node, python), jobs)
        for number in range(kills):
            await wait_until(partial(completed, python, (number + 1) * jobs // (kills + 2)), 60)
            victim = crew.members[0]
            crew.kill(victim)
            await crew.hire(victim.language)
        await wait_until(lambda: completed(python, jobs), 120)
    found = audit(ledger, added, crew.killed)

    assert {state: n for state, n in (await node.counts()).items() if n} == {"completed": jobs}
    assert not found.undone
    assert not found.unexcused
    assert found.repeated, "no worker was killed at work: the test shows nothing"
    show(
        "both fill it and work it, workers are killed",
        jobs=jobs,
        kills=kills,
        lost=len(found.undone),
        repeated=len(found.repeated),
        repeated_without_a_death=len(found.unexcused),
        seconds=time.monotonic() - began,
        **_runs(found),
    )


def _runs(found: Audit) -> dict[str, int]:
    return {f"runs_in_{language}": count for language, count in found.shares.items()}


async def test_a_job_of_a_killed_worker_is_recovered_by_the_other_language(
    cross: Pair, server: RedisServer, prefix: str, ledger: Ledger
) -> None:
    victims, rescuer = cross
    for side in cross:
        await side.listen()
    with Crew(server, prefix, ledger) as crew:
        victim = await crew.hire(victims.language)
        job_id = await rescuer.add("note", 60_000)
        await wait_until(lambda: ledger.of("started"))
        await victims.update_data(job_id, 1)
        crew.kill(victim)

        await crew.hire(rescuer.language)

        assert await victims.result(job_id) == rescuer.language
    views = [await side.look(job_id) for side in cross]
    assert views[0] == views[1]
    assert views[0] is not None
    assert (views[0].stalled, views[0].attempts_made, views[0].attempts_started) == (1, 1, 2)
    for side in cross:
        names = [event.name for event in side.heard() if event.job_id == job_id]
        assert names == ["added", "waiting", "active", "waiting", "stalled", "active", "completed"]


async def test_a_job_that_stalls_too_often_is_failed_by_the_other_language(
    cross: Pair, server: RedisServer, prefix: str, ledger: Ledger
) -> None:
    victims, rescuer = cross
    with Crew(server, prefix, ledger, max_stalled_count=0) as crew:
        victim = await crew.hire(victims.language)
        job_id = await rescuer.add("note", 60_000)
        await wait_until(lambda: ledger.of("started"))
        crew.kill(victim)
        await crew.hire(rescuer.language)
        await wait_until(lambda: _failed(victims), 15)

    views = [await side.look(job_id) for side in cross]
    assert views[0] == views[1]
    assert views[0] is not None
    assert views[0].reason == "job stalled more than allowable limit"


async def _failed(side: Side) -> bool:
    return (await side.counts())["failed"] == 1
