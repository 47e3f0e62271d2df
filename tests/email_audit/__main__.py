"""Run the audits and print a table; exit code 1 when a bar is missed."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.email_audit.deliveries import Deliveries, audit_deliveries
from tests.email_audit.sending import Sending, audit_sending

THROUGHPUT_BAR = 0.95
IMBALANCE_BAR = 0.2


async def _audit(options: argparse.Namespace, directory: Path, console: Console) -> list[str]:
    """All three, one after another; returns what is wrong."""
    for name in ("deliveries", "rate", "shares"):
        (directory / name).mkdir()
    deliveries = await audit_deliveries(directory / "deliveries", mails=options.mails, kill_every_s=options.kill_every)
    console.print(_deliveries_table(deliveries))
    rate = await audit_sending(directory / "rate", mails=1600, rate_max=400, duration_ms=10_000)
    console.print(_rate_table(rate))
    shares = await audit_sending(directory / "shares", mails=4000)
    console.print(_shares_table(shares))
    return [*deliveries.faults, *faults_of_rate(rate), *faults_of_shares(shares)]


def faults_of_rate(seen: Sending) -> list[str]:
    """The fullest window holds no mail too many, and the limit is used."""
    faults = list(seen.faults)
    if seen.rate_max is not None and seen.most_in_a_window > seen.rate_max:
        faults.append(f"{seen.most_in_a_window} mails in a window, the limit is {seen.rate_max}")
    if seen.throughput_share <= THROUGHPUT_BAR:
        faults.append(f"throughput is {seen.throughput_share:.1%} of the limit, the bar is {THROUGHPUT_BAR:.0%}")
    return faults


def faults_of_shares(seen: Sending) -> list[str]:
    """No equal worker is far from its share."""
    if seen.imbalance <= IMBALANCE_BAR:
        return seen.faults
    return [*seen.faults, f"a share is {seen.imbalance:.0%} from the equal one, the bar is {IMBALANCE_BAR:.0%}"]


def _deliveries_table(seen: Deliveries) -> Table:
    table = Table("", "", "", title="Deliveries: workers killed, everything restarted once", title_justify="left")
    rows = [
        ("mails", seen.mails, f"{seen.posts} posts, {seen.reposts} of them again after a lost answer"),
        ("delivered", seen.delivered, "the others are refused by the server, and in failed"),
        ("duplicates", seen.duplicates, "posts that made no second job"),
        ("kill -9", seen.kills, "workers, each with a successor"),
        ("taken back", seen.taken_back, "jobs of dead workers"),
        ("not sent again", seen.prevented, "run again, and the ledger knew that the server had them"),
        ("sent again", seen.sent_again, "their worker died before it could tell what the server had said"),
        ("doubled", seen.doubled, "of those: the server had accepted the first copy"),
        ("faults", len(seen.faults), "lost, doubled without that excuse, wrong states, bad exits"),
        ("time", f"{seen.seconds:.0f} s", f"{seen.mails / max(seen.seconds, 0.001):.0f} mails per second"),
    ]
    for name, value, remark in rows:
        table.add_row(name, str(value), remark)
    return table


def _rate_table(seen: Sending) -> Table:
    table = Table("", "", "", title="Rate limit: 4 worker processes", title_justify="left")
    table.add_row("limit", f"{seen.rate_max} per 10 s", f"{seen.mails} mails in {seen.seconds:.1f} s")
    table.add_row("fullest window", str(seen.most_in_a_window), "as the mail server saw it, wherever it begins")
    table.add_row("throughput", f"{seen.throughput_share:.1%}", f"of the limit, bar {THROUGHPUT_BAR:.0%}")
    table.add_row("limit hits", str(seen.rate_limit_hits), "jobs that went back, no attempt spent")
    return table


def _shares_table(seen: Sending) -> Table:
    table = Table("", "", "", title="Shares: 4 equal worker processes, no limit", title_justify="left")
    for name, number in seen.shares.items():
        table.add_row(name, str(number), f"{number * len(seen.shares) / seen.mails - 1:+.1%} from equal")
    table.add_row("time", f"{seen.seconds:.1f} s", f"{seen.mails / seen.seconds:.0f} mails per second")
    return table


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m tests.email_audit", description=__doc__)
    parser.add_argument("--mails", type=int, default=20_000, metavar="N", help="mails to deliver (default 20000)")
    parser.add_argument("--kill-every", type=float, default=4.0, metavar="S", help="seconds between kills (default 4)")
    options = parser.parse_args()
    console = Console(width=110)
    with tempfile.TemporaryDirectory(prefix="email-audit-") as directory:
        faults = asyncio.run(_audit(options, Path(directory), console))
    for fault in faults[:50]:
        console.print(f"wrong: {fault}", style="red", markup=False, soft_wrap=True)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
