"""Bad input: what may not reach Redis does not, and the queue works afterwards. No workers, no faults."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, cast

from tests.behaviour.test_flow_refusals import REFUSED as BAD_FLOWS
from tests.behaviour.test_queue_refusals import BAD_DATA, BAD_IDS, BAD_OPTIONS
from tests.behaviour.test_schedulers import BAD_RULES
from tests.chaos.report import Bar, Report, audit, nothing_lost
from tests.chaos.stage import Stage, set_up
from tests.chaos.worker_process import PREFIX
from tests.support.flow_bed import FlowBed

Attempt: TypeAlias = tuple[str, Callable[[], Awaitable[Any]]]


async def refuse_inputs(directory: Path, full: bool) -> Report:
    """Every kind of bad input to a fresh server: ids, data, options, names, schedules, flows."""
    async with set_up(directory) as stage, FlowBed(stage.server.url, PREFIX) as bed:
        accepted: list[str] = []
        with stage.server.client() as client:
            attempts = list(_attempts(stage, bed))
            for what, attempt in attempts:
                with suppress(ValueError, TypeError):
                    await attempt()
                    accepted.append(what)
            left = [str(key) for key in client.scan_iter(count=1000)]
        await stage.add([("work", 0.0)] * 3)
        await stage.crew.assemble(1)
        await stage.until_done(20)
        found = audit(stage)
        bars = [
            *nothing_lost(found),
            Bar(f"{len(attempts)} inputs refused with ValueError or TypeError{_named(accepted)}", not accepted),
            Bar(f"no key written{_named(left)}", not left),
            Bar("the queue works afterwards", not found.stuck),
        ]
        return Report("bad inputs", len(stage.acknowledged), len(attempts), found, bars)


def _attempts(stage: Stage, bed: FlowBed) -> Iterator[Attempt]:
    queue = stage.queue
    for job_id in BAD_IDS:
        yield f"id {job_id!r:.40}", partial(queue.add, "a", 1, job_id=job_id)
    for data, _ in BAD_DATA:
        yield f"data {data!r:.40}", partial(queue.add, "a", data)
    yield "nested data", partial(queue.add, "a", _nested(100_000))
    yield "large data", partial(queue.add, "a", "x" * 20, size_limit=21)
    for options, _ in BAD_OPTIONS:
        yield f"options {options}", partial(queue.add, "a", 1, **options)
        yield (
            f"a bulk with options {options}",
            partial(queue.add_bulk, [{"name": "fine"}, {"name": "a", "opts": options}]),
        )
    for name in (None, 1, b"a", "\ud800"):
        yield f"name {name!r}", partial(queue.add, cast(Any, name), 1)
    for rule, _ in BAD_RULES:
        yield f"rule {rule}", partial(queue.schedulers.upsert, "s", **rule)
    for what, (tree, _) in BAD_FLOWS.items():
        if what != "a foreign parent":
            yield f"flow: {what}", partial(bed.producer.add, tree)


def _nested(levels: int) -> list[Any]:
    data: list[Any] = []
    for _ in range(levels):
        data = [data]
    return data


def _named(culprits: Sequence[str]) -> str:
    return f" ({', '.join(culprits[:5])})" if culprits else ""
