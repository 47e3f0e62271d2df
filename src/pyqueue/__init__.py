"""pyqueue: the asyncio job queue for Python with BullMQ's semantics and data model.

The public names, and nothing else: no optional dependency. Everything under a leading underscore is private. `Queue`
produces jobs, `Worker` runs them; the rest are their values.

A name is imported from its module when it is first asked for (PEP 562), so that a program loads what it uses: a
producer no worker, neither of them flows, events or processes. Errors, which everything needs, are loaded at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from pyqueue.errors import (
    AddOutcomeUnknown,
    BulkAddError,
    ConfigurationError,
    DelayJob,
    FailedChildren,
    FlowCycle,
    JobError,
    JobFailed,
    JobNotFound,
    JobNotInState,
    LockError,
    LockLost,
    LockMissing,
    OwnedByScheduler,
    ParentNotFound,
    ParentNotReplaceable,
    PayloadError,
    PendingChildren,
    ProcessCrashed,
    PyqueueError,
    QueueHasActiveJobs,
    QueueNotPaused,
    RateLimitExceeded,
    RateLimitJob,
    RedisRefused,
    ReleaseJob,
    SchedulerError,
    SchedulerIdTaken,
    SchedulerSlotsBusy,
    ScriptError,
    StaleExchange,
    UnknownOption,
    Unrecoverable,
    WaitForChildren,
)

if TYPE_CHECKING:
    from pyqueue._flows.children import Dependencies, DependencyPage
    from pyqueue._flows.listing import Dependency, DependencyRange
    from pyqueue._store.adding import AddStatus
    from pyqueue._store.children import ChildCounts
    from pyqueue._worker.context import Context
    from pyqueue._worker.health import WorkerHealth
    from pyqueue._worker.worker import Worker
    from pyqueue.events import QueueEvents
    from pyqueue.explanation import Explanation, PendingChild
    from pyqueue.flow import FlowJob, FlowProducer, JobNode
    from pyqueue.job import Job
    from pyqueue.limiter import Consumed, RateLimiter
    from pyqueue.options import Backoff, Deduplication, JobOptions, JobSpec, RateLimit, Retention
    from pyqueue.processes import InProcess, ProcessJob
    from pyqueue.queue import Queue
    from pyqueue.repeat import RepeatOptions
    from pyqueue.runner import run_worker
    from pyqueue.states import JobState
    from pyqueue.views.schedulers import Scheduler

__all__ = [
    "AddOutcomeUnknown",
    "AddStatus",
    "Backoff",
    "BulkAddError",
    "ChildCounts",
    "ConfigurationError",
    "Consumed",
    "Context",
    "Deduplication",
    "DelayJob",
    "Dependencies",
    "Dependency",
    "DependencyPage",
    "DependencyRange",
    "Explanation",
    "FailedChildren",
    "FlowCycle",
    "FlowJob",
    "FlowProducer",
    "InProcess",
    "Job",
    "JobError",
    "JobFailed",
    "JobNode",
    "JobNotFound",
    "JobNotInState",
    "JobOptions",
    "JobSpec",
    "JobState",
    "LockError",
    "LockLost",
    "LockMissing",
    "OwnedByScheduler",
    "ParentNotFound",
    "ParentNotReplaceable",
    "PayloadError",
    "PendingChild",
    "PendingChildren",
    "ProcessCrashed",
    "ProcessJob",
    "PyqueueError",
    "Queue",
    "QueueEvents",
    "QueueHasActiveJobs",
    "QueueNotPaused",
    "RateLimit",
    "RateLimitExceeded",
    "RateLimitJob",
    "RateLimiter",
    "RedisRefused",
    "ReleaseJob",
    "RepeatOptions",
    "Retention",
    "Scheduler",
    "SchedulerError",
    "SchedulerIdTaken",
    "SchedulerSlotsBusy",
    "ScriptError",
    "StaleExchange",
    "UnknownOption",
    "Unrecoverable",
    "WaitForChildren",
    "Worker",
    "WorkerHealth",
    "run_worker",
]

#: Where names come from that are not imported yet; the imports above say the same to type checkers.
_HOMES: Final = {
    "AddStatus": "pyqueue._store.adding",
    "Backoff": "pyqueue.options",
    "ChildCounts": "pyqueue._store.children",
    "Consumed": "pyqueue.limiter",
    "Context": "pyqueue._worker.context",
    "Deduplication": "pyqueue.options",
    "Dependencies": "pyqueue._flows.children",
    "Dependency": "pyqueue._flows.listing",
    "DependencyPage": "pyqueue._flows.children",
    "DependencyRange": "pyqueue._flows.listing",
    "Explanation": "pyqueue.explanation",
    "FlowJob": "pyqueue.flow",
    "FlowProducer": "pyqueue.flow",
    "InProcess": "pyqueue.processes",
    "Job": "pyqueue.job",
    "JobNode": "pyqueue.flow",
    "JobOptions": "pyqueue.options",
    "JobSpec": "pyqueue.options",
    "JobState": "pyqueue.states",
    "PendingChild": "pyqueue.explanation",
    "ProcessJob": "pyqueue.processes",
    "Queue": "pyqueue.queue",
    "QueueEvents": "pyqueue.events",
    "RateLimit": "pyqueue.options",
    "RateLimiter": "pyqueue.limiter",
    "RepeatOptions": "pyqueue.repeat",
    "Retention": "pyqueue.options",
    "Scheduler": "pyqueue.views.schedulers",
    "Worker": "pyqueue._worker.worker",
    "WorkerHealth": "pyqueue._worker.health",
    "run_worker": "pyqueue.runner",
}

if not TYPE_CHECKING:  # a checker would take any name for one that exists

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value  # the next access does not come here
        return value

    def __dir__() -> list[str]:
        return __all__
