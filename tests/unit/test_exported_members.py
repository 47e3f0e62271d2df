"""The public names: sorted, present, documented, and nothing besides them."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator

import pytest

import pyqueue


def test_all_is_sorted() -> None:
    assert list(pyqueue.__all__) == sorted(pyqueue.__all__)


def test_all_names_everything_public_in_the_package() -> None:
    present = {
        name
        for name, value in vars(pyqueue).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert present == set(pyqueue.__all__)


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
