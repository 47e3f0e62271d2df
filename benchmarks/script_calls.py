"""How long script calls keep the server, out of its slow log; and what of that is their own, not the machine's.

The slow log has wall times, so whatever stops the server makes a call seem slow (`benchmarks.control`). Where the same
calls are made several times, one that has much to do is slow each time, and one that the machine has hit is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, zip_longest
from typing import Any, Final, NamedTuple, TypeAlias

from benchmarks.bench import Figures
from benchmarks.control import is_control
from pyqueue._redis import scripts

#: Longest that a script call may keep the server, at the default bounds.
BOUND_US: Final = 2000
#: The slow log gets what takes longer: what is slow, and script calls that have more than a few jobs to do. Not the
#: commands that scripts call, a few microseconds each, which would be millions.
LOGGED_US: Final = 50
#: Scripts whose calls are all shorter are not described.
DESCRIBED_US: Final = 500
#: The name of the control among scripts.
CONTROL: Final = "(control)"
#: The name of SCRIPT LOAD among them: a server compiles a script once.
LOADING: Final = "(loading a script)"
#: The name of calls that carry the text of their script.
WITH_TEXT: Final = "(a call with its text)"

#: Microseconds of calls, by the names of their scripts, CONTROL and LOADING; the first call comes first.
Calls: TypeAlias = dict[str, list[int]]


class Phase(NamedTuple):
    """A part of a run: what the slow log has of it."""

    calls: Calls
    is_ordered: bool
    """Whether one client makes the same calls, one after the other, in each run."""


class Total(NamedTuple):
    """All calls of one side, also those too short for the slow log, and the server's time that they took."""

    calls: int
    busy_us: int


class Run(NamedTuple):
    """One of several runs of the same."""

    phases: Sequence[Phase]
    ours: Total
    control: Total


def read(entries: Sequence[dict[str, Any]]) -> Calls:
    """The script calls among the entries of SLOWLOG GET, whose first is the newest."""
    names = {scripts.load(name).sha: name for name in scripts.names()}
    calls: Calls = {}
    for entry in reversed(entries):
        name = _script(entry, names)
        if name:
            calls.setdefault(name, []).append(entry["duration"])
    return calls


def each_time(runs: Sequence[Run]) -> list[Calls]:
    """What calls take in each of several runs, per phase: the shortest of a call's times.

    In an ordered phase that has as many calls of a script in all runs, the n-th of one run is the n-th of the others.
    Elsewhere the longest are compared with the longest, the second longest with the second longest and so on, so that
    nothing that is long in each run is lost, wherever it stands.
    """
    return [_shortest(phases) for phases in zip(*(run.phases for run in runs), strict=True)]


def measure(situations: Sequence[Sequence[Run]]) -> Figures:
    """The figures of several runs per situation: what calls take each time, of all calls, and of the control's."""
    runs = list(chain.from_iterable(situations))
    always = _descending(_own(chain.from_iterable(map(each_time, situations))))
    return {
        "slowest_each_time_ms": _longest_ms(always),
        "above_2_ms_each_time": _above_bound(always),
        "slowest_load_ms": _longest_ms(_descending(_named(runs, LOADING))),
        **_tell(_descending(_own(_logged(runs))), [run.ours for run in runs]),
        **{
            f"control_{name}": figure
            for name, figure in _tell(_descending(_named(runs, CONTROL)), [run.control for run in runs]).items()
        },
    }


def describe(situation: str, runs: Sequence[Run]) -> list[str]:
    """Per script: its slowest call, how many were beyond the bound, and the same of what calls take each time.

    The slowest comes first, and those that are all short are left out.
    """
    always = each_time(runs)
    calls = {name: _descending(_named(runs, name)) for name in dict.fromkeys(chain.from_iterable(_logged(runs)))}
    calls = {name: times for name, times in calls.items() if times[0] > DESCRIBED_US}
    ranked = sorted(calls, key=lambda name: calls[name][0], reverse=True)
    return [f"{situation}: {name}: {_describe(name, calls[name], always)}" for name in ranked]


def _describe(name: str, descending: Sequence[int], always: Sequence[Calls]) -> str:
    bound = f"above {BOUND_US / 1000:g} ms"
    all_of_them = f"slowest {_longest_ms(descending):.2f} ms, {_above_bound(descending)} {bound}"
    if name in {CONTROL, LOADING}:
        return all_of_them
    repeated = _descending(phase.get(name, []) for phase in always)
    return f"{all_of_them}; each time slowest {_longest_ms(repeated):.2f} ms, {_above_bound(repeated)} {bound}"


def _script(entry: dict[str, Any], names: Mapping[str, str]) -> str:
    """What an entry calls; empty for another command. names: of scripts, by SHA."""
    if is_control(entry):
        return CONTROL
    command, _, rest = entry["command"].decode(errors="replace").partition(" ")
    if command == "EVALSHA":
        sha = rest.partition(" ")[0]
        return names.get(sha, sha)
    if command == "EVAL":
        return WITH_TEXT
    return LOADING if command == "SCRIPT" and rest.startswith("LOAD ") else ""


def _shortest(phases: Sequence[Phase]) -> Calls:
    shortest: Calls = {}
    for name in dict.fromkeys(chain.from_iterable(phase.calls for phase in phases)):
        times = [phase.calls.get(name, []) for phase in phases]
        if not all(phase.is_ordered for phase in phases) or len({len(calls) for calls in times}) > 1:
            times = [sorted(calls, reverse=True) for calls in times]
        longest = max(map(max, filter(None, times)))  # for a run that has fewer calls: it excuses none of the others
        shortest[name] = [min(call) for call in zip_longest(*times, fillvalue=longest)]
    return shortest


def _logged(runs: Iterable[Run]) -> Iterator[Calls]:
    return (phase.calls for run in runs for phase in run.phases)


def _named(runs: Iterable[Run], name: str) -> Iterator[list[int]]:
    return (calls.get(name, []) for calls in _logged(runs))


def _own(phases: Iterable[Calls]) -> Iterator[list[int]]:
    return (times for calls in phases for name, times in calls.items() if name not in {CONTROL, LOADING})


def _descending(calls: Iterable[Sequence[int]]) -> list[int]:
    return sorted(chain.from_iterable(calls), reverse=True)


def _tell(descending: Sequence[int], totals: Sequence[Total]) -> Figures:
    """Figures of one side. descending: its calls in the slow log."""
    above, calls = _above_bound(descending), sum(total.calls for total in totals)
    busy_s = sum(total.busy_us for total in totals) / 1e6
    # What 99.9% do not exceed: what their own work takes, with few of those that the machine hits.
    beyond = descending[calls // 1000 :]
    return {
        "slowest_ms": _longest_ms(descending),
        "p999_ms": (beyond[0] if beyond else LOGGED_US) / 1000,
        "above_2_ms": above,
        "calls": calls,
        "above_2_ms_per_s": above / busy_s if busy_s else 0.0,
    }


def _longest_ms(descending: Sequence[int]) -> float:
    return descending[0] / 1000 if descending else 0.0


def _above_bound(durations_us: Iterable[int]) -> int:
    return sum(duration > BOUND_US for duration in durations_us)
