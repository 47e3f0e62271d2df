"""Every Python snippet of README.md and docs/ runs, prints what the page says, and every relative link leads somewhere.

How a page steers the run is told in `tests/support/snippets.py`.
"""

from __future__ import annotations

import re
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from tests.support.cluster import Cluster
from tests.support.sentinels import Service
from tests.support.server import RedisServer
from tests.support.snippets import Block, Program, blocks, service_of

ROOT: Final = Path(__file__).resolve().parents[2]
PAGES: Final = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

_LINK: Final = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")


def page_name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.timeout(90)  # a page may have several programs and a cluster
@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_the_snippets_of_a_page_run(
    page: Path, tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    text = page.read_text()
    printed = ""
    with ExitStack() as stack:
        places = places_of(service_of(text), tmp_path, request, stack)
        program = stack.enter_context(Program(page, places, tmp_path))
        for block in blocks(text):
            if block.directive == ("output",):
                assert printed == block.text, f"{page_name(page)}:{block.line}: the block above prints something else"
            elif block.language == "python":
                printed = program.run(block) or capsys.readouterr().out


def places_of(service: str, directory: Path, request: pytest.FixtureRequest, stack: ExitStack) -> str | dict[str, str]:
    """What the addresses of a page are here; starts what is not running."""
    match service:
        case "server":
            server: RedisServer = request.getfixturevalue("server")
            return server.url
        case "cluster":
            port = Cluster(directory, stack).masters[0].port
            return {'"redis-1.internal", port=7000': f'"127.0.0.1", port={port}'}
        case "sentinel":
            addresses = stack.enter_context(Service.started(directory)).addresses
            named = enumerate(addresses, start=1)
            return {f'"sentinel-{number}.internal", 26379': f'"{host}", {port}' for number, (host, port) in named}
        case "":
            return f"memory://docs-{uuid.uuid4().hex}"
    raise ValueError(f"unknown service {service!r}")


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_python_block_is_spelled_so_that_it_runs(page: Path) -> None:
    languages = {block.language for block in blocks(page.read_text()) if block.language.lower().startswith("py")}
    assert languages <= {"python"}


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_relative_links_lead_to_files_of_the_repository(page: Path) -> None:
    missing = [link for link in _LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert not missing


def test_blocks_are_found_with_their_directives_and_lines() -> None:
    page = """# Page

```python
first = 1
```

<!-- output -->
```text
done
```

<!-- snippet: background worker.py -->
```python
second = 2
```

- In a list:

  ```sh
  make run
  ```
"""
    assert list(blocks(page)) == [
        Block("python", "first = 1\n", 4),
        Block("text", "done\n", 9, ("output",)),
        Block("python", "second = 2\n", 14, ("background", "worker.py")),
        Block("sh", "make run\n", 20),
    ]


def test_blocks_share_their_names_and_may_await(tmp_path: Path) -> None:
    with Program(tmp_path / "page.md", "memory://mine", tmp_path) as program:
        program.run(Block("python", "import asyncio\nasync def double(x):\n    return 2 * x\n", 1))
        program.run(Block("python", "four = await double(2)\nurl = 'redis://localhost:6379'\n", 5))
        program.run(Block("python", "assert (four, url) == (4, 'memory://mine')\n", 9))
        with pytest.raises(ZeroDivisionError) as failure:
            program.run(Block("python", "1 / 0\n", 12))
    assert failure.traceback[-1].lineno == 11  # counted from 0


BACKGROUND = """\
import pathlib, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit({code}))
pathlib.Path("ready").touch()
signal.pause()
"""
WAIT = "import pathlib\nwhile not pathlib.Path('ready').exists(): pass\nprint('seen')\n"


def test_a_background_program_runs_beside_the_others_until_the_page_ends(tmp_path: Path) -> None:
    with Program(tmp_path / "page.md", "memory://mine", tmp_path) as program:
        program.run(Block("python", BACKGROUND.format(code=0), 1, ("background", "worker.py")))
        assert program.run(Block("python", WAIT, 1, ("process",))) == "seen\n"


def test_a_background_program_that_ends_badly_fails_the_page(tmp_path: Path) -> None:
    page = Program(tmp_path / "page.md", "memory://mine", tmp_path)
    page.__enter__()
    page.run(Block("python", BACKGROUND.format(code=3), 1, ("background", "worker.py")))
    page.run(Block("python", WAIT, 1, ("process",)))
    with pytest.raises(AssertionError, match=r"worker\.py ended with 3"):
        page.__exit__()
