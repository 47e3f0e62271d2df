"""rq with its SimpleWorker: the benchmark program. See `benchmarks.task` for what it reads and prints.

The default worker forks a process per job; SimpleWorker runs jobs in its own, which is its documented fast setting and
the only one comparable with the others. It runs one job at a time.
"""
# pyright: reportMissingImports=false
# (the peer is installed in an environment of its own)

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta

from redis import Redis
from rq import Queue, SimpleWorker

from benchmarks.systems import rq_program
from benchmarks.systems.harness import Data, Item, run_sync
from benchmarks.task import Task

#: rq calls jobs by name, so what a job does is found in the imported module, not in `__main__`.
handle_job: Callable[[Data], None] = lambda _: None  # noqa: E731 - replaced by `work`
NAME = "benchmarks.systems.rq_program.job"
#: rq's words: seconds for which a result is kept.
KEPT_S, NOT_KEPT = 500, 0


def job(data: Data) -> None:
    """The job."""
    handle_job(data)


class RQ:
    """Defaults, without a line of log per job."""

    def __init__(self, task: Task) -> None:
        self.connection = Redis(port=task.port)
        self.queue = Queue("bench", connection=self.connection)
        self.result_ttl = KEPT_S if task.keep_results else NOT_KEPT
        self.delays = task.delays

    def open(self) -> None:
        self.connection.ping()

    def add(self, data: Data) -> None:
        self.queue.enqueue(NAME, data, result_ttl=self.result_ttl)

    def add_many(self, items: Sequence[Item]) -> None:
        if items[0][1]:
            for data, delay_s in items:
                self.queue.enqueue_in(timedelta(seconds=delay_s), NAME, data, result_ttl=self.result_ttl)
            return
        prepared = [Queue.prepare_data(NAME, args=(data,), result_ttl=self.result_ttl) for data, _ in items]
        self.queue.enqueue_many(prepared)

    def close(self) -> None:
        self.connection.close()

    def work(self, handle: Callable[[Data], None], stop: threading.Event) -> None:
        rq_program.handle_job = handle
        worker = SimpleWorker([self.queue], connection=self.connection, log_job_description=False)
        threading.Thread(target=_interrupt, args=(stop,), daemon=True).start()
        worker.work(logging_level="WARNING", with_scheduler=self.delays)


def _interrupt(stop: threading.Event) -> None:
    """A worker ends by a signal, in its main thread."""
    stop.wait()
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    run_sync(RQ)
