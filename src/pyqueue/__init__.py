"""pyqueue: the asyncio job queue for Python with BullMQ's semantics and data model.

The public names, and nothing else: no logic, no optional dependency. Everything under a leading
underscore is private. `Queue` produces jobs, `Worker` runs them; the rest are their values.
"""

from pyqueue._flows.children import Dependencies, DependencyPage
from pyqueue._flows.listing import Dependency, DependencyRange
from pyqueue._store.adding import AddStatus
from pyqueue._store.children import ChildCounts
from pyqueue._worker.context import Context
from pyqueue._worker.health import WorkerHealth
from pyqueue._worker.worker import Worker
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
