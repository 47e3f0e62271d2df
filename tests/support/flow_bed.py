"""A producer of flows, queues and workers below one prefix, closed together: what tests of flows begin with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, TypeAlias

from pyqueue import FlowProducer, Job, JobNode, JobState, Queue, Worker
from pyqueue.queue import ConnectionSource
from tests.support.waiting import wait_until

Tree: TypeAlias = dict[str, Any]
Processor: TypeAlias = Callable[..., Any]


def node(job_id: str, *children: Tree, queue: str = "q", data: Any = None, **options: Any) -> Tree:
    """A node with an id, as a dictionary; `options` by BullMQ's names."""
    tree: Tree = {"name": job_id, "queueName": queue, "opts": {"jobId": job_id, **options}}
    if data is not None:
        tree["data"] = data
    return {**tree, "children": list(children)} if children else tree


def shape(tree: JobNode | None) -> Any:
    """Ids of a tree: an id for a leaf, a pair of id and children otherwise."""
    if tree is None:
        return None
    return (tree.job.id, [shape(child) for child in tree.children]) if tree.children else tree.job.id


class FlowBed:
    """Everything of one prefix; `producer`, and the rest on demand."""

    def __init__(self, source: ConnectionSource, prefix: str) -> None:
        self.source = source
        self.prefix = prefix
        self.producer = FlowProducer(connection=source, prefix=prefix)
        self._queues: dict[str, Queue[Any, Any]] = {}
        self._workers: list[Worker[Any, Any]] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> FlowBed:
        await self._stack.enter_async_context(self.producer)
        return self

    async def __aexit__(self, *_: object) -> None:
        for worker in self._workers:
            await worker.close(force=True)
        await self._stack.aclose()

    def key(self, job_id: str, queue: str = "q") -> str:
        """A job key."""
        return f"{self.prefix}:{queue}:{job_id}"

    def queue(self, name: str = "q") -> Queue[Any, Any]:
        """A queue by its name."""
        if name not in self._queues:
            queue: Queue[Any, Any] = Queue(name, connection=self.source, prefix=self.prefix)
            self._stack.push_async_callback(queue.close)
            self._queues[name] = queue
        return self._queues[name]

    async def work(self, processor: Processor, *queues: str, **options: Any) -> None:
        """Start a worker of each queue (q, if none is named)."""
        for name in queues or ("q",):
            worker: Worker[Any, Any] = Worker(name, processor, connection=self.source, prefix=self.prefix, **options)
            await self._stack.enter_async_context(worker)
            self._workers.append(worker)

    async def job(self, job_id: str, queue: str = "q") -> Job[Any, Any]:
        """A job as it is now; it must exist."""
        job = await self.queue(queue).jobs.get(job_id)
        assert job is not None, f"job {job_id} of queue {queue} does not exist"
        return job

    async def states(self, *job_ids: str, queue: str = "q") -> list[str]:
        """The states of jobs."""
        return [str(await self.queue(queue).jobs.state(job_id)) for job_id in job_ids]

    async def reach(self, job_id: str, state: JobState, queue: str = "q") -> Job[Any, Any]:
        """Wait until a job is in a state; returns it as it is then, if it exists."""

        async def is_there() -> bool:
            return await self.queue(queue).jobs.state(job_id) is state

        await wait_until(is_there)
        return await self.job(job_id, queue)

    async def gone(self, job_id: str, queue: str = "q") -> None:
        """Wait until a job does not exist any more."""

        async def is_gone() -> bool:
            return await self.queue(queue).jobs.get(job_id) is None

        await wait_until(is_gone)
