"""The load test: when mails arrive, that a slow service does not slow them down, what the report says about a run."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from examples.email_service.load import page
from examples.email_service.load.__main__ import parse_options
from examples.email_service.load.arrivals import MAX_MAILS, Profile
from examples.email_service.load.generator import NOT_POSTED, Generator, Mail, Run, check_target
from examples.email_service.load.plots import draw
from examples.email_service.load.report import Report, summarise
from examples.email_service.load.watcher import Sample, Watch
from examples.email_service.processes import CHECKOUT
from tests.support.waiting import wait_until


def test_arrivals_come_at_the_rate_after_a_ramp() -> None:
    profile = Profile(rate=500, duration_s=40, ramp_s=20)
    times = list(profile.arrivals(seed=7))

    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] <= 40
    # Counts of a Poisson process: within five standard deviations of their means, and the same in every run.
    for begin_s, end_s, mean in [(0, 10, 1250), (10, 20, 3750), (20, 30, 5000), (30, 40, 5000)]:
        count = sum(begin_s <= time < end_s for time in times)
        assert abs(count - mean) < 5 * mean**0.5


def test_equal_seeds_arrive_at_equal_times() -> None:
    profile = Profile(rate=50, duration_s=2)

    assert list(profile.arrivals(seed=1)) == list(profile.arrivals(seed=1)) != list(profile.arrivals(seed=2))


@pytest.mark.parametrize(
    ("rate", "duration_s", "ramp_s", "complaint"),
    [
        (0, 10, 0, "the rate is 0 mails/s; it must be above 0 and at most 2000"),
        (2001, 10, 0, "the rate is 2001 mails/s"),
        (10, 601, 0, "the duration is 601 s; it must be above 0 and at most 600"),
        (10, 10, 11, "the ramp is 11 s; it must be between 0 and the duration"),
        (2000, 600, 0, f"that is about 1200000 mails; a run has at most {MAX_MAILS}"),
    ],
)
def test_a_load_beyond_the_bounds_is_refused(rate: float, duration_s: float, ramp_s: float, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Profile(rate, duration_s, ramp_s)


@pytest.mark.parametrize("url", ["http://10.0.0.7:80", "http://example.org", "https://127.0.0.1", "127.0.0.1:80", ""])
def test_another_machine_is_never_a_target(url: str) -> None:
    with pytest.raises(ValueError, match="load tests go to http://127"):
        check_target(url)


def test_this_machine_is_a_target() -> None:
    assert check_target("http://127.0.0.1:8080/") == "http://127.0.0.1:8080"
    assert check_target("http://localhost:8080") == "http://localhost:8080"
    assert check_target("http://[::1]:8080") == "http://[::1]:8080"


class HeldApi:
    """A real HTTP server that takes requests at once and answers none before it is told to."""

    def __init__(self, status: str = "202 Accepted") -> None:
        self.received = 0
        self.answer = anyio.Event()
        self._status = status

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._handle, "127.0.0.1", 0)
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        job_id = json.loads(await reader.readexactly(length))["id"]
        self.received += 1
        await self.answer.wait()
        body = json.dumps({"job_id": f"invite-{job_id}", "duplicate": False})
        writer.write(
            f"HTTP/1.1 {self._status}\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()
        )
        await writer.drain()
        writer.close()


@pytest.mark.anyio
async def test_a_service_that_does_not_answer_gets_its_load_all_the_same() -> None:
    api, run, held_s = HeldApi(), Run(), 0.0
    due = [0.005 * number for number in range(20)]
    async with api.serving() as url, anyio.create_task_group() as tasks:
        tasks.start_soon(Generator(run, [url], "t").post_all, due)
        await wait_until(lambda: api.received == 20)
        assert [mail.answered_s for mail in run.mails] == [None] * 20
        held_s = run.now_s()
        api.answer.set()

    latencies = [mail.answered_s - mail.due_s for mail in run.mails if mail.answered_s is not None]
    assert len(latencies) == 20
    assert min(latencies) >= held_s - 0.1  # the last one was due after 95 ms
    assert [mail.due_s for mail in run.mails] == due  # counted from when it was due, not from when others were done


@pytest.mark.anyio
async def test_what_exceeds_the_open_requests_is_not_posted_and_counts_as_an_error() -> None:
    api, run = HeldApi(), Run()
    async with api.serving() as url, anyio.create_task_group() as tasks:
        tasks.start_soon(Generator(run, [url], "t", max_in_flight=3).post_all, [0.0] * 5)
        await wait_until(lambda: api.received == 3 and len(run.mails) == 5)
        api.answer.set()

    assert [mail.error for mail in run.mails] == [None, None, None, NOT_POSTED, NOT_POSTED]


@pytest.mark.anyio
async def test_an_answer_that_is_not_202_and_no_answer_are_errors(free_tcp_port: int) -> None:
    api, run = HeldApi("503 Service Unavailable"), Run()
    api.answer.set()
    async with api.serving() as url:
        await Generator(run, [url, f"http://127.0.0.1:{free_tcp_port}"], "t").post_all([0.0, 0.0])

    assert sorted(mail.error or "" for mail in run.mails) == ["ConnectError", "HTTP 503"]


@pytest.mark.anyio
async def test_duplicates_are_posted_to_different_apis() -> None:
    first, second, run = HeldApi(), HeldApi(), Run()
    first.answer.set()
    second.answer.set()
    async with first.serving() as one, second.serving() as other:
        await Generator(run, [one, other], "t", duplicate_every=2).post_all([0.0] * 4)

    assert (first.received, second.received) == (2, 4)  # 2 and 4, each also posted to the other
    assert len(run.mails) == 6
    assert len(run.accepted_ids()) == 4


def stats(completed: int, waiting: int = 0, **processed: int) -> dict[str, object]:
    instances = [
        {"instance_id": name.replace("_", "-"), "worker": {"processed": count}} for name, count in processed.items()
    ]
    return {
        "waiting": waiting,
        "active": 0,
        "completed": completed,
        "failed": 0,
        "paused": False,
        "instances": instances,
    }


@pytest.fixture
def seen() -> tuple[Run, Watch]:
    """Ten mails a second for ten seconds, each answered after 20 ms and delivered after 120; one duplicate."""
    run, watched = Run(), Watch()
    for number in range(100):
        due_s = number / 10
        mail = Mail(f"invite-{number}", f"{number}@example.test", due_s, due_s + 0.001, due_s + 0.02)
        run.mails.append(replace(mail, delivered_s=due_s + 0.12, deliveries=1))
    run.mails.append(Mail("invite-7", "7@example.test", 0.7, 0.7, 0.71, is_duplicate=True))
    for second in range(12):
        done = min(100, 10 * second)
        watched.add(float(second), stats(500 + done, waiting=3, worker_1=40 + done * 6 // 10, worker_2=done * 4 // 10))
    return run, watched


def reported(seen: tuple[Run, Watch]) -> Report:
    return summarise(*seen, sees_deliveries=True)


def test_a_good_run_is_good(seen: tuple[Run, Watch]) -> None:
    report = reported(seen)

    assert report.faults == ()
    assert (report.arrivals, report.accepted, report.duplicates, report.finished) == (101, 100, 1, 100)
    assert (report.delivered, report.doubled, report.depth_max) == (100, 0, 3)
    assert (report.answer.p50, report.mail.p99) == (20.0, 120.0)
    assert report.finish_rate == 10.0
    assert report.shares == {"worker-1": 0.6, "worker-2": 0.4}


def test_a_worker_that_was_restarted_counts_from_its_restart() -> None:
    watched = Watch()
    for completed, processed in [(0, 900), (50, 950), (60, 10)]:
        watched.add(0.0, stats(completed, worker_1=processed))

    assert watched.processed == {"worker-1": 60}


def test_mails_that_were_not_finished_are_a_fault(seen: tuple[Run, Watch]) -> None:
    _, watched = seen
    watched.samples[-1] = Sample(11.0, {**watched.samples[-1].counts, "completed": 597})

    assert reported(seen).faults == ("3 of 100 accepted mails were not finished in time",)


def test_a_mail_that_did_not_arrive_and_one_that_arrived_twice_are_faults(seen: tuple[Run, Watch]) -> None:
    run, _ = seen
    run.mails[3] = replace(run.mails[3], delivered_s=None, deliveries=0)
    run.mails[4].deliveries = 2

    assert reported(seen).faults == (
        "1 of 100 accepted mails did not reach the mail server",
        "1 mails reached the mail server more than once",
    )


def test_errors_are_counted_by_kind_and_are_a_fault(seen: tuple[Run, Watch]) -> None:
    run, _ = seen
    run.mails.append(Mail("invite-x", "x@example.test", 1.0, 1.0, error="HTTP 503"))

    report = reported(seen)

    assert report.errors == {"HTTP 503": 1}
    assert report.faults == ("1 of 102 requests were not answered with 202",)


def test_a_generator_that_is_too_slow_says_so(seen: tuple[Run, Watch]) -> None:
    run, _ = seen
    for mail in run.mails:
        mail.sent_s = mail.due_s + 0.5

    report = reported(seen)

    assert report.notes == (
        "1 % of the requests were posted 500 ms late or more: this machine is too slow for the rate",
    )
    assert report.faults == ()


def test_the_plots_show_what_the_issue_is_about(seen: tuple[Run, Watch], tmp_path: Path) -> None:
    figures = draw(*seen)
    written = page.write(reported(seen), figures, "<a run>", tmp_path)

    texts = {name: " ".join(ElementTree.fromstring(svg).itertext()) for name, svg in figures.items()}
    assert "arrivals" in texts["arrivals-and-completions"]
    assert "completions" in texts["arrivals-and-completions"]
    assert {"p50", "p95", "p99"} <= set(texts["answer-latency"].split())
    assert {"p50", "p95", "p99"} <= set(texts["mail-latency"].split())
    assert "waiting" in texts["queue-depth"]
    assert {"worker-1", "worker-2"} <= set(texts["share-per-instance"].split())
    assert "none" in texts["errors"]
    assert "<h1>&lt;a run&gt;</h1>" in written.read_text()
    assert {path.name for path in tmp_path.iterdir()} >= {"report.json", "index.html", "queue-depth.svg", "errors.svg"}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--rate", "5000"], "at most 2000"),
        (["--url", "http://192.168.0.1:8080"], "http://192.168.0.1:8080 is not on this machine"),
        (["--workers", "99"], "--workers"),
        (["--drain", "601"], "601 is not between 0 and 600"),
        (["--duplicate-every", "-1"], "-1 is not between 0 and 600"),
    ],
)
def test_bad_options_end_with_status_2_and_the_reason(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_status:
        parse_options(arguments)

    assert exit_status.value.code == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.needs_server
@pytest.mark.timeout(180)
def test_a_short_run_against_its_own_service_writes_its_report(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "examples.email_service.load", "--rate", "30", "--duration", "2", "--ramp", "1"]
    command += ["--workers", "2", "--apis", "1", "--report", str(tmp_path / "report")]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}

    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=160)

    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["accepted"] == report["finished"] == report["delivered"] > 20
    assert (report["doubled"], report["errors"]) == (0, {})
    assert report["duplicates"] == report["arrivals"] - report["accepted"] > 0
    assert set(report["shares"]) == {"worker-1", "worker-2"}
    assert list(tmp_path.glob("email-load-*")) == []
