"""Run scenarios and print a table; exit code 1 on a missed bar."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
from pathlib import Path

from tests.chaos.catalogue import SCENARIOS, play
from tests.chaos.report import Report, table


async def _play_all(names: list[str], directory: Path, full: bool) -> list[Report]:
    reports: list[Report] = []
    for name in names:
        logging.getLogger("chaos").info("-- %s", name)
        report = await play(name, directory, full=full)
        logging.getLogger("chaos").info("%s in %.0f s", "MISSED" if report.missed else "met", report.seconds)
        reports.append(report)
    return reports


def _main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SCENARIOS)}; all if none is given")
    parser.add_argument("--full", action="store_true", help="the complete form, about eleven minutes")
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help="where ledgers and server logs are kept")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(SCENARIOS)
    if unknown:
        parser.error(f"there is no scenario {', '.join(sorted(unknown))}")
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stdout)
    logging.getLogger("chaos").setLevel(logging.INFO)
    with tempfile.TemporaryDirectory(prefix="chaos-") as temporary:
        directory = arguments.keep or Path(temporary)
        reports = asyncio.run(_play_all(arguments.names or list(SCENARIOS), directory, arguments.full))
    print(table(reports))
    missed = [report.scenario for report in reports if report.missed]
    print(f"{len(reports)} scenarios, {sum(r.seconds for r in reports):.0f} s: {_verdict(missed)}")
    return int(bool(missed))


def _verdict(missed: list[str]) -> str:
    return f"MISSED by {', '.join(missed)}" if missed else "every bar met"


if __name__ == "__main__":
    sys.exit(_main())
