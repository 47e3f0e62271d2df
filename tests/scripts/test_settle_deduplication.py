"""settle_and_claim.lua: what happens to a deduplication id when its owner finishes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.script_bench import NOW, Bench
from tests.support.script_rows import STACK, active, event, exchange, settled, stored

pytestmark = pytest.mark.anyio

READY = [("0", 0.0)]
KEEP_LAST = '{"attempts":0,"de":{"id":"D","keepLastIfActive":true}}'
FINISHES = [settled("1", "completed", "42"), settled("1", "failed", "boom", stacktrace=STACK)]
FINISHED = ["completed", "failed"]


def kept_back(**more: str) -> dict[str, str]:
    return {"name": "mail", "data": '{"n":2}', "opts": KEEP_LAST, "jid": "9", **more}


def others(ran: Any) -> dict[str, Any]:
    """All keys but those of the owner itself, which are tested elsewhere."""
    owner = {"1", "1:lock", "active", "completed", "failed"}
    return {name: value for name, value in ran.keys.items() if name not in owner}


@pytest.mark.parametrize("row", FINISHES, ids=FINISHED)
async def test_the_end_of_the_owner_frees_its_id(bench: Bench, row: tuple[Any, ...]) -> None:
    """E224."""
    await bench.seed({**active("1", deid="D"), "de:D": "1"})

    ran = await bench.run("settle_and_claim", [row], **exchange())

    assert others(ran) == {"de:D": None}


async def test_the_id_of_another_owner_stays(bench: Bench) -> None:
    await bench.seed({**active("1", deid="D"), "de:D": "2"})

    ran = await bench.run("settle_and_claim", [FINISHES[0]], **exchange())

    assert others(ran) == {}


async def test_an_id_that_expires_lives_on(bench: Bench) -> None:
    await bench.seed({**active("1", deid="D"), "de:D": "1"})
    await bench.client.pexpire(f"{bench.base}de:D", 60_000)

    ran = await bench.run("settle_and_claim", [FINISHES[0]], **exchange())

    assert others(ran) == {}


@pytest.mark.parametrize("kind", ["retried", "backoff", "delayed", "released", "returned", "rate_limited"])
async def test_an_owner_that_will_run_again_keeps_its_id(bench: Bench, kind: str) -> None:
    await bench.seed({**active("1", deid="D"), "de:D": "1", "dn:D": kept_back()})

    ran = await bench.run("settle_and_claim", [settled("1", kind, number=60_000)], **exchange())

    assert others(ran).keys() <= {"wait", "delayed", "marker", "limiter"}


@pytest.mark.parametrize("row", FINISHES, ids=FINISHED)
async def test_the_job_kept_back_follows_its_owner(bench: Bench, row: tuple[Any, ...]) -> None:
    await bench.seed({**active("1", deid="D"), "id": "9", "de:D": "1", "dn:D": kept_back(), "wait": ["x"]})

    ran = await bench.run("settle_and_claim", [row], **exchange())

    assert others(ran) == {
        "id": "10",
        "de:D": "9",
        "dn:D": None,
        "9": stored(data='{"n":2}', opts=KEEP_LAST, deid="D"),
        "wait": ["9", "x"],
        "marker": READY,
    }
    assert "de:D" not in ran.ttls
    assert ran.events[:2] == [event("added", jobId="9", name="mail"), event("waiting", jobId="9")]
    assert ran.events[2]["jobId"] == "1"


async def test_a_job_kept_back_without_an_id_draws_a_number(bench: Bench) -> None:
    kept = kept_back()
    del kept["jid"]
    await bench.seed({**active("1", deid="D"), "id": "9", "de:D": "1", "dn:D": kept})

    ran = await bench.run("settle_and_claim", [FINISHES[0]], **exchange())

    assert (ran.keys["id"], ran.keys["de:D"], ran.keys["wait"]) == ("10", "10", ["10"])


PLACES: list[tuple[dict[str, Any], dict[str, str], dict[str, Any]]] = [
    (
        {"priority": 2, "lifo": True},
        {"priority": "2"},
        {"prioritized": [("9", 2 * 2.0**32 + 1)], "pc": "1", "marker": READY},
    ),
    (
        {"delay": 500, "priority": 2},
        {"delay": "500", "priority": "2"},
        {"delayed": [("9", float((NOW + 500) * 4096))], "marker": [("1", float(NOW + 500))]},
    ),
    ({"lifo": True}, {}, {"wait": ["x", "9"], "marker": READY}),
]


@pytest.mark.parametrize(("options", "fields", "keys"), PLACES, ids=["priority", "delay", "lifo"])
async def test_the_job_kept_back_goes_where_its_options_say(
    bench: Bench, options: dict[str, Any], fields: dict[str, str], keys: dict[str, Any]
) -> None:
    """E227."""
    opts = json.dumps({"de": {"id": "D"}, **options})
    await bench.seed({**active("1", deid="D"), "de:D": "1", "dn:D": kept_back(opts=opts), "wait": ["x"]})

    ran = await bench.run("settle_and_claim", [FINISHES[0]], **exchange())

    assert others(ran) == {
        "id": "1",
        "de:D": "9",
        "dn:D": None,
        "9": stored(data='{"n":2}', opts=opts, deid="D", **fields),
        **keys,
    }


async def test_the_id_of_the_job_kept_back_expires_if_it_is_not_keep_last(bench: Bench) -> None:
    opts = '{"de":{"id":"D","ttl":60000}}'
    await bench.seed({**active("1", deid="D"), "de:D": "1", "dn:D": kept_back(opts=opts)})

    ran = await bench.run("settle_and_claim", [FINISHES[0]], **exchange())

    assert ran.ttls == {"de:D": 60}


async def test_the_job_kept_back_is_a_child_of_its_parent(bench: Bench) -> None:
    parent = {"pk": f"{bench.base}p", "pd": '{"id":"p"}', "pdk": f"{bench.base}p:dependencies", "rjk": "s"}
    await bench.seed({**active("1", deid="D"), "de:D": "1", "dn:D": kept_back(**parent)})

    ran = await bench.run("settle_and_claim", [FINISHES[0]], **exchange())

    link = {"parentKey": f"{bench.base}p", "parent": '{"id":"p"}', "rjk": "s"}
    assert ran.keys["9"] == stored(data='{"n":2}', opts=KEEP_LAST, deid="D", **link)
    assert ran.keys["p:dependencies"] == [f"{bench.base}9"]


async def test_the_job_kept_back_of_a_paused_queue_wakes_nobody(bench: Bench) -> None:
    meta = {"paused": "1"}
    await bench.seed({**active("1", deid="D"), "de:D": "1", "dn:D": kept_back(), "meta": meta})

    ran = await bench.run("settle_and_claim", [FINISHES[0]], **exchange())

    assert ran.keys["wait"] == ["9"]
    assert "marker" not in ran.keys


async def test_the_job_kept_back_can_be_claimed_at_once(bench: Bench) -> None:
    await bench.seed({**active("1", deid="D"), "de:D": "1", "dn:D": kept_back()})

    ran = await bench.run("settle_and_claim", [FINISHES[0]], **exchange(claim=1))

    assert [row[0] for row in ran.reply[2]] == ["9"]


@pytest.mark.parametrize("key", ["de:D", "dn:D"])
async def test_an_owner_finishes_even_if_its_deduplication_keys_were_overwritten(bench: Bench, key: str) -> None:
    keys = {"de:D": "1", "dn:D": kept_back(), key: ["a list"]}
    await bench.seed({**active("1", deid="D"), **keys})

    ran = await bench.run("settle_and_claim", [FINISHES[0]], **exchange())

    assert ran.reply[1][0].startswith("WRONGTYPE")
    assert ran.keys["completed"] == [("1", float(NOW))]
