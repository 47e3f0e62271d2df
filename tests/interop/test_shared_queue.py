"""One queue that both languages fill and work: every job once; a killed worker costs repeats, never a job."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.chaos.ledger import Ledger
from tests.interop.conftest import Pair, Show
from tests.interop.crew import Audit, Crew, audit
from tests.interop.sides import NodeSide, PythonSide, Side
from tests.support.server import RedisServer
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.needs_server, pytest.mark.needs_node, pytest.mark.timeout(60)]

_BULK = 50


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """The common ledger of a test's worker processes."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    yield ledger
    ledger.close()


async def fill(sides: tuple[Side, Side], count: int, *, work_ms: int) -> list[str]:
    """Let both add half of the jobs, in bulks, at the same time; the ids."""
    added: list[str] = []

    async def add(side: Side) -> None:
        for _ in range(count // 2 // _BULK):
            added.extend(await side.add_many([{"name": "note", "data": work_ms}] * _BULK))

    async with anyio.create_task_group() as tasks:
        for side in sides:
            tasks.start_soon(add, side)
    assert len(set(added)) == count
    return added


async def completed(side: Side, count: int) -> bool:
    return (await side.counts())["completed"] >= count


@pytest.mark.timeout(120)
@pytest.mark.parametrize("jobs", [1000, pytest.param(10_000, marks=pytest.mark.long)])
async def test_two_languages_share_a_queue_and_every_job_runs_once(
    node: NodeSide, python: PythonSide, server: RedisServer, prefix: str, ledger: Ledger, show: Show, jobs: int
) -> None:
    began = time.monotonic()
    with Crew(server, prefix, ledger) as crew:
        for language in ("node", "python"):
            await crew.hire(language)
        added = await fill((node, python), jobs, work_ms=2)
        await wait_until(lambda: completed(python, jobs), 60)
    found = audit(ledger, added, set())

    assert await node.counts() == await python.counts()
    assert (await python.counts())["completed"] == jobs
    assert not found.undone
    assert not found.repeated
    assert min(found.shares.get("node", 0), found.shares.get("python", 0)) > jobs / 20, "one side had hardly any"
    show("both fill it and work it", jobs=jobs, seconds=time.monotonic() - began, **_runs(found))


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("jobs", "pairs", "kills"), [(400, 1, 2), pytest.param(10_000, 2, 25, marks=pytest.mark.long)])
async def test_killed_workers_of_both_languages_cost_no_job(
    node: NodeSide,
    python: PythonSide,
    server: RedisServer,
    prefix: str,
    ledger: Ledger,
    show: Show,
    jobs: int,
    pairs: int,
    kills: int,
) -> None:
    began = time.monotonic()
    with Crew(server, prefix, ledger, max_stalled_count=100) as crew:
        for language in ("node", "python") * pairs:
            await crew.hire(language)
        added: list[str] = []
        for _ in range(kills):  # jobs come as long as workers die, so that each is at work when it does
            added += await fill((node, python), jobs // kills, work_ms=20)
            await wait_until(partial(completed, python, len(added) - jobs // kills // 2), 60)
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
    return {f"runs_in_{language}": count for language, count in sorted(found.shares.items())}


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


async def test_a_long_job_is_left_to_the_side_that_runs_it(cross: Pair) -> None:
    """It takes longer than two locks, which are renewed; the other side looks for stalled jobs all the while."""
    runner, idle = cross
    options: dict[str, Any] = {"lockDuration": 1500, "lockRenewTime": 500, "stalledInterval": 150}
    await runner.listen()
    await runner.work(**options)
    job_id = await runner.add("sleep", 3300)
    await wait_until(lambda: "active" in [event.name for event in runner.heard()])
    await idle.work(**options)

    assert await idle.result(job_id) == "slept"

    assert "stalled" not in [event.name for event in runner.heard()]
    view = await idle.look(job_id)
    assert view is not None
    assert (view.stalled, view.attempts_started) == (0, 1)


async def test_a_job_that_pyqueue_hands_back_when_it_closes_is_run_by_node_at_once(
    node: NodeSide, python: PythonSide
) -> None:
    await python.work()
    job_id = await python.add("only_in_node")
    await node.listen()
    await wait_until(lambda: _shows_progress(python, job_id))  # it has begun, or it would not count as a start
    await node.work()
    began = time.monotonic()

    await python.stop()

    assert await node.result(job_id) == "node"
    assert time.monotonic() - began < 10, "it was not left to the stalled check, which takes 30 s"
    view = await node.look(job_id)
    assert view is not None
    assert (view.stalled, view.attempts_made, view.attempts_started) == (0, 1, 2)


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


async def _shows_progress(side: Side, job_id: str) -> bool:
    view = await side.look(job_id)
    return view is not None and view.progress == "in Python"


async def _failed(side: Side) -> bool:
    return (await side.counts())["failed"] == 1
