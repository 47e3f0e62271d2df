"""Return the jobs of dead workers to their queue, once at start and then every `interval_ms`.

Every worker runs this; the script lets one check per interval and queue take effect. It works in two steps, so a job is
recovered by the second check after its lock ran out.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import anyio

from pyqueue._redis.outage import Outage
from pyqueue._store.settling import recover_stalled
from pyqueue._store.store import Store


class StalledCheck:
    """The periodic check of one worker. `recovered` gets each job id, `report` what went wrong."""

    def __init__(
        self,
        store: Store,
        max_stalled_count: int,
        interval_ms: int,
        outage: Outage,
        *,
        recovered: Callable[[str], None],
        report: Callable[[Exception], None],
    ) -> None:
        self._store = store
        self._max_stalled_count = max_stalled_count
        self._interval_ms = interval_ms
        self._outage = outage
        self._recovered = recovered
        self._report = report

    async def run(self) -> None:
        """Check until cancelled; errors are reported and the next check comes sooner."""
        while True:
            pause_s, began = self._interval_ms / 1000, time.monotonic()
            try:
                for job_id in await recover_stalled(self._store, self._max_stalled_count, self._interval_ms):
                    self._recovered(job_id)
            except Exception as error:
                if not self._outage.is_known(began):
                    self._report(error)
                pause_s = min(pause_s, self._outage.failed(error, began))
            else:
                self._outage.recovered()
            await anyio.sleep(pause_s)
