"""Run workloads on systems: repetitions interleaved, so that a busy minute of the machine hits all systems alike."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from benchmarks.bench import Bench, Figures
from benchmarks.environments import Environment, NotInstalled, prepare
from benchmarks.results import Results, Sample, Skipped, describe_machine
from benchmarks.server import RedisServer
from benchmarks.systems.catalogue import System
from benchmarks.tables import number
from benchmarks.workloads import Workload


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run."""

    systems: Sequence[System]
    workloads: Sequence[Workload]
    repetitions: int = 3
    scale: float = 1.0
    quick: bool = False
    payload_bytes: int = 200


def run(plan: Plan, keep: Callable[[Results], object] = lambda _: None) -> Results:
    """Everything of a plan; what fails or cannot be done is noted and said, and the rest goes on.

    `keep` gets what there is after every workload, once something was measured, so that an ended run of an hour is not
    lost. One that Ctrl-C ends is marked.
    """
    with RedisServer() as server:
        options = {"repetitions": plan.repetitions, "scale": plan.scale, "payload_bytes": plan.payload_bytes}
        results = Results(describe_machine(server.version, {**options, "quick": plan.quick}))
        try:
            note_refusals(plan, results)
            environments = _prepare_all(able_systems(plan), results)
            progress = Progress(_number_of_runs(plan, environments))
            for workload in plan.workloads:
                _run_workload(plan, workload, environments, server, results, progress)
                if results.samples:
                    keep(results)
        except KeyboardInterrupt:
            results.about["interrupted"] = True
            follows = ": what follows was measured before" if results.samples else ""
            print(f"interrupted{follows}", file=sys.stderr, flush=True)
    return results


class Progress:
    """One line per run, on standard error."""

    def __init__(self, runs: int) -> None:
        self._runs = runs
        self._done = 0
        self._since = time.monotonic()

    def say(self, workload: Workload, environment: Environment, outcome: str) -> None:
        """One more is done."""
        self._done += 1
        minutes, seconds = divmod(int(time.monotonic() - self._since), 60)
        print(
            f"[{self._done:>3}/{self._runs} {minutes:>2}:{seconds:02}] {workload.name:<20}"
            f" {environment.system.title:<22} {outcome}",
            file=sys.stderr, flush=True,
        )  # fmt: skip


NOT_MEANT: Final = "not for this system"


def refusal(workload: Workload, system: System, *, quick: bool = False) -> str:
    """Why a workload is not run on a system; empty if it is."""
    only = workload.only or (workload.only_in_quick if quick else frozenset())
    if only and system.name not in only:
        return NOT_MEANT
    missing = workload.needs - system.features
    return f"has no feature: {', '.join(sorted(missing))}" if missing else ""


def note_refusals(plan: Plan, results: Results) -> None:
    """Note, aloud, what systems have no feature for."""
    for workload in plan.workloads:
        for system in plan.systems:
            reason = refusal(workload, system, quick=plan.quick)
            if reason and reason != NOT_MEANT:
                results.skipped.append(Skipped(workload.name, system.name, reason))
                print(f"SKIPPED {workload.name} on {system.title}: {reason}", file=sys.stderr, flush=True)


def able_systems(plan: Plan) -> list[System]:
    """Systems that run anything of the plan: the others need not be installed."""
    return [s for s in plan.systems if not all(refusal(w, s, quick=plan.quick) for w in plan.workloads)]


def _prepare_all(systems: Sequence[System], results: Results) -> list[Environment]:
    environments = []
    for system in systems:
        try:
            environment = prepare(system)
        except NotInstalled as error:
            told = str(error).replace("\n", "\n    ")
            print(f"SKIPPED {system.title}: {told}", file=sys.stderr, flush=True)
            results.skipped.append(Skipped("", system.name, str(error)))
        else:
            environments.append(environment)
            results.add_system(environment)
    return environments


def _number_of_runs(plan: Plan, environments: Sequence[Environment]) -> int:
    return sum(
        plan.repetitions if workload.repeats else 1
        for workload in plan.workloads
        for environment in environments
        if not refusal(workload, environment.system, quick=plan.quick)
    )


def _run_workload(
    plan: Plan,
    workload: Workload,
    environments: Sequence[Environment],
    server: RedisServer,
    results: Results,
    progress: Progress,
) -> None:
    able = [e for e in environments if not refusal(workload, e.system, quick=plan.quick)]
    for repetition in range(plan.repetitions if workload.repeats else 1):
        if workload.together:
            with ThreadPoolExecutor(max(1, len(able))) as threads:
                outcomes = list(threads.map(lambda e: _run_apart(plan, workload, e), able))
        else:
            outcomes = []
            for environment in able:
                outcomes.append(_run_once(plan, workload, environment, server))
                _note(workload, environment, repetition, outcomes[-1], results, progress)
            continue
        for environment, outcome in zip(able, outcomes, strict=True):
            _note(workload, environment, repetition, outcome, results, progress)


_Outcome = tuple[Figures, tuple[str, ...]] | Exception


def _run_apart(plan: Plan, workload: Workload, environment: Environment) -> _Outcome:
    with RedisServer() as server:
        return _run_once(plan, workload, environment, server)


def _run_once(plan: Plan, workload: Workload, environment: Environment, server: RedisServer) -> _Outcome:
    server.empty()
    bench = Bench(server, environment, plan.scale, plan.quick, plan.payload_bytes)
    try:
        return workload.run(bench), tuple(bench.notes)
    except Exception as error:  # noted and said; an hour of other measurements goes on
        return error


def _note(
    workload: Workload,
    environment: Environment,
    repetition: int,
    outcome: _Outcome,
    results: Results,
    progress: Progress,
) -> None:
    name = environment.system.name
    if isinstance(outcome, Exception):
        results.skipped.append(Skipped(workload.name, name, f"failed: {type(outcome).__name__}: {outcome}"))
        progress.say(workload, environment, f"FAILED: {type(outcome).__name__}: {outcome}")
        return
    figures, notes = outcome
    results.samples.append(Sample(workload.name, name, repetition, figures, notes))
    progress.say(workload, environment, f"{workload.headline} {number(figures[workload.headline])}")
