"""The command line: which commands there are, which options each of them takes, and the plan that they mean."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from benchmarks import bars
from benchmarks.runner import Plan
from benchmarks.systems import catalogue
from benchmarks.workloads import BY_NAME as WORKLOADS

COMPARED_IN_QUICK: Final = ("pyqueue", "bullmq", "bullmq-port")
COMPARED_IN_BARS: Final = ("pyqueue", "pyqueue-uvloop", "bullmq", "bullmq-port")
#: Left out of a quick run: they take minutes by themselves, or repeat what others show.
NOT_IN_QUICK: Final = frozenset(
    {"process_1_removed", "process_10_removed", "process_100_removed", "process_two", "latency_500",
     "memory_completed", "slow_log", "soak"}
)  # fmt: skip
QUICK_SCALE: Final = 0.3
PROGRAM: Final = "python -m benchmarks"

T = TypeVar("T")


def parse(arguments: Sequence[str], description: str) -> argparse.Namespace:
    """The command and its options; without a command it is `run`. Ends the program with 2 for what none of them takes.

    Each command has a parser of its own, so that none ignores an option of another.
    """
    parser = _parser(description)
    is_help = arguments[:1] in (["-h"], ["--help"])
    if not arguments or (arguments[0].startswith("-") and not is_help):
        arguments = ["run", *arguments]
    options, rest = parser.parse_known_args(arguments)
    if rest:
        parser.error(
            f"`{options.command}` does not take {' '.join(rest)}: `{PROGRAM} {options.command} --help` lists what it"
            " takes; a command stands before its options"
        )
    return options


def plan(options: argparse.Namespace) -> Plan:
    """What `run` or `bars` shall do."""
    return Plan(
        systems=_choose(catalogue.BY_NAME, options.only, _default_systems(options)),
        workloads=_choose(WORKLOADS, options.only, _default_workloads(options)),
        repetitions=options.repetitions or (1 if options.quick else 3),
        scale=options.scale or (QUICK_SCALE if options.quick else 1.0),
        quick=options.quick,
        payload_bytes=options.payload,
    )


def _parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    run = _command(commands, "run", "measure, store and print; what is done without a command, too")
    _add_measuring_options(run)
    _add_measuring_options(_command(commands, "bars", "measure what the bars need, and print how far each is met"))
    show = _command(commands, "show", "print the tables of a stored run")
    show.add_argument(
        "file", nargs="?", type=Path, metavar="FILE", help="a stored run, or its name (the latest by default)"
    )
    page = _command(
        commands, "page", "make docs/explanation/benchmarks.md, its plots and the reference run anew from a stored run"
    )
    page.add_argument("file", type=Path, metavar="FILE", help="the run whose figures and plots the page shall have")
    page.add_argument(
        "--partial",
        action="store_true",
        help="take a run, too, that lacks systems, workloads or jobs: the page and the plots lose them",
    )
    _command(commands, "list", "list systems and workloads")
    parser.epilog = f"Without a command:\n\n{run.format_help()}"
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, what: str
) -> argparse.ArgumentParser:
    return commands.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")


def _add_measuring_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="fewer jobs, one repetition, three systems")
    parser.add_argument(
        "--only", action="extend", default=[], type=_names, metavar="NAMES",
        help="only these systems and workloads, comma-separated (repeatable); see `list`",
    )  # fmt: skip
    parser.add_argument("--repetitions", type=_positive(int), help="per system, interleaved (default 3; quick: 1)")
    parser.add_argument("--scale", type=_positive(float), help="factor on the number of jobs (default 1; quick: 0.3)")
    parser.add_argument("--payload", type=_positive(int), default=200, help="bytes of data per job (default 200)")
    parser.add_argument("--output", type=Path, help="where the results go (default: a new file in benchmarks/results)")


def _names(text: str) -> list[str]:
    """A type of argparse: systems and workloads, comma-separated."""
    names = [name for name in text.split(",") if name]
    if not names:
        raise argparse.ArgumentTypeError(f"it names nothing; `{PROGRAM} list` lists systems and workloads")
    unknown = [name for name in names if name not in catalogue.BY_NAME and name not in WORKLOADS]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"there is no system or workload {', '.join(unknown)}; `{PROGRAM} list` lists them"
        )
    return names


def _positive(number: type[int] | type[float]) -> Callable[[str], float]:
    """A type of argparse: a number above 0."""

    def parse(text: str) -> float:
        value = number(text)
        if not 0 < value < math.inf:
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value

    parse.__name__ = number.__name__  # argparse names it where the text is no number
    return parse


def _default_systems(options: argparse.Namespace) -> Sequence[str]:
    if options.command == "bars":
        return COMPARED_IN_BARS
    return COMPARED_IN_QUICK if options.quick else tuple(catalogue.BY_NAME)


def _default_workloads(options: argparse.Namespace) -> Sequence[str]:
    names = bars.needed_workloads() if options.command == "bars" else tuple(WORKLOADS)
    return [name for name in names if not (options.quick and name in NOT_IN_QUICK)]


def _choose(known: dict[str, T], names: Sequence[str], default: Sequence[str]) -> list[T]:
    """Those that are named; where none is, the default. In the order of `known`."""
    chosen = [name for name in names if name in known] or default
    return [value for name, value in known.items() if name in chosen]
