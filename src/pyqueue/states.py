"""The states of a job and every way from one to another.

The strings are BullMQ's. `TRANSITIONS` is the table that documentation and the model-based tests are built from; the
Lua scripts are what enforces it. Imports nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple


class JobState(StrEnum):
    """Where a job is. It is in exactly one of these at any time."""

    WAITING = "waiting"
    """Ready to run, first in, first out. The jobs of a paused queue are waiting, too."""
    ACTIVE = "active"
    """Claimed by a worker, under a lock."""
    DELAYED = "delayed"
    """Ready at a time in the future: delayed by its producer, its backoff or its processor."""
    PRIORITIZED = "prioritized"
    """Ready to run, ordered by priority; served when nothing is waiting."""
    WAITING_CHILDREN = "waiting-children"
    """A parent whose children are not all finished."""
    COMPLETED = "completed"
    """Finished with a return value."""
    FAILED = "failed"
    """Finished with a reason, and no attempt left."""
    UNKNOWN = "unknown"
    """No such job: never added, or removed."""

    def __repr__(self) -> str:
        """As the string that it is, so that counts and messages are easy to read."""
        return repr(self.value)


class Transition(NamedTuple):
    """Where an operation takes a job from, and where to."""

    sources: frozenset[JobState]
    targets: frozenset[JobState]


_S = JobState
_READY = frozenset({_S.WAITING, _S.PRIORITIZED})
_FINISHED = frozenset({_S.COMPLETED, _S.FAILED})
_EXISTING = frozenset(_S) - {_S.UNKNOWN}
_GONE = frozenset({_S.UNKNOWN})
_ACTIVE = frozenset({_S.ACTIVE})
_DELAYED = frozenset({_S.DELAYED})

#: Operation -> where it takes a job from and to; `unknown` as a target removes it.
#: Verbs are those of the scripts and outcomes. An operation on a job in another state changes no state.
TRANSITIONS: Final[Mapping[str, Transition]] = MappingProxyType(
    {
        "add": Transition(_GONE, _READY | _DELAYED | {_S.WAITING_CHILDREN}),
        "claim": Transition(_READY, _ACTIVE),
        "complete": Transition(_ACTIVE, frozenset({_S.COMPLETED}) | _GONE),
        "fail": Transition(_ACTIVE, frozenset({_S.FAILED}) | _GONE),
        "retry": Transition(_ACTIVE, _READY | _DELAYED),
        "delay": Transition(_ACTIVE, _DELAYED),
        "release": Transition(_ACTIVE, _READY),
        "wait_for_children": Transition(_ACTIVE, frozenset({_S.WAITING_CHILDREN})),
        # A stalled job goes to the front of wait, whatever its priority.
        "recover_stalled": Transition(_ACTIVE, frozenset({_S.WAITING})),
        "promote": Transition(_DELAYED, _READY),
        "release_parent": Transition(frozenset({_S.WAITING_CHILDREN}), _READY | _DELAYED),
        # A delayed parent whose child failed with the policy to fail it is made ready, to be failed by a worker.
        "fail_parent": Transition(frozenset({_S.WAITING_CHILDREN, _S.DELAYED}), _READY),
        "reprocess": Transition(_FINISHED, _READY),
        # A finished job goes when others of its kind finish, by the number or the age of those that are kept.
        "retain": Transition(_FINISHED, _GONE),
        "change_priority": Transition(_READY, _READY),
        "change_delay": Transition(_DELAYED, _DELAYED),
        # An active job can be removed only when its lock is gone.
        "remove": Transition(_EXISTING, _GONE),
        "drain": Transition(_READY | _DELAYED, _GONE),
        "clean": Transition(_EXISTING - {_S.WAITING_CHILDREN}, _GONE),
        "obliterate": Transition(_EXISTING - {_S.WAITING_CHILDREN}, _GONE),
    }
)
