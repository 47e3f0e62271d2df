"""What Bull Board's server reads of pyqueue's queues and does to them, asked directly; `test_board` uses its pages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.interop.board_server import board_server
from tests.interop.sides import Failed, NodeSide, PythonSide
from tests.interop.test_flows import job as flow_job
from tests.support.server import RedisServer
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.needs_server, pytest.mark.needs_node]


@pytest.fixture
async def api(server: RedisServer, node: NodeSide, prefix: str) -> AsyncIterator[httpx.AsyncClient]:
    """The interface behind the pages. `node` skips the test where there is no Node."""
    with board_server(server.port, prefix, ["mail", "reports"]) as url:
        async with httpx.AsyncClient(base_url=f"{url}api", timeout=15) as client:
            yield client


async def read(api: httpx.AsyncClient, path: str, **query: str) -> Any:
    """A JSON answer."""
    answer = await api.get(path, params=query)
    answer.raise_for_status()
    return answer.json()


async def test_everything_that_the_pages_show_is_read(api: httpx.AsyncClient, python: PythonSide) -> None:
    await python.work("mail", name="postman-1", concurrency=2)
    await python.add("report", {"to": "ada@example.org"}, "mail", jobId="invite-42", attempts=3)
    await python.result("invite-42", "mail")
    await python.add("fail", {"reason": "full"}, "mail", jobId="invite-43")
    with pytest.raises(Failed):
        await python.result("invite-43", "mail")
    await python.add_flow(flow_job("week", "gather", flow_job("german", "echo", queue="reports"), queue="reports"))
    await python.queue("mail").schedulers.upsert("digest", pattern="0 3 * * *", tz="Europe/Berlin", name="echo")

    mail, reports = (await read(api, "/queues"))["queues"]
    assert {state: count for state, count in mail["counts"].items() if count} == {
        "completed": 1, "failed": 1, "delayed": 1,
    }  # fmt: skip
    assert (mail["hasWorkers"], mail["isPaused"], mail["jobSchedulerCount"]) == (True, False, 1)
    assert (reports["hasWorkers"], reports["counts"]["waiting-children"], reports["counts"]["waiting"]) == (False, 1, 1)
    done = (await read(api, "/queues/mail/invite-42"))["job"]
    assert (done["data"], done["returnValue"], done["progress"]) == ({"to": "ada@example.org"}, "reported", {"step": 2})
    assert (done["processedBy"], done["opts"]["attempts"], done["attempts"]) == ("postman-1", 3, 1)
    assert await read(api, "/queues/mail/invite-42/logs") == ["one", "two"]
    failed = (await read(api, "/queues/mail/invite-43"))["job"]
    assert (failed["isFailed"], failed["failedReason"]) == (True, "full")
    assert "processors.py" in failed["stacktrace"][0]
    flow = (await read(api, "/queues/reports/week/flow"))["flowRoot"]
    assert (flow["state"], [(child["id"], child["state"]) for child in flow["children"]]) == (
        "waiting-children", [("german", "waiting")]
    )  # fmt: skip
    scheduler = (await read(api, "/job-schedulers"))["schedulers"][0]
    assert (scheduler["id"], scheduler["pattern"], scheduler["tz"]) == ("digest", "0 3 * * *", "Europe/Berlin")
    assert [worker["name"] for worker in (await read(api, "/queues/mail/workers"))["workers"]] == ["postman-1"]


async def test_what_is_done_there_binds_pyqueue(api: httpx.AsyncClient, python: PythonSide) -> None:
    await python.work("mail")
    await python.add("echo", 1, "mail", jobId="later", delay=3_600_000)

    (await api.put("/queues/mail/pause")).raise_for_status()
    assert await python.queue("mail").is_paused()
    (await api.put("/queues/mail/later/promote")).raise_for_status()
    body = {"name": "echo", "data": {"n": 1}, "options": {"jobId": "by-board"}}
    (await api.post("/queues/mail/add", json=body)).raise_for_status()
    assert await python.ids("waiting", "mail") == ["later", "by-board"]

    (await api.put("/queues/mail/resume")).raise_for_status()
    assert await python.result("later", "mail") == 1
    assert await python.result("by-board", "mail") == {"n": 1}
    (await api.put("/queues/mail/later/clean")).raise_for_status()
    await wait_until(lambda: _is_gone(python, "later"))


async def _is_gone(python: PythonSide, job_id: str) -> bool:
    return await python.look(job_id, "mail") is None
