"""Operations about flows: adding and reading trees, children of a job."""

from __future__ import annotations

from typing import Any, Final

from pyqueue import BulkAddError, JobNode
from pyqueue._store.children import FAILED, IGNORED, PROCESSED, UNPROCESSED
from tests.conformance.session import Op, Session

#: Kind -> BullMQ's name of the cursor that it returns beside a page.
_CURSORS: Final = {
    PROCESSED: "nextProcessedCursor",
    UNPROCESSED: "nextUnprocessedCursor",
    IGNORED: "nextIgnoredCursor",
    FAILED: "nextFailedCursor",
}


async def flow(session: Session, op: Op) -> Any:
    options = (op.get("flowOpts") or {}).get("queuesOptions") or {}
    defaults = {name: queue.get("defaultJobOptions") or {} for name, queue in options.items()}
    return _view(await session.flow_producer().add(_without_nulls(op["flow"]), queue_defaults=defaults))


async def flow_bulk(session: Session, op: Op) -> Any:
    try:
        nodes = await session.flow_producer().add_bulk([_without_nulls(tree) for tree in op["flows"]])
    except BulkAddError as error:
        # BullMQ raises for none of them, and returns every tree as if it had been added.
        return [_view(node) if isinstance(node, JobNode) else None for node in error.results]
    return [_view(node) for node in nodes]


def _without_nulls(tree: Op) -> Op:
    options = {name: value for name, value in (tree.get("opts") or {}).items() if value is not None}
    return {**tree, "opts": options, "children": [_without_nulls(child) for child in tree.get("children") or []]}


async def get_flow(session: Session, op: Op) -> Any:
    node = await session.flow_producer().get_flow(session.queue_name(op), op["id"])
    return None if node is None else _view(node, is_sorted=True)


def _view(node: JobNode, *, is_sorted: bool = False) -> Any:
    children = [_view(child, is_sorted=is_sorted) for child in node.children]
    if is_sorted:
        children.sort(key=lambda child: child["id"])
    return {"id": node.job.id, **({"children": children} if children else {})}


async def get_dependencies(session: Session, op: Op) -> Any:
    job, options = await session.job(op), op.get("opts")
    if not options:
        found = await job.dependencies()
        return {
            PROCESSED: found.processed,
            UNPROCESSED: sorted(found.unprocessed),
            FAILED: found.failed,
            IGNORED: found.ignored,
        }
    view: Op = {}
    for kind, cursor_name in _CURSORS.items():
        if options.get(kind) is not None:
            page = await job.dependencies_page(kind, options[kind].get("cursor") or 0, options[kind].get("count") or 20)
            view[kind] = page.children if kind in (PROCESSED, IGNORED) else sorted(page.children)
            view[cursor_name] = page.cursor
    return view


async def get_dependencies_count(session: Session, op: Op) -> Any:
    counts = (await (await session.job(op)).dependencies_count())._asdict()
    options = op.get("opts") or {}
    wanted = [kind for kind in counts if options.get(kind)] or list(counts)
    return {kind: counts[kind] for kind in wanted}


async def get_children_values(session: Session, op: Op) -> Any:
    return await (await session.job(op)).children_values()


async def get_ignored_children_failures(session: Session, op: Op) -> Any:
    return await (await session.job(op)).ignored_children_failures()


async def remove_child_dependency(session: Session, op: Op) -> Any:
    return await (await session.job(op)).remove_child_dependency()


async def remove_unprocessed_children(session: Session, op: Op) -> Any:
    await (await session.job(op)).remove_unprocessed_children()
