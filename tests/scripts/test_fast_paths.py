"""The fast paths of scripts: what they do is what the general code does, and what they decline they leave as it was.

Calls on queues of all kinds, thrown together at random from what pyqueue and other clients write, each three times on
the same keys: as workers and producers send it, without the fast path, and with nothing behind the fast path.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import pytest
from redis.exceptions import ResponseError

from pyqueue._redis.scripts import Script, fast_paths, load
from pyqueue.errors import RedisRefused
from pyqueue.types import Arg
from tests.support.keyspace import Key
from tests.support.lua import fast_path_alone
from tests.support.script_bench import NOW, Bench, Zset
from tests.support.script_rows import TOKEN, Row, add_row, exchange, settled, stored

pytestmark = pytest.mark.anyio

#: Calls per test; together they take some seconds.
CALLS: Final = 60
BATCHES: Final = range(3)


class Call(NamedTuple):
    """A queue, and a call on it."""

    seed: dict[str, Any]
    rows: Sequence[Row]
    args: dict[str, Arg]


class Did(NamedTuple):
    """Reply or error of a call, and all keys after it."""

    reply: Any
    keys: dict[str, Key]


class Dice(random.Random):
    """Chances, by name."""

    def rarely(self) -> bool:
        """Seldom enough that a call in which it may happen many times mostly has none of it."""
        return self.random() < 0.02

    def sometimes(self) -> bool:
        return self.random() < 0.3


def test_the_scripts_that_have_one() -> None:
    assert fast_paths() == ["add_jobs", "settle_and_claim"]


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", ["add_jobs", "settle_and_claim"])
async def test_a_fast_path_does_what_the_general_code_does(bench: Bench, name: str, batch: int) -> None:
    dice = Dice(f"{name} {batch}")
    seen: Counter[str] = Counter()

    for _ in range(CALLS):
        call = _call_of(name, dice)
        before = await _keys_of(bench, call.seed)
        fast = await _run(bench, load(name), call)
        general = await _run(bench, load(name, is_fast=False), call)
        alone = await _run(bench, fast_path_alone(name), call)

        assert fast.reply == general.reply, call
        assert _comparable(fast) == _comparable(general), call
        untouched, done = _untouched(Did(None, before)), _untouched(fast)
        if alone.reply == b"declined":
            assert _untouched(alone) == untouched, call
        elif _is_declined(alone):  # before anything was written, or as the general code fails
            assert _untouched(alone) in (untouched, done), call
        else:
            assert (alone.reply, _comparable(alone)) == (fast.reply, _comparable(fast)), call
        seen["declined" if _is_declined(alone) else "done"] += 1

    assert min(seen["done"], seen["declined"]) > CALLS / 10, f"both kinds of calls should be common: {seen}"


#: What the fast path of an exchange leaves to the general code -> keys, and arguments, that are other than usual.
DECLINED: Final[dict[str, tuple[dict[str, Any], dict[str, Any]]]] = {
    "paused": ({"meta": {"paused": "1"}}, {}),
    "concurrency": ({"meta": {"concurrency": "9"}}, {}),
    "rate limit of the queue": ({"meta": {"max": "9", "duration": "1000"}}, {}),
    "no cap of events": ({"meta": {"opts.maxLenEvents": ""}}, {}),
    "no claim": ({}, {"claim": 0}),
    "by hand": ({}, {"first_token": -1}),
    "rate limit of the worker": ({}, {"limiter_max": 9, "limiter_duration_ms": 1000}),
    "metrics": ({}, {"metrics_points": 5}),
    "marker to put back": ({}, {"rearm": 1}),
    "answered before": ({"pyq:x:worker": '{"s":7,"c":3,"t":0,"j":[]}'}, {"sequence": 7}),
    "stale": ({"pyq:x:worker": '{"s":8,"c":3,"t":0,"j":[]}'}, {"sequence": 7}),
    "due": ({"delayed": Zset({"d": NOW * 4096.0}), "d": stored(delay="5")}, {}),
    "child": ({"r2": stored(ats="1", parentKey="t:q:p", parent="{}")}, {}),
    "deduplicated": ({"r2": stored(ats="1", deid="d")}, {}),
    "never started": ({"r2": stored()}, {}),
    "odd number of attempts": ({"r2": stored(ats="1", atm="2.5")}, {}),
    "lock of another": ({"r2:lock": "another"}, {}),
    "lock lost": ({"r2:lock": None}, {}),
    "children": ({"r2:dependencies": {"t:q:c"}}, {}),
    "failed child": ({"r2:unsuccessful": Zset({"t:q:c": 1.0})}, {}),
    "last not active": ({"active": ["r2", "r1"]}, {}),
    "none active": ({"active": None}, {}),
    "completed is something else": ({"completed": "something else"}, {}),
    "events are something else": ({"events": "something else"}, {}),
    "active is something else": ({"active": "something else"}, {}),
    "stalled before": ({"w1": stored(stc="1")}, {}),
    "doomed": ({"w1": stored(defa="x")}, {}),
    "of a scheduler": ({"w1": stored(rjk="x")}, {}),
    "odd number of starts": ({"w1": stored(ats="1.5")}, {}),
    "old marker": ({"wait": ["0:5"], "0:5": stored()}, {}),
    "ghost": ({"wait": ["gone"]}, {}),
    "name with a NUL": ({"w1": stored(**{"a\x00b": "1"})}, {}),
}


@pytest.mark.parametrize("case", DECLINED)
async def test_what_is_not_plain_is_left_to_the_general_code(bench: Bench, case: str) -> None:
    keys, args = DECLINED[case]
    seed = {
        **{name: value for r in ("r1", "r2", "r3") for name, value in {r: stored(ats="1"), f"{r}:lock": TOKEN}.items()},
        "active": ["r3", "r2", "r1"],
        "stalled": {"r2"},
        "completed": Zset({"old": 5.0}),
        "wait": ["w1"],
        "w1": stored(),
        "meta": {},
        **keys,
    }
    rows = [settled(job_id, "completed", "1") for job_id in ("r1", "r2", "r3")]
    await _check_declined(bench, "settle_and_claim", Call(seed, rows, exchange(**{"claim": 1, **args})))


@pytest.mark.parametrize(
    ("keys", "keeps"),
    [
        ({"old1": stored(parentKey="t:q:p", parent="{}")}, [(3, -1, 1000)] * 3),  # a parent would have to be told
        ({"old1": "something else"}, [(3, -1, 1000)] * 3),
        ({}, [(2, -1, 1000)] * 3),  # one of those that complete would have to go, too
        ({"completed": Zset({"old1": 1.0, "old2": float(NOW)})}, [(3, -1, 1000)] * 3),  # as old as they are
        ({}, [(3, -1, 1000), (3, -1, 1000), (-1, -1, 1000)]),
        ({}, [(-1, -1, 1000), (3, -1, 1000), (3, -1, 1000)]),
        ({}, [(0, -1, 1000), (3, -1, 1000), (3, -1, 1000)]),
        ({}, [(3, 60, 1000)] * 3),
        ({"completed": Zset({"old1": 1.0, "old2": 2.0, "r2": 3.0})}, [(4, -1, 1000)] * 3),  # completed before
        ({"wait": ["old1"]}, [(4, -1, 1000)] * 3),  # is ready again
    ],
)
async def test_old_jobs_that_are_not_plainly_removed_are_left_to_the_general_code(
    bench: Bench, keys: dict[str, Any], keeps: list[tuple[int, int, int]]
) -> None:
    jobs = {name: value for r in ("r1", "r2", "r3") for name, value in {r: stored(ats="1"), f"{r}:lock": TOKEN}.items()}
    old = {"old1": stored(), "old2": stored(), "completed": Zset({"old1": 1.0, "old2": 2.0})}
    seed = {**jobs, "active": ["r3", "r2", "r1"], "wait": ["w1"], "w1": stored(), "meta": {}, **old, **keys}
    rows = [settled(f"r{n}", "completed", "1", keep=keep) for n, keep in enumerate(keeps, 1)]
    await _check_declined(bench, "settle_and_claim", Call(seed, rows, exchange(1)))


@pytest.mark.parametrize(("count", "kept"), [(5, {"old1", "old2"}), (4, {"old2"}), (3, set())])
async def test_the_oldest_go_where_the_newest_are_kept(bench: Bench, count: int, kept: set[str]) -> None:
    jobs = {name: value for r in ("r1", "r2", "r3") for name, value in {r: stored(ats="1"), f"{r}:lock": TOKEN}.items()}
    old = {"old1": stored(), "old1:logs": ["x"], "old2": stored(), "completed": Zset({"old1": 1.0, "old2": 2.0})}
    seed = {**jobs, "active": ["r3", "r2", "r1"], "meta": {"opts.maxLenEvents": "10000"}, **old}
    rows = [settled(job_id, "completed", "1", keep=(count, -1, 1000)) for job_id in ("r1", "r2", "r3")]

    did = await _run(bench, fast_path_alone("settle_and_claim"), Call(seed, rows, exchange(1)))

    assert {name for name in did.keys if name.startswith("old")} == kept | ({"old1:logs"} if "old1" in kept else set())
    assert {job_id for job_id, _ in did.keys["completed"].value} == kept | {"r1", "r2", "r3"}


@pytest.mark.parametrize(
    "row",
    [
        add_row("own:1:2", delay_ms=5),
        add_row(timestamp_ms=5),
        add_row(placement="lifo"),
        add_row(placement="children"),
        add_row(dedup='{"id":"d"}'),
        add_row(parent_key="t:q:p", parent="{}"),
        add_row("there"),
        add_row("first"),
        add_row("8"),
    ],
)
async def test_a_job_that_is_not_plain_is_left_to_the_general_code(bench: Bench, row: Row) -> None:
    seed = {"there": stored(), "id": "7", "meta": {}}
    await _check_declined(bench, "add_jobs", Call(seed, [add_row("first"), row], {"sender": "p", "sequence": 0}))


async def _check_declined(bench: Bench, name: str, call: Call) -> None:
    """Nothing has changed but events that could not be taken back, and then the general code does it all."""
    call = call._replace(seed={key: value for key, value in call.seed.items() if value is not None})
    before = await _keys_of(bench, call.seed)
    alone = await _run(bench, fast_path_alone(name), call)
    fast = await _run(bench, load(name), call)
    general = await _run(bench, load(name, is_fast=False), call)

    assert _is_declined(alone)
    assert {**alone.keys, "events": None} == {**before, "events": None}
    assert fast.reply == general.reply
    assert {**fast.keys, "events": None} == {**general.keys, "events": None}


async def test_the_time_is_the_servers_where_the_caller_has_none(bench: Bench) -> None:
    running = {"r1": stored(ats="1"), "r1:lock": TOKEN, "active": ["r1"], "w1": stored(), "wait": ["w1"]}
    outcome = settled("r1", "completed", "1")
    began = int(time.time() * 1000)

    added = await _run(
        bench, fast_path_alone("add_jobs"), Call({}, [add_row()], {"sender": "p", "sequence": 0, "now_ms": 0})
    )
    ended = await _run(bench, fast_path_alone("settle_and_claim"), Call(running, [outcome], exchange(1, now_ms=0)))

    assert began <= int(added.keys["1"].value["timestamp"]) == added.reply[0] <= ended.reply[0] <= time.time() * 1000
    assert ended.keys["completed"].value == [("r1", float(ended.reply[0]))]
    assert ended.keys["w1"].value["processedOn"] == ended.keys["r1"].value["finishedOn"] == str(ended.reply[0])


@pytest.mark.parametrize("rows", [[], [settled("r1", "completed", "1")]])
async def test_jobs_stay_in_their_places_when_the_marker_is_something_else(bench: Bench, rows: list[Row]) -> None:
    seed = {"r1": stored(ats="1"), "r1:lock": TOKEN, "active": ["r1"], "w1": stored(), "wait": ["w1"], "marker": BROKEN}

    did = await _run(bench, load("settle_and_claim"), Call({**seed, "meta": {}}, rows, exchange(1)))

    assert did.reply == "error WRONGTYPE"
    assert did.keys["w1"].value == stored()
    assert "w1:lock" not in did.keys
    assert did.keys["wait"].value == ["w1"]
    assert ("r1" in did.keys["active"].value) if not rows else ("active" not in did.keys), "settled, or still running"


async def _run(bench: Bench, script: Script, call: Call) -> Did:
    await _keys_of(bench, call.seed)
    try:
        reply = await bench.store.call(script, call.rows, timeout_s=None, **call.args)
    except (RedisRefused, ResponseError) as error:
        code = re.search("WRONGTYPE", str(error))
        reply = f"error {code[0] if code else ''}"
    return Did(reply, await bench.dump())


async def _keys_of(bench: Bench, seed: dict[str, Any]) -> dict[str, Key]:
    """Replace all keys of the queue; returns them as they are read."""
    old = [key async for key in bench.client.scan_iter(match=f"{bench.store.keys.prefix}:*")]
    if old:
        await bench.client.delete(*old)
    await bench.seed(seed)
    return await bench.dump()


def _comparable(did: Did) -> dict[str, Any]:
    """Keys after a call. Where one was overwritten by something else, the fast path may have taken back what it did."""
    is_broken = any(key.value == BROKEN for key in did.keys.values())
    return _untouched(did) if is_broken else {name: _plain(key) for name, key in did.keys.items()}


def _untouched(did: Did) -> dict[str, Any]:
    """Keys after a call that may have taken something back: jobs that left active come back to its end, and events
    cannot be taken back."""
    keys: dict[str, Any] = {name: _plain(key) for name, key in did.keys.items() if name != "events"}
    keys.pop("pc", None)  # numbers that were drawn are not drawn again
    if keys.get("active", ("", ""))[0] == "list":
        keys["active"] = sorted(keys["active"][1])
    return keys


def _plain(key: Key) -> tuple[str, Any, int]:
    """Type, value, and how many digits its seconds to live have."""
    return key.type, key.value, 0 if key.ttl_s is None else len(str(key.ttl_s))


def _is_declined(did: Did) -> bool:
    return did.reply == b"declined" or str(did.reply).startswith("error")


#: What other clients may write over a key of the queue.
BROKEN: Final = "something else"
BREAKABLE: Final = ("completed", "events", "active", "wait", "prioritized", "delayed", "stalled", "pyq:x:worker")


def _call_of(name: str, dice: Dice) -> Call:
    return _add(dice) if name == "add_jobs" else _exchange(dice)


def _add(dice: Dice) -> Call:
    """Jobs for a queue."""
    seed: dict[str, Any] = {"meta": _meta(dice), "id": str(dice.choice([0, 7, 41]))}
    if dice.sometimes():
        seed["wait"] = ["w2", "w1"]
    if dice.rarely():
        seed[dice.choice(["8", "9", "wait", "prioritized", "pc", "events", "marker", "own-1"])] = BROKEN
    if dice.rarely():
        seed["own-2"] = stored()
    rows = [_job(dice) for _ in range(dice.choice([1, 1, 2, 5, 32]))]
    sender = dice.choice(["p", "p.1"])
    sequence = dice.choice([0, 5, 5, -5])
    for kept in ("p", "p.1"):
        if dice.sometimes():
            record = {"s": dice.choice([3, 4, 4, 5, 6]), "i": "8", "c": 1}
            seed[f"pyq:x:{kept}"] = json.dumps(record, separators=(",", ":"))
    return Call(seed, rows, {"sender": sender, "sequence": sequence})


def _job(dice: Dice) -> Row:
    name, opts = dice.choice([("mail", '{"attempts":0}'), ("mail", '{"attempts":0}'), ("ünï", "{}"), ("", "")])
    special: dict[str, Any] = {}
    if dice.random() < 0.1:
        job_id = "own" + dice.choice('-/é"') + str(dice.randrange(9))
        special = dice.choice([{"job_id": job_id}, {"priority": dice.choice([1, 3, 2097152])}])
    if dice.rarely():
        special |= dice.choice(
            [
                {"timestamp_ms": 5},
                {"delay_ms": 5000},
                {"placement": "lifo"},
                {"placement": "children"},
                {"dedup": '{"id":"d"}'},
                {"parent_key": "t:q:parent", "parent": "{}"},
            ]
        )
    return add_row(name=name, data=dice.choice(["{}", '{"a":"\\u0000"}', '"é\r\n"']), opts=opts, **special)


def _exchange(dice: Dice) -> Call:
    """Outcomes of a worker, and ready jobs."""
    running = [f"r{i}" for i in range(dice.choice([0, 1, 1, 2, 5, 25]))]
    others = [f"o{i}" for i in range(dice.choice([0, 0, 3]))]
    waiting = [f"w{i}" for i in range(dice.choice([0, 0, 1, 2, 30]))]
    prioritized = [f"p{i}" for i in range(dice.choice([0, 0, 0, 1, 4]))]
    seed: dict[str, Any] = {"meta": _meta(dice), "wait": waiting[::-1], "prioritized": Zset()}
    for job_id in (*running, *others):
        seed[job_id] = _hash(dice, ats="1", processedOn="1")
        seed[f"{job_id}:lock"] = "another" if dice.rarely() else TOKEN
    for job_id in (*waiting, *prioritized):
        seed[job_id] = _hash(dice)
        seed["prioritized"] |= {job_id: float(len(seed["prioritized"]))} if job_id in prioritized else {}
    active = [*running, *others]
    if dice.sometimes():
        dice.shuffle(active)
    seed["active"] = active[::-1]
    seed["stalled"] = {job_id for job_id in active if dice.sometimes()}
    _keep_old_jobs(dice, seed)
    if dice.sometimes():
        seed["delayed"] = Zset({"d1": float((NOW + dice.choice([-5, 60_000])) * 4096)})
        seed["d1"] = _hash(dice, delay="5")
    _spoil(dice, seed, active)
    keep = (dice.choice([1, 3, 30]), -1, 1000) if dice.sometimes() else None
    rows = [_outcome(dice, job_id, keep) for job_id in running]
    args = exchange(
        dice.choice([0, 1, 1, 2, 25]),
        sequence=dice.choice([0, 4, 5]),
        worker_name=dice.choice(["", "", "w-1"]),
        **({dice.choice(["limiter_max", "metrics_points", "rearm"]): 1} if dice.rarely() else {}),
    )
    return Call({key: value for key, value in seed.items() if value}, rows, args)


def _keep_old_jobs(dice: Dice, seed: dict[str, Any]) -> None:
    """Jobs that completed before."""
    old = [f"old{i}" for i in range(dice.choice([1, 1, 5, 40]))]
    seed["completed"] = Zset({job_id: float(i) for i, job_id in enumerate(old)})
    for job_id in old:
        if not dice.rarely():
            seed[job_id] = _hash(dice, ats="1", returnvalue="1")
        elif dice.sometimes():
            seed[job_id] = BROKEN
    if dice.sometimes():
        seed[f"{old[0]}:logs"] = ["a line"]
    if dice.rarely():
        seed["completed"][old[0]] = float(NOW + dice.choice([-1, 0, 1]))
    if dice.rarely():
        seed["completed"]["r0"] = 2.5
    if dice.rarely():
        seed["wait"] = [*seed["wait"], old[0]]


def _spoil(dice: Dice, seed: dict[str, Any], active: list[str]) -> None:
    """What rarely is so."""
    if dice.sometimes():
        seed["pyq:x:worker"] = json.dumps({"s": dice.choice([2, 3, 4]), "c": 0, "t": 0, "j": []}, separators=(",", ":"))
    if dice.rarely() and active:
        seed["active"] = seed["active"][:-1]
    if dice.rarely() and active:
        seed[f"{active[0]}:{dice.choice(['dependencies', 'processed'])}"] = {"t:q:child"}
    if dice.rarely() and active:
        del seed[active[-1]]
    if dice.rarely():
        seed["wait"] = ["0:5", *seed["wait"], "ghost"]
    if dice.rarely():
        seed[dice.choice(BREAKABLE)] = BROKEN
    if dice.rarely():
        seed["we\x00ird"] = _hash(dice)
        seed["wait"] = [*seed["wait"], "we\x00ird"]


def _hash(dice: Dice, **more: str) -> dict[str, str]:
    fields = stored(**more)
    if dice.random() < 0.05:
        fields |= dice.choice(
            [{"ats": "2", "atm": "1", "processedOn": "5"}, {"pb": "w", "failedReason": "x"}, {"ats": "x"}]
        )
    if dice.rarely():
        fields |= dice.choice(
            [
                {"parentKey": "t:q:parent", "parent": "{}"},
                {"deid": "d"},
                {"stc": "1"},
                {"atm": "2", "ats": "2", "processedOn": "1"},
                {"attemptsMade": "many"},
                {"defa": "doomed"},
                {"rjk": "every-minute"},
                {"a\x00b": "1"},
                {"priority": "5"},
            ]
        )
    if dice.rarely():
        del fields["delay"]
    return fields


def _outcome(dice: Dice, job_id: str, keep: tuple[int, int, int] | None) -> Row:
    if dice.rarely():
        kind = dice.choice(["failed", "retried", "backoff", "released"])
        return settled(job_id, kind, "boom", attempts=3, number=5)
    if dice.rarely():
        return settled(job_id, "completed", "1", keep=(1, -1, 1000))
    if keep is None:
        keep = (0, -1, 1000) if dice.random() < 0.1 else (-1, -1, 1000)
    return settled(job_id, "completed", dice.choice(["null", '{"ok":true}', "1"]), keep=keep)


def _meta(dice: Dice) -> dict[str, str]:
    special = dice.choice(
        [{"paused": "1"}, {"concurrency": "3"}, {"max": "5", "duration": "1000"}, {"opts.maxLenEvents": ""}]
    )
    return {"opts.maxLenEvents": "10000", **(special if dice.random() < 0.06 else {})}
