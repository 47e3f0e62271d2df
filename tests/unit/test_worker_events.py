"""Callbacks: listeners are called, and can harm nobody."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest

from pyqueue._worker.events import Callbacks
from pyqueue.errors import ConfigurationError
from tests.support.waiting import wait_until

pytestmark = pytest.mark.anyio


async def test_an_unknown_event_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'completed'"):
        Callbacks("w").add("complete", print)


async def test_something_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="not callable"):
        Callbacks("w").add("completed", 3)  # type: ignore[type-var]  # the mistake is the point


async def test_listeners_are_called_in_order_until_removed() -> None:
    callbacks, heard = Callbacks("w"), list[Any]()
    first = callbacks.add("drained", lambda: heard.append("first"))
    callbacks.add("drained", lambda: heard.append("second"))
    callbacks.emit("drained")
    callbacks.remove("drained", first)
    callbacks.emit("drained")
    assert heard == ["first", "second", "second"]


async def test_a_raising_listener_becomes_an_error_event_and_the_others_are_called() -> None:
    """E231."""
    callbacks, heard = Callbacks("w"), list[Any]()
    fault = ValueError("listener")

    def raise_fault(job_id: str) -> None:
        raise fault

    callbacks.add("stalled", raise_fault)
    callbacks.add("stalled", heard.append)
    callbacks.add("error", heard.append)
    callbacks.emit("stalled", "7")
    assert heard == [fault, "7"]


async def test_an_error_without_listeners_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, logger="pyqueue.worker"):
        Callbacks("mail").emit("error", ValueError("nobody listens"))
    assert "mail" in caplog.text
    assert "nobody listens" in caplog.text


async def test_an_error_listener_that_raises_is_logged_and_not_called_again(caplog: pytest.LogCaptureFixture) -> None:
    callbacks, calls = Callbacks("mail"), list[Any]()

    def fail(error: Exception) -> None:
        calls.append(error)
        raise RuntimeError("in the error listener")

    callbacks.add("error", fail)
    callbacks.emit("error", ValueError("first"))
    assert len(calls) == 1
    assert "in the error listener" in caplog.text


async def test_a_coroutine_listener_is_awaited_beside_the_emitter() -> None:
    callbacks, heard = Callbacks("w"), list[Any]()
    gate = anyio.Event()

    async def listen(job_id: str) -> None:
        await gate.wait()
        heard.append(job_id)

    callbacks.add("stalled", listen)
    callbacks.emit("stalled", "7")
    assert heard == []
    gate.set()
    await wait_until(lambda: heard == ["7"])


async def test_a_raising_coroutine_listener_becomes_an_error_event() -> None:
    callbacks, errors = Callbacks("w"), list[Any]()

    async def listen() -> None:
        raise ValueError("later")

    callbacks.add("drained", listen)
    callbacks.add("error", errors.append)
    callbacks.emit("drained")
    await wait_until(lambda: [str(error) for error in errors] == ["later"])


async def test_finishing_waits_for_listeners_and_cancels_the_late_ones() -> None:
    callbacks, ended = Callbacks("w"), list[Any]()

    async def quick() -> None:
        await anyio.lowlevel.checkpoint()
        ended.append("quick")

    async def endless() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("cancelled")

    callbacks.add("drained", quick)
    callbacks.add("drained", endless)
    callbacks.emit("drained")
    await callbacks.finish(timeout_s=0.05)
    await wait_until(lambda: ended == ["quick", "cancelled"])
