"""A Python worker in a process of its own, to be killed: python -m tests.interop.worker_process OPTIONS-AS-JSON

The environment names the ledger, as for the Node worker (`driver.mjs` and its operation "work").
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from pyqueue import Worker, run_worker
from tests.chaos.ledger import Ledger
from tests.interop import processors


async def _serve() -> None:
    options = json.loads(sys.argv[1])
    ledger = Ledger(Path(os.environ["LEDGER"]))
    worker = Worker(options.pop("queue"), processors.run, **options)
    worker.on("ready", lambda: ledger.write("ready"))
    await run_worker(worker)


if __name__ == "__main__":
    asyncio.run(_serve())
