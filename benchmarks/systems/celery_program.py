"""Celery on Redis: the benchmark program. See `benchmarks.task` for what it reads and prints."""
# pyright: reportMissingImports=false
# (the peer is installed in an environment of its own)

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

from celery import Celery

from benchmarks.systems.harness import Data, Item, run_sync
from benchmarks.task import Task

#: Celery's guide on optimizing asks for a large multiplier where tasks are short.
PREFETCH_MULTIPLIER = 64


class CeleryApp:
    """Threads in one process (solo at concurrency 1), without gossip, mingle, heartbeat and events."""

    def __init__(self, task: Task) -> None:
        url = f"redis://127.0.0.1:{task.port}/0"
        self.app = Celery("bench", broker=url, backend=url if task.keep_results else None)
        self.app.conf.update(
            task_default_queue="bench",
            task_ignore_result=not task.keep_results,
            worker_prefetch_multiplier=PREFETCH_MULTIPLIER,
            worker_redirect_stdouts=False,
            worker_send_task_events=False,
            broker_connection_retry_on_startup=True,
        )
        self.concurrency = task.concurrency
        self.handle: Callable[[Data], None] = lambda _: None

        def job(data: Data) -> None:
            self.handle(data)

        self.job = self.app.task(job, name="job")

    def open(self) -> None:
        self.app.connection_for_write().ensure_connection()

    def add(self, data: Data) -> None:
        self.job.apply_async((data,))

    def add_many(self, items: Sequence[Item]) -> None:
        with self.app.producer_or_acquire() as producer:
            for data, delay_s in items:
                self.job.apply_async((data,), countdown=delay_s or None, producer=producer)

    def close(self) -> None:
        self.app.close()

    def work(self, handle: Callable[[Data], None], stop: threading.Event) -> None:
        self.handle = handle
        worker = self.app.Worker(
            pool="solo" if self.concurrency == 1 else "threads",
            concurrency=self.concurrency,
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
            loglevel="ERROR",
            quiet=True,
        )
        threading.Thread(target=_terminate, args=(stop,), daemon=True).start()
        with suppress(SystemExit):  # how a warm shutdown ends
            worker.start()


def _terminate(stop: threading.Event) -> None:
    """A worker ends by a signal, in its main thread: finish what runs, fetch no more."""
    stop.wait()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    run_sync(CeleryApp)
