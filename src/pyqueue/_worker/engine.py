"""The engine: exchanges with Redis, each of which settles what has finished and claims what can start.

    Agenda (what is to be said) -> Dispatch (launch) -> arrived -> land: Confirmations (codes), Intake (jobs) -> ...

An exchange is launched by what gives the occasion, without a turn of the event loop in between: the end of the last
running job, or the reply to the exchange before. `run` does it on all other occasions. What cannot fly at once is
grounded: `run` sends it the long way (again after a lost reply), under the same number. The next exchange
leaves before the reply to the last one is landed, if there is something to say, so that Redis and the event loop work
at the same time. It follows one that is still in flight, if it is a full one: then Redis finds it when it is done with
that. Nothing waits for company: what finishes while an exchange is in flight goes into the next. Outcomes wait in
the outbox until a reply confirms them. Nothing else in the worker claims or settles.

Modes: ready (work may be there: free slots are worth a claim) -> drained (a claim came back short; with nothing to be
settled, the waiter blocks on the marker, with a claim that stands behind it) -> ready (woken). A limited, paused or
closing engine settles and does not claim; a claim in flight that meets a pause or the closing is given back. A closing
engine ends when nothing is left in its hands.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import anyio

from pyqueue._redis.commands import NothingRan
from pyqueue._redis.links import Link
from pyqueue._redis.outage import Outage, is_outage
from pyqueue._store.settling import Claimed, ClaimRequest, ExchangeReply
from pyqueue._store.store import Store
from pyqueue._worker.agenda import Agenda
from pyqueue._worker.confirmations import Confirmations
from pyqueue._worker.dispatch import Dispatch
from pyqueue._worker.events import Callbacks
from pyqueue._worker.flights import Flight, Landing
from pyqueue._worker.held import Held
from pyqueue._worker.intake import Intake
from pyqueue._worker.iterations import Iterations
from pyqueue._worker.leases import Leases
from pyqueue._worker.marker import OVERDUE_S
from pyqueue._worker.outbox import Outbox
from pyqueue._worker.running_job import RunningJob
from pyqueue._worker.slots import Slots
from pyqueue._worker.standing import StandingClaim
from pyqueue._worker.supply import Supply
from pyqueue.errors import RedisRefused
from pyqueue.outcomes import RateLimited


class Engine:
    """One worker's exchanges. `claim` is the request that every exchange repeats with other sizes."""

    def __init__(
        self,
        store: Store,
        claim: ClaimRequest,
        *,
        slots: Slots,
        leases: Leases,
        callbacks: Callbacks,
        confirmations: Confirmations,
        iterations: Iterations,
        outage: Outage,
        make_job: Callable[[Claimed], RunningJob],
        max_limit_ms: int,
    ) -> None:
        self.was_connected = False
        """An exchange has succeeded before."""
        self.is_blocking = False
        """The waiter is in a pop that may take a marker."""
        self._slots = slots
        self._leases = leases
        self._callbacks = callbacks
        self._confirmations = confirmations
        self._iterations = iterations
        self._outage = outage
        self.supply: Final = Supply(self.changed, max_limit_ms)
        """What is known of jobs to come."""
        self._outbox = Outbox()
        self._dispatch = Dispatch(store, outage, leases, landed=self._take, failed=callbacks.report)
        self._flying = self._dispatch.flying
        self._standing = StandingClaim(store, outage, leases, self._stood)
        self.agenda: Final = Agenda(
            claim,
            slots=slots,
            outbox=self._outbox,
            supply=self.supply,
            standing=self._standing,
            dispatch=self._dispatch,
            outage=outage,
        )
        """What is to be said next."""
        self._intake = Intake(make_job, slots=slots, leases=leases, confirmations=confirmations)
        self._grounded: deque[tuple[Flight, Exception | None]] = deque()  # to be sent by `run`; why it failed before
        self._landings: deque[Landing] = deque()  # to be landed by `run`
        self._defect: BaseException | None = None  # to be raised by `run`
        self._is_parked = False  # `run` waits for something to do
        self._is_running = False
        self._is_turn_due = False
        self._pause_s = 0.0
        self._announced_drained = False
        self._changed = asyncio.Event()
        self._drained = asyncio.Event()

    async def run(self) -> None:
        """Exchange until closing and empty-handed."""
        self._is_running = True
        try:
            while await self._step():
                if self._defect is not None:
                    raise self._defect
        finally:
            self._is_running = False
        self.supply.silence()

    async def _step(self) -> bool:
        """What only `run` can do: everything that waits. False at the end."""
        if self._landings:
            await self._land_iterations()
        elif self._flying:
            await self._park()
        elif self._pause_s:
            await anyio.sleep(self._pause_s)
            self._pause_s = 0.0
        elif self._grounded:
            await self._fly(*self._grounded.popleft())
        elif not self._go_on():
            if self.agenda.is_closing and self._is_empty_handed():
                return False
            await self._park()
        return True

    async def _park(self) -> None:
        self._look_for_work()  # what was to be settled may have been let go
        self._is_parked = True
        try:
            await self._changed.wait()
        finally:
            self._is_parked = False
        self._changed.clear()

    # What the waiter needs.

    async def wait_drained(self) -> None:
        """Wait until a claim would be in vain unless something happens in Redis, and there is nothing to settle.

        Exchanges that settle claim as well: a pop would be no better than those, and no claim may stand behind it yet.
        """
        while not self._drained.is_set():  # it may have been cleared again before the waiter's turn came
            await self._drained.wait()

    def stand_by(self, link: Link, block_s: float) -> bool:
        """Send a claim for all free slots behind the pop that has just left on this connection, for `block_s`.

        Whatever the pop brings is then the claim's business. False if none was sent: what is not settled or not landed
        is active in Redis and has no slot here, and what will be due soon would find the slots reserved.
        """
        if self.unsettled or self._landings or self.supply.is_ready or self.supply.rings_in_s <= block_s + OVERDUE_S:
            return False
        request = self.agenda.standing_claim()
        if request is None or not self._standing.send(request, link, block_s):
            return False
        self._look_for_work()
        return True

    def recall(self) -> None:
        """The pop is about to be cut off: learn what became of the claim behind it."""
        flight = self._standing.recall()
        if flight is not None:
            self.agenda.rearm = True  # the pop may have its reply, which is left to the claim
            self._ground(flight, None)

    def _stood(self, flight: Flight, answer: ExchangeReply | Exception) -> None:
        """The pop has ended, and the claim behind it has its answer."""
        self.agenda.claiming += flight.request.jobs
        self.supply.heard()
        # While `run` is busy an exchange may be under way the long way, where no other may overtake it.
        self._take(flight._replace(wakes=self.supply.wakes), answer, is_occasion=self._is_parked)

    def marker_popped(self) -> None:
        """The base marker was taken: work is ready, and nobody else will be told."""
        if self._slots.free <= 0 or self.agenda.is_stopped:
            self.agenda.rearm = True
        self.supply.wake()
        if not self._flying and self._may_launch():
            self._guarded(self._go_on)  # a turn of the event loop earlier than `run`, for which somebody waits

    def hold_back(self, *, closing: bool = False) -> None:
        """Claim nothing from now on, until resumed; what only this worker waits for is left to others."""
        self.agenda.is_closing |= closing
        self.agenda.is_paused |= not closing
        self.agenda.rearm |= self.supply.knows_delayed
        self._give_back(self._slots.withdraw())
        self.changed()

    def _give_back(self, jobs: list[Held]) -> None:
        self._outbox.give_back(jobs, are_last=self.agenda.claiming <= 0)

    def resume(self) -> None:
        """Claim again after a pause."""
        self.agenda.is_paused = False
        self.supply.wake()

    def marker_lost(self) -> None:
        """A pop was cut off, with or without a marker."""
        self.agenda.rearm = True
        self.changed()

    # What slots, leases and the worker need.

    def changed(self) -> None:
        """Something that the plan depends on has changed: plan again."""
        self._look_for_work()
        self._changed.set()

    def _look_for_work(self) -> None:
        waits = self.agenda.is_stopped or self._standing.jobs > 0
        is_busy = self.unsettled > 0 or len(self._landings) > 0
        if self.supply.is_ready or waits or is_busy or self.supply.is_limited:
            self._drained.clear()
        else:
            self._drained.set()

    def finished(self, held: Held) -> None:
        """A job has ended: its outcome goes into the next exchange."""
        if not held.is_lost:
            if type(held.outcome) is RateLimited:
                self._outbox.closes_limit = True
                self._intake.close_to(self._dispatch.sender.last_number)
                self._give_back(self._slots.withdraw())
            self._outbox.add(held)  # behind them: it goes back in front of them
            self._drained.clear()  # the waiter may have been told already, and be about to pop
        if self._flying:
            if self._may_follow():
                self._go_on()
            return  # the next landing goes on from here
        if not self._may_launch():
            self._changed.set()
        elif not (self._slots.running or self._slots.waiting):  # nobody else is about to end
            if not self._go_on():
                self._changed.set()
        elif not self._is_turn_due:
            self._is_turn_due = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        """Send what has ended in one turn of the event loop."""
        self._is_turn_due = False
        if not self._flying and not (self._may_launch() and self._guarded(self._go_on)):
            self._changed.set()

    def _may_launch(self) -> bool:
        """Whether `run` waits for something to do, has nothing to do first, and all that has landed is handed out."""
        return self._is_parked and not (self._grounded or self._landings or self._pause_s or self._intake.is_busy)

    def _may_follow(self) -> bool:
        """Whether an exchange may follow the one in flight: only a full one is worth it."""
        return self.agenda.is_full and self._flying.may_be_followed and self._may_launch()

    def _guarded(self, step: Callable[..., bool], *arguments: Any) -> bool:
        """Take a step that nobody waits for: `run` raises what it raises."""
        try:
            return step(*arguments)
        except BaseException as error:
            self._defect = error
            return False

    @property
    def unsettled(self) -> int:
        """Outcomes that Redis has not confirmed."""
        return self._outbox.unconfirmed

    # One exchange.

    def _go_on(self, landing: Landing | None = None) -> bool:
        """Launch the next exchange, if there is something to say, and one that follows it, if that is a full one.

        `landing` is what is still to be landed. Called where none is in flight, or where one `_may_follow`.
        """
        launched = False
        while (not launched or self._may_follow()) and self._go_on_once(landing):
            launched = True
        return launched

    def _go_on_once(self, landing: Landing | None) -> bool:
        flight = self.agenda.next_flight(landing)
        if flight is None:
            return False
        try:
            if not self._dispatch.launch(flight):
                self._ground(flight, None)
        except Exception as error:  # one of its outcomes cannot be encoded
            self._ground(flight, error)
        return True

    def _is_empty_handed(self) -> bool:
        in_hand = self._outbox.waiting or self._outbox.returning or self._slots.running or self._standing.jobs
        return not (in_hand or self._confirmations.judging or self.is_blocking)

    def _take(self, flight: Flight, answer: ExchangeReply | Exception, *, is_occasion: bool = True) -> None:
        """Take the answer to an exchange that was launched. Called by the connection: `run` raises what is raised."""
        if not self._is_running:
            return  # the worker has been cancelled
        if isinstance(answer, Exception):
            self._ground(flight, None if isinstance(answer, NothingRan) else answer)
        elif not self._guarded(self._arrived, flight, answer, is_occasion):
            self._changed.set()

    def _ground(self, flight: Flight, failure: Exception | None) -> None:
        self._grounded.append((flight, failure))
        self._changed.set()

    async def _fly(self, flight: Flight, failure: Exception | None) -> None:
        """Send an exchange until it is answered, or put its outcomes back."""
        try:
            reply = await self._dispatch.send(flight, failure)
        except Exception as error:
            self.agenda.rearm |= flight.rearm
            self._leases.answered(flight.exchange)
            self.agenda.claiming -= flight.request.jobs
            self._give_back([])
            await self._not_sent(flight.batch, error)
            return
        except BaseException:
            self._outbox.arrived(flight.batch)
            raise
        self._arrived(flight, reply)

    async def _not_sent(self, batch: list[Held], error: Exception) -> None:
        """The exchange was refused or given up: keep the outcomes, unless one of them cannot be sent at all."""
        self._outbox.arrived(batch)
        if batch and not (is_outage(error) or isinstance(error, RedisRefused)):
            if not self._outbox.isolate(batch):
                self._confirmations.let_go(batch[0], error)
            return
        self._outbox.send_again(batch)
        if not self._outage.is_down:
            self._callbacks.report(error)
        await anyio.sleep(self._outage.failed(error))

    def _arrived(self, flight: Flight, reply: ExchangeReply, is_occasion: bool = True) -> bool:
        """Learn from a reply, send the next exchange (if this is an occasion), and then land this one meanwhile.

        False if there is something left that only `run` can do, or at least look at.
        """
        if not self.was_connected:
            self.was_connected = True
            self._callbacks.emit("ready")
        self.agenda.claiming -= flight.request.jobs
        if self._outbox.alone:
            self._outbox.tried_alone(flight.batch)
        if flight.decides and reply.limit_ms > 0:
            self._intake.limit(reply.now_ms + self.supply.bounded_ms(reply.limit_ms))
        self.supply.note(reply, asked=flight.request.jobs, wakes=flight.wakes)
        if self.agenda.is_stopped:
            self.agenda.rearm |= flight.request.jobs > 0 and self.supply.knows_delayed
        landing = Landing(flight, reply, flight.began + flight.request.lock_ms / 1000)
        if reply.any_iteration or self._landings:
            self._landings.append(landing)
            return False
        landing = self._answered(landing)
        if is_occasion and (not (self._flying or self._grounded or self._pause_s) or self._may_follow()):
            self._go_on(landing)
        self._land(landing)
        if self._flying:
            return True
        return not (self._grounded or self._outbox.waiting or self._pause_s or self.agenda.is_closing)

    async def _land_iterations(self) -> None:
        """The jobs of schedulers start after their successors were created."""
        landing = self._landings[0]
        await self._iterations.follow(landing.reply.claimed)
        self._landings.popleft()
        self._land(self._answered(landing))

    def _answered(self, landing: Landing) -> Landing:
        """With the time until which the leases have kept what was claimed. Before another exchange leaves."""
        kept_until = self._leases.answered(landing.flight.exchange)
        return landing._replace(lease_until=kept_until) if kept_until > landing.lease_until else landing

    def _land(self, landing: Landing) -> None:
        """Take what an exchange has brought: the ends of its jobs, and new ones."""
        batch = landing.flight.batch
        self._outbox.arrived(batch)
        again, pause_s = self._confirmations.apply(batch, landing.reply.codes)
        self._pause_s = max(self._pause_s, pause_s)
        self._outbox.send_again(again)
        self._announce_drained(landing.reply)
        unwanted = self._intake.take(landing, are_wanted=self._are_wanted(landing))
        if unwanted or self._outbox.returning:
            self._give_back(unwanted)
        self._look_for_work()

    def _announce_drained(self, reply: ExchangeReply) -> None:
        if reply.claims:
            self._announced_drained = False
        elif not (self._flying or self.supply.is_ready or reply.limit_ms or self._announced_drained):
            self._announced_drained = True
            self._callbacks.emit("drained")

    def _are_wanted(self, landing: Landing) -> bool:
        """Whether claimed jobs may start: nothing has forbidden it since."""
        if self.agenda.is_stopped:
            return False
        if landing.flight.sender is self._dispatch.sender:
            return self._intake.is_open_to(landing.flight.exchange.sequence)
        return not (self._outbox.closes_limit or self._flying.decides) and self._intake.is_open_at(landing.reply.now_ms)
