"""The state machine: random operations on a real queue and on the model, compared after every step.

`QueueMachine` has what the rules need; the rules are in mixins by subject, and `Machine` is all of them. Producers,
administrators and two workers act through the public API where it has the operation, else through the typed functions
of the store, as the parts of a worker do. Nothing waits: time is a clock of the test's, locks run out by decree.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from uuid import uuid4

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pyqueue import Backoff, Job, JobOptions, JobSpec, JobState, Queue, Retention
from pyqueue._redis.connection import Connection
from pyqueue._store.adding import Added, AddReply, add_jobs
from pyqueue._store.record import encode_job
from pyqueue._store.settling import (
    ClaimRequest,
    ExchangeReply,
    Settlement,
    extend_locks,
    recover_stalled,
    settle_and_claim,
)
from pyqueue.errors import CODES, JobError, StaleExchange
from pyqueue.job import Terms
from pyqueue.outcomes import (
    KEEP_ALL,
    Completed,
    Delayed,
    Failed,
    Keep,
    Outcome,
    RateLimited,
    Released,
    Retried,
    Returned,
)
from tests.properties.model import Claim, Model, NewJob
from tests.properties.places import ModelJob
from tests.properties.snapshot import Looker, Snapshot, check_invariants

T = TypeVar("T")

START_MS: Final = 1_700_000_000_000
#: Longer than any run: what expires does so because a rule says so.
LOCK_MS: Final = 600_000
NO_CLAIM: Final = ClaimRequest(0, "")
MAX_STALLED: Final = 1
#: No job has this id.
NOBODY: Final = "nobody"

#: Retention: the option, and what it means.
RETENTIONS: Final[dict[str, tuple[Any, Keep]]] = {
    "all": (False, KEEP_ALL),
    "none": (True, Keep(count=0)),
    "two": (2, Keep(count=2)),
    "one": (Retention(count=1), Keep(count=1)),
    "a second": (Retention(age=1), Keep(age_s=1)),
    "one for two seconds": (Retention(count=1, age=2, limit=1), Keep(1, 2, 1)),
}
#: Backoff: the option, and the waits before the retries (ms); no job has more attempts.
BACKOFFS: Final[dict[str, tuple[Any, tuple[int, ...]]]] = {
    "number": (700, (700, 700, 700)),
    "fixed": (Backoff.fixed(0), ()),
    "exponential": (Backoff.exponential(400), (400, 800, 1600)),
}

delays = st.sampled_from((0, 1, 500, 500, 2000))
priorities = st.sampled_from((1, 1, 2, 2_097_151, 0))
retentions = st.sampled_from(list(RETENTIONS))
keeps = st.sampled_from([keep for _, keep in RETENTIONS.values()])
small = st.integers(0, 3)
workers = st.integers(0, 1)
finished_states = st.sampled_from((JobState.COMPLETED, JobState.FAILED))


class StepClock:
    """Time that passes when the machine says so."""

    def __init__(self) -> None:
        self.ms = START_MS

    def now_ms(self) -> int:
        return self.ms


@dataclass
class Worker:
    """Who claims: a sender of exchanges, with its last one kept."""

    uuid: str = field(default_factory=lambda: str(uuid4()))
    sequence: int = 0
    tokens: int = 0
    last: tuple[Sequence[Settlement], ClaimRequest, ExchangeReply] | None = None


@dataclass
class Bench:
    """Where machines run: one event loop and one server for all of them, a queue for each."""

    runner: asyncio.Runner
    connection: Connection
    client: Any
    """A synchronous client of the same server."""
    driven: Counter[str] = field(default_factory=Counter)
    """Transitions that took place in all runs."""

    def run(self, action: Coroutine[Any, Any, T]) -> T:
        """Run to the end."""
        return self.runner.run(action)


#: Options of a new job, as its producer gives them: few at a time.
new_jobs = st.fixed_dictionaries(
    {},
    optional={
        "job_id": st.sampled_from(("a", "b", "c:d:e")),
        "delay": delays,
        "priority": priorities,
        "lifo": st.just(True),
        "attempts": small,
        "backoff": st.sampled_from(list(BACKOFFS)),
        "timestamp": st.sampled_from((START_MS - 300, START_MS + 100)),
        "remove_on_complete": retentions,
        "remove_on_fail": retentions,
    },
)


def model_of(given: dict[str, Any]) -> NewJob:
    """A new job as the model understands it."""
    job = ModelJob(
        given.get("job_id", ""),
        {"name": "job", "data": "{}"},
        priority=given.get("priority", 0),
        lifo=given.get("lifo", False),
        attempts=given.get("attempts", 0),
    )
    if "backoff" in given:
        job.backoff_ms = BACKOFFS[given["backoff"]][1]
    if "remove_on_complete" in given:
        job.keep_completed = RETENTIONS[given["remove_on_complete"]][1]
    if "remove_on_fail" in given:
        job.keep_failed = RETENTIONS[given["remove_on_fail"]][1]
    return NewJob(job, given.get("timestamp", 0), given.get("delay", 0))


def options_of(given: dict[str, Any]) -> dict[str, Any]:
    """Its options as keywords of `Queue.add`."""
    tables: dict[str, dict[str, Any]] = {
        "backoff": BACKOFFS, "remove_on_complete": RETENTIONS, "remove_on_fail": RETENTIONS
    }  # fmt: skip
    return {name: tables[name][value][0] if name in tables else value for name, value in given.items()}


def spec_of(given: dict[str, Any]) -> JobSpec[Any]:
    """Itself, for `Queue.add_bulk`."""
    return JobSpec("job", options=JobOptions(**options_of(given)))


outcomes: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(Completed, st.just("null"), keeps),
    st.builds(Completed, st.just('{"a":1}'), st.just(Keep(count=1))),
    st.builds(Failed, st.just("boom"), st.just("[]"), small, keeps),
    st.builds(Retried, st.just("again"), st.just("[]"), delays),
    st.builds(Delayed, delays),
    st.builds(Delayed, until_ms=st.sampled_from((START_MS - 5, START_MS + 400))),
    st.sampled_from((Released(), Returned(), RateLimited())),
)


class QueueMachine(RuleBasedStateMachine):
    """A queue, its model, and what every rule needs."""

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self.bench = bench
        self.clock = StepClock()
        self.queue: Queue[Any, Any] = Queue(
            "q", connection=bench.connection, prefix=f"p{uuid4().hex[:8]}", clock=self.clock
        )
        self.store = self.queue._store
        self.model = Model(START_MS)
        self.looker = Looker(bench.client, self.store.keys)
        self.workers = [Worker(), Worker()]
        self.held: list[tuple[str, str]] = []
        """Jobs and tokens that workers believe to hold; locks may have been lost since."""
        self.by_hand: list[tuple[Job[Any, Any], ModelJob]] = []
        """The same, fetched by hand."""
        self.unlocked: set[str] = set()
        self.knows_ready = False
        """A worker came for ready jobs and was turned away by the limit of concurrency: it looks again by itself."""
        self.knows_due = False
        """A worker has taken the marker of a delayed job, and will look when that is due."""

    def run(self, action: Coroutine[Any, Any, T]) -> T:
        return self.bench.run(action)

    def attempt(self, action: Coroutine[Any, Any, T]) -> tuple[int, T | None]:
        """Run a verb: 0 and what it returns, or the code of the error that it raises."""
        try:
            return 0, self.run(action)
        except JobError as error:
            return next(code for code, kind in CODES.items() if type(error) is kind), None

    def draw_id(self, data: st.DataObject, state: JobState | None = None) -> str:
        """A job, in that state if one is; now and then one that does not exist."""
        fitting = sorted(self.model.jobs if state is None else self.model.ids(state))
        return data.draw(st.sampled_from([*(fitting * 5), *sorted(self.model.jobs), NOBODY]), label="job")

    def job(self, job_id: str) -> Job[Any, Any]:
        """A handle of any job, also of one that does not exist."""
        return Job(self.store, job_id, {})

    @invariant()
    def the_queue_is_as_the_model_says(self) -> None:
        self.model.now_ms = self.clock.ms
        seen = self.looker.look()
        alive = set(self.model.jobs)
        self.unlocked &= alive
        self.knows_ready &= "0" not in seen.image["marker"]
        self.knows_due &= "1" not in seen.image["marker"]
        assert seen.events == self.model.take_events()
        assert seen.image == self.model.image()
        check_invariants(
            seen, unlocked=frozenset(self.unlocked), knows_ready=self.knows_ready, knows_due=self.knows_due
        )
        self._check_counts(seen)

    def _check_counts(self, seen: Snapshot) -> None:
        counts = self.run(self.queue.jobs.counts())
        places = {state: len(seen.places[_PLACE_OF[JobState(state)]]) for state in counts}
        assert counts == places

    def teardown(self) -> None:
        """Whatever happened, nothing is lost and nothing is left."""
        try:
            self._bring_every_job_to_its_end()
            self.the_queue_is_as_the_model_says()
            assert self.run(self.queue.obliterate(force=True)) == self.model.obliterate()
            self.the_queue_is_as_the_model_says()
            self.bench.driven += self.model.driven
        finally:
            if keys := list(self.bench.client.scan_iter(match=f"{self.store.keys.base}*", count=1000)):
                self.bench.client.delete(*keys)

    def _bring_every_job_to_its_end(self) -> None:
        """All workers die; after two stalled checks a new one can get every job that is not finished."""
        self.run(self.queue.resume())
        self.run(self.queue.limits.remove_concurrency())
        self.model.resume()
        self.model.concurrency = None
        for job_id in self.model.active:
            self.lose_lock(job_id)
        for _ in range(2):
            self.check_stalled()
        self.clock.ms += 10_000
        self.model.now_ms = self.clock.ms
        left = self.model.jobs.keys() - self.model.ids(JobState.COMPLETED) - self.model.ids(JobState.FAILED)
        while job := self.run(self.take("last")):
            left.remove(job.id)
            end = [Settlement(job.id, "last", Completed("null", Keep(count=1)))]
            self.model.exchange([], Claim(1, "last"))
            self.model.exchange(end, Claim(0))
            self.run(settle_and_claim(self.store, end, NO_CLAIM))
        assert not left, "jobs that no worker can get"
        self.model.exchange([], Claim(1, "last"))

    def wait_idly(self) -> None:
        """Without more work, some worker takes the marker, finds nothing, and learns when a delayed job is due."""
        if self.model.ready_marker and not self.model.is_ready:
            self.bench.client.zpopmin(self.store.keys.marker)
            self.model.ready_marker = False
            self.knows_due |= self.model.exchange([], Claim(1)).next_delayed_ms > 0
            self.run(self.take(""))

    def lose_lock(self, job_id: str) -> None:
        """The worker that holds the job has not renewed its lock for too long."""
        self.bench.client.delete(self.store.keys.lock(job_id))
        self.model.jobs[job_id].token = None
        self.unlocked.add(job_id)

    def check_stalled(self) -> None:
        """A stalled check that is due."""
        self.bench.client.delete(self.store.keys.stalled_check)
        recovered = self.run(recover_stalled(self.store, MAX_STALLED, LOCK_MS))
        assert set(recovered) == self.model.to_recover()
        self.model.recover_stalled(recovered, MAX_STALLED)
        self.unlocked -= set(recovered)

    async def take(self, token: str) -> Job[Any, Any] | None:
        """Claim one job by hand."""
        request = ClaimRequest(1, token, lock_ms=LOCK_MS)
        reply = await settle_and_claim(self.store, [], request)
        return next((Job(self.store, c.job_id, c.fields, token, Terms(claim=request)) for c in reply.claimed), None)


_PLACE_OF: Final = {
    JobState.WAITING: "wait",
    JobState.ACTIVE: "active",
    JobState.DELAYED: "delayed",
    JobState.PRIORITIZED: "prioritized",
    JobState.WAITING_CHILDREN: "waiting_children",
    JobState.COMPLETED: "completed",
    JobState.FAILED: "failed",
}


class Producing(QueueMachine):
    """Adds."""

    @rule(given=new_jobs)
    def add(self, given: dict[str, Any]) -> None:
        [(job_id, status)] = self.model.add([model_of(given)])
        job = self.run(self.queue.add("job", **options_of(given)))
        assert (job.id, job.add_status) == (job_id, status)

    @rule(given=st.lists(new_jobs, min_size=1, max_size=5))
    def add_bulk(self, given: list[dict[str, Any]]) -> None:
        expected = self.model.add([model_of(one) for one in given])
        jobs = self.run(self.queue.add_bulk([spec_of(one) for one in given]))
        assert [(job.id, job.add_status) for job in jobs] == expected

    @rule(given=st.lists(new_jobs, min_size=1, max_size=3))
    def add_and_lose_the_reply(self, given: list[dict[str, Any]]) -> None:
        expected = self.model.add([model_of(one) for one in given])
        rows = [encode_job(spec.name, spec.data, spec.options) for spec in map(spec_of, given)]
        sender = str(uuid4())
        replies = [self.run(add_jobs(self.store, rows, sender=sender, sequence=1)) for _ in range(2)]
        assert [_added(reply) for reply in replies] == [expected, expected]


def _added(reply: AddReply) -> list[tuple[str, str]]:
    return [(one.job_id, one.status) for one in reply.results if isinstance(one, Added)]


class Consuming(QueueMachine):
    """Claims, outcomes, locks."""

    @precondition(lambda self: self.model.is_ready and not self.model.is_blocked)
    @rule(worker=workers, count=st.integers(1, 5), suspects=st.integers(0, 1), ends=st.lists(outcomes, max_size=3))
    def work(self, worker: int, count: int, suspects: int, ends: list[Outcome]) -> None:
        """A worker claims, and the first of its jobs end."""
        sender = self.workers[worker]
        self._exchange(sender, [], Claim(count, suspects=suspects))
        self.wait_idly()
        claimed = self.held[-len(sender.last[2].claimed) :] if sender.last and sender.last[2].claimed else []
        if settlements := [Settlement(*one, end) for one, end in zip(claimed, ends, strict=False)]:
            self._exchange(sender, settlements, Claim(0))

    @precondition(lambda self: self.held)
    @rule(
        data=st.data(),
        worker=workers,
        ends=st.lists(outcomes, min_size=1, max_size=3),
        count=st.sampled_from((0, 0, 1, 4)),
    )
    def end(self, data: st.DataObject, worker: int, ends: list[Outcome], count: int) -> None:
        """What a busy worker sends: outcomes, and a claim for the slots that they free."""
        self._exchange(self.workers[worker], self._settlements(data, ends), Claim(count))
        self.wait_idly()

    @rule(
        data=st.data(),
        worker=workers,
        ends=st.lists(outcomes, max_size=4),
        count=st.integers(0, 4),
        suspects=st.integers(0, 1),
        rearm=st.booleans(),
    )
    def exchange_and_lose_the_reply(
        self, data: st.DataObject, worker: int, ends: list[Outcome], count: int, suspects: int, rearm: bool
    ) -> None:
        """Of any kind; the same is sent again at once."""
        claim = Claim(count, suspects=suspects, rearm=rearm)
        self._exchange(self.workers[worker], self._settlements(data, ends), claim, replies=2)

    def _settlements(self, data: st.DataObject, ends: Sequence[Outcome]) -> list[Settlement]:
        """Ends of held jobs; now and then of one that was lost, or of one twice."""
        drawn: list[Settlement] = []
        for outcome in ends if self.held else ():
            held = [one for one in self.held if self._holds(*one)]
            job_id, token = data.draw(st.sampled_from([*held, *held, *held, *self.held[-3:]]), label="held")
            drawn.append(Settlement(job_id, token, outcome))
        return drawn

    def _exchange(self, sender: Worker, settlements: Sequence[Settlement], claim: Claim, replies: int = 1) -> None:
        """Send an exchange once or twice; the model applies it once. A repeated one asks to look again at once."""
        claim = claim._replace(token=sender.uuid, first=sender.tokens)
        request = ClaimRequest(claim.limit, sender.uuid, sender.tokens, LOCK_MS, suspects=claim.suspects)
        sender.tokens += claim.limit
        sender.sequence += 1
        expected = self.model.exchange(settlements, claim)
        replies_seen = [self.run(self._send(sender, settlements, request, claim.rearm)) for _ in range(replies)]
        for reply, next_ms in zip(replies_seen, (expected.next_delayed_ms, self.clock.ms), strict=False):
            assert reply.codes == expected.codes
            assert [(one.job_id, one.token) for one in reply.claimed] == expected.claimed
            assert reply.next_delayed_ms == next_ms
            self._check_fields(reply)
        self.held += expected.claimed
        sender.last = settlements, request, replies_seen[-1]

    async def _send(
        self, sender: Worker, settlements: Sequence[Settlement], request: ClaimRequest, rearm: bool = False
    ) -> ExchangeReply:
        return await settle_and_claim(
            self.store, settlements, request, rearm=rearm, sender=sender.uuid, sequence=sender.sequence
        )

    def _check_fields(self, reply: ExchangeReply) -> None:
        for one in reply.claimed:
            job = Job[Any, Any](self.store, one.job_id, one.fields)
            known = self.model.jobs[one.job_id]
            assert (job.attempts_made, job.attempts_started) == (known.made, known.started)
            assert (job.priority, str(job.data)) == (known.priority, known.fields["data"])
            assert job.processed_on == int(known.fields["processedOn"])

    @precondition(lambda self: any(worker.last for worker in self.workers))
    @rule(worker=workers)
    def repeat_an_exchange_later(self, worker: int) -> None:
        """A lost reply, found out after others did things: nothing is applied; what is still held is handed out."""
        sender = self.workers[worker]
        if sender.last is None:
            return
        settlements, request, first = sender.last
        reply = self.run(self._send(sender, settlements, request))
        held = [(one.job_id, one.token) for one in first.claimed if self._holds(one.job_id, one.token)]
        assert reply.codes == first.codes
        assert [(one.job_id, one.token) for one in reply.claimed] == held
        self._check_fields(reply)

    def _holds(self, job_id: str, token: str) -> bool:
        job = self.model.jobs.get(job_id)
        return job is not None and job.token == token

    @precondition(lambda self: self.held and any(worker.sequence > 1 for worker in self.workers))
    @rule(data=st.data(), outcome=outcomes, count=small)
    def deliver_an_old_exchange_late(self, data: st.DataObject, outcome: Outcome, count: int) -> None:
        """A copy of an exchange that the network held back: refused as a whole."""
        sender = data.draw(st.sampled_from([worker for worker in self.workers if worker.sequence > 1]), label="sender")
        settlement = Settlement(*data.draw(st.sampled_from(self.held), label="held"), outcome)
        request = ClaimRequest(count, sender.uuid, 0, LOCK_MS)
        old = Worker(sender.uuid, sender.sequence - 1)
        with suppress(StaleExchange):
            self.run(self._send(old, [settlement], request))
            raise AssertionError("an older exchange was not refused")

    @precondition(lambda self: self.model.ready_marker or self.model.due_marker is not None)
    @rule(suspects=st.integers(0, 1), count=st.integers(0, 3))
    def wake_up(self, suspects: int, count: int) -> None:
        """An idle worker takes the marker, then what it can; a marker that it has no use for is put back."""
        popped = self.bench.client.zpopmin(self.store.keys.marker)
        is_base = popped[0][0] == "0"
        if is_base:
            self.model.ready_marker = False
            self.knows_ready = self.model.concurrency is not None
        else:
            self.model.due_marker = None
            self.knows_due = True
        request = ClaimRequest(count, f"idle-{uuid4().hex[:6]}", 0, LOCK_MS, suspects=suspects)
        # The engine rearms only when it has no room; a claim that finds suspects alone waits for the one that runs.
        rearm = is_base and (count == 0 or suspects == 0)
        expected = self.model.exchange([], Claim(count, request.token, 0, suspects, rearm))
        reply = self.run(settle_and_claim(self.store, [], request, rearm=rearm))
        self.knows_due |= reply.next_delayed_ms > 0
        assert [(one.job_id, one.token) for one in reply.claimed] == expected.claimed
        self.held += expected.claimed

    @precondition(lambda self: self.model.is_ready and not self.model.is_blocked)
    @rule()
    def fetch_by_hand(self) -> None:
        token = f"hand-{len(self.by_hand)}"
        expected = self.model.exchange([], Claim(1, token))
        self._take_in_hand(self.run(self.take(token)), expected.claimed)
        self.wait_idly()

    def _take_in_hand(self, job: Job[Any, Any] | None, expected: list[tuple[str, str]]) -> None:
        assert ([] if job is None else [(job.id, job.token)]) == expected
        if job is not None:
            self.by_hand.append((job, self.model.jobs[job.id]))

    @precondition(lambda self: self.by_hand)
    @rule(data=st.data(), kind=st.sampled_from(("complete", "fail", "delay", "release")), fetch_next=st.booleans())
    def settle_by_hand(self, data: st.DataObject, kind: str, fetch_next: bool) -> None:
        """The verbs of `Job`, whose outcome the job's own options decide."""
        job, known = data.draw(st.sampled_from(self.by_hand[-3:]), label="job by hand")
        settle: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
            "complete": lambda: job.move_to_completed({"ok": True}, fetch_next=fetch_next),
            "fail": lambda: job.move_to_failed("by hand", fetch_next=fetch_next),
            "delay": lambda: job.move_to_delayed(300),
            "release": lambda: job.move_to_wait(),
        }
        fetch_next = fetch_next and kind in ("complete", "fail")
        settlement = Settlement(job.id, job.token, _expected_outcome(job, known, kind))
        expected = self.model.exchange([settlement], Claim(int(fetch_next), job.token))
        code, fetched = self.attempt(settle[kind]())
        assert [code] == expected.codes
        if fetched and fetch_next:
            self._take_in_hand(fetched.job, expected.claimed)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def extend_locks(self, data: st.DataObject) -> None:
        locks = data.draw(st.lists(st.sampled_from(self.held), min_size=1, max_size=3, unique=True), label="locks")
        lost = [job_id for job_id, token in locks if not self.model.extend(job_id, token)]
        assert self.run(extend_locks(self.store, locks, LOCK_MS)) == lost

    @precondition(lambda self: self.model.active)
    @rule(data=st.data(), checks=st.integers(0, 2))
    def let_locks_run_out(self, data: st.DataObject, checks: int) -> None:
        """A worker has died; some time may pass until the next rule."""
        active = st.sampled_from(sorted(self.model.active))
        for job_id in data.draw(st.lists(active, min_size=1, max_size=3, unique=True), label="jobs"):
            self.lose_lock(job_id)
        for _ in range(checks):
            self.check_stalled()

    @rule(is_due=st.booleans())
    def check_for_stalled_jobs(self, is_due: bool) -> None:
        """At most one check per interval has an effect."""
        if is_due or not self.bench.client.exists(self.store.keys.stalled_check):
            self.check_stalled()
        else:
            assert self.run(recover_stalled(self.store, MAX_STALLED, LOCK_MS)) == []


def _expected_outcome(job: Job[Any, Any], known: ModelJob, kind: str) -> Outcome:
    """What the verdict must be, by the job as it was when it was fetched."""
    match kind:
        case "complete":
            return Completed('{"ok":true}', known.keep_completed)
        case "fail" if job.attempts_made + 1 < known.attempts:
            return Retried("by hand", "[]", known.backoff_ms[job.attempts_made] if known.backoff_ms else 0)
        case "fail":
            return Failed("by hand", "[]", known.attempts, known.keep_failed)
        case "delay":
            return Delayed(300)
        case _:
            return Released()


class Changing(QueueMachine):
    """Operations on one job."""

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data(), is_promotion=st.booleans(), delay=delays)
    def change_a_delayed_job(self, data: st.DataObject, is_promotion: bool, delay: int) -> None:
        job_id = self.draw_id(data, JobState.DELAYED)
        job = self.job(job_id)
        if is_promotion:
            assert self.attempt(job.promote())[0] == self.model.promote(job_id)
        else:
            assert self.attempt(job.change_delay(delay))[0] == self.model.change_delay(job_id, delay)

    @precondition(lambda self: self.model.is_ready)
    @rule(data=st.data(), state=st.sampled_from((JobState.WAITING, None)), priority=priorities, lifo=st.booleans())
    def change_priority(self, data: st.DataObject, state: JobState | None, priority: int, lifo: bool) -> None:
        job_id = self.draw_id(data, state)
        code, _ = self.attempt(self.job(job_id).change_priority(priority, lifo=lifo))
        assert code == self.model.change_priority(job_id, priority, lifo=lifo)

    @precondition(lambda self: self.model.ids(JobState.COMPLETED) | self.model.ids(JobState.FAILED))
    @rule(data=st.data(), state=finished_states, made=st.booleans(), started=st.booleans())
    def retry(self, data: st.DataObject, state: JobState, made: bool, started: bool) -> None:
        job_id = self.draw_id(data, state)
        retrying = self.job(job_id).retry(state, reset_attempts_made=made, reset_attempts_started=started)
        expected = self.model.retry(job_id, state, reset_made=made, reset_started=started)
        assert self.attempt(retrying)[0] == expected

    @precondition(lambda self: len(self.model.jobs) > 2)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        job_id = self.draw_id(data)
        assert self.run(self.queue.jobs.remove(job_id)) == self.model.remove(job_id)

    @precondition(lambda self: self.model.active)
    @rule(data=st.data(), number=small)
    def report(self, data: st.DataObject, number: int) -> None:
        """What a processor tells about its job: progress, a log, other data."""
        job_id = data.draw(st.sampled_from(sorted(self.model.jobs)), label="job")
        job, known = self.job(job_id), self.model.jobs[job_id]
        self.run(job.update_progress(number))
        self.model.announce("progress", known, data=number)
        self.run(job.log("row"))
        self.run(job.update_data(number))
        known.fields["data"] = str(number)
        assert self.run(self.queue.jobs.state(job_id)) is known.state


class Administering(QueueMachine):
    """Operations on the whole queue, and time. Few rules, so that they do not crowd out the others."""

    @initialize(given=st.lists(new_jobs, max_size=6))
    def begin(self, given: list[dict[str, Any]]) -> None:
        """Some jobs to work on, and the settings that a queue writes with its first command."""
        self.run(self.queue._producer.describe())
        if given:
            self.model.add([model_of(one) for one in given])
            self.run(self.queue.add_bulk(map(spec_of, given)))

    @rule(ms=st.sampled_from((1, 300, 600, 3000)))
    def let_time_pass(self, ms: int) -> None:
        self.clock.ms += ms

    @precondition(lambda self: self.model.paused or self.model.is_ready)
    @rule()
    def pause_or_resume(self) -> None:
        if self.model.paused:
            self.run(self.queue.resume())
            self.model.resume()
        else:
            self.run(self.queue.pause())
            self.model.pause()

    @precondition(lambda self: self.model.is_ready)
    @rule(concurrency=st.one_of(st.none(), st.integers(1, 3)))
    def limit_concurrency(self, concurrency: int | None) -> None:
        limits = self.queue.limits
        self.run(limits.remove_concurrency() if concurrency is None else limits.set_concurrency(concurrency))
        # A marker is neither set nor taken back: workers that found the limit reached look again by themselves.
        self.knows_ready = True
        self.model.concurrency = concurrency

    @precondition(lambda self: self.model.ids(JobState.DELAYED))
    @rule()
    def promote_all(self) -> None:
        assert self.run(self.queue.jobs.promote_all()) == self.model.promote_all()

    @precondition(lambda self: self.model.ids(JobState.COMPLETED) | self.model.ids(JobState.FAILED))
    @rule(state=finished_states, age=st.sampled_from((None, 0, 500)))
    def retry_all(self, state: JobState, age: int | None) -> None:
        until = self.clock.ms - (age or 0)
        retrying = self.queue.jobs.retry_all(state, until=None if age is None else until)
        assert self.run(retrying) == self.model.retry_all(state, until)

    @precondition(lambda self: len(self.model.jobs) > 2)
    @rule(state=st.sampled_from(sorted(_PLACE_OF.keys() - {JobState.WAITING_CHILDREN})), age=st.sampled_from((0, 500)))
    def clean(self, state: JobState, age: int) -> None:
        removed = self.run(self.queue.jobs.clean(age, state=state))
        assert set(removed) == set(self.model.clean(state, age, 0))
        self.model.announce("cleaned", count=len(removed))

    @precondition(lambda self: len(self.model.jobs) > 6)
    @rule(what=st.sampled_from(("drain", "drain delayed", "drain", "clean some", "obliterate")), state=finished_states)
    def sweep(self, what: str, state: JobState) -> None:
        if what == "obliterate":
            assert self.run(self.queue.obliterate(force=True)) == self.model.obliterate()
            self.workers = [Worker(), Worker()]
        elif what == "clean some":
            removed = self.run(self.queue.jobs.clean(0, state=state, limit=1))
            assert removed == self.model.clean(state, 0, 1)
            self.model.announce("cleaned", count=len(removed))
        else:
            delayed = what == "drain delayed"
            assert self.run(self.queue.drain(delayed=delayed)) == self.model.drain(delayed=delayed)


class Machine(Producing, Consuming, Changing, Administering):
    """All of them."""
