"""docs/reference/api.md says what signatures and docstrings say, leaves no public name out and shows no private one."""

from __future__ import annotations

import re

import pyqueue
from tests.docs.api_page import OBJECTS, OPTIONS, PAGE, VALUES, render


def test_the_page_says_what_the_docstrings_say() -> None:
    assert PAGE.read_text() == render(), "run `python -m tests.docs.api_page`"


def test_every_public_name_is_on_the_page() -> None:
    told = {*OPTIONS, *(thing.__name__ for _, thing in OBJECTS), *(value.__name__ for value in VALUES)}
    errors = set(re.findall(r"^\| `(\w+)` \|", render(), re.MULTILINE))

    assert set(pyqueue.__all__) <= told | errors


def test_every_public_member_is_on_the_page() -> None:
    page = render()
    for heading, thing in OBJECTS:
        _, _, section = page.partition(f"\n## {heading}\n")
        shown = set(re.findall(r"^- `(?:await |async for \.\.\. in )?(\w+)", section.split("\n## ")[0], re.MULTILINE))
        members = {name for name in dir(thing) if not name.startswith("_")} if isinstance(thing, type) else set()
        assert members <= shown, heading


def test_no_private_name_is_on_the_page() -> None:
    code = " ".join(re.findall(r"^- `([^`]+)`", render(), re.MULTILINE))

    assert not re.findall(r"(?<!\w)_\w+", code)
