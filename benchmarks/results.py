"""What a run measured, as values and as a JSON file: every sample, so that tables can be made again without a run."""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import TypeAdapter, ValidationError

from benchmarks.bench import Figures
from benchmarks.environments import CHECKOUT, HERE, Environment
from benchmarks.statistics import Summary, summarize

DIRECTORY: Final = HERE / "results"
REFERENCE: Final = DIRECTORY / "reference.json"
FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Sample:
    """One repetition of one workload on one system."""

    workload: str
    system: str
    repetition: int
    figures: Figures
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Skipped:
    """What was not measured, and why."""

    workload: str
    """Empty: the whole system."""
    system: str
    reason: str

    @property
    def short_reason(self) -> str:
        """Its first line; what follows are the last words of a tool."""
        return self.reason.partition("\n")[0]


@dataclass(slots=True)
class Results:
    """One run."""

    about: dict[str, Any]
    """When, where, with which options."""
    systems: dict[str, dict[str, Any]] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    def values(self, workload: str, system: str, figure: str) -> list[float]:
        """A figure of every repetition, in order."""
        return [
            sample.figures[figure]
            for sample in self.samples
            if (sample.workload, sample.system) == (workload, system) and figure in sample.figures
        ]

    def summary(self, workload: str, system: str, figure: str) -> Summary | None:
        """Median and extremes; None where it was not measured."""
        values = self.values(workload, system, figure)
        return summarize(values) if values else None

    def ratio(self, workload: str, figure: str, system: str, peer: str) -> float | None:
        """Ours by theirs: the median over repetitions, each divided by the one that ran beside it."""
        ours, theirs = self.values(workload, system, figure), self.values(workload, peer, figure)
        pairs = [a / b for a, b in zip(ours, theirs, strict=False) if b]
        return statistics.median(pairs) if pairs else None

    def are_comparable(self, workload: str, one: str, other: str) -> bool:
        """Whether two systems were measured beside as many jobs, which figures such as `add_us@1000` tell."""
        return self._levels(workload, one) == self._levels(workload, other)

    def _levels(self, workload: str, system: str) -> set[str]:
        samples = [s for s in self.samples if (s.workload, s.system) == (workload, system)]
        return {figure for sample in samples for figure in sample.figures if "@" in figure and "control" not in figure}

    def add_system(self, environment: Environment) -> None:
        """Note what is compared."""
        system = environment.system
        self.systems[system.name] = {
            "title": system.title,
            "version": environment.version,
            "settings": system.settings,
            "scale": system.scale,
        }

    @property
    def is_interrupted(self) -> bool:
        """Whether Ctrl-C ended it before all was measured."""
        return bool(self.about.get("interrupted"))

    @property
    def caveats(self) -> str:
        """What makes it less than a whole run, to be put behind other facts; empty for a whole one."""
        words = ("shortened (`--quick`)" if self.about["quick"] else "", "interrupted" if self.is_interrupted else "")
        return "".join(f", {word}" for word in words if word)

    def save(self, path: Path) -> None:
        """Write all of it; readable, one sample a line."""
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(asdict(sample)) for sample in self.samples]
        skipped = [asdict(skip) for skip in self.skipped]
        head = json.dumps(
            {
                "format": FORMAT,
                "about": self.about,
                "systems": self.systems,
                "skipped": skipped,
            },
            indent=1,
        )
        path.write_text(head[:-2] + ',\n "samples": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n")


def load(path: Path) -> Results:
    """The inverse of `Results.save`; ValueError for what is no stored run, or one of another format."""
    text = path.read_bytes()
    try:
        _STORED.validate_json(text, strict=True)
    except ValidationError as error:
        raise ValueError(f"{path} {_complaint(error)}") from None
    stored = json.loads(text)
    samples = [Sample(**{**sample, "notes": tuple(sample["notes"])}) for sample in stored["samples"]]
    return Results(stored["about"], stored["systems"], samples, [Skipped(**skipped) for skipped in stored["skipped"]])


@dataclass
class _About:
    """What every run says about itself."""

    at: str
    commit: str
    processor: str
    cores: int
    memory_gib: int
    platform: str
    python: str
    server: str
    load_average: float
    repetitions: int
    scale: float
    payload_bytes: int
    quick: bool
    interrupted: bool = False


@dataclass
class _System:
    """What every run says about a system."""

    title: str
    version: str
    settings: str
    scale: float


@dataclass
class _Stored:
    """The shape of a file; it is compared only, so that what is stored again is what was read."""

    format: Literal[1]
    about: _About
    systems: dict[str, _System]
    samples: list[Sample]
    skipped: list[Skipped]


_STORED: Final = TypeAdapter(_Stored)


def _complaint(error: ValidationError) -> str:
    """The first that is wrong in a file, and what to do."""
    first = error.errors(include_url=False)[0]
    if first["loc"] == ("format",) and first["type"] != "missing":
        return f"has format {first['input']!r}, this version reads {FORMAT}: run the benchmarks again"
    where = ".".join(map(str, first["loc"]))
    said = f"{where}: {first['msg']}" if where else first["msg"]
    return f"is no stored run ({said}): name one of {DIRECTORY}, or make one with `python -m benchmarks`"


def describe_machine(server_version: str, options: dict[str, Any]) -> dict[str, Any]:
    """Where and when a run was made."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "server": server_version,
        "load_average": round(os.getloadavg()[0], 2),
        **options,
    }


def _commit() -> str:
    """Empty where git is missing, or this is no checkout."""
    if shutil.which("git") is None:
        return ""

    def git(*arguments: str) -> str:
        done = subprocess.run(("git", *arguments), cwd=CHECKOUT, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "src", "lua")
    return git("rev-parse", "--short", "HEAD") + ("+changes" if changed else "")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def history_path(now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Path:
    """A new file of the history, which git ignores."""
    return DIRECTORY / f"{now():%Y%m%dT%H%M%SZ}.json"


def find(named: Path) -> Path:
    """The file of a stored run that is named by its path, or as in the history, with or without `.json`.

    Where there is none, the path as it was named.
    """
    places = (named, DIRECTORY / named, DIRECTORY / f"{named}.json")
    # Not `Path.exists`, which raises where a folder may not be searched, or a name is too long.
    return next((path for path in places if os.path.exists(path) and not os.path.isdir(path)), named)


def latest() -> Path | None:
    """The run that began last; None where there is none."""
    return max(DIRECTORY.glob("2*.json"), default=None)
