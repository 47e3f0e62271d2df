"""The short form of every fault scenario; the complete one is `make chaos`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.chaos.catalogue import SCENARIOS, play
from tests.chaos.report import table

#: Scenarios that differ from another one by a constant.
_ALIKE: Final = {"kill", "segfault"}

pytestmark = [pytest.mark.anyio, pytest.mark.needs_server, pytest.mark.alone, pytest.mark.timeout(90)]


@pytest.mark.parametrize("name", sorted(SCENARIOS.keys() - _ALIKE))
async def test_jobs_survive(name: str, tmp_path: Path) -> None:
    """Nothing is lost, stuck or needlessly run twice; everything recovers in time."""
    report = await play(name, tmp_path, full=False)
    assert not report.missed, f"missed: {'; '.join(report.missed)}\n{table([report])}"
