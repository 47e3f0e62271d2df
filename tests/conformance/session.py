"""What the operations of one scenario share: clock, server, queues, workers and the jobs that workers hold."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any, Final, TypeVar

from redis.asyncio import Redis

from pyqueue import FlowProducer, Job, Queue, Worker
from pyqueue._redis import embedded
from pyqueue._redis.connection import Connection
from pyqueue._redis.outage import Outage
from pyqueue._store.controlling import close_limiter
from pyqueue._store.sender import Sender
from pyqueue._store.settling import Claimed
from pyqueue._worker.running_job import RunningJob
from pyqueue.options import QueueOptions
from pyqueue.worker_options import WorkerOptions
from tests.conformance.normal_form import RawClient, scan_keys
from tests.conformance.scripted import end_run

Op = dict[str, Any]
T = TypeVar("T")

EPOCH_MS: Final = 1_700_000_000_000


class ScenarioError(Exception):
    """The operation cannot be carried out, for instance on a job that does not exist; the report shows it."""


class VirtualClock:
    """The scenario's time: one millisecond per operation."""

    def __init__(self) -> None:
        self.now = EPOCH_MS

    def now_ms(self) -> int:
        return self.now


class UnrecordedSender(Sender):
    """Sends everything with number 0: no exchange record, which BullMQ's key space does not have."""

    def next_number(self) -> int:
        return 0


class Session:
    """One run of one scenario. Opens queues and workers at their first use, as the oracle does."""

    def __init__(self, spec: Op, url: str) -> None:
        self.spec: Final = spec
        self.prefix: Final[str] = spec.get("prefix") or "orc"
        self.clock: Final = VirtualClock()
        self.worker_errors: Final[list[Op]] = []
        self.outcome: Op | None = None
        """What the processor of `process` shall do next."""
        self._url = url
        self._stack = AsyncExitStack()
        self.connection: Final = Connection.open(url)
        self.client: Final = self._raw_client(2)
        self.resp3_client: Final = self._raw_client(3)
        self._queues: dict[str, Queue[Any, Any]] = {}
        self._workers: dict[str, Worker[Any, Any]] = {}
        self._worker_options: dict[str, Op] = {}
        self._held: dict[tuple[str, str], RunningJob] = {}
        self._producer: FlowProducer | None = None

    async def __aenter__(self) -> Session:
        await self._delete_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._delete_all()
        await self._stack.aclose()
        await self.connection.aclose()

    def queue_name(self, op: Op) -> str:
        """The queue that an operation is about."""
        return op.get("queue") or self.spec.get("queue") or "q"

    async def queue(self, op: Op) -> Queue[Any, Any]:
        """The operation's queue. Node writes the queue's settings when it constructs one, so this does, too."""
        name = self.queue_name(op)
        if name not in self._queues:
            given = QueueOptions.model_validate((self.spec.get("queueOpts") or {}).get(name) or {})
            options: Any = {**_given(given), "prefix": self.prefix}
            queue: Queue[Any, Any] = Queue(name, connection=self.connection, clock=self.clock, **options)
            queue._producer.sender = UnrecordedSender(Outage("conformance"))
            await queue._producer.describe()
            self._queues[name] = queue
        return self._queues[name]

    def flow_producer(self) -> FlowProducer:
        """The producer of all flows."""
        if self._producer is None:
            self._producer = FlowProducer(connection=self.connection, prefix=self.prefix, clock=self.clock)
            self._producer._sender = UnrecordedSender(Outage("conformance"))
        return self._producer

    def set_worker_options(self, op: Op) -> None:
        """Options for the operation's worker, unless it exists already."""
        self._worker_options[self.queue_name(op)] = op.get("opts") or {}

    def worker(self, op: Op) -> Worker[Any, Any]:
        """The operation's worker; it fetches by hand and never runs."""
        name = self.queue_name(op)
        if name not in self._workers:
            given = WorkerOptions.model_validate(self._worker_options.get(name, {}))
            options: Any = {**_given(given), "prefix": self.prefix}
            worker: Worker[Any, Any] = Worker(
                name, self.process, connection=self.connection, clock=self.clock, **options
            )
            self._stack.push_async_callback(worker.close)
            self._workers[name] = worker
        return self._workers[name]

    async def process(self, job: Job[Any, Any]) -> Any:
        """The processor of all workers. A rate limited one closes the limiter itself, as with BullMQ."""
        if self.outcome and self.outcome["type"] == "rateLimit":
            await close_limiter(job._store, self.outcome["ms"])
        return end_run(self.outcome)

    async def job(self, op: Op) -> Job[Any, Any]:
        """The job as Redis has it now."""
        job = await (await self.queue(op)).jobs.get(op["id"])
        if job is None:
            raise ScenarioError(f"no job {op['id']}")
        return job

    def hold(self, op: Op, claimed: Claimed | Job[Any, Any]) -> RunningJob:
        """Remember a job as its worker fetched it."""
        if isinstance(claimed, Job):
            claimed = Claimed(claimed.id, claimed.token, claimed._fields)
        job = self.worker(op)._parts._make_job(claimed)
        self._held[self.queue_name(op), job.id] = job
        return job

    def drop(self, op: Op, job_id: str) -> None:
        """Forget a job that was settled."""
        self._held.pop((self.queue_name(op), job_id), None)

    async def held_job(self, op: Op) -> RunningJob:
        """The job as it was fetched; one that was not fetched as it is now, in the hands of the queue's worker."""
        held = self._held.get((self.queue_name(op), op["id"]))
        if held is not None:
            return held
        job = await self.job(op)
        return self.worker(op)._parts._make_job(Claimed(job.id, "", job._fields))

    def _raw_client(self, protocol: int) -> RawClient:
        """A client that answers what the server sent, in RESP2 or RESP3."""
        if self._url.startswith("memory://"):
            from fakeredis import FakeAsyncRedis  # optional dependency

            name = self._url.removeprefix("memory://")
            embedded.memory_source(name)  # creates the server of that name
            client: Any = FakeAsyncRedis(server=embedded._servers[name], protocol=protocol)
        else:
            client = Redis.from_url(self._url, protocol=protocol)
        client.response_callbacks.clear()
        self._stack.push_async_callback(client.aclose)
        raw: RawClient = client
        return raw

    async def _delete_all(self) -> None:
        for key in await scan_keys(self.client, self.prefix):
            await self.client.execute_command("DEL", key)


def _given(options: QueueOptions | WorkerOptions) -> Op:
    return {name: getattr(options, name) for name in options.model_fields_set}
