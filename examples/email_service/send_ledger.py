"""The send ledger: what is known about handing one mail to the server, so that a job that runs twice sends once.

    nothing -> sending (a run is about to talk to the server) -> accepted
                   |-> nothing (the server said no, or was never asked)

A job runs a second time when its worker died or lost it. `accepted` then completes it without a word to the server.
`sending` means that the earlier run ended between the two writes: the server may or may not have the mail. It is sent
again, for a lost invite is worse than a second copy, and counted. That window, from the server's reply to one Redis
write, is what remains.
"""

from enum import StrEnum

import anyio
import redis.exceptions
from redis.asyncio import Redis

from examples.email_service.shared import ServiceKeys

# Longer than a mail can be on its way: attempts, pauses of the server, dead letters that are retried.
KEEP_S = 7 * 24 * 3600

# An accepted mail is recorded for as long as Redis needs to come back; meanwhile its job stays in this worker's hands.
RETRY_S = 0.5

_ACCEPTED = "accepted"
_SENDING = "sending"


class Known(StrEnum):
    """What the ledger says about a mail before it is sent."""

    NOTHING = "nothing"
    UNSURE = "unsure"
    """An earlier run began to send it and did not live to say what became of it."""
    ACCEPTED = "accepted"
    """The server has it."""


class SendLedger:
    """The ledger of all instances. `key` names a mail for good, as its Message-ID does."""

    def __init__(self, redis: Redis, keys: ServiceKeys, instance_id: str) -> None:
        self._redis = redis
        self._keys = keys
        self._instance_id = instance_id

    async def known(self, key: str) -> Known:
        """What is known of a mail. One round trip."""
        entry = await self._redis.get(self._keys.sent(key))
        if entry is None:
            return Known.NOTHING
        return Known.ACCEPTED if str(entry).startswith(_ACCEPTED) else Known.UNSURE

    async def begin(self, key: str) -> None:
        """Note that this instance is about to send the mail. One round trip."""
        await self._redis.set(self._keys.sent(key), f"{_SENDING} {self._instance_id}", ex=KEEP_S)

    async def accept(self, key: str, reply: str) -> None:
        """Note that the server has taken the mail; tries until Redis takes the note. One round trip."""
        while True:
            try:
                await self._redis.set(self._keys.sent(key), f"{_ACCEPTED} {self._instance_id} {reply}", ex=KEEP_S)
            except redis.exceptions.RedisError:
                await anyio.sleep(RETRY_S)
            else:
                return

    async def forget(self, key: str) -> None:
        """Note that the server does not have the mail: it said so, or was not asked. One round trip."""
        await self._redis.delete(self._keys.sent(key))
