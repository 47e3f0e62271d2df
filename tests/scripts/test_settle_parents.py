"""settle_and_claim.lua: what a finished child does to its parent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.script_bench import NOW, Bench, Zset
from tests.support.script_rows import STACK, TOKEN, Row, event, exchange, running, settled

pytestmark = pytest.mark.anyio

READY = [("0", 0.0)]
POLICIES = ["fpof", "cpof", "idof", "rdof"]
RELEASED = event("waiting", jobId="p", prev="waiting-children")


class Family:
    """The parent p and its running child c, in the queue of the bench or p in another queue."""

    def __init__(self, bench: Bench, policy: str = "", queue: str = "") -> None:
        self.bench = bench
        self.base = f"{bench.store.keys.prefix}:{queue}:" if queue else bench.base
        self.child = f"{bench.base}c"
        self.link = {
            "parentKey": f"{self.base}p",
            "parent": json.dumps({"id": "p", "queueKey": self.base[:-1]} | ({policy: True} if policy else {})),
        }

    async def seed(self, place: str = "waiting-children", others: int = 0, **parent: str) -> None:
        """`place` of the parent, how many other children are pending, fields of the parent."""
        await self.bench.seed({"active": ["c"], "c": running(**self.link), "c:lock": TOKEN})
        places: dict[str, Any] = {
            "wait": ["p"],
            "active": ["p"],
            "delayed": Zset({"p": 5}),
            "failed": Zset({"p": 5}),
            "waiting-children": Zset({"p": 5}),
            "": {},
        }
        keys: dict[str, Any] = {"p:dependencies": {self.child, *(f"other{n}" for n in range(others))}}
        if place:
            keys[place] = places[place] if place != "active" or self.base != self.bench.base else ["p", "c"]
            keys["p"] = {"name": "p", **parent}
        for name, value in keys.items():
            await self.bench.client.delete(self.base + name)
            await self.bench.write(self.base + name, value)


COMPLETED = settled("c", "completed", '{"v":1}')
FAILED = settled("c", "failed", "boom", stacktrace=STACK)


def changed(ran: Any) -> dict[str, Any]:
    """Keys of the parent and of the ready places: those of the child are tested elsewhere."""
    child = {"c", "c:lock", "active", "completed", "failed"}
    return {name: value for name, value in ran.keys.items() if name not in child}


async def test_a_value_is_handed_to_the_parent_which_is_released_in_front(bench: Bench) -> None:
    family = Family(bench)
    await family.seed()
    await bench.seed({"wait": ["x"]})

    ran = await bench.run("settle_and_claim", [COMPLETED], **exchange())

    assert ran.reply == [NOW, [0], [], 0, 0, 0, 0]
    assert ran.keys == {
        "c": running(returnvalue='{"v":1}', finishedOn=str(NOW), atm="1", **family.link),
        "c:lock": None,
        "active": None,
        "completed": [("c", float(NOW))],
        "p:dependencies": None,
        "p:processed": {family.child: '{"v":1}'},
        "waiting-children": None,
        "wait": ["x", "p"],
        "marker": READY,
    }
    assert ran.events == [RELEASED, event("completed", jobId="c", returnvalue='{"v":1}', prev="active")]


async def test_a_parent_with_other_children_keeps_waiting(bench: Bench) -> None:
    family = Family(bench)
    await family.seed(others=1)

    ran = await bench.run("settle_and_claim", [COMPLETED], **exchange())

    assert changed(ran) == {"p:dependencies": ["other0"], "p:processed": {family.child: '{"v":1}'}}


async def test_a_parent_that_is_active_is_not_moved(bench: Bench) -> None:
    family = Family(bench)
    await family.seed("active")

    ran = await bench.run("settle_and_claim", [COMPLETED], **exchange())

    assert changed(ran) == {"p:dependencies": None, "p:processed": {family.child: '{"v":1}'}}
    assert ran.keys["active"] == ["p"]


async def test_a_parent_that_is_gone_is_not_released(bench: Bench) -> None:
    family = Family(bench)
    await family.seed("")
    await bench.seed({"waiting-children": Zset({"p": 5})})

    ran = await bench.run("settle_and_claim", [COMPLETED], **exchange())

    assert changed(ran) == {"p:dependencies": None, "p:processed": {family.child: '{"v":1}'}}


async def test_a_child_that_its_parent_does_not_know_hands_nothing_over(bench: Bench) -> None:
    family = Family(bench)
    await family.seed()
    await bench.client.srem(f"{bench.base}p:dependencies", family.child)

    ran = await bench.run("settle_and_claim", [COMPLETED], **exchange())

    assert changed(ran) == {}


async def test_a_released_parent_goes_behind_those_of_its_priority(bench: Bench) -> None:
    family = Family(bench)
    await family.seed(priority="3", delay="0")
    await bench.seed({"pc": "6"})

    ran = await bench.run("settle_and_claim", [COMPLETED], **exchange())

    assert changed(ran) == {
        "p:dependencies": None,
        "p:processed": {family.child: '{"v":1}'},
        "waiting-children": None,
        "pc": "7",
        "prioritized": [("p", 3 * 2.0**32 + 7)],
        "marker": READY,
    }


async def test_a_released_parent_begins_its_delay(bench: Bench) -> None:
    family = Family(bench)
    await family.seed(priority="3", delay="500")

    ran = await bench.run("settle_and_claim", [COMPLETED], **exchange())

    assert changed(ran) == {
        "p:dependencies": None,
        "p:processed": {family.child: '{"v":1}'},
        "waiting-children": None,
        "delayed": [("p", float((NOW + 500) * 4096))],
        "marker": [("1", float(NOW + 500))],
    }
    assert ran.events[0] == event("delayed", jobId="p", delay=str(NOW + 500))


@pytest.mark.parametrize("policy", ["", *POLICIES])
async def test_a_failed_attempt_that_is_retried_does_not_reach_the_parent(bench: Bench, policy: str) -> None:
    await Family(bench, policy).seed()

    row = settled("c", "backoff", "boom", stacktrace=STACK, number=5)
    ran = await bench.run("settle_and_claim", [row], **exchange())

    assert changed(ran).keys() == {"delayed", "marker"}


async def test_a_failed_child_without_a_policy_keeps_its_parent_waiting(bench: Bench) -> None:
    await Family(bench).seed()

    ran = await bench.run("settle_and_claim", [FAILED], **exchange())

    assert (ran.reply[1], changed(ran)) == ([0], {})


async def test_a_failed_child_may_fail_its_parent(bench: Bench) -> None:
    family = Family(bench, "fpof")
    await family.seed(others=1)

    ran = await bench.run("settle_and_claim", [FAILED], **exchange())

    assert changed(ran) == {
        "p": {"name": "p", "defa": f"child {family.child} failed"},
        "p:dependencies": ["other0"],
        "p:unsuccessful": [(family.child, float(NOW))],
        "waiting-children": None,
        "wait": ["p"],
        "marker": READY,
    }
    assert ran.events[0] == RELEASED


async def test_a_parent_to_fail_keeps_its_delay_when_it_waited_for_children(bench: Bench) -> None:
    await Family(bench, "fpof").seed(delay="500")

    ran = await bench.run("settle_and_claim", [FAILED], **exchange())

    assert ran.keys["delayed"] == [("p", float((NOW + 500) * 4096))]


async def test_a_delayed_parent_is_failed_at_once(bench: Bench) -> None:
    family = Family(bench, "fpof")
    await family.seed("delayed", delay="500", priority="2")

    ran = await bench.run("settle_and_claim", [FAILED], **exchange())

    assert changed(ran) == {
        "p": {"name": "p", "priority": "2", "delay": "0", "defa": f"child {family.child} failed"},
        "p:dependencies": None,
        "p:unsuccessful": [(family.child, float(NOW))],
        "delayed": None,
        "pc": "1",
        "prioritized": [("p", 2 * 2.0**32 + 1)],
        "marker": READY,
    }


@pytest.mark.parametrize("place", ["wait", "active"])
async def test_a_parent_elsewhere_is_only_doomed(bench: Bench, place: str) -> None:
    family = Family(bench, "fpof")
    await family.seed(place)

    ran = await bench.run("settle_and_claim", [FAILED], **exchange())

    assert changed(ran) == {
        "p": {"name": "p", "defa": f"child {family.child} failed"},
        "p:dependencies": None,
        "p:unsuccessful": [(family.child, float(NOW))],
    }


async def test_a_failed_parent_is_not_doomed_again(bench: Bench) -> None:
    family = Family(bench, "fpof")
    await family.seed("failed")

    ran = await bench.run("settle_and_claim", [FAILED], **exchange())

    assert changed(ran) == {"p:dependencies": None, "p:unsuccessful": [(family.child, float(NOW))]}


async def test_a_parent_that_is_gone_is_not_doomed(bench: Bench) -> None:
    family = Family(bench, "fpof")
    await family.seed("")

    ran = await bench.run("settle_and_claim", [FAILED], **exchange())

    assert changed(ran) == {"p:dependencies": None, "p:unsuccessful": [(family.child, float(NOW))]}


@pytest.mark.parametrize("others", [0, 1])
async def test_a_parent_may_continue_at_once(bench: Bench, others: int) -> None:
    family = Family(bench, "cpof")
    await family.seed(others=others)

    ran = await bench.run("settle_and_claim", [FAILED], **exchange())

    assert changed(ran) == {
        "p:dependencies": ["other0"] if others else None,
        "p:failed": {family.child: "boom"},
        "waiting-children": None,
        "wait": ["p"],
        "marker": READY,
    }
    assert ran.events[0] == RELEASED


async def test_a_continuing_parent_that_runs_already_is_not_moved(bench: Bench) -> None:
    family = Family(bench, "cpof")
    await family.seed("active")

    ran = await bench.run("settle_and_claim", [FAILED], **exchange())

    assert changed(ran) == {"p:dependencies": None, "p:failed": {family.child: "boom"}}


@pytest.mark.parametrize("policy", ["idof", "rdof"])
@pytest.mark.parametrize("others", [0, 1])
async def test_a_failure_may_be_ignored(bench: Bench, policy: str, others: int) -> None:
    family = Family(bench, policy)
    await family.seed(others=others)

    ran = await bench.run("settle_and_claim", [FAILED], **exchange())

    noted = {"p:failed": {family.child: "boom"}} if policy == "idof" else {}
    moved = {} if others else {"waiting-children": None, "wait": ["p"], "marker": READY}
    assert changed(ran) == {"p:dependencies": ["other0"] if others else None, **noted, **moved}


@pytest.mark.parametrize("policy", POLICIES)
async def test_a_failed_child_that_its_parent_does_not_know_changes_nothing(bench: Bench, policy: str) -> None:
    family = Family(bench, policy)
    await family.seed(others=1)
    await bench.client.srem(f"{bench.base}p:dependencies", family.child)

    ran = await bench.run("settle_and_claim", [FAILED], **exchange())

    assert changed(ran) == {}


ROWS: list[tuple[Row, str]] = [(COMPLETED, ""), (FAILED, "fpof"), (FAILED, "cpof"), (FAILED, "idof"), (FAILED, "rdof")]


@pytest.mark.parametrize(("row", "policy"), ROWS, ids=["completed", *POLICIES])
async def test_a_parent_in_another_queue_becomes_ready_there(bench: Bench, row: Row, policy: str) -> None:
    family = Family(bench, policy, queue="flows")
    await family.seed()

    ran = await bench.run("settle_and_claim", [row], **exchange())

    assert ran.keys["flows:wait"] == ["p"]
    assert ran.keys["flows:waiting-children"] is None
    assert ran.keys["flows:marker"] == READY
    assert ran.keys["flows:events"] == [RELEASED]
    assert {entry["event"] for entry in ran.events} <= {"completed", "failed", "retries-exhausted", "drained"}
    assert not {"wait", "marker", "waiting-children"} & ran.keys.keys()


@pytest.mark.parametrize(("row", "policy"), ROWS, ids=["completed", *POLICIES])
async def test_a_parent_of_a_paused_queue_wakes_nobody(bench: Bench, row: Row, policy: str) -> None:
    await Family(bench, policy, queue="flows").seed()
    await bench.client.hset(f"{bench.store.keys.prefix}:flows:meta", "paused", "1")

    ran = await bench.run("settle_and_claim", [row], **exchange())

    assert ran.keys["flows:wait"] == ["p"]
    assert "flows:marker" not in ran.keys


async def test_a_failed_child_that_is_not_kept_lets_its_parent_go(bench: Bench) -> None:
    family = Family(bench)
    await family.seed()

    row = settled("c", "failed", "boom", stacktrace=STACK, keep=(0, -1, 1000))
    ran = await bench.run("settle_and_claim", [row], **exchange())

    assert ran.keys == {
        "c": None,
        "c:lock": None,
        "active": None,
        "p:dependencies": None,
        "waiting-children": None,
        "wait": ["p"],
        "marker": READY,
    }
    assert family.child not in str(ran.keys)


async def test_siblings_that_finish_together_release_their_parent_once(bench: Bench) -> None:
    family = Family(bench)
    await family.seed()
    await bench.client.sadd(f"{bench.base}p:dependencies", f"{bench.base}d")
    await bench.seed({"d": running(**family.link), "d:lock": TOKEN, "active": ["d"]})

    ran = await bench.run("settle_and_claim", [COMPLETED, settled("d", "completed", "2")], **exchange())

    assert ran.reply[1] == [0, 0]
    assert ran.keys["p:processed"] == {family.child: '{"v":1}', f"{bench.base}d": "2"}
    assert ran.keys["wait"] == ["p"]
    assert ran.events.count(RELEASED) == 1


async def test_a_parent_completes_behind_its_child_in_the_same_call(bench: Bench) -> None:
    family = Family(bench)
    await family.seed("active")
    await bench.seed({"p:lock": TOKEN})

    rows = [settled("p", "completed", "0"), COMPLETED, settled("p", "completed", "3")]
    ran = await bench.run("settle_and_claim", rows, **exchange())

    assert ran.reply[1] == [-4, 0, 0]
    assert ran.keys["completed"] == [("c", float(NOW)), ("p", float(NOW))]


async def test_a_child_finishes_even_if_its_parent_cannot_be_told(bench: Bench) -> None:
    family = Family(bench)
    await family.seed()
    await bench.client.delete(f"{bench.base}p:dependencies")
    await bench.seed({"p:dependencies": "not a set"})

    ran = await bench.run("settle_and_claim", [COMPLETED], **exchange())

    assert ran.reply[1][0].startswith("WRONGTYPE")
    assert ran.keys == {
        "c": running(returnvalue='{"v":1}', finishedOn=str(NOW), atm="1", **family.link),
        "c:lock": None,
        "active": None,
        "completed": [("c", float(NOW))],
    }


@pytest.mark.parametrize(("row", "policy"), ROWS, ids=["completed", *POLICIES])
async def test_a_parent_whose_queue_was_damaged_is_not_lost(bench: Bench, row: Row, policy: str) -> None:
    await Family(bench, policy, queue="flows").seed()
    await bench.client.set(f"{bench.store.keys.prefix}:flows:wait", "not a list")

    ran = await bench.run("settle_and_claim", [row], **exchange())

    assert ran.reply[1][0].startswith("WRONGTYPE")
    assert "flows:waiting-children" not in ran.keys
    assert ran.keys["active"] is None
    assert {"completed", "failed"} & ran.keys.keys()


@pytest.mark.parametrize("parent", ["{", "7", '"fpof"'])
async def test_an_unreadable_policy_is_none(bench: Bench, parent: str) -> None:
    await Family(bench).seed()
    await bench.client.hset(f"{bench.base}c", "parent", parent)

    ran = await bench.run("settle_and_claim", [FAILED], **exchange())

    assert (ran.reply[1], changed(ran)) == ([0], {})
