"""Operations of job schedulers."""

from __future__ import annotations

from typing import Any, Final

from pyqueue import Scheduler
from pyqueue._store.stored_options import stored_options
from pyqueue.repeat import RepeatOptions
from tests.conformance.session import Op, Session

_NAMES: Final = {"start_date": "startDate", "end_date": "endDate", "iteration_count": "iterationCount", "id": "key"}


async def upsert(session: Session, op: Op) -> Any:
    template = op.get("template") or {}
    given = RepeatOptions.model_validate({name: value for name, value in op["repeat"].items() if value is not None})
    repeat: Any = {name: getattr(given, name) for name in given.model_fields_set}
    job = await (await session.queue(op)).schedulers.upsert(
        op["id"], name=template.get("name"), data=template.get("data", {}), options=template.get("opts"), **repeat
    )
    return job.id


async def remove(session: Session, op: Op) -> Any:
    return await (await session.queue(op)).schedulers.remove(op["id"])


async def get(session: Session, op: Op) -> Any:
    found = await (await session.queue(op)).schedulers.get(op["id"])
    return None if found is None else _view(found)


async def get_all(session: Session, op: Op) -> Any:
    end = -1 if op.get("end") is None else op["end"]
    page = await (await session.queue(op)).schedulers.list(op.get("start") or 0, end, asc=bool(op.get("asc")))
    return [_view(found) for found in page]


def _view(found: Scheduler) -> Any:
    fields = found._asdict()
    template = {"data": fields.pop("data"), "opts": stored_options(found.options)}
    fields.pop("options")
    shown = {_NAMES.get(name, name): value for name, value in fields.items() if value is not None}
    kept = {name: value for name, value in template.items() if value not in (None, {})}
    return {**shown, "template": kept} if kept else shown
