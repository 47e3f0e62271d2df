"""Run the Python snippets of a Markdown page as one program.

The blocks of a page run in order and share their names; `await` outside a function is allowed. The URL
`redis://localhost:6379` becomes the test's own. Comments in the page, invisible when rendered, steer this:

    <!-- snippets: server -->                 once per page: run against a real server instead of memory://
    <!-- snippets: cluster -->                the same, a Redis Cluster, a node of which is redis-1.internal, port 7000
    <!-- snippets: sentinel -->               the same, Sentinels, sentinel-1.internal and so on, port 26379
    <!-- snippet: process -->                 before a block: run it as a program of its own, it must exit with 0
    <!-- snippet: background worker.py -->    before a block: the same, but let it run, and end it with SIGTERM after
                                              the last block; it must then exit with 0. The file name is optional.
    <!-- output -->                           before a text block: what the Python block above it has printed

Programs of their own find the other files of the page beside them; they need `<!-- snippets: server -->`.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

DOCUMENTED_URL: Final = "redis://localhost:6379"
PROCESS_TIMEOUT_S: Final = 30.0

_BLOCK: Final = re.compile(
    r"""(?:^\ *<!--\ *(?P<directive>snippet:[^>]*?|output)\ *-->\n+)?
        ^(?P<indent>\ *)```(?P<language>\w*)[^\n]*\n
        (?P<text>.*?)
        ^(?P=indent)```\ *$""",
    re.MULTILINE | re.DOTALL | re.VERBOSE,
)
_SERVICE: Final = re.compile(r"<!-- *snippets: *(\w+) *-->")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block of a page. `directive` holds the words of the comment before it."""

    language: str
    text: str
    line: int  # of the first line of the text
    directive: tuple[str, ...] = ()


def blocks(page: str) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    for match in _BLOCK.finditer(page):
        directive = tuple((match["directive"] or "").removeprefix("snippet:").split())
        line = page.count("\n", 0, match.start("text")) + 1
        yield Block(match["language"], textwrap.dedent(match["text"]), line, directive)


def service_of(page: str) -> str:
    """The service that a page asks for: server, cluster or sentinel; empty for none."""
    found = _SERVICE.search(page)
    return found[1] if found else ""


class Program:
    """The Python blocks of one page, run one after another; a context manager."""

    def __init__(self, page: Path, places: str | Mapping[str, str], directory: Path) -> None:
        """page: for tracebacks. directory: where files of the page are written.

        places: the URL that replaces the documented one, or what replaces what in the text of a block.
        """
        self._page = page
        self._places = {DOCUMENTED_URL: places} if isinstance(places, str) else places
        self._directory = directory
        self._names: dict[str, Any] = {"__name__": "__main__"}
        self._stack = ExitStack()

    def __enter__(self) -> Program:
        self._runner = self._stack.enter_context(asyncio.Runner())
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def run(self, block: Block) -> str:
        """Execute one block; what a program of its own has printed, else nothing."""
        text = block.text
        for documented, ours in self._places.items():
            text = text.replace(documented, ours)
        match block.directive:
            case ():
                self._execute(text, block.line)
            case ("process", *name):
                return self._process(self._write(text, block, name))
            case ("background", *name):
                self._stack.enter_context(self._background(self._write(text, block, name)))
            case _:
                raise ValueError(f"{self._page}:{block.line}: unknown directive {' '.join(block.directive)}")
        return ""

    def _write(self, text: str, block: Block, name: list[str]) -> Path:
        file = self._directory / (name[0] if name else f"line_{block.line}.py")
        file.write_text(text)
        return file

    def _execute(self, text: str, line: int) -> None:
        numbered = "\n" * (line - 1) + text  # tracebacks point into the page
        code = compile(numbered, str(self._page), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if code.co_flags & inspect.CO_COROUTINE:
            self._runner.run(eval(code, self._names))
        else:
            exec(code, self._names)

    def _process(self, file: Path) -> str:
        command = [sys.executable, file.name]
        result = subprocess.run(command, cwd=self._directory, capture_output=True, text=True, timeout=PROCESS_TIMEOUT_S)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    @contextmanager
    def _background(self, file: Path) -> Iterator[None]:
        log = file.with_suffix(".log")
        with log.open("w") as output:
            command = [sys.executable, file.name]
            process = subprocess.Popen(command, cwd=self._directory, stdout=output, stderr=output)
        try:
            yield
            process.send_signal(signal.SIGTERM)
            code = process.wait(timeout=PROCESS_TIMEOUT_S)
            assert code == 0, f"{file.name} ended with {code}:\n{log.read_text()}"
        finally:
            process.kill()
            process.wait()
