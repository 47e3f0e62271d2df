"""The page docs/reference/options.md, made of the option models: names, defaults and docstrings of their fields.

    python -m tests.docs.options_page     writes it anew

`test_options_page` compares the page with what is made here.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from pydantic import BaseModel

from pyqueue.options import Backoff, Deduplication, JobOptions, QueueOptions, RateLimit, Retention
from pyqueue.repeat import RepeatOptions
from pyqueue.worker_options import WorkerOptions

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "reference" / "options.md"

_HEAD: Final = """\
# Options

Every option of jobs, queues, workers and schedulers, with its default. Options are keywords:
`queue.add("welcome", data, delay=5_000)`, `Worker("email", send, concurrency=10)`. Durations are timedeltas or integer
milliseconds; `age` of a retention and `timeout=` of methods are timedeltas or seconds. An option that does not exist is
refused with the name of the nearest one that does, before anything is written. The names in BullMQ are in
[Come from BullMQ](../how-to/from-bullmq.md), classes and methods in [API](api.md).

This page is made of the docstrings (`python -m tests.docs.options_page`); a test compares them.
"""


class Section(NamedTuple):
    """A table: one model."""

    heading: str
    model: type[BaseModel]
    used: str
    """How its options are given."""


SECTIONS: Final = (
    Section(
        "Jobs",
        JobOptions,
        "`queue.add(name, data, ...)`, in nodes of flows, and as `default_job_options=` of a queue",
    ),
    Section(
        "Backoff",
        Backoff,
        "`backoff=Backoff.exponential(1_000, jitter=0.5)`, or as a number, which is a fixed one",
    ),
    Section(
        "Retention",
        Retention,
        "`remove_on_complete=Retention(count=1_000)`, or as `True` (keep none), `False` (keep all) or a count",
    ),
    Section("Deduplication", Deduplication, '`deduplication=Deduplication(id="ada", ttl=60_000)`'),
    Section("Queues", QueueOptions, "`Queue(name, ...)`"),
    Section("Workers", WorkerOptions, "`Worker(name, processor, ...)`"),
    Section("Rate limit", RateLimit, "`limiter=RateLimit(max=100, duration=60_000)`"),
    Section(
        "Schedulers",
        RepeatOptions,
        "`queue.schedulers.upsert(id, ...)`, with `every` or `pattern`; options of the jobs go into `options=`",
    ),
)


class Option(NamedTuple):
    """A row."""

    name: str
    default: str
    meaning: str


def render() -> str:
    """The page."""
    return "\n".join((_HEAD, *(_section(section) for section in SECTIONS)))


def _section(section: Section) -> str:
    (model,) = ast.parse(inspect.getsource(section.model)).body
    assert isinstance(model, ast.ClassDef)
    rows = [
        f"| `{option.name}` | {f'`{option.default}`' if option.default else ''} | {_cell(option.meaning)} |"
        for option in _options(model)
    ]
    head = (f"## {section.heading}", _cell(ast.get_docstring(model) or ""), f"Given as {section.used}.")
    return "\n\n".join((*head, "\n".join(("| option | default | |", "|---|---|---|", *rows)))) + "\n"


def _options(model: ast.ClassDef) -> Iterator[Option]:
    """Its fields, each with the docstring below it."""
    for field, below in zip(model.body, model.body[1:], strict=False):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            default = "" if field.value is None else ast.unparse(field.value)
            yield Option(field.target.id, _grouped(default), str(below.value.value))


def _grouped(default: str) -> str:
    return f"{int(default):_}" if default.isdigit() else default


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(render())
