"""A coroutine that is on its way: its first step at once, the rest when it is awaited."""

from __future__ import annotations

import asyncio

import pytest

from pyqueue._worker.started import Started

pytestmark = pytest.mark.anyio


async def test_the_first_step_is_made_at_once() -> None:
    steps: list[str] = []
    reply: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def exchange() -> int:
        steps.append("sent")
        return await reply + 1

    flight = Started(exchange())
    steps.append("meanwhile")
    asyncio.get_running_loop().call_soon(reply.set_result, 41)

    assert await flight == 42
    assert steps == ["sent", "meanwhile"]


async def test_one_that_never_waits_has_its_result_at_once() -> None:
    async def exchange() -> str:
        return "done"

    assert await Started(exchange()) == "done"


async def test_several_waits_and_an_answer_that_came_meanwhile() -> None:
    async def exchange() -> int:
        total = await replies[0]
        await asyncio.sleep(0)
        return total + await replies[1]

    loop = asyncio.get_running_loop()
    replies: list[asyncio.Future[int]] = [loop.create_future(), loop.create_future()]
    flight = Started(exchange())
    replies[0].set_result(1)
    replies[1].set_result(2)

    assert await flight == 3


async def test_errors_reach_who_awaits_it() -> None:
    async def exchange() -> None:
        await asyncio.sleep(0)
        raise ConnectionError("cut")

    flight = Started(exchange())

    with pytest.raises(ConnectionError, match="cut"):
        await flight


async def test_an_error_of_the_first_step_is_raised_by_it() -> None:
    async def exchange() -> None:
        raise ValueError("cannot be sent")

    with pytest.raises(ValueError, match="cannot be sent"):
        Started(exchange())


async def exchange_until_given_up(cleaned: asyncio.Event) -> None:
    """Wait for what never comes; clean up."""
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        cleaned.set()


async def test_a_cancellation_reaches_the_coroutine() -> None:
    cleaned = asyncio.Event()

    async def caller() -> None:
        await Started(exchange_until_given_up(cleaned))

    task = asyncio.create_task(caller())
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned.is_set()


async def test_one_that_is_given_up_cleans_up() -> None:
    cleaned = asyncio.Event()

    Started(exchange_until_given_up(cleaned)).close()

    assert cleaned.is_set()
