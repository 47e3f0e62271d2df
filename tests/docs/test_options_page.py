"""docs/reference/options.md says what the option models say, and leaves none of their fields out."""

from __future__ import annotations

import pytest

from tests.docs.options_page import PAGE, SECTIONS, Section, render


def test_the_page_says_what_the_models_say() -> None:
    assert PAGE.read_text() == render(), "run `python -m tests.docs.options_page`"


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.model.__name__)
def test_every_field_has_a_row(section: Section) -> None:
    _, _, table = render().partition(f"## {section.heading}\n")
    rows = [line.split("`")[1] for line in table.split("\n## ")[0].splitlines() if line.startswith("| `")]
    assert rows == list(section.model.model_fields)
