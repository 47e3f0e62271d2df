"""Modules that most programs do without, imported when something of them is first used.

An import costs every program that starts; schedulers, explanations and embedded servers concern few. Whoever needs such
a module by itself says so at the top of its file, twice: to type checkers, and at run time.

    if TYPE_CHECKING:
        from pyqueue import explanation
    else:
        explanation = LazyModule("pyqueue.explanation")

    explanation.explain(...)

Not for what runs with every job: each access looks the module up, about 0.5 us. The public names are lazy in
`pyqueue/__init__.py`, which is a module itself and needs no stand-in.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


class LazyModule:
    """Stands for a module; its attributes are the module's."""

    def __init__(self, name: str) -> None:
        """name: absolute, as in `pyqueue.explanation`."""
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(import_module(self._name), attribute)

    def __repr__(self) -> str:
        return f"<LazyModule {self._name}>"
