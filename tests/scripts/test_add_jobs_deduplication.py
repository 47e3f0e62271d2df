"""add_jobs.lua: deduplication ids and what a second job with the same id does, mode by mode."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.script_bench import NOW, Bench, Zset
from tests.support.script_rows import Row, add_row, adding, event, stored

pytestmark = pytest.mark.anyio

READY = [("0", 0.0)]


def score(due_ms: int) -> float:
    """Score in the delayed set."""
    return float(due_ms * 4096)


def row(job_id: str = "new", **more: Any) -> Row:
    """A job with the deduplication id D; `more` are its deduplication options."""
    return add_row(job_id, data='{"n":2}', dedup=json.dumps({"id": "D", **more}))


def deduplicated(owner: str = "old", other: str = "2") -> dict[str, str]:
    return event("deduplicated", jobId=owner, deduplicationId="D", deduplicatedJobId=other)


async def own(bench: Bench, *, ttl_ms: int = 0, **keys: Any) -> None:
    """The job `old` owns the id D."""
    await bench.seed({"id": "1", "de:D": "old", "old": {"name": "old"}, **keys})
    if ttl_ms:
        await bench.client.pexpire(f"{bench.base}de:D", ttl_ms)


@pytest.mark.parametrize(
    ("options", "ttl_s"),
    [({}, None), ({"ttl": 60_000}, 60), ({"ttl": 60_000, "keepLastIfActive": True}, None), ({"replace": True}, None)],
    ids=["simple", "throttle", "keep last", "replace"],
)
async def test_the_first_job_owns_its_id(bench: Bench, options: dict[str, Any], ttl_s: int | None) -> None:
    await bench.seed({"id": "1"})

    ran = await bench.run("add_jobs", [row(**options)], **adding())

    assert ran.reply == [NOW, ["new"], [0]]
    assert ran.keys == {
        "id": "2",
        "new": stored(data='{"n":2}', deid="D"),
        "de:D": "new",
        "wait": ["new"],
        "marker": READY,
    }
    assert ran.ttls.get("de:D") == ttl_s
    assert ran.events == [event("added", jobId="new", name="mail"), event("waiting", jobId="new")]


@pytest.mark.parametrize("options", [{}, {"ttl": 5000}], ids=["simple", "throttle"])
async def test_a_second_job_is_not_added(bench: Bench, options: dict[str, Any]) -> None:
    await own(bench, ttl_ms=60_000, wait=["old"])

    ran = await bench.run("add_jobs", [row("", **options)], **adding())

    assert ran.reply == [NOW, ["old"], [2]]
    assert ran.keys == {"id": "2"}
    assert ran.events == [deduplicated()]


async def test_the_second_of_one_call_is_not_added(bench: Bench) -> None:
    await bench.seed()

    ran = await bench.run("add_jobs", [row(""), row("")], **adding())

    assert ran.reply == [NOW, ["1", "1"], [0, 2]]
    assert ran.keys == {
        "id": "2",
        "1": stored(data='{"n":2}', deid="D"),
        "de:D": "1",
        "wait": ["1"],
        "marker": READY,
    }
    assert ran.events[-1] == deduplicated("1", "2")


async def test_extend_starts_the_time_of_the_owner_anew(bench: Bench) -> None:
    await own(bench, ttl_ms=5000)

    ran = await bench.run("add_jobs", [row(ttl=60_000, extend=True)], **adding())

    assert ran.reply == [NOW, ["old"], [2]]
    assert ran.keys == {"id": "2", "de:D": "old"}
    assert ran.ttls == {"de:D": 60}
    assert ran.events == [deduplicated(other="new")]


async def test_extend_without_a_time_leaves_that_of_the_owner(bench: Bench) -> None:
    await own(bench, ttl_ms=5000)

    ran = await bench.run("add_jobs", [row(extend=True)], **adding())

    assert (ran.reply, ran.keys) == ([NOW, ["old"], [2]], {"id": "2"})


@pytest.mark.parametrize("options", [{}, {"replace": True}, {"keepLastIfActive": True}])
async def test_an_id_whose_owner_is_gone_is_taken_over(bench: Bench, options: dict[str, Any]) -> None:
    await bench.seed({"de:D": "old", "dn:D": {"name": "kept"}})

    ran = await bench.run("add_jobs", [row(**options)], **adding())

    assert ran.reply == [NOW, ["new"], [0]]
    assert ran.keys == {
        "id": "1",
        "new": stored(data='{"n":2}', deid="D"),
        "de:D": "new",
        "dn:D": None,
        "wait": ["new"],
        "marker": READY,
    }


async def test_an_id_that_expires_blocks_even_when_its_owner_is_gone(bench: Bench) -> None:
    await bench.seed({"de:D": "old"})
    await bench.client.pexpire(f"{bench.base}de:D", 60_000)

    ran = await bench.run("add_jobs", [row(ttl=5000)], **adding())

    assert (ran.reply, ran.keys) == ([NOW, ["old"], [2]], {"id": "1"})


DEBOUNCE: list[tuple[dict[str, Any], int | None]] = [
    ({"replace": True}, None),
    ({"replace": True, "ttl": 60_000}, 10),
    ({"replace": True, "ttl": 60_000, "extend": True}, 60),
    ({"replace": True, "ttl": 60_000, "keepLastIfActive": True}, None),
]


@pytest.mark.parametrize(("options", "ttl_s"), DEBOUNCE, ids=["no ttl", "ttl goes on", "extend", "keep last"])
async def test_a_delayed_owner_is_replaced(bench: Bench, options: dict[str, Any], ttl_s: int | None) -> None:
    await own(bench, ttl_ms=10_000, delayed=Zset({"old": score(NOW + 5)}), **{"dn:D": {"name": "kept"}})

    ran = await bench.run("add_jobs", [row(**options)], **adding())

    assert ran.reply == [NOW, ["new"], [3]]
    assert ran.keys == {
        "id": "2",
        "old": None,
        "delayed": None,
        "de:D": "new",
        "dn:D": None,
        "new": stored(data='{"n":2}', deid="D"),
        "wait": ["new"],
        "marker": READY,
    }
    assert ran.ttls.get("de:D") == ttl_s
    assert ran.events == [
        event("removed", jobId="old", prev="delayed"),
        deduplicated("new", "old"),
        event("added", jobId="new", name="mail"),
        event("waiting", jobId="new"),
    ]


async def test_a_replaced_owner_leaves_none_of_its_keys(bench: Bench) -> None:
    rest: dict[str, Any] = {"old:logs": ["row"], "old:processed": {"c": "1"}}
    await own(bench, delayed=Zset({"old": score(NOW + 5)}), **rest)

    ran = await bench.run("add_jobs", [row(replace=True)], **adding())

    assert {key: ran.keys[key] for key in ("old", *rest)} == {"old": None, **dict.fromkeys(rest)}


async def test_a_burst_of_debounced_jobs_in_one_call_leaves_the_last(bench: Bench) -> None:
    await bench.seed()

    dedup = '{"id":"D","replace":true}'
    rows = [add_row(data=str(n), delay_ms=1000 + n, dedup=dedup) for n in range(3)]
    ran = await bench.run("add_jobs", rows, **adding())

    assert ran.reply == [NOW, ["1", "2", "3"], [0, 3, 3]]
    assert ran.keys == {
        "id": "3",
        "3": stored(data="2", delay="1002", deid="D"),
        "de:D": "3",
        "delayed": [("3", score(NOW + 1002))],
        "marker": [("1", float(NOW + 1002))],
    }


async def test_an_owner_that_cannot_be_replaced_blocks_without_an_event(bench: Bench) -> None:
    await own(bench, wait=["old"])

    ran = await bench.run("add_jobs", [row(replace=True)], **adding())

    assert (ran.reply, ran.keys, ran.events) == ([NOW, ["old"], [2]], {"id": "2"}, [])


async def test_a_flow_parent_replaces_nobody(bench: Bench) -> None:
    await own(bench, delayed=Zset({"old": score(NOW + 5)}))

    dedup = '{"id":"D","replace":true,"reschedule":true}'
    ran = await bench.run("add_jobs", [add_row("new", placement="children", dedup=dedup)], **adding())

    assert (ran.reply, ran.keys) == ([NOW, ["old"], [2]], {"id": "2"})
    assert ran.events == [deduplicated(other="new")]


async def test_the_newest_job_is_kept_back_while_the_owner_is_active(bench: Bench) -> None:
    await own(bench, ttl_ms=5000, active=["x", "old"], **{"dn:D": {"name": "older", "pk": "gone"}})

    ran = await bench.run("add_jobs", [row("", keepLastIfActive=True)], **adding())

    assert ran.reply == [NOW, ["old"], [2]]
    assert ran.keys == {
        "id": "2",
        "de:D": "old",
        "dn:D": {"name": "mail", "data": '{"n":2}', "opts": '{"attempts":0}', "jid": "2"},
    }
    assert "de:D" not in ran.ttls
    assert ran.events == [deduplicated()]


async def test_a_kept_back_job_remembers_its_parent(bench: Bench) -> None:
    await own(bench, active=["old"], p={"name": "parent"})

    dedup = '{"id":"D","keepLastIfActive":true}'
    row = add_row("new", dedup=dedup, parent_key=f"{bench.base}p", parent='{"id":"p"}')
    ran = await bench.run("add_jobs", [row], **adding())

    assert ran.keys == {
        "id": "2",
        "dn:D": {
            "name": "mail",
            "data": "{}",
            "opts": '{"attempts":0}',
            "jid": "new",
            "pk": f"{bench.base}p",
            "pd": '{"id":"p"}',
            "pdk": f"{bench.base}p:dependencies",
        },
    }


async def test_keep_last_is_simple_while_the_owner_waits(bench: Bench) -> None:
    await own(bench, wait=["old"])

    ran = await bench.run("add_jobs", [row(keepLastIfActive=True)], **adding())

    assert (ran.keys, ran.events) == ({"id": "2"}, [deduplicated(other="new")])


async def test_keep_last_comes_before_replace_for_an_active_owner(bench: Bench) -> None:
    await own(bench, active=["old"])

    ran = await bench.run("add_jobs", [row(keepLastIfActive=True, replace=True)], **adding())

    assert (ran.keys["dn:D"]["jid"], ran.events) == ("new", [deduplicated(other="new")])


async def test_reschedule_pushes_a_delayed_owner_back(bench: Bench) -> None:
    await own(bench, delayed=Zset({"old": score(NOW + 5), "x": score(NOW + 6)}))

    dedup = '{"id":"D","reschedule":true}'
    ran = await bench.run("add_jobs", [add_row("new", delay_ms=9000, dedup=dedup)], **adding())

    assert ran.reply == [NOW, ["old"], [2]]
    assert ran.keys == {
        "id": "2",
        "old": {"name": "old", "delay": "9000"},
        "delayed": [("x", score(NOW + 6)), ("old", score(NOW + 9000))],
        "marker": [("1", float(NOW + 6))],
    }
    assert ran.events == [deduplicated(other="new"), event("delayed", jobId="old", delay=str(NOW + 9000))]


async def test_rescheduling_to_the_same_time_goes_behind_the_old_place(bench: Bench) -> None:
    await own(bench, delayed=Zset({"old": score(NOW + 9000)}))

    dedup = '{"id":"D","reschedule":true}'
    ran = await bench.run("add_jobs", [add_row("new", delay_ms=9000, dedup=dedup)], **adding())

    assert ran.keys["delayed"] == [("old", score(NOW + 9000) + 1)]


async def test_a_delayed_job_comes_behind_an_owner_that_the_same_call_has_pushed_back(bench: Bench) -> None:
    await bench.seed()

    dedup = '{"id":"D","reschedule":true}'
    rows = [
        add_row("first", delay_ms=5),
        add_row("owner", delay_ms=5, dedup=dedup),
        add_row("again", delay_ms=5, dedup=dedup),
        add_row("last", delay_ms=5),
    ]
    ran = await bench.run("add_jobs", rows, **adding())

    assert [job_id for job_id, _ in ran.keys["delayed"]] == ["first", "owner", "last"]
    assert len({at for _, at in ran.keys["delayed"]}) == 3


async def test_reschedule_leaves_an_owner_that_is_not_delayed(bench: Bench) -> None:
    await own(bench, wait=["old"])

    ran = await bench.run("add_jobs", [row(reschedule=True)], **adding())

    assert (ran.keys, ran.events) == ({"id": "2"}, [deduplicated(other="new")])


async def test_an_add_that_fails_gives_its_deduplication_id_back(bench: Bench) -> None:
    await bench.seed({"waiting-children": "not a set"})

    rows = [add_row("a", placement="children", dedup='{"id":"D","ttl":60000}'), row("b")]
    ran = await bench.run("add_jobs", rows, **adding())

    assert (ran.reply[1], ran.reply[2][1]) == (["a", "b"], 0)
    assert ran.reply[2][0].startswith("WRONGTYPE")
    assert ran.keys["de:D"] == "b"
    assert "a" not in ran.keys


@pytest.mark.parametrize("dedup", ["{", '{"ttl":5}', "7"])
async def test_unreadable_deduplication_options_fail_this_job_only(bench: Bench, dedup: str) -> None:
    await bench.seed()

    ran = await bench.run("add_jobs", [add_row("a", dedup=dedup), add_row("b")], **adding())

    assert isinstance(ran.reply[2][0], str)
    assert ran.keys == {"id": "2", "b": stored(), "wait": ["b"], "marker": READY}
