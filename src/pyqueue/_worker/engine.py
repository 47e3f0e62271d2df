"""The engine: exchanges with Redis, each of which settles what has finished and claims what can start.

    plan (batch.plan) -> launch -> arrived -> land: codes (Confirmations), start jobs -> plan ...

An exchange is launched by what gives the occasion, without a turn of the event loop in between: the end of the last
running job, or the reply to the exchange before. `run` does it on all other occasions. What cannot fly at once is
grounded: `run` sends it the long way (Sender: again after a lost reply), under the same number. The next exchange
leaves before the reply to the last one is landed, if there is something to say, so that Redis and the event loop work
at the same time. It follows one that is still in flight, if it is a full one: then Redis finds it when it is done with
that. Nothing waits for company: what finishes while an exchange is in flight goes into the next. Outcomes wait here as
data until a reply confirms them. Nothing else in the worker claims or settles.

Modes: ready (work may be there: free slots are worth a claim) -> drained (a claim came back short; the waiter blocks
on the marker, with a claim that stands behind it) -> ready (woken). A limited, paused or closing engine settles and
does not claim; a claim in flight that meets a pause or the closing is given back. A closing engine ends when nothing is
left in its hands.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio

from pyqueue._redis.commands import NothingRan
from pyqueue._redis.links import Link
from pyqueue._redis.outage import Outage, is_outage
from pyqueue._store.sender import MAX_IN_FLIGHT, Sender
from pyqueue._store.settling import (
    Claimed,
    ClaimRequest,
    ExchangeReply,
    Settlement,
    Unanswered,
    settle_and_claim,
    start_settle_and_claim,
)
from pyqueue._store.store import Store
from pyqueue._worker.batch import MAX_SUSPECTS, Exchange, Situation, plan, share
from pyqueue._worker.confirmations import Confirmations
from pyqueue._worker.events import Callbacks
from pyqueue._worker.flights import Flight, Flights, Landing
from pyqueue._worker.held import Held
from pyqueue._worker.iterations import Iterations
from pyqueue._worker.leases import Leases
from pyqueue._worker.marker import OVERDUE_S
from pyqueue._worker.running_job import RunningJob
from pyqueue._worker.slots import Slots
from pyqueue._worker.standing import StandingClaim
from pyqueue._worker.supply import Supply
from pyqueue.errors import RedisRefused
from pyqueue.outcomes import RateLimited, Returned


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
        self.is_paused = False
        self.is_closing = False
        self.was_connected = False
        """An exchange has succeeded before."""
        self.is_blocking = False
        """The waiter is in a pop that may take a marker."""
        self._store = store
        self._claim = claim
        self._slots = slots
        self._leases = leases
        self._callbacks = callbacks
        self._confirmations = confirmations
        self._iterations = iterations
        self._outage = outage
        self._sender = Sender(outage, lanes=MAX_IN_FLIGHT)
        self._standing = StandingClaim(store, outage, leases, self._stood)
        self._make_job = make_job
        self.supply = Supply(self.changed, max_limit_ms)
        """What is known of jobs to come."""
        self._finished: deque[Held] = deque()
        self._isolate = 0  # outcomes to send one by one, because something in a batch cannot be sent
        self._flying = Flights()
        self._grounded: deque[tuple[Flight, Exception | None]] = deque()  # to be sent by `run`; why it failed before
        self._landings: deque[Landing] = deque()  # to be landed by `run`
        self._defect: BaseException | None = None  # to be raised by `run`
        self._is_parked = False  # `run` waits for something to do
        self._is_running = False
        self._is_turn_due = False
        self._is_handing_out = False
        self._settling = 0  # outcomes of exchanges that are not landed
        self._claiming = 0  # slots that exchanges without an answer may fill
        self._claims = 0
        self._rearm = False
        self._closes_limit = False  # an outcome that waits to be sent closes the rate limit
        self._unwanted: list[Held] = []  # claimed, and to be given back, the next one first
        self._unwanted_until = 0  # number of the last exchange whose claims are not wanted any more
        self._limited_until_ms = 0  # by an outcome, on the server's clock
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
            if self.is_closing and self._is_empty_handed():
                return False
            await self._park()
        return True

    async def _park(self) -> None:
        self._is_parked = True
        try:
            await self._changed.wait()
        finally:
            self._is_parked = False
        self._changed.clear()

    # What the waiter needs.

    async def wait_drained(self) -> None:
        """Wait until a claim would be in vain unless something happens in Redis."""
        while not self._drained.is_set():  # it may have been cleared again before the waiter's turn came
            await self._drained.wait()

    def stand_by(self, link: Link, block_s: float) -> bool:
        """Send a claim for all free slots behind the pop that has just left on this connection, for `block_s`.

        Whatever the pop brings is then the claim's business. False if none was sent: what is not settled or not landed
        is active in Redis and has no slot here, and what will be due soon would find the slots reserved.
        """
        if self.unsettled or self._landings or self.supply.is_ready or self.supply.rings_in_s <= block_s + OVERDUE_S:
            return False
        planned = plan(self._situation(None, self._free_slots(None))._replace(is_ready=True))
        if planned is None or not planned.claim:
            return False
        request = self._claim.sized(planned.claim, self._claims, planned.suspects)
        if not self._standing.send(request, link, block_s):
            return False
        self._claims += planned.claim
        self._look_for_work()
        return True

    @property
    def is_overbooked(self) -> bool:
        """Whether the claim behind the pop may bring more than there are slots for, because some were taken away."""
        return self._standing.jobs > max(0, self._slots.free - self._claiming)

    def recall(self) -> None:
        """The pop is about to be cut off: learn what became of the claim behind it."""
        flight = self._standing.recall()
        if flight is not None:
            self._rearm = True  # the pop may have its reply, which is left to the claim
            self._ground(flight, None)

    def _stood(self, flight: Flight, answer: ExchangeReply | Exception) -> None:
        """The pop has ended, and the claim behind it has its answer."""
        if not self._is_running:
            return
        self._claiming += flight.request.jobs
        self.supply.heard()
        # While `run` is busy an exchange may be under way the long way, where no other may overtake it.
        self._take(flight._replace(wakes=self.supply.wakes), answer, is_occasion=self._is_parked)

    def marker_popped(self) -> None:
        """The base marker was taken: work is ready, and nobody else will be told."""
        if self._slots.free <= 0 or self.is_paused or self.is_closing:
            self._rearm = True
        self.supply.wake()
        if not self._flying and self._may_launch():
            self._guarded(self._go_on)  # a turn of the event loop earlier than `run`, for which somebody waits

    def hold_back(self, *, closing: bool = False) -> None:
        """Claim nothing from now on, until resumed; what only this worker waits for is left to others."""
        self.is_closing |= closing
        self.is_paused |= not closing
        self._rearm |= self.supply.knows_delayed
        self._give_back(self._slots.withdraw())
        self.changed()

    def _give_back(self, jobs: list[Held]) -> None:
        """Return jobs that have not started to the front of their line, each in front of the one after it.

        Not while a claim is in flight: what that brings goes back first, because it goes behind them.
        """
        self._unwanted += jobs
        if self._claiming <= 0:
            for held in reversed(self._unwanted):
                held.outcome = Returned()
                self._finished.append(held)
            self._unwanted.clear()

    def marker_lost(self) -> None:
        """A pop was cut off, with or without a marker."""
        self._rearm = True
        self.changed()

    # What slots, leases and the worker need.

    def changed(self) -> None:
        """Something that the plan depends on has changed: plan again."""
        self._look_for_work()
        self._changed.set()

    def _look_for_work(self) -> None:
        waits = self.is_paused or self.is_closing or self._standing.jobs > 0
        if self.supply.is_ready or waits or self.supply.is_limited:
            self._drained.clear()
        else:
            self._drained.set()

    def finished(self, held: Held) -> None:
        """A job has ended: its outcome goes into the next exchange."""
        if not held.is_lost:
            if type(held.outcome) is RateLimited:
                self._closes_limit = True
                self._unwanted_until = self._sender.last_number
                self._give_back(self._slots.withdraw())
            self._finished.append(held)  # behind them: it goes back in front of them
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
        return self._is_parked and not (self._grounded or self._landings or self._pause_s or self._is_handing_out)

    def _may_follow(self) -> bool:
        """Whether an exchange may follow the one in flight: only a full one is worth it."""
        if not (self._finished and self._flying.may_be_followed):
            return False
        return len(self._finished) >= self._share() and self._may_launch()

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
        return len(self._finished) + len(self._unwanted) + self._settling

    def why_idle(self) -> str:
        """Why no job is claimed now, or "" if jobs are."""
        if self._outage.is_down:
            return "Redis does not answer"
        if self.is_paused:
            return "the worker is paused"
        if self.supply.is_limited:
            return f"the rate limit allows the next job in {self.supply.limited_s:.3f} s"
        if self._slots.free <= 0:
            return "every slot is busy"
        if not self.supply.is_ready:
            return "there is nothing to claim: the queue is empty, paused or at its concurrency"
        return ""

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
        free_slots = self._free_slots(landing)
        if not (self._finished or self._rearm or free_slots > 0):
            return False
        exchange = plan(self._situation(landing, free_slots))
        if exchange is None:
            return False
        flight = self._prepare(exchange)
        try:
            if not self._launch(flight):
                self._ground(flight, None)
        except Exception as error:  # one of its outcomes cannot be encoded
            self._ground(flight, error)
        return True

    def _situation(self, landing: Landing | None, free_slots: int) -> Situation:
        isolate = self._isolate > 0
        suspects = 0 if landing is None else landing.reply.suspects
        return Situation(
            finished=min(len(self._finished), 1) if isolate else len(self._finished),
            share=1 if isolate else self._share(),
            free_slots=free_slots,
            may_claim=not (isolate or self._is_held_back()),
            is_ready=self.supply.is_ready,
            rearm=self._rearm and not (self.is_closing and self._outage.is_down),
            suspects=self._slots.suspects + suspects,
        )

    def _share(self) -> int:
        return share(self._slots.capacity, pairs=self._flying.come_in_pairs)

    def _free_slots(self, landing: Landing | None) -> int:
        """Places that neither hold a job nor are meant for one that comes."""
        return self._slots.free - self._claiming - self._standing.jobs - (landing.reply.claims if landing else 0)

    def _is_held_back(self) -> bool:
        return self.is_paused or self.is_closing or self._closes_limit or self.supply.is_limited

    def _is_empty_handed(self) -> bool:
        in_hand = self._finished or self._unwanted or self._slots.running or self._standing.jobs
        return not (in_hand or self._confirmations.judging or self.is_blocking)

    def _prepare(self, exchange: Exchange) -> Flight:
        batch = [self._finished.popleft() for _ in range(exchange.settle)]
        decides = self._closes_limit or self._isolate > 0
        self._settling += len(batch)
        self._claiming += exchange.claim
        self._rearm = False
        self._closes_limit = self._closes_limit and any(type(held.outcome) is RateLimited for held in self._finished)
        request = self._claim.sized(exchange.claim, self._claims, exchange.suspects)
        self._claims += exchange.claim
        number = self._sender.next_number()
        return Flight(
            batch,
            [Settlement(held.job.id, held.job.token, held.outcome) for held in batch if held.outcome],
            request,
            exchange.rearm,
            Unanswered(self._sender.name_of(number), number, request.token),
            self._sender,
            self.supply.wakes,
            time.monotonic(),
            decides,
        )

    def _launch(self, flight: Flight) -> bool:
        """Send an exchange at once; False if that is impossible now."""
        if not self._sender.is_up:
            return False
        self._leases.expect(flight.exchange)
        link = start_settle_and_claim(
            self._store,
            flight.settlements,
            flight.request,
            partial(self._landed, flight),
            rearm=flight.rearm,
            sender=flight.exchange.sender,
            sequence=flight.exchange.sequence,
            behind=self._flying.ahead,
        )
        return self._flying.took_off(flight, link)

    def _landed(self, flight: Flight, answer: ExchangeReply | Exception) -> None:
        """Take the answer to an exchange that was launched. Called by the connection: `run` raises what is raised."""
        self._flying.landed(flight)
        if self._is_running:  # else the worker has been cancelled
            self._take(flight, answer)

    def _take(self, flight: Flight, answer: ExchangeReply | Exception, *, is_occasion: bool = True) -> None:
        if isinstance(answer, Exception):
            self._ground(flight, None if isinstance(answer, NothingRan) else answer)
        elif not self._guarded(self._arrived, flight, answer, is_occasion):
            self._changed.set()

    def _ground(self, flight: Flight, failure: Exception | None) -> None:
        self._grounded.append((flight, failure))
        self._changed.set()

    async def _fly(self, flight: Flight, failure: Exception | None) -> None:
        """Send an exchange until it is answered, or put its outcomes back."""
        if failure is not None:
            self._report_outage(failure, flight.began)
        try:
            reply = await flight.sender.send(
                partial(self._attempt, flight), number=flight.exchange.sequence, failure=failure, began=flight.began
            )
        except Exception as error:
            self._rearm |= flight.rearm
            self._leases.answered(flight.exchange)
            self._settling -= len(flight.batch)
            self._claiming -= flight.request.jobs
            self._give_back([])
            await self._not_sent(flight.batch, error)
            return
        except BaseException:
            self._settling -= len(flight.batch)
            raise
        self._arrived(flight, reply)

    async def _attempt(self, flight: Flight, sender: str, sequence: int) -> ExchangeReply:
        self._leases.expect(flight.exchange)
        began = time.monotonic()
        try:
            return await settle_and_claim(
                self._store,
                flight.settlements,
                flight.request,
                rearm=flight.rearm,
                sender=sender,
                sequence=sequence,
            )
        except Exception as error:
            self._report_outage(error, began)
            raise

    def _report_outage(self, error: Exception, began: float) -> None:
        """Tell the listeners of an outage, once, before it is noted."""
        if is_outage(error) and not self._outage.is_known(began):
            self._callbacks.report(error)

    async def _not_sent(self, batch: list[Held], error: Exception) -> None:
        """The exchange was refused or given up: keep the outcomes, unless one of them cannot be sent at all."""
        if is_outage(error) or isinstance(error, RedisRefused) or not batch:
            self._finished.extendleft(reversed(batch))
        elif len(batch) > 1:
            self._finished.extendleft(reversed(batch))
            self._isolate = len(batch)
        else:
            self._confirmations.let_go(batch[0], error)
            return
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
        self._claiming -= flight.request.jobs
        self._isolate = max(0, self._isolate - len(flight.batch))
        if flight.decides and reply.limit_ms > 0:
            self._limited_until_ms = reply.now_ms + self.supply.bounded_ms(reply.limit_ms)
        self.supply.note(reply, asked=flight.request.jobs, wakes=flight.wakes)
        if self.is_paused or self.is_closing:
            self._rearm |= flight.request.jobs > 0 and self.supply.knows_delayed
        self._look_for_work()
        landing = Landing(flight, reply, flight.began + self._claim.lock_ms / 1000)
        if reply.any_iteration or self._landings:
            self._landings.append(landing)
            return False
        landing = self._answered(landing)
        if is_occasion and (not (self._flying or self._grounded or self._pause_s) or self._may_follow()):
            self._go_on(landing)
        self._land(landing)
        return bool(self._flying) or not (self._grounded or self._finished or self._pause_s or self.is_closing)

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
        self._settling -= len(batch)
        again, pause_s = self._confirmations.apply(batch, landing.reply.codes)
        self._pause_s = max(self._pause_s, pause_s)
        self._finished.extendleft(reversed(again))
        self._announce_drained(landing.reply)
        self._is_handing_out = True  # a slot's first step may run, and end, at once (eager tasks)
        try:
            self._hand_out(landing)
        finally:
            self._is_handing_out = False

    def _announce_drained(self, reply: ExchangeReply) -> None:
        if reply.claims:
            self._announced_drained = False
        elif not (self._flying or self.supply.is_ready or reply.limit_ms or self._announced_drained):
            self._announced_drained = True
            self._callbacks.emit("drained")

    def _is_wanted(self, landing: Landing) -> bool:
        """Whether what was claimed may start: nothing has forbidden it since."""
        if self.is_paused or self.is_closing:
            return False
        if landing.flight.sender is not self._sender:
            decides = self._closes_limit or self._flying.decides
            return not decides and landing.reply.now_ms >= self._limited_until_ms
        return landing.flight.exchange.sequence > self._unwanted_until

    def _hand_out(self, landing: Landing) -> None:
        any_suspect = landing.reply.suspects > 0
        is_wanted = self._is_wanted(landing)
        unwanted: list[Held] = []
        for one in landing.reply.claimed:
            job = self._make_job(one)
            held = Held(job, landing.lease_until, is_suspect=any_suspect and job.stalled_count > 0)
            older = self._leases.add(held)
            if older is not None:
                self._confirmations.superseded(older)
            # A second suspect can only have come with an exchange that followed another.
            if not is_wanted or (held.is_suspect and self._slots.suspects >= MAX_SUSPECTS):
                unwanted.append(held)
            else:
                self._slots.start(held)
        if unwanted or self._unwanted:
            self._give_back(unwanted)
