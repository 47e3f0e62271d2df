"""Bull Board shows queues that pyqueue fills and works, and what is done there is seen by pyqueue."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from playwright.async_api import expect

from pyqueue import JobState
from tests.interop.board import EDIT, PROMOTE, REMOVE, RETRY, RUN_NOW, Board, browser, browser_path
from tests.interop.board_server import board_server
from tests.interop.sides import Failed, NodeSide, PythonSide
from tests.interop.test_flows import job as flow_job
from tests.support.server import RedisServer
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.needs_server,
    pytest.mark.needs_node,
    pytest.mark.long,
    pytest.mark.timeout(60),
    pytest.mark.skipif(browser_path() is None, reason="no chromium on PATH: run .ci/chromium"),
]


@pytest.fixture
def url(server: RedisServer, node: NodeSide, prefix: str) -> Iterator[str]:
    """A Bull Board for two queues. `node` skips the test where there is no Node."""
    with board_server(server.port, prefix, ["mail", "reports"]) as url:
        yield url


@pytest.fixture
async def board(url: str) -> AsyncIterator[Board]:
    """A browser on it."""
    async with browser(url) as board:
        yield board


async def failed(python: PythonSide, job_id: str, reason: str = "the mailbox is full") -> None:
    """A job that a pyqueue worker let fail."""
    await python.add("fail", {"reason": reason}, "mail", jobId=job_id)
    with pytest.raises(Failed):
        await python.result(job_id, "mail")


async def state(python: PythonSide, job_id: str, queue: str = "mail") -> JobState:
    return await python.queue(queue).jobs.state(job_id)


async def test_the_overview_counts_jobs_and_knows_which_queue_has_workers(board: Board, python: PythonSide) -> None:
    await python.work("mail", concurrency=2)
    await python.result(await python.add("report", queue="mail"), "mail")
    await failed(python, "invite-43")
    await python.add("sleep", 60_000, "mail")
    await python.add("echo", queue="mail", delay=60_000)
    await python.add_flow(flow_job("week", "gather", flow_job("german", "echo", queue="reports"), queue="reports"))
    await wait_until(lambda: _counts(python, "mail", {"active": 1, "completed": 1, "failed": 1, "delayed": 1}))

    await board.open()

    await board.shows("4 Jobs", "2 Jobs")
    await expect(board.page.get_by_text("No workers")).to_have_count(1)  # reports
    links = board.main.get_by_role("link")
    for label, count in {"ACTIVE": 1, "COMPLETED": 1, "FAILED": 1, "DELAYED": 1, "WAITING CHILDREN": 1}.items():
        await expect(links.filter(has_text=label).first).to_contain_text(str(count))
    await board.shoot("overview")
    await board.open("queue/mail")
    await board.shows("report", "fail", "sleep")
    await board.shoot("queue")


async def test_a_completed_job_shows_data_options_progress_logs_and_its_worker(
    board: Board, python: PythonSide
) -> None:
    await python.work("mail", name="postman-1")
    await python.add("report", {"to": "ada@example.org"}, "mail", jobId="invite-42", attempts=3, keepLogs=10)
    await python.result("invite-42", "mail")

    await board.open("queue/mail/invite-42")

    await board.shows("invite-42", "by postman-1", "Added at", "Process started at", "Finished at")
    await board.tab("Data", "ada@example.org", "reported")
    await board.shoot("job")
    await board.tab("Options", "attempts", "3", "keepLogs", "10")
    await board.shoot("job-options")
    await board.tab("Progress", "step", "2")
    await board.tab("Logs", "one", "two")
    await board.shoot("job-logs")


async def test_a_failed_job_shows_its_error_and_stack(board: Board, python: PythonSide) -> None:
    await python.work("mail", name="postman-1")
    await failed(python, "invite-43", "the mailbox is full <b>of</b> ünïcode")

    await board.open("queue/mail/invite-43?status=failed")

    await board.tab("Error", "RuntimeError: the mailbox is full <b>of</b> ünïcode", "processors.py")
    await board.shows("Failed at", "by postman-1")
    await board.shoot("job-error")


async def test_a_running_job_shows_its_progress(board: Board, python: PythonSide) -> None:
    await python.work("mail")
    job_id = await python.add("sleep", 60_000, "mail")
    await wait_until(lambda: _counts(python, "mail", {"active": 1}))
    await (await python.job(job_id, "mail")).update_progress(42)

    await board.open("queue/mail?status=active")

    await board.shows("42%")
    await board.shoot("job-progress")


async def test_a_flow_is_drawn_with_the_states_of_its_nodes(board: Board, python: PythonSide) -> None:
    children = [
        flow_job("render-de", "echo", queue="reports"),
        flow_job("send-1", "fail", queue="mail", data={"reason": "no answer"}),
    ]
    await python.add_flow(flow_job("newsletter-12", "gather", *children, queue="reports", data={"week": 12}))
    await python.work("mail")
    await wait_until(lambda: _counts(python, "mail", {"failed": 1}))

    await board.open("queue/reports/newsletter-12")

    await board.shows("Job flow", "2 unfinished")
    nodes = board.main.locator(".react-flow__node")
    await expect(nodes).to_have_count(3)
    for node in ("gather, waiting-children, queue reports", "echo, waiting, queue reports", "fail, failed, queue mail"):
        await expect(board.main.get_by_label(node)).to_have_count(1)
    await board.shoot("flow")


async def test_schedulers_are_listed_run_now_and_removed(board: Board, python: PythonSide) -> None:
    schedulers = python.queue("mail").schedulers
    await schedulers.upsert("digest", pattern="0 3 * * *", tz="Europe/Berlin", name="echo", data={"digest": True})
    await python.queue("reports").schedulers.upsert("hourly", every=3_600_000, name="echo")

    await board.open("job-schedulers")

    await board.shows("digest", "0 3 * * *", "Europe/Berlin", "hourly")
    await board.shoot("schedulers")
    await board.open("job-schedulers?queueName=mail")
    await python.work("mail")
    before = await schedulers.get("digest")
    await board.press(RUN_NOW)
    await wait_until(lambda: _counts(python, "mail", {"completed": 1, "delayed": 1}), 10)
    assert await schedulers.get("digest") == before, "a run of its own leaves the schedule as it is"
    await board.open("job-schedulers?queueName=mail")
    await board.press(REMOVE)
    await wait_until(lambda: _no_schedulers(python))
    assert await python.ids("delayed", "mail") == []


async def test_the_queue_tells_the_names_of_its_workers(board: Board, python: PythonSide) -> None:
    await python.add("sleep", 60_000, "mail")
    await python.work("mail", name="postman-1")
    await wait_until(lambda: _counts(python, "mail", {"active": 1}))

    await board.open("queue/mail")
    await board.page.get_by_label("Queue info").click()
    await board.dialog.get_by_role("button", name="Connected workers").click()

    await expect(board.dialog).to_contain_text("postman-1")
    await board.shoot("workers")


async def test_pause_and_resume_bind_pyqueues_worker(board: Board, python: PythonSide) -> None:
    queue = python.queue("mail")
    await python.work("mail")
    await board.open("queue/mail")

    await board.choose("Pause")
    await board.confirm()
    await wait_until(queue.is_paused)
    job_id = await python.add("echo", queue="mail")
    await board.open("queue/mail?status=waiting")
    await board.shows(job_id)
    assert await state(python, job_id) == "waiting"
    await board.shoot("paused")

    await board.choose("Resume")
    await board.confirm()
    await python.result(job_id, "mail")
    assert not await queue.is_paused()


async def test_failed_jobs_are_retried_one_by_one_and_all(board: Board, python: PythonSide) -> None:
    await python.work("mail")
    for number in range(3):
        await failed(python, f"invite-{number}")
    await python.idle("mail")

    await board.open("queue/mail/invite-0?status=failed")
    await board.press(RETRY)
    await wait_until(lambda: _counts(python, "mail", {"waiting": 1, "failed": 2}))
    assert await state(python, "invite-0") == "waiting"

    await board.open("queue/mail?status=failed")
    await board.press_named("Retry all")
    await wait_until(lambda: _counts(python, "mail", {"waiting": 3}))
    await python.work("mail")
    await wait_until(lambda: _counts(python, "mail", {"failed": 3}))


async def test_a_delayed_job_is_promoted(board: Board, python: PythonSide) -> None:
    await python.work("mail")
    await python.add("echo", 7, "mail", jobId="later", delay=3_600_000)

    await board.open("queue/mail/later?status=delayed")
    await board.press(PROMOTE)

    assert await python.result("later", "mail") == 7


async def test_completed_jobs_are_cleaned_and_a_waiting_one_removed(board: Board, python: PythonSide) -> None:
    await python.work("mail")
    for _ in range(3):
        await python.result(await python.add("echo", queue="mail"), "mail")
    await python.idle("mail")
    await python.add("echo", queue="mail", jobId="mistake")

    await board.open("queue/mail?status=completed")

    async def cleaned() -> bool:
        await board.press_named("Clean all")
        return await _counts(python, "mail", {"waiting": 1})

    await wait_until(cleaned, 20)  # Bull Board spares what is younger than five seconds

    await board.open("queue/mail/mistake?status=waiting")
    await board.press(REMOVE)
    await wait_until(lambda: _counts(python, "mail", {}))
    assert await python.look("mistake", "mail") is None


async def test_a_job_that_is_added_there_is_run_by_pyqueue(board: Board, python: PythonSide) -> None:
    await python.work("mail", name="postman-1")
    await board.open("queue/mail")

    await board.choose("Add job")
    await board.dialog.get_by_label("Job name").fill("echo")
    await board.write(0, '{"to": "grace@example.org", "n": [1, 2.5, null]}')
    await board.write(1, '{"jobId": "by-board", "attempts": 2, "priority": 3}')
    await board.shoot("add-job")
    await board.dialog.get_by_role("button", name="Add", exact=True).click()

    await wait_until(lambda: _counts(python, "mail", {"completed": 1}), 10)
    view = await python.look("by-board", "mail")
    assert view is not None
    assert view.value == view.data == {"to": "grace@example.org", "n": [1, 2.5, None]}
    assert (view.options["attempts"], view.priority, view.processed_by) == (2, 3, "postman-1")


async def test_data_is_edited(board: Board, python: PythonSide) -> None:
    await python.add("echo", {"to": "adda@example.org"}, "mail", jobId="typo")
    await board.open("queue/mail/typo?status=waiting")

    await board.main.locator(f"button:has(svg.lucide-{EDIT})").click()
    await board.write(0, '{"to": "ada@example.org"}')
    await board.dialog.get_by_role("button", name="Update").click()
    await expect(board.dialog).to_have_count(0)

    await python.work("mail")
    assert await python.result("typo", "mail") == {"to": "ada@example.org"}


async def test_limits_are_set_and_the_queue_is_emptied_and_obliterated(board: Board, python: PythonSide) -> None:
    queue = python.queue("mail")
    for _ in range(3):
        await python.add("echo", queue="mail")
    await board.open("queue/mail")

    await board.choose("Set concurrency")
    await board.dialog.get_by_role("spinbutton").fill("7")
    await board.dialog.get_by_role("button", name="Save").click()
    await wait_until(lambda: _concurrency_is(python, 7))

    await board.choose("Empty")
    await board.confirm()
    await wait_until(lambda: _counts(python, "mail", {}))

    await board.choose("Pause")
    await board.confirm()
    await wait_until(queue.is_paused)
    await board.choose("Obliterate")
    await board.confirm()
    await wait_until(lambda: _concurrency_is(python, None))


async def _counts(python: PythonSide, queue: str, expected: dict[str, int]) -> bool:
    return {state: count for state, count in (await python.counts(queue)).items() if count} == expected


async def _no_schedulers(python: PythonSide) -> bool:
    return await python.queue("mail").schedulers.count() == 0


async def _concurrency_is(python: PythonSide, expected: int | None) -> bool:
    return (await python.queue("mail").limits.get()).concurrency == expected
