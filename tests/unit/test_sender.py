"""Sender: one number per exchange, sent again until it is answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from pyqueue._redis.outage import Outage
from pyqueue._store.sender import Sender
from pyqueue.errors import RedisRefused

pytestmark = pytest.mark.anyio

LOST = RedisConnectionError("reply lost")
FULL = RedisRefused("no memory", code="OOM")
LOADING = RedisRefused("loading", code="LOADING")


def answers(*script: Exception | str) -> tuple[Callable[[str, int], Awaitable[str]], list[int]]:
    """An exchange that fails or answers as told, and the sequence numbers it saw."""
    left, seen = list(script), []

    async def attempt(sender: str, sequence: int) -> str:
        seen.append(sequence)
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return attempt, seen


@pytest.fixture
def sender() -> Sender:
    return Sender(Outage("test", random_=lambda: 0.0))


async def test_a_lost_reply_is_asked_for_again_under_the_same_number(sender: Sender) -> None:
    attempt, seen = answers(LOST, LOST, "done", "next")

    assert await sender.send(attempt) == "done"
    assert await sender.send(attempt) == "next"
    assert seen == [1, 1, 1, 2]


async def test_a_refusal_of_a_first_try_is_an_answer(sender: Sender) -> None:
    attempt, seen = answers(FULL)

    with pytest.raises(RedisRefused):
        await sender.send(attempt)
    assert seen == [1]


async def test_a_server_in_transition_is_waited_for(sender: Sender) -> None:
    attempt, seen = answers(LOADING, LOADING, "done")

    assert await sender.send(attempt) == "done"
    assert seen == [1, 1, 1]


async def test_after_a_lost_reply_a_refusal_is_no_answer(sender: Sender) -> None:
    attempt, seen = answers(LOST, FULL, LOADING, "done")

    assert await sender.send(attempt) == "done"
    assert seen == [1, 1, 1, 1]


async def test_what_stays_unknown_is_not_called_refused(sender: Sender) -> None:
    attempt, _ = answers(LOST, FULL)

    with pytest.raises(RedisConnectionError):
        await sender.send(attempt, timeout_s=0.03)


async def test_an_exchange_that_was_launched_and_failed_is_asked_for_again_under_its_number(sender: Sender) -> None:
    attempt, seen = answers("done", "next")
    number = sender.next_number()

    assert await sender.send(attempt, number=number, failure=LOST) == "done"
    assert await sender.send(attempt) == "next"
    assert seen == [1, 2]
    assert sender.is_up


async def test_an_exchange_that_was_launched_and_refused_has_its_answer(sender: Sender) -> None:
    attempt, seen = answers("done")

    with pytest.raises(RedisRefused):
        await sender.send(attempt, number=sender.next_number(), failure=FULL)
    assert seen == []
