"""A whole run for tests: the reference run, and one sample of whatever the plan has had since."""

from __future__ import annotations

from benchmarks.results import REFERENCE, Results, Sample, load
from benchmarks.runner import refusal
from benchmarks.systems.catalogue import SYSTEMS
from benchmarks.workloads import WORKLOADS


def whole_run() -> Results:
    """Every workload on every system that can do it."""
    results = load(REFERENCE)
    results.samples += [
        Sample(workload.name, system.name, 0, {workload.headline: 1.0})
        for workload in WORKLOADS
        for system in SYSTEMS
        if not refusal(workload, system) and not results.values(workload.name, system.name, workload.headline)
    ]
    return results
