"""What a producer writes: the queue's settings, once, and jobs, joined into calls that are sent within a deadline."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, TypeVar

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pyqueue._redis.links import Link, is_unsent
from pyqueue._redis.outage import Outage
from pyqueue._store import controlling
from pyqueue._store.adding import MAX_ADDS, AddReply, add_jobs, start_add_jobs
from pyqueue._store.coalescing import AddBuffer
from pyqueue._store.record import AddRow
from pyqueue._store.sender import MAX_IN_FLIGHT, Sender
from pyqueue._store.store import Store
from pyqueue.errors import AddOutcomeUnknown, BulkAddError, PyqueueError
from pyqueue.version import VERSION

#: An add returns or raises within this time. Producers are request handlers: somebody waits for them.
ADD_DEADLINE_S: Final = 9.5
#: One try of an add: a connection that has fallen silent is given up early enough for another try.
ADD_TRY_S: Final = 4.0
#: The length of an event stream that scripts write where there is none (`lua/include/meta.lua`).
_MAX_EVENTS: Final = 10_000

T = TypeVar("T")


class NeverSent(RedisConnectionError):
    """No try of a call came so far that its jobs left, so none of them can be stored.

    There was no connection, or no answer to what goes first, the queue's settings.
    """


def add_failure(error: Exception, *, queue: str, address: str, what: str = "job") -> AddOutcomeUnknown:
    """The error for adds that got no answer; `error` is the last one of their connection, `address` shows no secret."""
    may_be_stored = not isinstance(error, NeverSent)
    # A port without TLS does not answer a handshake: Redis waits for the end of what it takes for a command.
    remedy = "See that Redis runs there" + (", and that the port speaks TLS" if address.startswith("rediss:") else "")
    fact = (
        f"The connection to {address} broke while adding, and retries ran out: the {what} may or may not be stored. "
        "Add it again with the same job_id, which is safe; without a job_id it may then exist twice."
        if may_be_stored
        else f"The {what} was not stored, because it was not sent: {address} could not be reached or did not answer "
        f"within {ADD_DEADLINE_S:g} s. {remedy}; then add it again."
    )
    cause = str(error) or type(error).__name__
    return AddOutcomeUnknown(f"{fact} The last error: {cause}", queue=queue, may_be_stored=may_be_stored)


def bulk_failure(results: Sequence[object], *, what: str) -> BulkAddError:
    """The error for a bulk of which some have failed; `results`: what was added, or the error, for each."""
    errors = [result for result in results if isinstance(result, PyqueueError)]
    unknown = sum(isinstance(error, AddOutcomeUnknown) and error.may_be_stored for error in errors)
    doubt = f"; {unknown} of these may be stored all the same" if unknown else ""
    verb = "was" if len(errors) == 1 else "were"
    fact = f"{len(errors)} of {len(results)} {what} {verb} not {'confirmed as ' if unknown else ''}added{doubt}"
    return BulkAddError(f"{fact}; `results` has the reason of each, such as: {errors[0]}", results=results)


class Departure:
    """Whether the jobs of one call have left in any of its tries, as far as is known."""

    __slots__ = ("is_possible",)

    def __init__(self, *, is_possible: bool) -> None:
        self.is_possible = is_possible

    async def note(self, attempt: Awaitable[T]) -> T:
        """Await a try from where its jobs may leave."""
        try:
            return await attempt
        except BaseException as error:
            self.is_possible |= not is_unsent(error)
            raise

    async def judge(self, sending: Awaitable[T]) -> T:
        """Await all tries; NeverSent where Redis was not reached by any."""
        try:
            return await sending
        except (RedisConnectionError, RedisTimeoutError) as error:
            if self.is_possible:
                raise
            raise NeverSent(str(error)) from error


class Producer:
    """Adds jobs to one queue. `described` is called once the queue's settings were written."""

    def __init__(
        self, store: Store, outage: Outage, *, max_events: int, is_described: bool, described: Callable[[], None]
    ) -> None:
        self.store: Final = store
        self.sender = Sender(outage, lanes=MAX_IN_FLIGHT)
        self.buffer: Final[AddBuffer[AddRow]] = AddBuffer(partial(_AddCall, self), limit=MAX_ADDS)
        """Where callers leave what they add, and get its answer."""
        self.is_described = is_described
        """Whether the settings need not be written any more."""
        self._is_silent = is_described
        self._version = f"pyqueue:{VERSION}"
        self._max_events = max_events
        self._described = described

    async def describe(self, timeout_s: float | None = None) -> None:
        """Write the queue's settings, once. One round trip."""
        if self.is_described:
            return
        await controlling.write_meta(
            self.store, max_events=self._max_events, version=self._version, timeout_s=timeout_s
        )
        self.is_described = True
        self._described()

    def settings_gone(self) -> None:
        """They were deleted with the queue. The length of the stream is written again if it is not what scripts put
        there; the version is not, as BullMQ tells its own only when a queue is constructed."""
        self._version = ""
        self.is_described = self._is_silent or self._max_events == _MAX_EVENTS


class _AddCall:
    """One call of a producer's buffer, sent again with the same number after a lost reply.

    Who has waited in an outage for the calls before theirs has less time left, so nobody needs a timer.
    """

    __slots__ = ("_began", "_deadline", "_link", "_number", "_producer", "_rows")

    def __init__(self, producer: Producer, rows: Sequence[AddRow], since: float) -> None:
        self._producer = producer
        self._rows = rows
        self._deadline = since + ADD_DEADLINE_S
        self._number = producer.sender.next_number()
        self._began: float | None = None
        self._link: Link | None = None

    @property
    def is_followable(self) -> bool:
        return self._link is not None and self._link.is_followable

    def launch(self, told: Callable[[AddReply | Exception], None], behind: _AddCall | None) -> bool:
        producer, sender = self._producer, self._producer.sender
        if not (producer.is_described and sender.is_up):
            return False
        self._began = time.monotonic()
        self._link = start_add_jobs(
            producer.store,
            self._rows,
            told,
            sender=sender.name_of(self._number),
            sequence=self._number,
            timeout_s=ADD_TRY_S,
            behind=None if behind is None else behind._link,
        )
        return self._link is not None

    async def send(self, failure: Exception | None) -> AddReply:
        departure = Departure(is_possible=failure is not None)
        attempt = partial(self._try, departure)
        left_s = self._deadline - time.monotonic()
        return await departure.judge(
            self._producer.sender.send(
                attempt, number=self._number, failure=failure, began=self._began, timeout_s=left_s
            )
        )

    async def _try(self, departure: Departure, sender: str, sequence: int) -> AddReply:
        # The connection keeps the bound of a try, which is a third of the cost of a timer around it.
        producer = self._producer
        until = time.monotonic() + producer.sender.bound_s(ADD_TRY_S, self._deadline)
        await producer.describe(until - time.monotonic())
        left_s = max(0.0, until - time.monotonic())
        return await departure.note(
            add_jobs(producer.store, self._rows, sender=sender, sequence=sequence, timeout_s=left_s)
        )
