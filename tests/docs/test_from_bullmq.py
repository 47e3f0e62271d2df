"""docs/how-to/from-bullmq.md names everything that BullMQ exports, and nothing of ours that does not exist.

What BullMQ has is in `bullmq_api.json`, which `bullmq_api.mjs` prints by reflection on the installed package; its
options and events are types without a trace at run time, and are listed here.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, get_args

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

import pyqueue
from pyqueue import events, options, worker_options
from pyqueue._worker.worker import WorkerEvent
from tests.support.node import skip_without_node

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
PAGE: Final = ROOT / "docs" / "how-to" / "from-bullmq.md"
INTEROP: Final = ROOT / "tests" / "interop"
API: Final[dict[str, Any]] = json.loads((HERE / "bullmq_api.json").read_text())

#: Section -> the classes whose members it lists one by one. The other classes are a name each.
CLASSES: Final = {
    "Queue": ["Queue", "QueueGetters", "QueueBase"],
    "Job": ["Job"],
    "Worker": ["Worker"],
    "Queue events": ["QueueEvents", "QueueEventsProducer"],
    "FlowProducer": ["FlowProducer"],
}
OPTIONS: Final = {
    "Queue options": "connection prefix defaultJobOptions streams.events.maxLen skipMetasUpdate skipVersionCheck"
    " skipWaitingForReady telemetry",
    "Job options": "jobId delay priority attempts backoff backoff.type backoff.delay backoff.jitter lifo timestamp"
    " removeOnComplete removeOnFail removeOnComplete.age removeOnComplete.count removeOnComplete.limit keepLogs"
    " stackTraceLimit sizeLimit parent deduplication deduplication.id deduplication.ttl deduplication.extend"
    " deduplication.replace deduplication.keepLastIfActive removeDependencyOnFailure failParentOnFailure"
    " continueParentOnFailure ignoreDependencyOnFailure telemetry debounce repeat",
    "Scheduler options": "every pattern tz offset limit startDate endDate immediately repeatStrategy",
    "Worker options": "connection prefix name autorun concurrency limiter limiter.max limiter.duration lockDuration"
    " lockRenewTime stalledInterval maxStalledCount maxStartedAttempts drainDelay runRetryDelay maximumRateLimitDelay"
    " removeOnComplete removeOnFail settings.backoffStrategy metrics.maxDataPoints skipLockRenewal skipStalledCheck"
    " useWorkerThreads workerForkOptions workerThreadsOptions telemetry",
    "Worker events": "active closed closing completed drained error failed paused progress ready resumed stalled"
    " lockRenewalFailed locksRenewed",
    "Queue events": "active added cleaned completed deduplicated delayed drained duplicated error failed paused"
    " progress removed resumed retries-exhausted stalled waiting waiting-children lastEventId blockingTimeout autorun"
    " maxEvents",
    "FlowProducer": "prefix queuesOptions",
}

_CODE: Final = re.compile(r"`([^`]+)`")
_OPTION: Final = re.compile(r"(\w+)\((\w+)=\)")
#: Python's own, which the right column may mention.
_SYNTAX: Final = {"async with", "async for", "name", "data", "options", "timeout"}


class Row(NamedTuple):
    """A row of a table: code in its columns."""

    section: str
    theirs: list[str]
    ours: list[str]
    default: str | None
    """The third column without backticks; None if the table has none or it is empty."""


def rows() -> Iterator[Row]:
    section = ""
    for line in PAGE.read_text().splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        if line.startswith("| ") and not line.startswith("| BullMQ "):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            default = cells[2].strip("`") if len(cells) > 2 and cells[2] else None
            yield Row(section, _CODE.findall(cells[0]), _CODE.findall(cells[1]), default)


ROWS: Final = list(rows())


def prose() -> str:
    """The page without its programs."""
    return re.sub(r"```.*?```", "", PAGE.read_text(), flags=re.DOTALL)


def listed() -> dict[str, set[str]]:
    """Section -> BullMQ's names in it."""
    found: dict[str, set[str]] = defaultdict(set)
    for row in ROWS:
        found[row.section].update(row.theirs)
    return found


@pytest.mark.parametrize("section", CLASSES)
def test_every_member_of_a_class_is_listed(section: str) -> None:
    classes = [API["classes"][name] for name in CLASSES[section]]
    members = {member for each in classes for member in each["members"] + each["static"]}
    assert members - listed()[section] == set()


@pytest.mark.parametrize("section", CLASSES)
def test_no_member_is_listed_that_is_gone(section: str) -> None:
    classes = [API["classes"][name] for name in CLASSES[section]]
    members = {member for each in classes for member in each["members"] + each["static"]}
    others = set(OPTIONS.get(section, "").split()) | {"QueueEventsProducer", "debounced"}
    assert listed()[section] - members - others == set()


@pytest.mark.parametrize("section", OPTIONS)
def test_every_option_and_event_is_listed(section: str) -> None:
    assert set(OPTIONS[section].split()) - listed()[section] == set()


def test_every_export_is_listed() -> None:
    named = {name.partition(".")[0] for name in _CODE.findall(prose())}
    assert set(API["exports"]) - named == set()


def test_every_error_code_is_listed() -> None:
    codes = {name for name in API["enums"]["ErrorCode"] if name.isalpha()}
    assert {f"ErrorCode.{name}" for name in codes} - listed()["Errors"] == set()


def roots() -> dict[str, Any]:
    """What the right column begins with -> the object."""
    found: dict[str, Any] = {name: getattr(pyqueue, name) for name in pyqueue.__all__}
    for module in (events, options, worker_options):
        found |= {name: value for name, value in vars(module).items() if inspect.isclass(value)}
    return found | {
        "queue": pyqueue.Queue("q", connection="memory://from-bullmq"),
        "job": pyqueue.Job,
        "worker": pyqueue.Worker("q", connection="memory://from-bullmq"),
        "flows": pyqueue.FlowProducer,
        "events": pyqueue.QueueEvents,
    }


def ours() -> list[str]:
    """Every name of ours on the page, outside of its programs."""
    in_tables = [name for row in ROWS for name in row.ours]
    beside = [line for line in prose().splitlines() if not line.startswith("|")]
    return [*in_tables, *(name for line in beside for name in _CODE.findall(line) if name not in API["exports"])]


def default_of(owner: Any, name: str) -> Any:
    """Default of an option; KeyError if there is no such option, PydanticUndefined if it is required."""
    if issubclass(owner, BaseModel):
        return owner.model_fields[name].get_default(call_default_factory=True)
    default = inspect.signature(owner).parameters[name].default
    return PydanticUndefined if default is inspect.Parameter.empty else default


def test_every_name_of_ours_exists() -> None:
    known, unknown = roots(), []
    for name in ours():
        option = _OPTION.fullmatch(name)
        try:
            if option:
                default_of(known[option[1]], option[2])
            elif name.startswith('"'):
                assert name.strip('"') in get_args(WorkerEvent)
            elif name not in _SYNTAX:
                first, *rest = name.split(".")
                found = known[first]
                for part in rest:
                    found = getattr(found, part)
        except (KeyError, AttributeError, AssertionError):
            unknown.append(name)
    assert unknown == []


def test_the_defaults_are_ours() -> None:
    known = roots()
    pairs = [(row, _OPTION.fullmatch(name)) for row in ROWS if row.default is not None for name in row.ours]
    told = [(option[0], row.default, default_of(known[option[1]], option[2])) for row, option in pairs if option]
    assert len(told) > 40
    wrong = [(name, text, default) for name, text, default in told if ast.literal_eval(text or "") != default]
    assert wrong == []


@pytest.mark.timeout(60)
@pytest.mark.needs_node
def test_the_list_is_that_of_the_installed_package() -> None:
    """After an update of BullMQ: node tests/docs/bullmq_api.mjs tests/interop > tests/docs/bullmq_api.json."""
    skip_without_node(INTEROP / "node_modules" / "bullmq")
    command = ["node", str(HERE / "bullmq_api.mjs"), str(INTEROP)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=50).stdout
    assert json.loads(printed) == API
