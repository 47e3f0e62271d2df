"""The pure parts of the benchmarks: statistics, figures per job, bars, tables, the page, what is read from Redis."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from benchmarks import bars, completeness, environments, growth, longer, page, plots, script_calls, tables
from benchmarks.bench import figures, milliseconds
from benchmarks.control import MARK
from benchmarks.program import Report, ServerState
from benchmarks.results import REFERENCE, Results, Sample, Skipped, history_path, load
from benchmarks.runner import NOT_MEANT, Plan, able_systems, note_refusals, refusal
from benchmarks.script_calls import Phase, Run, Total
from benchmarks.statistics import percentile, summarize
from benchmarks.systems import catalogue
from benchmarks.task import Task
from benchmarks.workloads import BY_NAME
from pyqueue._redis import scripts
from tests.benchmarks.whole import whole_run


def make_results(*samples: Sample) -> Results:
    about = {
        "at": "2026-01-01T00:00:00+00:00", "commit": "abc", "processor": "CPU", "cores": 2, "memory_gib": 4,
        "platform": "Linux", "python": "3.11.0", "server": "Redis 7", "load_average": 0.1, "repetitions": 2,
        "payload_bytes": 200, "scale": 1.0, "quick": False,
    }  # fmt: skip
    systems = {
        name: {"title": catalogue.BY_NAME[name].title, "version": "1.0", "settings": "defaults", "scale": 1.0}
        for name in ("pyqueue", "bullmq")
    }
    return Results(about, systems, list(samples))


def rate(system: str, repetition: int, jobs_per_s: float, **more: float) -> Sample:
    return Sample("process_100", system, repetition, {"jobs_per_s": jobs_per_s, **more})


def test_a_summary_is_the_median_with_its_extremes() -> None:
    summary = summarize([3.0, 1.0, 2.0])
    assert summary == (2.0, 1.0, 3.0)
    assert summary.spread == 1.0


def test_nothing_has_no_summary_and_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        summarize([])
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)
    with pytest.raises(ValueError, match="between 0 and 100"):
        percentile([1.0], 101)


@pytest.mark.parametrize(("percent", "expected"), [(0, 1), (50, 50), (95, 95), (99, 99), (100, 100)])
def test_a_percentile_is_the_nearest_rank(percent: float, expected: float) -> None:
    assert percentile([float(n) for n in range(100, 0, -1)], percent) == expected


def test_intervals_are_told_in_milliseconds() -> None:
    told = milliseconds([0.001, 0.002, 0.003, -0.001])
    assert (told["p50_ms"], told["p99_ms"], told["min_ms"], told["max_ms"]) == pytest.approx((1, 3, -1, 3))


def state(cpu_s: float, memory: int, network: int, **calls: int) -> ServerState:
    return ServerState(cpu_s, calls, memory, network)


def test_figures_are_per_job_and_rates_leave_the_warm_up_out() -> None:
    before = state(1.0, 1000, 500, evalsha=10, get=5)
    after = state(1.5, 3000, 2500, evalsha=20, get=5, hset=90)
    got = figures([Report(count=100, first=10.0, last=19.0, cpu_s=0.2, offsets=[])], before, after, skip=10)
    assert got == pytest.approx(
        {
            "jobs": 100,
            "jobs_per_s": 10.0,
            "client_cpu_us": 2000.0,
            "redis_cpu_us": 5000.0,
            "script_calls": 0.1,
            "commands": 1.0,
            "network_bytes": 20.0,
            "memory_bytes": 20.0,
        }
    )


def test_two_workers_together_work_from_the_first_start_to_the_last_end() -> None:
    nothing = state(0, 0, 0)
    reports = [
        Report(60, first=1.0, last=3.0, cpu_s=0, offsets=[]),
        Report(40, first=2.0, last=6.0, cpu_s=0, offsets=[]),
    ]
    assert figures(reports, nothing, nothing)["jobs_per_s"] == 20.0


def test_too_few_jobs_give_no_rate() -> None:
    nothing = state(0, 0, 0)
    with pytest.raises(ValueError, match="too few for a rate"):
        figures([Report(10, 1.0, 1.0, 0, [])], nothing, nothing, skip=10)


def test_a_task_survives_the_command_line() -> None:
    task = Task("produce", 6379, jobs=5, mode="paced", rate=500.0)
    assert Task.from_json(task.to_json()) == task


def test_results_are_stored_and_read_again(tmp_path: Path) -> None:
    results = make_results(rate("pyqueue", 0, 10.0), Sample("slow_log", "pyqueue", 0, {"slowest_ms": 1.5}, ("a note",)))
    results.skipped.append(Skipped("add_bulk", "arq", "has no feature: bulk"))
    path = tmp_path / "run.json"
    results.save(path)
    assert load(path) == results


def test_results_of_another_format_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"format": 0}))
    with pytest.raises(ValueError, match="has format 0"):
        load(path)


def test_a_run_gets_a_file_of_its_own() -> None:
    path = history_path(now=lambda: datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    assert path.name == "20260102T030405Z.json"


def test_ratios_are_taken_between_repetitions_that_ran_side_by_side() -> None:
    results = make_results(
        rate("pyqueue", 0, 30), rate("bullmq", 0, 10), rate("pyqueue", 1, 8), rate("bullmq", 1, 4),
        rate("pyqueue", 2, 50), rate("bullmq", 2, 10),
    )  # fmt: skip
    assert results.ratio("process_100", "jobs_per_s", "pyqueue", "bullmq") == 3.0
    assert results.ratio("process_100", "jobs_per_s", "pyqueue", "arq") is None


@pytest.mark.parametrize(("ours", "word"), [(15, "MISSED"), (20, "met"), (29, "met"), (30, "moonshot")])
def test_a_bar_is_missed_met_or_far_exceeded(ours: float, word: str) -> None:
    results = make_results(rate("pyqueue", 0, ours), rate("bullmq", 0, 10))
    assert bars.judge(results)[0].word == word


@pytest.mark.parametrize(
    ("ours", "controls", "ratio", "word"),
    [(2.0, 2.0, 1.0, "met"), (3.0, 2.0, 1.5, "MISSED"), (0.0, 0.0, 0.0, "met"), (0.1, 0.0, float("inf"), "MISSED")],
)
def test_calls_above_the_bound_are_compared_with_those_of_the_control(
    ours: float, controls: float, ratio: float, word: str
) -> None:
    per_s = {"above_2_ms_per_s": ours, "control_above_2_ms_per_s": controls}
    verdicts = bars.judge(make_results(Sample("slow_log", "pyqueue", 0, per_s)))
    (verdict,) = (verdict for verdict in verdicts if "constant work" in verdict.bar.title)
    assert (verdict.value, verdict.word) == (ratio, word)


def test_a_bar_that_must_stay_low_is_judged_the_other_way_round() -> None:
    late = {"p50_ms": 12.0, "p99_ms": 40.0, "early": 0}
    words = {
        v.bar.title: v.word
        for v in bars.judge(make_results(Sample("delayed", "pyqueue", 0, late)))
        if v.value is not None
    }
    assert list(words.values()) == ["MISSED", "met", "met"]


def test_a_bar_without_a_measurement_says_so() -> None:
    assert {verdict.word for verdict in bars.judge(make_results())} == {"not measured"}


def test_the_cpu_of_client_and_redis_compares_where_rates_are_noise() -> None:
    results = make_results(
        rate("pyqueue", 0, 10, client_cpu_us=10.0, redis_cpu_us=15.0),
        rate("bullmq", 0, 10, client_cpu_us=60.0, redis_cpu_us=40.0),
    )
    assert bars.judge(results)[0].by_cpu == 4.0


def test_every_bar_names_workloads_that_exist() -> None:
    assert set(bars.needed_workloads()) <= set(BY_NAME)


def test_a_table_shows_who_is_ahead_and_by_how_much() -> None:
    results = make_results(rate("pyqueue", 0, 12_345, commands=2.5), rate("bullmq", 0, 24_690, commands=14))
    grid = tables.workload_grid(results, BY_NAME["process_100"])
    assert grid is not None
    assert grid.headings == ("", "jobs/s", "low..high", "pyqueue is", "commands/job")
    assert grid.rows == [("pyqueue", "12,345", "", "", "2.5"), ("BullMQ (Node)", "24,690", "", "2x WORSE", "14.0")]


def test_a_table_of_what_should_be_low_compares_the_other_way_round() -> None:
    results = make_results(
        Sample("memory_waiting", "pyqueue", 0, {"bytes": 500.0}),
        Sample("memory_waiting", "bullmq", 0, {"bytes": 1000.0}),
    )
    grid = tables.workload_grid(results, BY_NAME["memory_waiting"])
    assert grid is not None
    assert grid.rows[1][3] == "2x better"


@pytest.mark.parametrize(("ours", "theirs"), [(1000.0, 1000.0), (1000.0, 996.0), (996.0, 1000.0)])
def test_what_is_equal_by_the_digits_that_are_printed_is_neither_worse_nor_better(ours: float, theirs: float) -> None:
    results = make_results(
        Sample("memory_waiting", "pyqueue", 0, {"bytes": ours}),
        Sample("memory_waiting", "bullmq", 0, {"bytes": theirs}),
    )
    grid = tables.workload_grid(results, BY_NAME["memory_waiting"])
    assert grid is not None
    assert grid.rows[1][3] == "equal"
    assert page.losses(results) == "None in this run."


def test_one_repetition_is_no_plural() -> None:
    results = make_results()
    results.about.update(repetitions=1, payload_bytes=1, cores=1, load_average=2.0)
    assert "; 1 repetition, payload 1 byte;" in tables.about_line(results)
    assert ", 1 core, " in tables.about_line(results)
    assert "(load 2.0 on 1 core)" in page.machine(results)
    assert ": 1 repetition, 1 byte of data per job." in page.machine(results)
    results.about.update(repetitions=3, payload_bytes=200)
    assert "; 3 repetitions, payload 200 bytes;" in tables.about_line(results)
    assert ": 3 repetitions, 200 bytes of data per job." in page.machine(results)


def test_a_busy_machine_is_said() -> None:
    results = make_results()
    assert tables.warning(results) == ""
    results.about["load_average"] = 3.5
    assert "rates and latencies are noise" in tables.warning(results)


def test_commands_inside_scripts_are_told_from_those_of_clients() -> None:
    lines = [
        b"+OK",
        b'+1700000000.100000 [0 127.0.0.1:5000] "evalsha" "abc" "0"',
        b'+1700000000.100001 [0 lua] "hget" "bull:q:meta" "paused"',
        b'+1700000000.100002 [0 lua] "set" "a" "[0 127.0.0.1:5000] \\"x\\""',
        b'+1700000000.200000 [0 127.0.0.1:5001] "bzpopmin" "bull:q:marker" "5"',
    ]
    assert longer.count_monitored(lines) == (2, 2)


def test_growth_is_judged_by_adding_and_processing_together() -> None:
    costs = {"add_us@1000": 10.0, "process_us@1000": 30.0, "add_us@1000000": 12.0, "process_us@1000000": 38.0}
    assert growth.worst_ratio(costs) == 1.25


def test_the_control_of_growth_has_a_ratio_of_its_own() -> None:
    costs = {"add_us@1000": 10.0, "process_us@1000": 30.0, "add_us@50000": 10.0, "process_us@50000": 40.0}
    controls = {"control_us@1000": 20.0, "control_us@50000": 24.0}
    assert growth.with_ratios({**costs, **controls}) == {
        **costs, **controls, "worst_ratio": 1.25, "control_ratio": 1.2,
    }  # fmt: skip
    assert growth.with_ratios(costs) == {**costs, "worst_ratio": 1.25}


def entry(command: str, duration: int) -> dict[str, Any]:
    return {"command": command.encode(), "duration": duration}


def test_script_calls_bear_the_names_of_their_scripts_and_stand_in_order() -> None:
    sha = scripts.load("settle_and_claim").sha
    newest_first = [
        *(entry(f"EVALSHA {sha} 20 a b", 2500), entry("FLUSHALL", 9000), entry(f"EVALSHA {sha} 20 a c", 700)),
        *(entry(f"EVAL {MARK}\nlocal call", 2100), entry("EVAL return 1", 90), entry("EVALSHA beef 0", 600)),
        *(entry("SCRIPT LOAD local function", 1800), entry("SCRIPT FLUSH", 3000)),
    ]
    assert script_calls.read(newest_first) == {
        script_calls.LOADING: [1800],
        "beef": [600],
        script_calls.WITH_TEXT: [90],
        script_calls.CONTROL: [2100],
        "settle_and_claim": [700, 2500],
    }


NOTHING: Final = Total(0, 0)


def run_of(*phases: Phase, ours: Total = NOTHING, control: Total = NOTHING) -> Run:
    return Run(phases, ours, control)


def test_a_call_that_is_long_each_time_has_much_to_do() -> None:
    def each_time(*calls: list[int], is_ordered: bool) -> list[int]:
        runs = [run_of(Phase({"add": times} if times else {}, is_ordered)) for times in calls]
        return script_calls.each_time(runs)[0]["add"]

    assert each_time([900, 3000, 2400], [4000, 800, 2300], [700, 900, 2100], is_ordered=True) == [700, 800, 2100]
    assert each_time([500, 2500], [2600, 500], is_ordered=False) == [2500, 500], "long in each run, wherever it stands"
    assert each_time([500, 2500], [2600, 500, 500], is_ordered=True) == [2500, 500, 500], "not the same calls"
    assert each_time([500, 500], [], is_ordered=True) == [500, 500]
    assert script_calls.each_time([]) == []


def test_the_machine_and_the_control_are_told_apart_from_what_calls_take() -> None:
    once = {"add": [3000, 1000], script_calls.CONTROL: [2500, 500], script_calls.LOADING: [1700]}
    again = {"add": [1000, 1000], script_calls.CONTROL: [500, 500], script_calls.LOADING: []}
    runs = [
        run_of(Phase(once, is_ordered=True), ours=Total(5, 5000), control=Total(3, 3000)),
        run_of(Phase(again, is_ordered=True), ours=Total(5, 5000), control=Total(3, 3000)),
    ]
    assert script_calls.measure([runs]) == {
        "slowest_each_time_ms": 1.0,
        "above_2_ms_each_time": 0,
        "slowest_load_ms": 1.7,
        "slowest_ms": 3.0,
        "p999_ms": 3.0,
        "above_2_ms": 1,
        "calls": 10,
        "above_2_ms_per_s": 100.0,
        "control_slowest_ms": 2.5,
        "control_p999_ms": 2.5,
        "control_above_2_ms": 1,
        "control_calls": 6,
        "control_above_2_ms_per_s": 1 / 0.006,
    }
    assert script_calls.describe("9 waiting", runs) == [
        "9 waiting: add: slowest 3.00 ms, 1 above 2 ms; each time slowest 1.00 ms, 0 above 2 ms",
        "9 waiting: (control): slowest 2.50 ms, 1 above 2 ms",
        "9 waiting: (loading a script): slowest 1.70 ms, 0 above 2 ms",
    ]


def test_of_a_thousand_calls_the_longest_is_left_to_the_machine() -> None:
    def p999_ms(calls: int) -> float:
        return script_calls.measure([[run_of(Phase(logged, is_ordered=True), ours=Total(calls, 1))]])["p999_ms"]

    logged = {"add": [5000, 900, 600]}
    assert p999_ms(1000) == 0.9
    assert p999_ms(4000) == script_calls.LOGGED_US / 1000, "the others took less than what is logged"


def test_systems_beside_fewer_jobs_are_not_compared() -> None:
    far = Sample("growth", "pyqueue", 0, {"add_us@1000": 1.0, "add_us@1000000": 1.0, "worst_ratio": 2.0})
    less_far = Sample("growth", "arq", 0, {"add_us@1000": 1.0, "worst_ratio": 1.0})
    results = make_results(far, less_far)
    assert not results.are_comparable("growth", "pyqueue", "arq")
    assert "arq" not in page.losses(results)


def test_a_system_without_a_feature_is_left_out_and_the_reason_is_said() -> None:
    assert refusal(BY_NAME["add_bulk"], catalogue.BY_NAME["arq"]) == "has no feature: bulk"
    assert refusal(BY_NAME["limit_add"], catalogue.BY_NAME["arq"]) == NOT_MEANT
    assert refusal(BY_NAME["growth"], catalogue.BY_NAME["bullmq"]) == ""
    assert refusal(BY_NAME["growth"], catalogue.BY_NAME["bullmq"], quick=True) == NOT_MEANT


def test_a_system_that_can_run_nothing_of_a_plan_need_not_be_installed() -> None:
    results = make_results()
    plan = Plan([catalogue.BY_NAME["rq"], catalogue.BY_NAME["pyqueue"]], [BY_NAME["process_10"], BY_NAME["limit_add"]])
    assert [system.name for system in able_systems(plan)] == ["pyqueue"]
    note_refusals(plan, results)
    assert results.skipped == [Skipped("process_10", "rq", "has no feature: concurrency")]


NPM_SAID = """
npm error code ECONNREFUSED
npm error FetchError: request to there failed, reason: connect ECONNREFUSED 127.0.0.1:9
npm error     at ClientRequest.<anonymous> (/usr/lib/node_modules/npm/lib/index.js:130:14) {
npm error   code: 'ECONNREFUSED',
npm error   port: 9,
npm error }
npm error
npm error A complete log of this run can be found in: /home/me/.npm/_logs/debug-0.log
"""


def test_the_last_words_of_a_tool_are_its_reasons() -> None:
    assert environments.last_words(NPM_SAID) == [
        "npm error code ECONNREFUSED",
        "npm error FetchError: request to there failed, reason: connect ECONNREFUSED 127.0.0.1:9",
    ]
    many = environments.last_words("".join(f"line {number}\n" for number in range(100)))
    assert many == [f"line {number}" for number in range(100 - environments.TOLD_LINES, 100)]


def test_of_a_long_line_its_beginning_and_its_end_are_told() -> None:
    (line,) = environments.last_words(f"begin {'x' * 1000} end")
    assert line.startswith("begin x")
    assert line.endswith("x end")
    assert len(line) < environments.TOLD_WIDTH + 10


def test_what_was_not_measured_is_listed_in_one_line_each() -> None:
    results = make_results()
    results.skipped = [Skipped("", "arq", "`pip` ended with code 1\nERROR: no network"), Skipped("gone", "rq", "old")]
    assert page.skipped(results).splitlines() == ["- everything, arq: `pip` ended with code 1", "- gone, rq: old"]


def test_every_system_has_only_features_that_exist() -> None:
    assert all(system.features <= catalogue.ALL for system in catalogue.SYSTEMS)
    assert {feature for workload in BY_NAME.values() for feature in workload.needs} == catalogue.ALL


def test_a_page_gets_figures_only_between_its_markers() -> None:
    results = make_results(rate("pyqueue", 0, 10), rate("bullmq", 0, 25))
    text = "before\n<!-- begin: losses -->\nold\n<!-- end: losses -->\nafter\n"
    assert page.render(text, results) == (
        "before\n<!-- begin: losses -->\n"
        "- process, concurrency 100, results kept, jobs/s: BullMQ (Node) 25.0, pyqueue 10.0: 2.5 times better\n"
        "<!-- end: losses -->\nafter\n"
    )


def test_losses_are_told_of_tails_and_of_peers_that_need_nothing() -> None:
    results = make_results(
        Sample("latency_idle", "pyqueue", 0, {"p50_ms": 1.0, "p99_ms": 4.0}),
        Sample("latency_idle", "bullmq", 0, {"p50_ms": 2.0, "p99_ms": 2.0}),
        Sample("idle", "pyqueue", 0, {"client_commands_per_s": 0.5}),
        Sample("idle", "bullmq", 0, {"client_commands_per_s": 0.0}),
    )
    assert page.losses(results).splitlines() == [
        "- latency add to start, idle worker (40 jobs/s), p99 ms: BullMQ (Node) 2, pyqueue 4: 2 times better",
        "- cost of an idle worker, client commands/s: BullMQ (Node) 0, pyqueue 0.5",
    ]


def test_the_page_says_what_the_reference_run_measured() -> None:
    assert page.render(page.PAGE.read_text(), load(REFERENCE)) == page.PAGE.read_text(), (
        "run `python -m benchmarks page benchmarks/results/reference.json`"
    )


def test_a_whole_run_lacks_nothing() -> None:
    assert completeness.lacks(whole_run()) == []


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({"quick": True}, "it is shortened (`--quick`)"),
        ({"interrupted": True}, "it was interrupted"),
        ({"scale": 0.02}, "its scale is 0.02, not 1"),
        ({"payload_bytes": 1000}, "its jobs have 1,000 bytes of data, not 200"),
    ],
)
def test_a_run_of_another_size_is_no_whole_one(about: dict[str, Any], words: str) -> None:
    results = whole_run()
    results.about.update(about)
    assert completeness.lacks(results) == [words]


def test_systems_and_workloads_without_figures_are_what_a_run_lacks() -> None:
    results = whole_run()
    results.samples = [
        sample
        for sample in results.samples
        if sample.system not in {"arq", "rq"}
        and sample.workload not in {"idle", "soak"}
        and (sample.workload, sample.system) != ("growth", "celery")
    ]
    assert completeness.lacks(results) == [
        "it has no figures of the systems arq, rq",
        "it has no figures of the workloads idle, soak",
        "it has no figures of growth on celery",
    ]


def test_the_same_results_draw_the_same_plots(tmp_path: Path) -> None:
    results = make_results(rate("pyqueue", 0, 10), rate("bullmq", 0, 25))
    first, second = (plots.draw_all(results, tmp_path / name) for name in ("a", "b"))
    assert [path.name for path in first] == ["process.svg"]
    assert first[0].read_text() == second[0].read_text()
    assert "concurrency 100" in first[0].read_text()
