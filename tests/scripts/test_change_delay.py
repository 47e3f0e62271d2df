"""change_delay.lua"""

from __future__ import annotations

import pytest

from tests.support.script_bench import NOW, Bench, Zset

pytestmark = pytest.mark.anyio


async def test_the_job_waits_from_now(bench: Bench) -> None:
    await bench.seed({"delayed": Zset({"1": NOW * 4096}), "1": {"delay": "5", "name": "a"}})

    ran = await bench.run("change_delay", job_id="1", delay_ms=2000)

    assert ran.reply == 0
    assert ran.keys == {
        "delayed": [("1", (NOW + 2000) * 4096)],
        "1": {"delay": "2000", "name": "a"},
        "marker": [("1", float(NOW + 2000))],
    }
    assert ran.events == [{"event": "delayed", "jobId": "1", "delay": str(NOW + 2000)}]


async def test_the_job_queues_behind_those_of_its_new_millisecond(bench: Bench) -> None:
    due = (NOW + 2000) * 4096
    await bench.seed({"delayed": Zset({"1": NOW * 4096, "2": due, "3": due + 1}), "1": {"delay": "5"}})

    ran = await bench.run("change_delay", job_id="1", delay_ms=2000)

    assert ran.keys["delayed"] == [("2", due), ("3", due + 1), ("1", due + 2)]


async def test_no_delay_makes_it_due_now(bench: Bench) -> None:
    await bench.seed({"delayed": Zset({"1": (NOW + 9) * 4096}), "1": {"delay": "9"}})

    ran = await bench.run("change_delay", job_id="1", delay_ms=0)

    assert ran.keys["delayed"] == [("1", NOW * 4096)]
    assert ran.keys["1"] == {"delay": "0"}


@pytest.mark.parametrize(("keys", "code"), [({}, -1), ({"1": {"delay": "0"}, "wait": ["1"]}, -3)])
async def test_a_job_that_is_not_delayed_is_left_alone(bench: Bench, keys: dict[str, object], code: int) -> None:
    await bench.seed(keys)

    ran = await bench.run("change_delay", job_id="1", delay_ms=2000)

    assert (ran.reply, ran.keys, ran.events) == (code, {}, [])
