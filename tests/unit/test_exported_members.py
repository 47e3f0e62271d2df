"""The public names: sorted, present, documented, imported when asked for, and nothing besides them."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

import pyqueue


def test_all_is_sorted() -> None:
    assert list(pyqueue.__all__) == sorted(pyqueue.__all__)


def test_dir_shows_the_public_names() -> None:
    assert dir(pyqueue) == pyqueue.__all__


def test_all_names_are_what_type_checkers_see() -> None:
    assert sorted(homes()) == pyqueue.__all__


@pytest.mark.parametrize("name", pyqueue.__all__)
def test_a_public_name_comes_from_where_type_checkers_see_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if homes()[name] != "pyqueue.errors":
        monkeypatch.delattr(pyqueue, name)  # as if nobody had asked for it yet

    member = getattr(pyqueue, name)

    assert member is getattr(import_module(homes()[name]), name)
    assert vars(pyqueue)[name] is member


def test_a_name_that_does_not_exist_is_refused_as_in_any_module() -> None:
    with pytest.raises(AttributeError, match="module 'pyqueue' has no attribute 'Kueue'"):
        getattr(pyqueue, "Kueue")  # noqa: B009  # type checkers know that there is none
    with pytest.raises(ImportError, match="cannot import name 'Kueue' from 'pyqueue'"):
        exec("from pyqueue import Kueue", {})


def test_a_star_import_gives_all_public_names() -> None:
    namespace: dict[str, object] = {}
    exec("from pyqueue import *", namespace)
    assert set(namespace) - {"__builtins__"} == set(pyqueue.__all__)


@cache
def homes() -> dict[str, str]:
    """Public name -> module, by the import statements of the package."""
    statements = ast.walk(ast.parse(Path(str(pyqueue.__file__)).read_text()))
    return {
        alias.name: statement.module
        for statement in statements
        if isinstance(statement, ast.ImportFrom) and statement.module and statement.module.startswith("pyqueue.")
        for alias in statement.names
    }


@pytest.mark.parametrize("name", pyqueue.__all__)
def test_a_public_name_and_its_members_have_a_docstring(name: str) -> None:
    member = getattr(pyqueue, name)
    assert own_docstring(member), f"{name} has no docstring"
    missing = [f"{name}.{attribute}" for attribute, value in public_members(member) if not own_docstring(value)]
    assert not missing


def own_docstring(value: object) -> str | None:
    """The docstring written at the object; what a dataclass or an enum generates does not count."""
    text = getattr(value, "__doc__", None)
    if isinstance(value, type) and text and text.startswith(f"{value.__name__}("):
        return None
    return text


def public_members(cls: type) -> Iterator[tuple[str, object]]:
    """Methods and properties that a class defines itself, without pydantic's and dataclasses' generated ones."""
    for name, value in vars(cls).items():
        if isinstance(value, classmethod | staticmethod):
            value = value.__func__
        if name.startswith("_") or not (inspect.isfunction(value) or isinstance(value, property)):
            continue
        yield name, value
