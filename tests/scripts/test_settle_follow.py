"""settle_and_claim.lua: the next iteration of an interval is made in the call that claims its job."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pyqueue._store.scheduling import is_iteration
from pyqueue._store.settling import Claimed, ClaimRequest, settle_and_claim
from tests.support.script_bench import NOW, Bench, Zset

pytestmark = pytest.mark.anyio

JOB_ID = f"repeat:s:{NOW - 100}"
OWN = f'"repeatJobKey":"s","jobId":"{JOB_ID}","delay":0,"timestamp":{NOW - 100}'


async def claim(bench: Bench, opts: str, record: dict[str, str] | None = None) -> Claimed:
    await bench.seed(
        {
            "wait": [JOB_ID],
            "repeat": Zset({"s": NOW - 100}),
            "repeat:s": record or {"name": "n", "ic": "1", "every": "1000", "offset": "0"},
            JOB_ID: {"name": "n", "data": "{}", "opts": opts, "rjk": "s", "priority": "0"},
        }
    )
    reply = await settle_and_claim(bench.store, (), ClaimRequest(1, "t"))
    return reply.claimed[0]


async def pending(bench: Bench) -> dict[str, Any] | None:
    raw = await bench.client.hget(f"{bench.base}repeat:s:{NOW + 900}", "opts")
    return None if raw is None else json.loads(raw)


async def test_the_next_iteration_keeps_the_options_to_the_letter(bench: Bench) -> None:
    opts = (
        '{"attempts":2,"big":12345678901234567,"empty":[],"priority":3,"repeat":{"every":1000,"count":9},' + OWN + "}"
    )
    claimed = await claim(bench, opts)
    assert not is_iteration(claimed)
    raw = await bench.client.hget(f"{bench.base}repeat:s:{NOW + 900}", "opts")
    text = raw.decode() if isinstance(raw, bytes) else raw
    head = '{"attempts":2,"big":12345678901234567,"empty":[],"priority":3,"repeat":{"every":1000,"count":10},'
    assert text.startswith(head)
    assert await pending(bench) == json.loads(
        f'{head}"repeatJobKey":"s","jobId":"repeat:s:{NOW + 900}","delay":900,"timestamp":{NOW}}}'
    )


@pytest.mark.parametrize(
    "opts",
    [
        '{"repeat":{"every":1000,"count":1},' + OWN + "}",  # a first one: it lacks the attempts
        '{"attempts":0,"repeat":{"pattern":"* * * * *","count":2},' + OWN + "}",
        '{"attempts":0,' + OWN + ',"repeat":{"every":1000,"count":2}}',  # written by Node
        '{"attempts":0,"repeat":{"every":1000,"endDate":"2030-01-01T00:00:00Z","count":2},' + OWN + "}",
        '{"attempts":0,"repeat":{"every":"x","count":2},' + OWN + "}",
        "not JSON",
    ],
)
async def test_what_is_not_plain_is_left_to_the_worker(bench: Bench, opts: str) -> None:
    assert is_iteration(await claim(bench, opts))
    assert await pending(bench) is None


@pytest.mark.parametrize("end", ['"limit":2', f'"endDate":{NOW - 1}'])
async def test_a_schedule_that_is_over_makes_nothing(bench: Bench, end: str) -> None:
    claimed = await claim(bench, '{"attempts":0,"repeat":{"every":1000,' + end + ',"count":2},' + OWN + "}")
    assert not is_iteration(claimed)
    assert await pending(bench) is None


async def test_a_damaged_scheduler_spoils_no_claim(bench: Bench) -> None:
    opts = '{"attempts":0,"repeat":{"every":1000,"count":2},' + OWN + "}"
    claimed = await claim(bench, opts, {"name": "n", "ic": "text", "every": "1000"})
    assert claimed.job_id == JOB_ID
    assert is_iteration(claimed)
