"""The audits in short: the same processes and the same verdicts, fewer mails. In full: `make email-audit`."""

from pathlib import Path

import pytest

from tests.email_audit.__main__ import faults_of_rate, faults_of_shares
from tests.email_audit.deliveries import audit_deliveries
from tests.email_audit.sending import Sending, audit_sending, most_in_a_window, share_of_the_limit

pytestmark = [pytest.mark.anyio, pytest.mark.needs_server]


@pytest.mark.timeout(120)
async def test_nothing_is_lost_and_nothing_doubled_without_an_excuse_while_workers_are_killed_and_all_restarted(
    tmp_path: Path,
) -> None:
    seen = await audit_deliveries(tmp_path, mails=300, apis=2, workers=2, kill_every_s=1.0, timeout=90)

    assert seen.faults == []
    assert seen.delivered == 288
    assert seen.duplicates >= 30
    assert seen.kills >= 1
    assert seen.doubled <= seen.sent_again <= seen.taken_back


@pytest.mark.alone
@pytest.mark.timeout(120)
async def test_four_workers_use_the_rate_limit_and_never_exceed_it_in_any_window(tmp_path: Path) -> None:
    seen = await audit_sending(tmp_path, mails=200, workers=4, rate_max=80, duration_ms=6000)

    assert faults_of_rate(seen) == []
    assert seen.most_in_a_window == 80
    assert seen.rate_limit_hits > 0


@pytest.mark.timeout(120)
async def test_equal_workers_get_equal_shares(tmp_path: Path) -> None:
    seen = await audit_sending(tmp_path, mails=600, workers=3, slow_s=0.05)

    assert faults_of_shares(seen) == []
    assert len(seen.shares) == 3


def test_the_fullest_window_is_found_wherever_it_begins() -> None:
    assert most_in_a_window([0.0, 0.9, 1.0, 1.1, 1.8, 5.0], 1.0) == 4
    assert most_in_a_window([0.0, 1.0, 2.0], 1.0) == 1


def test_the_share_of_the_limit_is_how_near_each_mail_follows_the_one_that_frees_its_place() -> None:
    assert share_of_the_limit([0.0, 0.5, 1.0, 1.5, 2.0], 2, 1.0) == 1.0
    assert share_of_the_limit([0.0, 0.5, 1.25, 1.75], 2, 1.0) == 0.8


def test_a_limit_that_is_exceeded_or_not_used_and_an_unequal_share_are_faults() -> None:
    seen = Sending(10, 1.0, most_in_a_window=6, rate_max=5, throughput_share=0.9, rate_limit_hits=0, shares={"a": 10})

    assert len(faults_of_rate(seen)) == 2
    seen.shares = {"a": 7, "b": 3}
    assert faults_of_shares(seen) == ["a share is 40% from the equal one, the bar is 20%"]
