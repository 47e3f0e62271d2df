"""What jobs do, by their names. Each has a twin in processors.mjs that does the same."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, NoReturn, TypeAlias

from pyqueue import Context, DelayJob, Job, Queue, Unrecoverable, WaitForChildren
from tests.chaos.ledger import Ledger

AnyJob: TypeAlias = Job[Any, Any]


async def _echo(job: AnyJob) -> Any:
    return job.data


async def _fail(job: AnyJob) -> NoReturn:
    raise RuntimeError(job.data["reason"])


async def _give_up(job: AnyJob) -> NoReturn:
    raise Unrecoverable(job.data["reason"])


async def _flaky(job: AnyJob) -> int:
    if job.attempts_made < job.data["failures"]:
        raise RuntimeError(f"attempt {job.attempts_made} broke")
    return job.attempts_made


async def _report(job: AnyJob) -> str:
    await job.update_progress(50)
    await job.log("one")
    await job.log("two")
    await job.update_progress({"step": 2})
    return "reported"


async def _later(job: AnyJob) -> int:
    if job.attempts_started > 1:
        return job.attempts_started
    raise DelayJob(job.data)


async def _split(job: AnyJob) -> dict[str, Any]:
    """Adds children to another queue, and runs again when they are done. data: port, prefix, queue."""
    if job.attempts_started == 1:
        prefix, url = job.data["prefix"], f"redis://127.0.0.1:{job.data['port']}"
        parent = {"id": job.id, "queue": f"{prefix}:{job.queue}"}
        async with Queue[Any, Any](job.data["queue"], connection=url, prefix=prefix) as queue:
            for n in (1, 2):
                await queue.add("echo", n, parent=parent, job_id=f"child-{n}")
        raise WaitForChildren
    return await _gather(job)


async def _only_in_node(job: AnyJob) -> None:
    await job.update_progress("in Python")
    await asyncio.sleep(60)


async def _sleep(job: AnyJob) -> str:
    await asyncio.sleep(job.data / 1000)
    return "slept"


async def _go_on(job: AnyJob) -> dict[str, Any]:
    await job.remove_unprocessed_children()
    return await _gather(job)


async def _gather(job: AnyJob) -> dict[str, Any]:
    return {"values": await job.children_values(), "ignored": await job.ignored_children_failures()}


async def _note(job: AnyJob) -> str:
    ledger = _ledger()
    ledger.write("started", job.id, "python")
    await asyncio.sleep(job.data / 1000)
    ledger.write("finished", job.id, "python")
    return "python"


PROCESSORS: Final[dict[str, Callable[[AnyJob], Awaitable[Any]]]] = {
    "echo": _echo,
    "fail": _fail,
    "give_up": _give_up,
    "flaky": _flaky,
    "report": _report,
    "later": _later,
    "split": _split,
    "only_in_node": _only_in_node,
    "sleep": _sleep,
    "go_on": _go_on,
    "gather": _gather,
    "note": _note,
}

_ledgers: Final[list[Ledger]] = []


def _ledger() -> Ledger:
    """The file that the environment names, opened once per process."""
    if not _ledgers:
        _ledgers.append(Ledger(Path(os.environ["LEDGER"])))
    return _ledgers[0]


async def run(job: AnyJob, context: Context) -> Any:
    """The processor of all workers."""
    return await PROCESSORS[job.name](job)
