"""The console blocks of the guide to many instances run as they stand; how is told in `tests/support/console.py`."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Final

import pytest

from examples.email_service.local.programs import find
from tests.support.console import Console, Step, prints, steps
from tests.support.server import free_port

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs" / "how-to" / "multi-instance.md"


def quiet_make() -> dict[str, str]:
    """The environment for a make inside of make: these Python and packages, and no flags of the outer one."""
    inherited = {name: "" for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES") if name in os.environ}
    return {**inherited, "VENV": sys.prefix, "PYTHON": sys.executable, "ARGS": ""}


@pytest.mark.needs_server
@pytest.mark.skipif(find("nginx") is None, reason="nginx is not installed")
@pytest.mark.timeout(180)
def test_the_commands_of_the_guide_do_what_it_says(tmp_path: Path) -> None:
    port = str(free_port())
    # What make would install is there: the tests run with it. `-o` keeps it from looking.
    ready = f"{sys.prefix}/.ready-examples-{sys.version_info.major}.{sys.version_info.minor}"

    def translate(text: str) -> str:
        text = text.replace("8080", port).replace("build/", f"{tmp_path}/")
        text = text.replace('email-up ARGS="', f'email-up ARGS="--bare --port {port} ')
        return re.sub(r"\bmake (?=email-)", f"make -s -o {ready} ", text)

    with Console(ROOT, translate, quiet_make()) as console:
        for step in steps(PAGE.read_text()):
            console.run(step)


def test_a_page_is_read_into_commands_with_what_they_print() -> None:
    page = """
<!-- console: until -->
```console
$ first |
>   second
one
two
$ third
```

```sh
not a console
```

- In a list:

  ```console
  $ fourth
  ```
"""
    assert list(steps(page)) == [
        Step("first |\n  second", "one\ntwo\n", "until", 4),
        Step("third", "", "until", 4),
        Step("fourth", "", "", 18),
    ]


def test_what_is_printed_is_compared_and_dots_stand_for_anything() -> None:
    step = Step("anything", '{"a":1,...,"z":26}\n', "", 1)

    assert prints(step, '{"a":1,"b":2,"z":26}')
    assert not prints(step, '{"a":1,"b":2,"z":27}')
    assert prints(Step("anything", "", "", 1), "whatever")


def test_a_command_that_fails_or_prints_something_else_fails_the_page(tmp_path: Path) -> None:
    with Console(tmp_path, str, {}) as console:
        console.run(Step("echo seen", "seen\n", "", 1))
        with pytest.raises(AssertionError, match=r"line 7: false \| cat: status 1"):
            console.run(Step("false | cat", "", "", 7))
        with pytest.raises(AssertionError, match="and not\nexpected"):
            console.run(Step("echo printed", "expected\n", "", 7))
        with pytest.raises(AssertionError, match="has ended and printed"):
            console.run(Step("echo early", "ready\n", "background", 7))


def test_a_background_command_runs_until_the_page_ends_and_is_interrupted(tmp_path: Path) -> None:
    program = "trap 'touch interrupted; exit' INT; echo ready; while true; do sleep 0.05; done"
    with Console(tmp_path, str, {}) as console:
        console.run(Step(program, "ready\n", "background", 1))
        console.run(Step("test ! -e interrupted && touch file", "", "", 1))
        console.run(Step("ls file", "file\n", "until", 1))
    assert (tmp_path / "interrupted").exists()


def test_a_block_that_is_not_run_says_why(tmp_path: Path) -> None:
    with Console(tmp_path, str, {}) as console:
        console.run(Step("false", "", "not run, it needs a cluster", 1))
        console.run(Step("false", "", "needs no-such-program", 1))
        with pytest.raises(AssertionError, match="why"):
            console.run(Step("false", "", "not run,", 1))
