"""The page docs/reference/api.md, made of the public classes: signatures and docstrings of their members.

    python -m tests.docs.api_page     writes it anew

What stands above the lists is in `api_head.md`. `test_api_page` compares the page with what is made here.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias, get_args

import pyqueue
from pyqueue.events import AnyEvent
from pyqueue.job import Fetched
from pyqueue.queue import QueueMeta
from pyqueue.states import JobState
from pyqueue.views.jobs import Jobs
from pyqueue.views.limits import CurrentLimits, Limits
from pyqueue.views.metrics import Metrics, MetricSeries
from pyqueue.views.schedulers import Schedulers

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "reference" / "api.md"
HEAD: Final = Path(__file__).with_name("api_head.md")

#: Headings and classes (or functions), in the order of the page.
OBJECTS: Final[tuple[tuple[str, Any], ...]] = (
    ("Queue", pyqueue.Queue),
    ("queue.jobs", Jobs),
    ("queue.schedulers", Schedulers),
    ("queue.limits", Limits),
    ("queue.metrics", Metrics),
    ("Job", pyqueue.Job),
    ("JobSpec", pyqueue.JobSpec),
    ("Worker", pyqueue.Worker),
    ("Context", pyqueue.Context),
    ("run_worker", pyqueue.run_worker),
    ("InProcess", pyqueue.InProcess),
    ("QueueEvents", pyqueue.QueueEvents),
    ("FlowProducer", pyqueue.FlowProducer),
    ("FlowJob", pyqueue.FlowJob),
    ("RateLimiter", pyqueue.RateLimiter),
)
#: Values that the objects above take and return.
VALUES: Final[tuple[type[Any], ...]] = (
    pyqueue.AddStatus,
    pyqueue.ChildCounts,
    pyqueue.Consumed,
    CurrentLimits,
    pyqueue.Dependencies,
    pyqueue.Dependency,
    pyqueue.DependencyPage,
    pyqueue.DependencyRange,
    pyqueue.Explanation,
    pyqueue.JobNode,
    Fetched,
    JobState,
    MetricSeries,
    pyqueue.PendingChild,
    pyqueue.ProcessJob,
    QueueMeta,
    pyqueue.Scheduler,
    pyqueue.WorkerHealth,
    *get_args(AnyEvent),
)
#: Options have a page of their own.
OPTIONS: Final = ("Backoff", "Deduplication", "JobOptions", "RateLimit", "RepeatOptions", "Retention")

#: Names of the library's own in annotations, and what a reader knows them as.
_SPELLED: Final = {
    "_JobList[DataT, ResultT]": "list[Job[DataT, ResultT]]",
    "_Rows": "list[str]",
    "_Ids": "list[str]",
    "Page": "list[Scheduler]",
    "str | AnyRedis | Connection | None": "ConnectionSource",
    "children.ChildCounts": "ChildCounts",
    "explanation.Explanation": "Explanation",
    "listing.DependencyRange": "DependencyRange",
    "snapshots.WorkerHealth": "WorkerHealth",
}
#: Parameters that only tests need.
_LEFT_OUT: Final = frozenset({"self", "cls", "clock"})
#: Classes whose instances the library makes.
_MADE_BY_US: Final = frozenset({"Job", "Context", "Jobs", "Schedulers", "Limits", "Metrics"})


Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


class Member(NamedTuple):
    """A method or an attribute."""

    spelling: str
    meaning: str

    @property
    def item(self) -> str:
        """Its line in a list."""
        return f"- `{self.spelling}`: {self.meaning}" if self.meaning else f"- `{self.spelling}`"

    @property
    def short(self) -> str:
        """The same inside a sentence."""
        return f"`{self.spelling}` ({self.meaning.rstrip('.')})" if self.meaning else f"`{self.spelling}`"


def render() -> str:
    """The page."""
    objects = (_object(heading, thing) for heading, thing in OBJECTS)
    return "\n".join((HEAD.read_text(), *objects, _values(), _errors()))


def _object(heading: str, thing: Any) -> str:
    about = [] if inspect.isfunction(thing) else [_line(inspect.getdoc(thing) or "")]
    return "\n\n".join((f"## {heading}", *about, "\n".join(member.item for member in _members(thing)))) + "\n"


def _members(thing: Any) -> Iterator[Member]:
    if inspect.isfunction(thing):
        yield _method(_parsed(thing), _names(thing))
        return
    yield from _constructor(thing)
    for cls in _classes(thing):
        own = _parsed(cls)
        yield from _attributes(own)
        for function in own.body:
            if isinstance(function, Function) and _is_shown(function):
                yield _method(function, _names(cls))
    if "__aiter__" in vars(thing):
        yield Member("async for event in ...", _line(inspect.getdoc(thing.__aiter__) or ""))


def _classes(thing: type[Any]) -> list[type[Any]]:
    """The library's classes that it is made of, the base first: attributes are there."""
    return [cls for cls in reversed(thing.__mro__) if cls.__module__.startswith("pyqueue")]


def _names(thing: Any) -> dict[str, Any]:
    return dict(vars(sys.modules[thing.__module__]))


def _constructor(thing: type[Any]) -> Iterator[Member]:
    if thing.__name__ in _MADE_BY_US:
        return
    for function in _parsed(thing).body:
        if isinstance(function, ast.FunctionDef) and function.name == "__init__":
            yield Member(thing.__name__ + _signature(function, _names(thing)), _doc(function))


def _attributes(cls: ast.ClassDef) -> Iterator[Member]:
    """Fields, properties, and what the constructor sets and explains."""
    yield from _fields(cls.body, "")
    for function in cls.body:
        if not isinstance(function, ast.FunctionDef):
            continue
        if function.name == "__init__":
            yield from _fields(function.body, "self.")
        elif not function.name.startswith("_") and "property" in _decorators(function):
            yield Member(_typed(function.name, function.returns), _doc(function))


def _fields(body: list[ast.stmt], prefix: str) -> Iterator[Member]:
    """Assignments with a docstring below them; in a class those without, too."""
    for field, below in zip(body, [*body[1:], None], strict=True):
        if not isinstance(field, ast.AnnAssign | ast.Assign):
            continue
        annotation = field.annotation if isinstance(field, ast.AnnAssign) else None
        target = ast.unparse(field.target if isinstance(field, ast.AnnAssign) else field.targets[0])
        name = target.removeprefix(prefix)
        meaning = ""
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            meaning = _line(str(below.value.value))
        if target.startswith(prefix) and not name.startswith("_") and (meaning or not prefix):
            yield Member(_typed(name, annotation), meaning)


def _typed(name: str, annotation: ast.expr | None) -> str:
    text = "" if annotation is None else _spelled(ast.unparse(annotation)).strip("'")
    final = re.fullmatch(r"Final(?:\[(.*)\])?", text)
    kind = (final[1] or "") if final else text
    return f"{name}: {kind}" if kind else name


def _method(function: Function, names: dict[str, Any]) -> Member:
    words = ""
    if isinstance(function, ast.AsyncFunctionDef):
        words = "async for ... in " if any(isinstance(node, ast.Yield) for node in ast.walk(function)) else "await "
    return Member(f"{words}{function.name}{_signature(function, names)}", _doc(function))


def _is_shown(function: Function) -> bool:
    hidden = {"property", "overload", f"{function.name}.setter"}
    return not function.name.startswith("_") and not hidden & _decorators(function)


def _decorators(function: Function) -> set[str]:
    return {ast.unparse(decorator) for decorator in function.decorator_list}


def _signature(function: Function, names: dict[str, Any]) -> str:
    """Parameters and result, as they are written."""
    given = function.args
    without = [None] * (len(given.args) - len(given.defaults))
    parameters = [_parameter(*one, names) for one in zip(given.args, [*without, *given.defaults], strict=True)]
    if given.vararg:
        parameters.append("*" + _parameter(given.vararg, None, names))
    elif given.kwonlyargs:
        parameters.append("*")
    parameters += [_parameter(*one, names) for one in zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    if given.kwarg:
        parameters.append(f"**{given.kwarg.arg}")
    text = ", ".join(filter(None, parameters)).removesuffix(", *")
    result = "" if function.returns is None else f" -> {_annotation(function.returns)}"
    return _spelled(f"({text}){result}".removesuffix(" -> None"))


def _parameter(parameter: ast.arg, default: ast.expr | None, names: dict[str, Any]) -> str:
    if parameter.arg in _LEFT_OUT:
        return ""
    annotation = "" if parameter.annotation is None else f": {_annotation(parameter.annotation)}"
    return parameter.arg + annotation + ("" if default is None else f" = {_value(default, names)}")


def _annotation(annotation: ast.expr) -> str:
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return annotation.value
    return ast.unparse(annotation)


def _value(default: ast.expr, names: dict[str, Any]) -> str:
    """A default as it is written, unless that needs a constant of the module: then its value."""
    used = {node.id for node in ast.walk(default) if isinstance(node, ast.Name)}
    written = ast.unparse(default)
    return repr(eval(written, names)) if any(name.startswith("_") or name.isupper() for name in used) else written


def _spelled(text: str) -> str:
    for ours, known in _SPELLED.items():
        text = re.sub(rf"(?<![\w.]){re.escape(ours)}(?!\w)", known, text)
    return text


def _values() -> str:
    parts = []
    for cls in sorted(set(VALUES), key=lambda one: one.__name__):
        members = [member for base in _classes(cls) for member in _attributes(_parsed(base))]
        fields = "; ".join(member.short for member in members)
        parts.append(f"- **{cls.__name__}**: {_line(inspect.getdoc(cls) or '')} {fields}.")
    links = ", ".join(f"`{name}`" for name in OPTIONS)
    return "\n".join(("## Values\n", *parts, f"\nOptions ({links}) are in [Options](options.md).\n"))


def _errors() -> str:
    rows = ["| error | is a | says |", "|---|---|---|"]
    for kind in (getattr(pyqueue, name) for name in pyqueue.__all__):
        if isinstance(kind, type) and issubclass(kind, Exception):
            bases = ", ".join(f"`{base.__name__}`" for base in kind.__bases__)
            told = ", ".join(f"`.{attribute}`" for attribute in _told_by(kind))
            rows.append(f"| `{kind.__name__}` | {bases} | {_line(kind.__doc__ or '')}{f' {told}' if told else ''} |")
    return "\n".join(("## Errors\n", *rows)) + "\n"


def _told_by(kind: type[Exception]) -> list[str]:
    """The attributes that an error has of its own."""
    tree = _parsed(kind)
    stored = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)}
    declared = {ast.unparse(node.target) for node in tree.body if isinstance(node, ast.AnnAssign)}
    return sorted(name for name in stored | declared if not name.startswith("_"))


def _doc(function: Function) -> str:
    return _line(ast.get_docstring(function) or "")


def _parsed(thing: Any) -> Any:
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(thing))).body
    return tree


def _line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("docs/reference/options.md", "[Options](options.md)")


if __name__ == "__main__":
    PAGE.write_text(render())
