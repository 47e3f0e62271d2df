"""Goldens where pyqueue deliberately differs from BullMQ: the golden with the exact changes of `ruled/*.json` applied.

Each file holds the reason and a list of changes; a change replaces the value at a path of the report, or removes it
(`"remove": true`). Used by the tests and, in the same form, by `run.mjs`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests.conformance.normal_form import parse_json

HERE: Final = Path(__file__).resolve().parent
SCENARIOS: Final = sorted(path.stem for path in (HERE / "scenarios").glob("*.json"))
RULED: Final = sorted(path.stem for path in (HERE / "ruled").glob("*.json"))


def load(folder: str, name: str) -> Any:
    """One scenario, golden or ruling."""
    return parse_json((HERE / folder / f"{name}.json").read_text(encoding="utf-8"))


def expected(name: str) -> Any:
    """What pyqueue must report for a scenario."""
    golden = load("goldens", name)
    return apply_changes(golden, load("ruled", name)["changes"]) if name in RULED else golden


def apply_changes(report: Any, changes: Sequence[Any]) -> Any:
    """A copy of the report with the changes made; KeyError or IndexError for a path that does not lead anywhere."""
    report = copy.deepcopy(report)
    for change in changes:
        *path, last = change["path"]
        place = report
        for step in path:
            place = place[step]
        if change.get("remove"):
            del place[last]
        else:
            place[last] = change["value"]
    return report
