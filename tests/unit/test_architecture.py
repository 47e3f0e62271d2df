"""The import rules: layers import downwards only, without cycles, at the top of the file, under telling names."""

from __future__ import annotations

import ast
import graphlib
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGE: Final = ROOT / "src" / "pyqueue"

#: Layer of each module or package below `pyqueue`; a package's layer holds for everything inside it.
LAYERS: Final = {
    # 0 words: values, options and errors, no I/O
    "backoff": 0,
    "cron": 0,
    "cron_syntax": 0,
    "deep_json": 0,
    "durations": 0,
    "errors": 0,
    "lazy_modules": 0,
    "names": 0,
    "options": 0,
    "outcomes": 0,
    "payload": 0,
    "repeat": 0,
    "states": 0,
    "telemetry": 0,
    "time_zones": 0,
    "types": 0,
    "validation": 0,
    "version": 0,
    "worker_options": 0,
    # 1 redis: connections, key names, scripts
    "_redis": 1,
    # 2 store: one typed function per script
    "_store": 2,
    # 3 objects: what producers and inspectors hold
    "_flows": 3,
    "events": 3,
    "explanation": 3,
    "flow": 3,
    "job": 3,
    "limiter": 3,
    "queue": 3,
    "verdict": 3,
    "views": 3,
    # 4 worker
    "_worker": 4,
    "in_process": 4,
    "processes": 4,
    # 5 edge: what people and programs call
    "__init__": 5,
    "__main__": 5,
    "cli": 5,
    "embedded": 5,
    "metrics": 5,
    "otel": 5,
    "runner": 5,
    "tasks": 5,
    "testing": 5,
    "web": 5,
}

#: Names that say nothing about a module's one responsibility.
VAGUE_NAMES: Final = {"utils", "util", "common", "helpers", "helper", "base", "manager", "misc"}


@dataclass(frozen=True, slots=True)
class Import:
    """One import statement of a module, its target spelled absolutely."""

    target: str
    line: int
    inside_function: bool
    conditional: bool  # inside `try:` or `if TYPE_CHECKING:`, so that the module imports without it


def module_name(path: Path) -> str:
    """`pyqueue._redis.keys` for src/pyqueue/_redis/keys.py; a package is its `__init__`."""
    relative = path.relative_to(PACKAGE.parent).with_suffix("")
    parts = relative.parts[:-1] if relative.name == "__init__" else relative.parts
    return ".".join(parts)


@cache
def modules() -> dict[str, ast.Module]:
    return {module_name(path): ast.parse(path.read_text(), str(path)) for path in sorted(PACKAGE.rglob("*.py"))}


def imports(module: str) -> Iterator[Import]:
    """Every import of a module, wherever it stands; `from package import module` targets the module."""
    yield from _imports(module, modules()[module], inside_function=False, conditional=False)


def _imports(module: str, node: ast.AST, *, inside_function: bool, conditional: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            for target in _targets(module, child):
                yield Import(target, child.lineno, inside_function, conditional)
        else:
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            yield from _imports(
                module,
                child,
                inside_function=inside_function or function,
                conditional=conditional or isinstance(child, ast.Try | ast.If),
            )


def _targets(module: str, statement: ast.Import | ast.ImportFrom) -> Iterator[str]:
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
        return
    source = _absolute(module, statement)
    for alias in statement.names:
        member = f"{source}.{alias.name}"
        yield member if member in modules() else source


def _absolute(module: str, statement: ast.ImportFrom) -> str:
    if not statement.level:
        return statement.module or ""
    is_package = (PACKAGE.parent / Path(*module.split(".")) / "__init__.py").exists()
    parts = module.split(".")
    parts = parts[: len(parts) - statement.level + is_package]
    return ".".join([*parts, *([statement.module] if statement.module else [])])


def layer(module: str) -> int:
    """The layer of a module by its first name below `pyqueue`."""
    first = module.split(".")[1] if "." in module else "__init__"
    assert first in LAYERS, f"{module} has no layer yet: give it one in {Path(__file__).name}"
    return LAYERS[first]


@pytest.mark.parametrize("module", modules())
def test_imports_go_downwards_only(module: str) -> None:
    upward = [
        f"line {item.line}: layer {layer(module)} imports {item.target} of layer {layer(item.target)}"
        for item in imports(module)
        if item.target.split(".")[0] == "pyqueue" and layer(item.target) > layer(module)
    ]
    assert not upward, "\n".join(upward)


def test_imports_form_no_cycle() -> None:
    graph = {
        module: {item.target for item in imports(module) if item.target in modules() and item.target != module}
        for module in modules()
    }
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("module", modules())
def test_only_optional_dependencies_are_imported_inside_functions(module: str) -> None:
    hidden = [
        f"line {item.line}: {item.target}"
        for item in imports(module)
        if item.inside_function and item.target.split(".")[0] not in optional_dependencies()
    ]
    assert not hidden, "\n".join(hidden)


@pytest.mark.parametrize("module", modules())
def test_optional_dependencies_are_not_imported_with_the_library(module: str) -> None:
    """`import pyqueue` must work, and stay quick, without any extra; the edge modules of an extra may need it."""
    if layer(module) == LAYERS["cli"] and module != "pyqueue":
        return
    eager = [
        f"line {item.line}: {item.target}"
        for item in imports(module)
        if not (item.inside_function or item.conditional) and item.target.split(".")[0] in optional_dependencies()
    ]
    assert not eager, "\n".join(eager)


@pytest.mark.parametrize("module", modules())
def test_module_names_say_what_the_module_does(module: str) -> None:
    assert not VAGUE_NAMES & set(module.lower().replace("_", ".").split("."))


@pytest.mark.parametrize("module", modules())
def test_every_module_opens_with_its_responsibility(module: str) -> None:
    is_marker = not modules()[module].body  # the empty __init__ of a private package
    assert is_marker or ast.get_docstring(modules()[module]), f"{module} has no docstring"


@cache
def optional_dependencies() -> frozenset[str]:
    """Import names of everything that only an extra installs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = [item for items in project["optional-dependencies"].values() for item in items]
    names = {_distribution(requirement) for requirement in requirements}
    core = {_distribution(requirement) for requirement in project["dependencies"]}
    return frozenset(name.lower().replace("-", "_") for name in names - core) - {"pyqueue_redis"}


def _distribution(requirement: str) -> str:
    for index, char in enumerate(requirement):
        if not (char.isalnum() or char in "-_."):
            return requirement[:index]
    return requirement
