"""Run the console blocks of a Markdown page as a person would type them, and compare what they print.

A block is fenced as `console`; a line that begins with `$ ` is a command, continued by lines that begin with `> `, and
the lines below it are what it prints, where `...` stands for any text. All blocks of a page run in order, in bash, in
the checkout; each must end with status 0. Comments in the page, invisible when rendered, steer this:

    <!-- console: background -->            the command goes on until the page ends, which then interrupts it (Ctrl-C);
                                            the next block runs once it has printed what the block shows
    <!-- console: until -->                 the command is repeated until it prints what the block shows
    <!-- console: needs kubectl -->         only where that program is installed
    <!-- console: not run, REASON -->       for a reader with other machines than this one
"""

from __future__ import annotations

import doctest
import os
import re
import shutil
import signal
import subprocess
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

COMMAND_TIMEOUT_S: Final = 60.0
UNTIL_TIMEOUT_S: Final = 30.0
_REPEAT_S: Final = 0.2

_BLOCK: Final = re.compile(
    r"""(?:^\ *<!--\ *console:\ *(?P<directive>[^>]*?)\ *-->\n+)?
        ^(?P<indent>\ *)```console\n
        (?P<text>.*?)
        ^(?P=indent)```\ *$""",
    re.MULTILINE | re.DOTALL | re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Step:
    """One command of a page, what the page says that it prints, and how it is to be run."""

    command: str
    output: str
    directive: str
    line: int


def steps(page: str) -> Iterator[Step]:
    """The commands of a page, in order."""
    for match in _BLOCK.finditer(page):
        line = page.count("\n", 0, match.start("text")) + 1
        commands: list[list[str]] = []
        for text in textwrap.dedent(match["text"]).splitlines(keepends=True):
            if text.startswith("$ "):
                commands.append([text[2:], ""])
            elif text.startswith("> ") and not commands[-1][1]:
                commands[-1][0] += text[2:]
            else:
                commands[-1][1] += text
        for command, output in commands:
            yield Step(command.strip(), output, match["directive"] or "", line)


def prints(step: Step, printed: str) -> bool:
    """Whether the text is what the page shows; a page that shows nothing is content with anything."""
    if not step.output:
        return True
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return doctest.OutputChecker().check_output(step.output, printed, flags)


class Console:
    """A person at the terminal; a context manager that ends what still runs."""

    def __init__(self, directory: Path, translate: Callable[[str], str], environment: dict[str, str]) -> None:
        """translate: what the page says -> what is typed here, for ports and folders of the test's own."""
        self._directory = directory
        self._translate = translate
        self._environment = {**os.environ, **environment}
        self._stack = ExitStack()

    def __enter__(self) -> Console:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def run(self, step: Step) -> None:
        """Type the command; AssertionError when it ends badly or prints something else than the page says."""
        step = Step(self._translate(step.command), self._translate(step.output), step.directive, step.line)
        match step.directive.split():
            case ["not", "run,", *reason]:
                assert reason, f"line {step.line}: why is it not run?"
            case ["needs", program]:
                if shutil.which(program):
                    self._check(step, self._type(step))
            case ["until"]:
                self._repeat(step)
            case ["background"]:
                self._stack.enter_context(self._background(step))
            case []:
                self._check(step, self._type(step))
            case _:
                raise ValueError(f"line {step.line}: unknown directive {step.directive!r}")

    def _type(self, step: Step) -> str:
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", step.command],
            cwd=self._directory,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
        )
        assert done.returncode == 0, f"line {step.line}: {step.command}: status {done.returncode}\n{done.stdout}"
        return done.stdout

    def _check(self, step: Step, printed: str) -> None:
        assert prints(step, printed), f"line {step.line}: {step.command} prints\n{printed}\nand not\n{step.output}"

    def _repeat(self, step: Step) -> None:
        deadline = time.monotonic() + UNTIL_TIMEOUT_S
        while not prints(step, printed := self._type(step)):
            if time.monotonic() > deadline:
                self._check(step, printed)
            time.sleep(_REPEAT_S)

    @contextmanager
    def _background(self, step: Step) -> Iterator[None]:
        process = subprocess.Popen(
            ["bash", "-c", step.command],
            cwd=self._directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        printed = ""
        try:
            while not prints(step, printed):
                line = process.stdout.readline()
                assert line, f"line {step.line}: {step.command} has ended and printed\n{printed}"
                printed += line
            yield
            os.killpg(process.pid, signal.SIGINT)  # what a terminal does at Ctrl-C
            rest = process.communicate(timeout=COMMAND_TIMEOUT_S)[0]
            assert "wrong:" not in rest, rest
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            process.stdout.close()
