"""An outage: growing, jittered delays and one line at its beginning and its end."""

from __future__ import annotations

import logging

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pyqueue._redis.outage import BASE_S, CAP_S, Outage, is_outage
from pyqueue.errors import JobNotFound, RedisRefused

LOST = RedisConnectionError("Connection closed by server.")


class Monotonic:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def delays(down: Outage, clock: Monotonic, count: int) -> list[float]:
    """Fail, wait as told, and so on; the waits."""
    waited: list[float] = []
    for _ in range(count):
        waited.append(round(down.failed(LOST), 3))
        clock.now_s += waited[-1]
    return waited


def outage(jitter: float = 1.0, monotonic: Monotonic | None = None) -> Outage:
    return Outage("worker email", random_=lambda: jitter, monotonic=monotonic or Monotonic())


def test_delays_double_up_to_the_cap() -> None:
    """E145."""
    clock = Monotonic()
    down = outage(monotonic=clock)

    assert delays(down, clock, 9) == [0.05, 0.05, 0.1, 0.2, 0.4, 0.8, CAP_S, CAP_S, CAP_S]


def test_connections_that_fail_side_by_side_do_not_lengthen_the_delays() -> None:
    clock = Monotonic()
    down = outage(monotonic=clock)

    for _ in range(20):
        down.failed(LOST)
    clock.now_s += 0.3

    assert down.failed(LOST) == pytest.approx(0.3)


@pytest.mark.parametrize("jitter", [0.0, 0.5, 0.999])
def test_jitter_takes_at_most_half_so_that_no_loop_is_busy(jitter: float) -> None:
    clock = Monotonic()
    waited = delays(outage(jitter, clock), clock, 1000)

    assert min(waited) >= BASE_S / 2
    assert CAP_S / 2 <= waited[-1] <= CAP_S


def test_an_outage_is_one_line_at_its_beginning_and_one_at_its_end(caplog: pytest.LogCaptureFixture) -> None:
    clock = Monotonic()
    down = outage(monotonic=clock)
    caplog.set_level(logging.INFO)

    for _ in range(20):
        down.failed(LOST)
    clock.now_s += 12.34
    down.recovered()
    down.recovered()

    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "worker email: no connection, trying again until it returns: Connection closed by server."),
        ("INFO", "worker email: connected again after 12.3 s and 20 attempts"),
    ]


def test_the_next_outage_begins_anew(caplog: pytest.LogCaptureFixture) -> None:
    clock = Monotonic()
    down = outage(monotonic=clock)
    first = delays(down, clock, 5)
    states = [down.is_down]

    down.recovered()
    states.append(down.is_down)
    caplog.clear()

    assert states == [True, False]

    assert delays(down, clock, 5) == first
    assert len(caplog.records) == 1


def test_a_success_while_up_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    outage().recovered()

    assert not caplog.records


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RedisConnectionError(), True),
        (RedisTimeoutError(), True),
        (ConnectionResetError(), True),
        (RedisRefused("", code="READONLY"), True),
        (RedisRefused("", code="LOADING"), True),
        (RedisRefused("", code="OOM"), True),
        (RedisRefused("", code="NOPERM"), False),
        (RedisRefused("", code="WRONGPASS"), False),
        (ResponseError("ERR"), False),
        (JobNotFound(), False),
        (ValueError(), False),
    ],
    ids=repr,
)
def test_only_what_passes_with_time_is_an_outage(error: Exception, expected: bool) -> None:
    """E144."""
    assert is_outage(error) is expected
