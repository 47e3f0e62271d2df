"""dramatiq on Redis: the benchmark program. See `benchmarks.task` for what it reads and prints."""
# pyright: reportMissingImports=false
# (the peer is installed in an environment of its own)

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from benchmarks.systems.harness import Data, Item, run_sync
from benchmarks.task import Task


class Dramatiq:
    """Defaults; concurrency is threads of one process; a Redis result backend where results are kept."""

    def __init__(self, task: Task) -> None:
        url = f"redis://127.0.0.1:{task.port}"
        self.broker = RedisBroker(url=url)
        options = {}
        if task.keep_results:
            self.broker.add_middleware(Results(backend=RedisBackend(url=url)))
            options["store_results"] = True
        self.threads = task.concurrency
        self.handle: Callable[[Data], None] = lambda _: None

        def job(data: Data) -> None:
            self.handle(data)

        self.job = dramatiq.actor(job, broker=self.broker, queue_name="bench", **options)

    def open(self) -> None:
        self.broker.client.ping()

    def add(self, data: Data) -> None:
        self.job.send(data)

    def add_many(self, items: Sequence[Item]) -> None:
        for data, delay_s in items:
            self.job.send_with_options(args=(data,), delay=round(delay_s * 1000) or None)

    def close(self) -> None:
        self.broker.close()

    def work(self, handle: Callable[[Data], None], stop: threading.Event) -> None:
        self.handle = handle
        worker = dramatiq.Worker(self.broker, worker_threads=self.threads)
        worker.start()
        stop.wait()
        worker.stop()


if __name__ == "__main__":
    run_sync(Dramatiq)
