"""What a newcomer copies first passes mypy's strict mode: the blocks of a page as one `async def main()`."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.support.snippets import blocks

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", "docs/tutorial/first-queue.md", "docs/reference/api.md"]


def module_of(page: str) -> str:
    """The snippets of a page as a module, each line where the page has it."""
    lines = [""] * (page.count("\n") + 1)
    python = [block for block in blocks(page) if block.language == "python"]
    for block in python:
        text = textwrap.indent(block.text, "    ").splitlines()
        lines[block.line - 1 : block.line - 1 + len(text)] = text
    lines[python[0].line - 2] = "async def main() -> None:"
    return "\n".join(lines) + "\n"


def check(text: str, directory: Path) -> str:
    """What mypy says of a module."""
    module = directory / "page.py"
    module.write_text(text)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(directory / "cache"), str(module)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return result.stdout + result.stderr


@pytest.mark.timeout(180)  # mypy reads the library
def test_the_first_pages_pass_mypy_strict(tmp_path: Path) -> None:
    said = {}
    for page in PAGES:
        said[page] = check(module_of((ROOT / page).read_text()), tmp_path)

    assert said == dict.fromkeys(PAGES, "Success: no issues found in 1 source file\n")


@pytest.mark.timeout(180)
def test_what_has_no_types_is_noticed(tmp_path: Path) -> None:
    page = "```python\nfrom pyqueue import Job\n\n\nasync def send(job: Job) -> str:\n    return job.id\n```\n"

    assert 'page.py:5: error: Missing type arguments for generic type "Job"' in check(module_of(page), tmp_path)
