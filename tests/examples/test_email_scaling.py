"""The scaling signal: up, hold or down, and every reason for it."""

from dataclasses import replace

import pytest

from examples.email_service.heartbeats import InstanceReport, SmtpReport, WorkerReport
from examples.email_service.queue_state import QueueSnapshot
from examples.email_service.scaling import Load, decide, load_of

CALM = Load(
    ready=5,
    active=8,
    oldest_waiting_s=1.0,
    is_paused=False,
    gate_reason="",
    workers=2,
    slots=20,
    average_job_s=0.1,
    response_p95_ms=20.0,
    cpu_percent=40.0,
    rate_per_s=None,
)


@pytest.mark.parametrize(
    ("changes", "direction", "reasons"),
    [
        ({}, "hold", ["load and capacity match"]),
        ({"ready": 100}, "hold", ["load and capacity match"]),
        ({"ready": 101}, "up", ["101 mails wait, more than 100"]),
        ({"active": 20}, "up", ["all 20 slots of the workers are busy"]),
        ({"active": 20, "ready": 0}, "hold", ["load and capacity match"]),
        ({"oldest_waiting_s": 31}, "up", ["the oldest mail has waited for 31 s, more than 30"]),
        ({"response_p95_ms": 201}, "up", ["the API answers in 201 ms (p95), above 200"]),
        ({"cpu_percent": 71}, "up", ["an instance uses 71 % of a CPU, above 70"]),
        (
            {"ready": 500, "cpu_percent": 90},
            "up",
            ["an instance uses 90 % of a CPU, above 70", "500 mails wait, more than 100"],
        ),
        ({"workers": 0, "slots": 0, "active": 0}, "up", ["5 mails wait and no worker takes them"]),
        ({"ready": 500, "is_paused": True}, "hold", ["the queue is paused: workers have nothing to do"]),
        (
            {"ready": 500, "gate_reason": "421 later"},
            "hold",
            ["nobody sends at the moment (421 later): more workers would wait, too"],
        ),
        ({"ready": 0, "active": 2, "cpu_percent": 5}, "down", ["no mail waits, and 2 of 20 slots are busy"]),
        ({"ready": 0, "active": 4, "cpu_percent": 5}, "hold", ["load and capacity match"]),
        ({"ready": 0, "active": 2, "cpu_percent": 35}, "hold", ["load and capacity match"]),
        ({"ready": 0, "active": 0, "cpu_percent": 5, "workers": 1}, "hold", ["load and capacity match"]),
    ],
    ids=lambda value: ",".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_the_direction_has_reasons(changes: dict[str, object], direction: str, reasons: list[str]) -> None:
    signal = decide(replace(CALM, **changes))  # type: ignore[arg-type]  # a table of fields

    assert (signal.direction, list(signal.reasons)) == (direction, reasons)


@pytest.mark.parametrize(
    ("rate_per_s", "workers", "useful", "direction"),
    [(150, 2, 2, "hold"), (250, 2, 3, "up"), (250, 3, 3, "hold"), (1, 2, 1, "hold"), (None, 2, None, "up")],
)
def test_the_rate_limit_caps_the_workers_that_are_useful(
    rate_per_s: float | None, workers: int, useful: int | None, direction: str
) -> None:
    """Ten slots of 0.1 s each: one worker sends 100 mails per second."""
    signal = decide(replace(CALM, ready=500, rate_per_s=rate_per_s, workers=workers, slots=10 * workers))

    assert (signal.useful_workers, signal.direction) == (useful, direction)
    if direction == "hold":
        assert f"the rate limit keeps {useful} workers busy and there are {workers}" in signal.reasons[-1]


def test_a_busy_machine_is_a_reason_in_spite_of_the_rate_limit() -> None:
    assert decide(replace(CALM, ready=500, rate_per_s=1, cpu_percent=95)).direction == "up"


def report(name: str, *, worker: WorkerReport | None = None, cpu: float = 10, response_ms: float = 0) -> InstanceReport:
    return InstanceReport(
        instance_id=name,
        role="api" if worker is None else "worker",
        draining=False,
        uptime_s=60,
        cpu_percent=cpu,
        response_p95_ms=response_ms,
        worker=worker,
    )


def worker_report(*, state: str = "running", paused: bool = False, average_ms: float = 100) -> WorkerReport:
    return WorkerReport(
        state=state,  # type: ignore[arg-type]  # one of the four words
        paused=paused,
        running=1,
        concurrency=10,
        processed=1,
        failed=0,
        stalled=0,
        average_ms=average_ms,
        p95_ms=200,
        rate_limit_hits=0,
        idle_because="",
        smtp=SmtpReport(),
    )


def test_the_load_is_summed_over_the_workers_that_take_jobs() -> None:
    counts = {"waiting": 3, "prioritized": 2, "delayed": 9, "due": 1, "active": 4}
    instances = [
        report("api-1", response_ms=150),
        report("worker-1", worker=worker_report(average_ms=100)),
        report("worker-2", worker=worker_report(average_ms=300), cpu=60),
        report("worker-3", worker=worker_report(state="closing")),
        report("worker-4", worker=worker_report(paused=True)),
    ]

    load = load_of(
        QueueSnapshot(counts, is_paused=False, oldest_waiting_s=7.0),
        instances,
        gate_reason="",
        response_p95_ms=50,
        rate_per_s=None,
    )

    assert (load.ready, load.active, load.workers, load.slots) == (6, 4, 2, 20)
    assert (load.average_job_s, load.response_p95_ms, load.cpu_percent) == (0.2, 150, 60)


def test_the_backlog_is_nothing_while_the_queue_is_paused() -> None:
    counts = {"waiting": 3, "prioritized": 2, "delayed": 9, "due": 1, "active": 4}

    assert QueueSnapshot(counts, is_paused=False, oldest_waiting_s=0).backlog == 10
    assert QueueSnapshot(counts, is_paused=True, oldest_waiting_s=0).backlog == 0
