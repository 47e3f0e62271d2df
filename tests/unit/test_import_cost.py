"""What an import loads, in a fresh interpreter: not what most programs do without. Times are in the benchmarks."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from typing import Final

import pytest

from tests.unit.test_architecture import modules

#: A program -> modules, in it or in a package of it, that it has no use for.
UNUSED: Final = {
    "import pyqueue": ("anyio", "asyncio", "pydantic", "redis", "pyqueue.options", "pyqueue._redis"),
    "from pyqueue import PyqueueError, JobState": ("anyio", "pydantic", "redis"),
    "from pyqueue import Queue": (
        *("pyqueue._worker", "pyqueue.cron", "pyqueue.events", "pyqueue.explanation", "pyqueue.flow"),
        *("pyqueue.in_process", "pyqueue.limiter", "pyqueue.processes", "pyqueue.repeat", "pyqueue.time_zones"),
        *("anyio.to_process", "fakeredis", "lupa", "pyqueue._redis.embedded", "pyqueue._redis.server_process"),
        *("difflib", "pyqueue._flows.listing", "pyqueue._store.children", "pyqueue._store.removing"),
        "pyqueue.worker_options",
    ),
    "from pyqueue import Queue, Worker": (
        *("pyqueue.cron", "pyqueue.events", "pyqueue.explanation", "pyqueue.flow"),
        *("pyqueue.in_process", "pyqueue.limiter", "pyqueue.processes", "pyqueue.repeat", "pyqueue.time_zones"),
        *("anyio.to_process", "fakeredis", "lupa", "pyqueue._redis.embedded", "pyqueue._redis.server_process"),
        *("difflib", "pyqueue._flows.listing", "pyqueue._store.children", "pyqueue._store.removing"),
        *("pyqueue._worker.health", "pyqueue.runner", "uvloop"),
    ),
}

#: A program that imports the two main classes and prints what that has prepared already.
PREPARED: Final = """
from pyqueue import JobOptions, Queue, Worker
from pyqueue._redis import scripts
from pyqueue.options import QueueOptions
from pyqueue.worker_options import WorkerOptions
models = [model.__name__ for model in (JobOptions, QueueOptions, WorkerOptions) if model.__pydantic_complete__]
import json
print(json.dumps([models, scripts.load.cache_info().currsize]))
"""


@pytest.mark.parametrize("program", UNUSED)
def test_a_program_loads_only_what_it_uses(program: str) -> None:
    loaded = json.loads(run(f"{program}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"))
    useless = [name for name in loaded for unused in UNUSED[program] if f"{name}.".startswith(f"{unused}.")]
    assert not useless


def test_the_unused_modules_of_ours_exist() -> None:
    ours = {name for names in UNUSED.values() for name in names if name.startswith("pyqueue")}
    assert ours <= set(modules())


def test_an_import_builds_no_options_and_reads_no_scripts() -> None:
    assert json.loads(run(PREPARED)) == [[], 0]


def test_lazy_modules_are_those_that_type_checkers_see() -> None:
    pairs = [pair for tree in modules().values() for pair in lazy_modules(tree)]
    assert pairs
    assert [checked for checked, _ in pairs] == [lazy for _, lazy in pairs]


def lazy_modules(tree: ast.Module) -> list[tuple[str, str]]:
    """What type checkers import and what stands there at run time, both as `name = LazyModule('module')`."""
    return [
        (f"{alias.asname or alias.name} = LazyModule('{package(imported)}{alias.name}')", ast.unparse(assigned))
        for choice in tree.body
        if isinstance(choice, ast.If) and ast.unparse(choice.test) == "TYPE_CHECKING"
        for imported, assigned in zip(choice.body, choice.orelse, strict=False)
        if isinstance(imported, ast.Import | ast.ImportFrom)
        for alias in imported.names
    ]


def package(imported: ast.Import | ast.ImportFrom) -> str:
    return f"{imported.module}." if isinstance(imported, ast.ImportFrom) else ""


def run(program: str) -> str:
    """Output of a program in a fresh interpreter."""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
