"""Run one scenario through pyqueue and report it in normal form. The entry point of `driver.py`."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Mapping
from typing import Any

from redis.exceptions import RedisError

from pyqueue import PyqueueError
from tests.conformance.normal_form import dump, parse_json, render
from tests.conformance.operations import OPERATIONS, code_of
from tests.conformance.session import Op, ScenarioError, Session


class UnknownOperation(Exception):
    """The vocabulary has no such operation."""


async def run_scenario(scenario: Any, url: str) -> str:
    """The report of a scenario, run on the server at `url` (memory:// included); keys below its prefix are deleted."""
    spec: Op = {"ops": scenario} if isinstance(scenario, list) else scenario
    unknown = [op["op"] for op in spec["ops"] if op["op"] not in OPERATIONS]
    if unknown:
        raise UnknownOperation(f"unknown op {unknown[0]}")
    async with Session(spec, url) as session:
        results = [await _result(session, op) for op in spec["ops"]]
        keys = await dump(session.client, session.prefix)
        report = {"now": session.clock.now, "results": results, "workerErrors": session.worker_errors, "keys": keys}
        return render(report)


async def _result(session: Session, op: Op) -> Mapping[str, Any]:
    session.clock.now += 1
    try:
        return {"op": op["op"], "result": await OPERATIONS[op["op"]](session, op)}
    except (PyqueueError, RedisError, ScenarioError) as error:
        return {"op": op["op"], "error": {"message": str(error), "code": code_of(error)}}


def main() -> int:
    """Standard input to standard output, on the server at REDIS_HOST and REDIS_PORT."""
    logging.disable()
    url = f"redis://{os.environ.get('REDIS_HOST', '127.0.0.1')}:{os.environ.get('REDIS_PORT', '6379')}"
    try:
        report = asyncio.run(run_scenario(parse_json(sys.stdin.buffer.read().decode()), url))
    except UnknownOperation as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.buffer.write(report.encode() + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
