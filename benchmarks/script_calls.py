"""How long script calls keep the server, out of its slow log; and what of that is their own, not the machine's.

The slow log has wall times, so whatever stops the server makes a call seem slow (`benchmarks.control`). Where the same
calls are made several times, one that has much to do is slow each time, and one that the machine has hit is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, zip_longest
from typing import Any, Final, TypeAlias

from benchmarks.bench import Figures
from benchmarks.control import is_control
from pyqueue._redis import scripts

#: Longest that a script call may keep the server, at the default bounds.
BOUND_US: Final = 2000
#: The name of the control among scripts.
CONTROL: Final = "(control)"
#: The name of SCRIPT LOAD among them: a server compiles a script once.
LOADING: Final = "(loading a script)"

#: Microseconds of the calls of a run, by the names of their scripts, CONTROL and LOADING; the first call comes first.
Calls: TypeAlias = dict[str, list[int]]


def read(entries: Sequence[dict[str, Any]]) -> Calls:
    """The script calls among the entries of SLOWLOG GET, whose first is the newest."""
    names = {scripts.load(name).sha: name for name in scripts.names()}
    calls: Calls = {}
    for entry in reversed(entries):
        name = _script(entry, names)
        if name:
            calls.setdefault(name, []).append(entry["duration"])
    return calls


def shortest(runs: Sequence[Calls]) -> Calls:
    """Per call the shortest of its runs. The n-th call of a script in one run is the n-th in the others, too.

    That is so where one client makes one call after the other. How many jobs the calls of a busy worker settle is left
    to chance, so there it is the same for calls in general, not for each.
    """
    names = dict.fromkeys(chain.from_iterable(runs))
    longest = max(chain.from_iterable(chain.from_iterable(run.values()) for run in runs), default=0)
    return {
        name: [min(call) for call in zip_longest(*(run.get(name, ()) for run in runs), fillvalue=longest)]
        for name in names
    }


def measure(situations: Sequence[Sequence[Calls]]) -> Figures:
    """The figures of several runs per situation: of all calls, of what they take each time, and of the control's."""
    ours = _descending(_own(chain.from_iterable(situations)))
    each_time = _descending(_own(map(shortest, situations)))
    controls = _descending(run.get(CONTROL, []) for run in chain.from_iterable(situations))
    loads = _descending(run.get(LOADING, []) for run in chain.from_iterable(situations))
    return {
        "slowest_each_time_ms": _longest_ms(each_time),
        "above_2_ms_each_time": _above_bound(each_time),
        "different_calls": len(each_time),
        "slowest_load_ms": _longest_ms(loads),
        **_tell(ours),
        **{f"control_{name}": figure for name, figure in _tell(controls).items()},
    }


def describe(situation: str, runs: Sequence[Calls]) -> list[str]:
    """Per script: its slowest call, how many were beyond the bound, and the same of what calls take each time.

    The slowest comes first.
    """
    always = shortest(runs)
    calls = {name: _descending(run.get(name, []) for run in runs) for name in always}
    ranked = sorted(calls, key=lambda name: calls[name][0], reverse=True)
    bound = f"above {BOUND_US / 1000:g} ms"
    return [
        f"{situation}: {name}: slowest {_longest_ms(calls[name]):.2f} ms, {_above_bound(calls[name])} of"
        f" {len(calls[name]):,} calls {bound}; each time slowest {max(always[name]) / 1000:.2f} ms,"
        f" {_above_bound(always[name])} {bound}"
        for name in ranked
    ]


def _script(entry: dict[str, Any], names: Mapping[str, str]) -> str:
    """What an entry calls; empty for another command. names: of scripts, by SHA."""
    if is_control(entry):
        return CONTROL
    command, _, rest = entry["command"].decode(errors="replace").partition(" ")
    if command == "EVALSHA":
        sha = rest.partition(" ")[0]
        return names.get(sha, sha)
    return LOADING if command == "SCRIPT" and rest.startswith("LOAD ") else ""


def _own(runs: Iterable[Calls]) -> Iterator[list[int]]:
    return (calls for run in runs for name, calls in run.items() if name not in {CONTROL, LOADING})


def _descending(calls: Iterable[Sequence[int]]) -> list[int]:
    return sorted(chain.from_iterable(calls), reverse=True)


def _tell(descending: Sequence[int]) -> Figures:
    above, busy_s = _above_bound(descending), sum(descending) / 1e6
    return {
        "slowest_ms": _longest_ms(descending),
        # What 99.9% do not exceed: what their own work takes, with few of those that the machine hits.
        "p999_ms": descending[len(descending) // 1000] / 1000 if descending else 0.0,
        "above_2_ms": above,
        "calls": len(descending),
        "above_2_ms_per_s": above / busy_s if busy_s else 0.0,
    }


def _longest_ms(descending: Sequence[int]) -> float:
    return descending[0] / 1000 if descending else 0.0


def _above_bound(durations_us: Iterable[int]) -> int:
    return sum(duration > BOUND_US for duration in durations_us)
