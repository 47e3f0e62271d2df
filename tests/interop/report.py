"""The summary of a run: what each module shows, how many of its tests passed, and the figures that tests told."""

from __future__ import annotations

import json
import platform
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any, Final, cast

import pytest

from tests.interop.node import NODE_MODULES
from tests.support.server import server_binary

#: The property of a test's report in which `conftest.show` leaves what was shown.
SHOWN: Final = "shown"

_PACKAGES: Final = ("bullmq", "ioredis", "@bull-board/api")


def summary(subjects: Mapping[str, str], reports: Iterable[pytest.TestReport]) -> str:
    """A Markdown table of reports from the modules in `subjects`, which says by path what a module is about."""
    outcomes: dict[str, Counter[str]] = {path: Counter() for path in subjects}
    figures: dict[str, list[tuple[str, str]]] = {path: [] for path in subjects}
    for report in reports:
        path = report.nodeid.partition("::")[0]
        outcomes[path][report.outcome] += 1
        figures[path] += [cast("tuple[str, str]", shown) for name, shown in report.user_properties if name == SHOWN]
    rows = [("what", "figures")]
    for path, subject in subjects.items():
        rows.append((subject, ", ".join(f"{count} {outcome}" for outcome, count in outcomes[path].items())))
        rows += [(f"- {what}", told) for what, told in figures[path]]
    return "\n".join([_versions(), "", *_markdown(rows)])


def _markdown(rows: list[tuple[str, str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    lines = [f"| {what:<{widths[0]}} | {told:<{widths[1]}} |" for what, told in rows]
    return [lines[0], f"|{'-' * (widths[0] + 2)}|{'-' * (widths[1] + 2)}|", *lines[1:]]


def _versions() -> str:
    parts = [f"pyqueue {version('pyqueue-redis')} on Python {platform.python_version()}", f"Node {_told_by('node')}"]
    parts += [f"{package} {_node_version(package)}" for package in _PACKAGES]
    return ", ".join([*parts, _told_by(server_binary())])


def _told_by(program: str) -> str:
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()


def _node_version(package: str) -> Any:
    return json.loads((NODE_MODULES / package / "package.json").read_text(encoding="utf-8"))["version"]
