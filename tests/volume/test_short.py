"""The short form of `make volume`: the same operations on a few thousand jobs, the same bars."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.volume.bed import make_bed
from tests.volume.operations import OPERATIONS, Operation, measure
from tests.volume.pages import measure_pages

pytestmark = [pytest.mark.anyio, pytest.mark.needs_server, pytest.mark.alone, pytest.mark.timeout(60)]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
async def test_an_operation_on_all_jobs_is_short_calls_and_can_be_stopped(operation: Operation, tmp_path: Path) -> None:
    """No call above 2 ms, progress told, stopped half-way and finished later, beside a worker that works."""
    async with make_bed(tmp_path) as bed:
        row = await measure(bed, operation, 3000)

    assert row.problems == []
    assert row.calls.calls >= 30
    assert row.beside > 0 or not operation.works_beside


async def test_a_page_costs_the_same_however_many_jobs_there_are(tmp_path: Path) -> None:
    async with make_bed(tmp_path) as bed:
        pages = await measure_pages(bed, 1000, 20_000)

    assert [f"{page}: {page.problems}" for page in pages if page.problems] == []
