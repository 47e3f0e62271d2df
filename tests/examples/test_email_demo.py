"""The demonstration: its audit notices every kind of fault, and a run of it ends well."""

import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from examples.email_service.audit import JobRecord, Observations, audit
from examples.email_service.demo import parse_options
from examples.email_service.processes import CHECKOUT
from examples.email_service.smtp_sink import Ledger
from examples.email_service.traffic import Answers, Fate, PlannedInvite, plan_invites
from tests.support.server import RedisServer


def message_id(job_id: str) -> str:
    return f"<{job_id}@example.org>"


def record_of(invite: PlannedInvite) -> JobRecord:
    attempts = 2 if invite.fate is Fate.GREYLISTED else 1
    state = "failed" if invite.fate is Fate.UNKNOWN else "completed"
    return JobRecord(invite.job_id, state, attempts, attempts, f"worker-{invite.number % 2 + 1}")


@pytest.fixture
def good() -> Observations:
    """What a run of 50 invites looks like when all is well."""
    invites = plan_invites(50)
    accepted = [invite for invite in invites if invite.fate is not Fate.UNKNOWN]
    ledger = Ledger(accepted=Counter((message_id(invite.job_id), invite.to) for invite in accepted))
    stats = {"waiting": 0, "active": 0, "completed": 48, "failed": 2, "delayed": 0}
    return Observations(
        invites=invites,
        ledger=ledger,
        message_id=message_id,
        jobs=[record_of(invite) for invite in invites],
        stats={"api-1": stats, "api-2": stats},
        answers=Answers(Counter(invite.job_id for invite in invites if invite.posts == 2)),
        faults=[],
        takeovers_allowed=0,
    )


def test_the_plan_has_every_kind_of_invite_and_posts_every_tenth_twice() -> None:
    invites = plan_invites(500)

    assert Counter(invite.fate for invite in invites) == {Fate.ACCEPTED: 450, Fate.GREYLISTED: 30, Fate.UNKNOWN: 20}
    assert [invite.number for invite in invites if invite.posts == 2] == list(range(10, 501, 10))
    assert {invite.fate for invite in invites if invite.posts == 2} == set(Fate)


def test_a_good_run_is_good(good: Observations) -> None:
    report = audit(good)

    assert report.faults == ()
    assert (report.invites, report.posts, report.duplicates) == (50, 55, 5)
    assert (report.delivered, report.retried, report.dead) == (48, 3, 2)
    assert report.per_instance == {"worker-1": 25, "worker-2": 25}


def test_a_lost_mail_is_noticed(good: Observations) -> None:
    del good.ledger.accepted[message_id("invite-1"), "guest-1@example.test"]

    report = audit(good)

    assert report.lost == ("invite-1",)
    assert report.faults == ("1 lost: invite-1",)


def test_a_doubled_mail_is_noticed(good: Observations) -> None:
    good.ledger.accepted[message_id("invite-1"), "guest-1@example.test"] += 1

    report = audit(good)

    assert report.doubled == ("invite-1",)
    assert report.faults == ("1 doubled: invite-1",)


def test_a_doubled_mail_of_a_killed_worker_is_counted_and_not_held_against_the_run(good: Observations) -> None:
    good.ledger.accepted[message_id("invite-1"), "guest-1@example.test"] += 1
    jobs = [replace(good.jobs[0], attempts_started=2), *good.jobs[1:]]

    report = audit(replace(good, jobs=jobs, takeovers_allowed=1))

    assert (report.doubled, report.taken_over) == (("invite-1",), 1)
    assert report.faults == ()


def test_after_a_kill_a_doubled_mail_of_a_living_worker_is_still_a_fault(good: Observations) -> None:
    good.ledger.accepted[message_id("invite-1"), "guest-1@example.test"] += 1

    assert audit(replace(good, takeovers_allowed=1)).faults == ("1 doubled: invite-1",)


def test_a_job_that_ran_again_although_nobody_was_killed_is_noticed(good: Observations) -> None:
    jobs = [replace(good.jobs[0], attempts_started=2), *good.jobs[1:]]

    assert audit(replace(good, jobs=jobs)).faults == ("1 run again by another worker (at most 0): invite-1",)


def test_a_mail_to_somebody_else_is_noticed(good: Observations) -> None:
    good.ledger.accepted[message_id("invite-1"), "stranger@example.test"] += 1

    assert audit(good).faults == ("1 accepted but not wanted: <invite-1@example.org> to stranger@example.test",)


def test_a_dead_mail_that_is_not_in_failed_is_noticed(good: Observations) -> None:
    jobs = [replace(job, state="completed") if job.state == "failed" else job for job in good.jobs]

    faults = audit(replace(good, jobs=jobs)).faults

    assert "invite-20 is completed, expected failed" in faults
    assert "stats of api-1: 2 failed, but there are 0" in faults


def test_a_missing_job_a_second_one_and_a_strange_one_are_noticed(good: Observations) -> None:
    stranger = JobRecord("7", "completed", 1, 1, "worker-1")
    jobs = [*good.jobs[1:], good.jobs[1], stranger]

    faults = audit(replace(good, jobs=jobs)).faults

    assert "invite-1 is missing, expected completed" in faults
    assert "7 is completed, expected missing" in faults
    assert "1 jobs are listed twice" in faults


def test_an_attempt_too_many_is_noticed(good: Observations) -> None:
    jobs = [replace(good.jobs[0], attempts_made=2, attempts_started=2), *good.jobs[1:]]

    assert audit(replace(good, jobs=jobs)).faults == ("invite-1 took 2 attempts, expected 1",)


def test_counts_that_disagree_are_noticed(good: Observations) -> None:
    stats = {**good.stats, "api-2": {**good.stats["api-2"], "waiting": 1}}

    assert audit(replace(good, stats=stats)).faults == ("stats of api-2: 1 waiting, but there are 0",)


def test_a_duplicate_that_was_answered_as_new_is_noticed(good: Observations) -> None:
    del good.answers.duplicates["invite-10"]

    assert audit(good).faults == ("invite-10 was posted 2 times and called a duplicate 0 times",)


@pytest.mark.parametrize("arguments", [["--invites", "0"], ["--workers", "x"], ["--unknown"]])
def test_bad_options_end_with_status_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_status:
        parse_options(arguments)

    assert exit_status.value.code == 2


def run_demo(*arguments: str, temporary: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "examples.email_service.demo", *arguments]
    environment = {**os.environ, "TMPDIR": str(temporary), **variables}
    return subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=160)


def left_behind(directory: Path) -> list[Path]:
    """Files; the embedded server keeps the (empty) directory of its sockets."""
    return [path for path in directory.rglob("*") if not path.is_dir()]


@pytest.mark.needs_server
@pytest.mark.timeout(180)
def test_a_run_with_an_embedded_server_loses_and_doubles_nothing_and_cleans_up(tmp_path: Path) -> None:
    done = run_demo("--invites", "60", temporary=tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    table = dict(line.split("│")[1:3] for line in done.stdout.splitlines() if line.startswith("│"))
    cells = {name.strip(): value.strip() for name, value in table.items()}
    assert {name: cells[name] for name in ("invites", "delivered", "duplicates", "retried", "dead")} == {
        "invites": "60",
        "delivered": "58",
        "duplicates": "6",
        "retried": "4",
        "dead": "2",
    }
    assert (cells["lost"], cells["doubled"]) == ("0", "0")
    assert left_behind(tmp_path) == []


@pytest.mark.needs_server
@pytest.mark.timeout(180)
def test_a_run_in_which_a_worker_is_killed_loses_nothing(server: RedisServer, tmp_path: Path) -> None:
    done = run_demo("--invites", "200", "--kill", "--redis", server.url, temporary=tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "taken over" in done.stdout
    assert left_behind(tmp_path) == []
    with redis.Redis.from_url(server.url) as client:
        lasting = [key for key in client.scan_iter("email-demo-*") if client.ttl(key) == -1]
    assert lasting == []  # the counter of a rate limit goes by itself


@pytest.mark.timeout(60)
def test_a_bad_variable_ends_the_run_with_its_name(tmp_path: Path) -> None:
    done = run_demo(temporary=tmp_path, LOG_LEVEL="loud")

    assert done.returncode == 1
    assert done.stderr.startswith("bad configuration: LOG_LEVEL: ")


@pytest.mark.timeout(60)
def test_a_redis_that_does_not_answer_ends_the_run_with_its_address(tmp_path: Path, free_tcp_port: int) -> None:
    done = run_demo("--redis", f"redis://127.0.0.1:{free_tcp_port}", temporary=tmp_path)

    assert done.returncode == 1
    assert f"127.0.0.1:{free_tcp_port}" in done.stdout
    assert left_behind(tmp_path) == []


@pytest.mark.needs_server
@pytest.mark.timeout(60)
def test_sigterm_ends_the_run_with_its_children_and_its_server(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "examples.email_service.demo"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        assert "are ready" in demo.stdout.readline()
        demo.terminate()
        assert demo.wait(timeout=30) == 128 + signal.SIGTERM

    assert left_behind(tmp_path) == []
