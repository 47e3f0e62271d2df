"""Compare the acceptance list with what tests cite: `python -m tests.acceptance.coverage` (make acceptance).

A test cites numbers in a docstring or comment: `E38`, `E38, E41`, `E27-E29`. Numbers that no test cites need a reason
in `REASONS`; the program prints both and ends with 1 if a number has neither.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
_ITEM: Final = re.compile(r"^(\d+)\. (.+)$", re.MULTILINE)
_CITATION: Final = re.compile(r"\bE(\d{1,3})(?:-E?(\d{1,3}))?\b")

#: Numbers or ranges that nothing cites, and why.
REASONS: Final[dict[str, str]] = {
    "3": "ruled otherwise: an empty id is refused (docs/explanation/differences.md)",
    "55": "event emitters over a shared connection are Node's; a borrowed client is never closed (E23)",
    "146": "a client-level key prefix exists in ioredis only",
    "149": "connections are opened at the first command, so no producer waits for readiness",
    "207": "custom repeat strategies are not offered",
    "232": "readers of events are async iterators: there is no run to switch off or to call twice (workers: E44, E45)",
    "250-253": "cancellation by the user is not built yet",
    "254-255": "sandbox files do not apply to Python",
    "256": "telemetry is not built yet",
}


def items() -> dict[int, str]:
    """Number -> text of the acceptance list."""
    return {int(number): text for number, text in _ITEM.findall((HERE / "list.md").read_text(encoding="utf-8"))}


def cited(tests: Path = HERE.parent) -> set[int]:
    """All numbers that test modules cite."""
    found: set[int] = set()
    for path in tests.rglob("test_*.py"):
        for first, last in _CITATION.findall(path.read_text(encoding="utf-8")):
            found.update(range(int(first), int(last or first) + 1))
    return found


def reasons() -> dict[int, str]:
    """Number -> why nothing cites it."""
    table: dict[int, str] = {}
    for numbers, reason in REASONS.items():
        first, _, last = numbers.partition("-")
        table.update(dict.fromkeys(range(int(first), int(last or first) + 1), reason))
    return table


def main() -> int:
    """Print what no test cites; 1 if a reason is missing."""
    all_items, have, why = items(), cited(), reasons()
    missing = [number for number in all_items if number not in have]
    for number in missing:
        print(f"E{number}: {all_items[number]}\n    {why.get(number, 'NO TEST CITES THIS AND NO REASON IS GIVEN')}")
    unexplained = [number for number in missing if number not in why]
    print(f"{len(all_items)} behaviours, {len(all_items) - len(missing)} cited by tests, {len(missing)} not, of which")
    print(f"{len(missing) - len(unexplained)} have a reason and {len(unexplained)} have none")
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
