"""Rows of the scripts that add flows; used by tests/scripts only.

Everything has the default that changes least. Queues are named without the prefix of the bench.
"""

from __future__ import annotations

import json
from typing import Any

from tests.support.script_bench import Bench
from tests.support.script_rows import Row


class Flow:
    """Makes the rows of nodes in the queues of a bench."""

    def __init__(self, bench: Bench) -> None:
        self._prefix = bench.store.keys.prefix

    def key(self, job_id: str, queue: str = "q") -> str:
        """A job key."""
        return f"{self._prefix}:{queue}:{job_id}"

    def reference(self, job_id: str, queue: str = "q", **policy: bool) -> str:
        """The field `parent` of a child."""
        return json.dumps({"id": job_id, "queueKey": f"{self._prefix}:{queue}", **policy})

    def link(self, job_id: str, queue: str = "q") -> dict[str, str]:
        """The fields of a child that name its parent."""
        return {"parentKey": self.key(job_id, queue), "parent": self.reference(job_id, queue)}

    def add(self, job_id: str, queue: str = "q", **more: Any) -> Row:
        """One node of `add_flow`; `parent` is its parent's id, `above` that one's queue."""
        fields = self._fields(job_id, queue, more)
        return (
            more.get("tree", "t"),
            fields[0],
            fields[3],
            fields[2],
            fields[4],
            job_id,
            *fields[5:8],
            more.get("placement", ""),
            *fields[8:],
            more.get("dedup", ""),
            more.get("is_new", 0),
        )

    def stage(self, job_id: str, queue: str = "q", *, is_root: int = 0, **more: Any) -> Row:
        """One node of `stage_nodes`."""
        return (*self._fields(job_id, queue, more), is_root, more.get("is_new", 0))

    def place(self, job_id: str, queue: str = "q", *, parent_key: str = "", **more: Any) -> Row:
        """One node of `place_nodes`; `parent_key` only of a root."""
        fields = self._fields(job_id, queue, more)
        return (*fields[:3], *fields[5:8], more.get("placement", ""), parent_key)

    def _fields(self, job_id: str, queue: str, more: dict[str, Any]) -> Row:
        parent, above = more.get("parent", ""), more.get("above", "q")
        return (
            f"{self._prefix}:{queue}:",
            job_id,
            "mail",
            more.get("data", "{}"),
            '{"attempts":0}',
            more.get("timestamp_ms", 0),
            more.get("delay_ms", 0),
            more.get("priority", 0),
            self.key(parent, above) if parent else "",
            self.reference(parent, above) if parent else "",
        )
