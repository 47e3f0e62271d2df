"""Where each system is installed: a virtual environment or a node_modules of its own, kept in an ignored folder.

Nothing of a peer is a dependency of pyqueue. A second run finds everything installed; an environment whose requirements
have changed is made anew.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from benchmarks.systems.catalogue import System

HERE: Final = Path(__file__).resolve().parent
CHECKOUT: Final = HERE.parent
CACHE: Final = HERE / ".cache"
INSTALL_TIMEOUT_S: Final = 600
#: How much of what a failed tool said is told: so many lines, so many characters of each.
TOLD_LINES: Final = 8
TOLD_WIDTH: Final = 300
#: What tools say around the reason: the frames and fields of npm's own errors, empty lines, where a log is.
_NOISE: Final = re.compile(
    r"(npm (error|ERR!)\s*)?(at .*|[{}]|\w+: ('.*'|\d+),?|A complete log of this run.*|\[notice\].*)?"
)

#: Prints {"version": ..., "dependencies": n}: the distributions that a plain install of argv[1] brings besides itself.
_DESCRIBE: Final = """
import importlib.metadata as m, json, sys
from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.utils import canonicalize_name
seen, todo = set(), [(sys.argv[1], frozenset())]
while todo:
    name, extras = todo.pop()
    if (canonicalize_name(name), extras) in seen: continue
    seen.add((canonicalize_name(name), extras))
    for text in m.requires(name) or []:
        need = Requirement(text)
        environments = [{"extra": extra} for extra in ("", *extras)]
        if need.marker is None or any(need.marker.evaluate(e) for e in environments):
            todo.append((need.name, frozenset(need.extras)))
print(json.dumps({"version": m.version(sys.argv[1]), "dependencies": len({name for name, _ in seen}) - 1}))
"""


class NotInstalled(Exception):
    """A system cannot be run here; the message says why, in its first line by what was done, then by a tool's words."""


@dataclass(frozen=True, slots=True)
class Environment:
    """An installed system."""

    system: System
    executable: str
    """Its interpreter."""
    command: tuple[str, ...]
    variables: Mapping[str, str]
    version: str
    dependencies: int
    """Distributions that come with a plain install, the system itself not counted."""


def prepare(system: System) -> Environment:
    """Install a system, or find it installed; NotInstalled if that fails."""
    return _prepare_node(system) if system.is_node else _prepare_python(system)


def interpreter_of_users(environment: Environment) -> str:
    """An interpreter beside which a system is installed as its users have it; NotInstalled if that fails.

    That of this checkout has the tools of developers beside it, some of which redis-py imports where it finds them.
    """
    system = environment.system
    if system.is_node or system.requirements:
        return environment.executable
    return str(_virtual_environment(replace(system, requirements=("-e", f"{CHECKOUT}[fast]"))))


def _prepare_python(system: System) -> Environment:
    python = sys.executable if not system.requirements else str(_virtual_environment(system))
    described = json.loads(_output([python, "-c", _DESCRIBE, system.distribution]))
    return Environment(
        system=system,
        executable=python,
        command=(python, "-m", f"benchmarks.systems.{system.program}"),
        variables={"PYTHONPATH": str(CHECKOUT), **dict(system.variables)},
        version=described["version"],
        dependencies=described["dependencies"],
    )


def _virtual_environment(system: System) -> Path:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    directory = CACHE / f"python{version}" / system.distribution
    python, receipt = directory / "bin" / "python", directory / "installed.json"
    wanted = json.dumps(system.requirements)
    if not receipt.is_file() or receipt.read_text() != wanted:
        _announce(system)
        _output([sys.executable, "-m", "venv", "--clear", str(directory)])
        _output([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *system.requirements])
        receipt.write_text(wanted)
    return python


def _prepare_node(system: System) -> Environment:
    node, npm = (_on_path(name) for name in ("node", "npm"))
    source = HERE / "systems" / system.program
    directory = CACHE / system.program
    receipt, wanted = directory / "installed.json", (source / "package.json").read_text()
    if not receipt.is_file() or receipt.read_text() != wanted:
        _announce(system)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        (directory / "package.json").write_text(wanted)
        (directory / ".npmrc").write_text("omit-lockfile-registry-resolved=true\n")
        _output([npm, "install", "--loglevel=error", "--no-audit", "--no-fund"], cwd=directory)
        receipt.write_text(wanted)
    modules = directory / "node_modules"
    version = json.loads((modules / system.distribution / "package.json").read_text())["version"]
    listed = _output([npm, "ls", "--all", "--parseable"], cwd=directory).splitlines()
    return Environment(
        system=system,
        executable=node,
        command=(node, str(source / "program.mjs")),
        variables={"BENCHMARK_NODE_MODULES": str(modules)},
        version=f"{version} on Node {_output([node, '--version']).strip()}",
        dependencies=len(listed) - 2,  # the project itself and the system
    )


def _on_path(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise NotInstalled(f"{name} is not on PATH: install Node.js, which brings node and npm")
    return found


def _announce(system: System) -> None:
    print(f"installing {system.title} ...", file=sys.stderr, flush=True)


def _output(command: Sequence[str], cwd: Path | None = None) -> str:
    typed = shlex.join("..." if "\n" in argument else argument for argument in command)
    try:
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False,
            env={**os.environ, "PYTHONPATH": ""},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"`{typed}` did not end within {INSTALL_TIMEOUT_S} s: try it by itself") from None
    except OSError as error:
        raise NotInstalled(f"`{typed}` cannot be started: {error}") from None
    if done.returncode:
        ended = f"`{typed}` ended with code {done.returncode}{f' in {cwd}' if cwd else ''}"
        raise NotInstalled("\n".join([ended, *last_words(done.stdout + done.stderr)]))
    return done.stdout


def last_words(said: str) -> list[str]:
    """The last lines of a tool's output that may tell why it failed; of a long one its beginning and its end."""
    lines = [line.rstrip() for line in said.splitlines() if not _NOISE.fullmatch(line.strip())]
    half = TOLD_WIDTH // 2
    return [line if len(line) <= TOLD_WIDTH else f"{line[:half]} ... {line[-half:]}" for line in lines[-TOLD_LINES:]]
