"""What a run lacks to be a whole one: every workload on every system that can do it, at the default size.

The page about benchmarks shows a whole run; what was shortened, chosen or interrupted would take figures from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from benchmarks.results import Results
from benchmarks.runner import Plan, refusal
from benchmarks.systems.catalogue import SYSTEMS
from benchmarks.tables import counted
from benchmarks.workloads import WORKLOADS

_WHOLE: Final = Plan(SYSTEMS, WORKLOADS)


def lacks(results: Results) -> list[str]:
    """In words, one thing each; empty for a whole run. How many repetitions it has is no matter."""
    about = results.about
    facts = (
        ("it is shortened (`--quick`)", about["quick"]),
        ("it was interrupted", results.is_interrupted),
        (f"its scale is {about['scale']:g}, not {_WHOLE.scale:g}", about["scale"] != _WHOLE.scale),
        (
            f"its jobs have {counted(about['payload_bytes'], 'byte')} of data, not {_WHOLE.payload_bytes}",
            about["payload_bytes"] != _WHOLE.payload_bytes,
        ),
    )
    return [*(words for words, is_so in facts if is_so), *_not_measured(results)]


def _not_measured(results: Results) -> list[str]:
    """Systems and workloads of which there is nothing, then single workloads on single systems."""
    expected = {
        (workload.name, system.name) for workload in WORKLOADS for system in SYSTEMS if not refusal(workload, system)
    }
    measured = {(sample.workload, sample.system) for sample in results.samples} & expected
    workloads = _without([w.name for w in WORKLOADS], (workload for workload, _ in measured))
    systems = _without([s.name for s in SYSTEMS], (system for _, system in measured))
    single = sorted((w, s) for w, s in expected - measured if w not in workloads and s not in systems)
    return [
        *([f"it has no figures of the systems {', '.join(systems)}"] if systems else []),
        *([f"it has no figures of the workloads {', '.join(workloads)}"] if workloads else []),
        *([f"it has no figures of {', '.join(f'{w} on {s}' for w, s in single)}"] if single else []),
    ]


def _without(names: Sequence[str], found: Iterable[str]) -> list[str]:
    known = set(found)
    return [name for name in names if name not in known]
