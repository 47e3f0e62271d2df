"""What every run stands on: a server of its own, a queue, many jobs put down by a script, and a worker beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import anyio
import redis

from benchmarks.priority import favoured
from pyqueue import Job, Queue, Worker
from tests.support.server import RedisServer

#: Jobs that one call of the seeding script puts down.
_SLICE: Final = 1000
#: A job is added beside the operation so often.
_PACE_S: Final = 0.02
#: Seeded jobs ended an hour ago and more, one per millisecond; delayed ones are due in a day and later.
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 86_400_000

#: Jobs as an add, a delay and an end leave them.
_SEED: Final = """
local prefix, state, first, count, now = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local ids, members = {}, {}
for n = first, first + count - 1 do
  local id = string.format('%.0f', n)
  redis.call('HSET', prefix .. id, 'name', 'seeded', 'data', ARGV[6], 'opts', '{"attempts":0}', 'timestamp', now,
    'delay', '0', 'priority', '0')
  ids[#ids + 1] = id
  local score = now - 3600000 - 1000000 + n
  if state == 'delayed' then
    score = (now + 86400000 + n) * 4096
  elseif state == 'completed' or state == 'failed' then
    redis.call('HSET', prefix .. id, 'finishedOn', string.format('%.0f', score), 'atm', '1')
  end
  members[#members + 1] = string.format('%.0f', score)
  members[#members + 1] = id
end
if state == 'wait' then
  redis.call('LPUSH', prefix .. 'wait', unpack(ids))
else
  redis.call('ZADD', prefix .. state, unpack(members))
end
redis.call('INCRBY', prefix .. 'id', count)
"""

_DATA: Final = '{"to":"somebody@example.org","template":"course-invite","course":"algebra","locale":"en","trial":false}'


@dataclass
class Bed:
    """One empty server, and the queue that operations work on."""

    server: RedisServer
    client: redis.Redis
    queue: Queue[Any, Any]
    executed: Counter[str] = field(default_factory=Counter)
    """Runs per job id, of every worker beside an operation."""
    added: set[str] = field(default_factory=set)
    """Jobs that were added beside an operation."""

    def seed(self, place: str, jobs: int) -> None:
        """Put jobs down in `wait`, `delayed`, `completed` or `failed`, on an empty server."""
        self.client.flushall()
        self.client.memory_purge()  # else the memory of the run before is given back in the middle of this one
        self.executed.clear()
        self.added.clear()
        self.client.hset(self.queue._store.keys.meta, mapping={"opts.maxLenEvents": 10_000})
        seed = self.client.register_script(_SEED)
        seconds, _ = self.client.time()
        for first in range(1, jobs + 1, _SLICE):
            count = min(_SLICE, jobs + 1 - first)
            seed(args=[self.queue._store.keys.base, place, first, count, int(seconds) * 1000, _DATA])

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[None]:
        """A worker, and somebody who adds a job for it now and then."""

        async def process(job: Job[Any, Any]) -> None:
            self.executed[job.id] += 1

        async def add() -> None:
            while True:
                job = await self.queue.add("beside")
                self.added.add(job.id)
                await anyio.sleep(_PACE_S)

        worker = Worker[Any, Any]("q", process, connection=self.server.url, concurrency=5)
        async with worker, anyio.create_task_group() as group:
            group.start_soon(add)
            yield
            group.cancel_scope.cancel()


@asynccontextmanager
async def make_bed(directory: Path) -> AsyncIterator[Bed]:
    """An empty server, which goes before others on a busy machine where that is allowed, and its queue."""
    async with AsyncExitStack() as stack:
        server = stack.enter_context(RedisServer.started(directory, leads_session=True))
        stack.enter_context(favoured(server.pid))
        client = stack.enter_context(server.client())
        queue = await stack.enter_async_context(Queue[Any, Any]("q", connection=server.url, skip_metas_update=True))
        yield Bed(server, client, queue)
