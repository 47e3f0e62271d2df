"""Every chain of firings that Node's cron-parser gives is ours, to the second; see generate_golden.mjs."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from pyqueue.cron import Cron
from pyqueue.errors import ConfigurationError
from pyqueue.time_zones import time_zone

GOLDEN: Final = Path(__file__).with_name("golden.json.gz")

#: Where we differ on purpose: (zone, pattern). Days with a change by half an hour or in the middle of an hour make
#: cron-parser hang, go back in time or pass over an hour; Nuuk's change, an hour before midnight, a whole day.
DOCUMENTED: Final = {
    ("America/Nuuk", "20 30 */2 * * *"),
    ("Australia/Lord_Howe", "*/15 * * * *"),
    ("Australia/Lord_Howe", "*/20 2 * * *"),
    ("Australia/Lord_Howe", "10-50/20 * * * *"),
    ("Australia/Lord_Howe", "15 */3 * * *"),
    ("Australia/Lord_Howe", "20 10 2 * * *"),
    ("Australia/Lord_Howe", "30 */1 * * *"),
    ("Australia/Lord_Howe", "@hourly"),
    ("Pacific/Chatham", "*/20 2,3 * * *"),
    ("Pacific/Chatham", "0 * * * *"),
    ("Pacific/Chatham", "10-50/20 * * * *"),
    ("Pacific/Chatham", "@hourly"),
}


class Chain(NamedTuple):
    """One case. `firings`: (moment asked about, the firing), or what cron-parser said when it refused."""

    pattern: str
    zone: str
    firings: list[tuple[int, int | str]]

    @property
    def is_refused(self) -> bool:
        return isinstance(self.firings[0][1], str)


def _chain(pattern: str, zone: str, moment: int, steps: Any) -> Chain:
    firings: list[tuple[int, int | str]] = []
    for step in [steps] if isinstance(steps, str) else steps:
        late_s, step_s = step if isinstance(step, list) else (0, step)
        moment += late_s
        firings.append((moment, step_s if isinstance(step_s, str) else moment + step_s))
        moment += 0 if isinstance(step_s, str) else step_s
    return Chain(pattern, zone, firings)


@cache
def chains() -> list[Chain]:
    golden = json.loads(gzip.decompress(GOLDEN.read_bytes()))
    return [_chain(*case) for case in golden["cases"]]


def first_difference(chain: Chain) -> str:
    """What is wrong with our chain, or ""."""
    try:
        cron = Cron.parse(chain.pattern)
    except ConfigurationError as error:
        return "" if chain.is_refused else f"refused: {error}"
    for moment, expected in chain.firings:
        found = cron.next_ms(moment * 1000, time_zone(chain.zone))
        if isinstance(expected, str) or found != expected * 1000:
            return f"after {moment}: expected {expected}, found {found}"
    return ""


def test_there_are_three_thousand_chains() -> None:
    assert sum(not chain.is_refused for chain in chains()) >= 3000
    assert sum(chain.is_refused for chain in chains()) >= 40


@pytest.mark.parametrize("zone", sorted({chain.zone for chain in chains()}))
def test_every_chain_of_a_zone_is_that_of_node(zone: str) -> None:
    wrong = {(chain.zone, chain.pattern): first_difference(chain) for chain in chains() if chain.zone == zone}
    assert {key: text for key, text in wrong.items() if text and key not in DOCUMENTED} == {}


def test_the_documented_differences_exist() -> None:
    different = {(chain.zone, chain.pattern) for chain in chains() if first_difference(chain)}
    assert different == DOCUMENTED
