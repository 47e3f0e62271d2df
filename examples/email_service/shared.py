"""What the instances of the service know together: a Redis client of the service's own and the names of its keys.

Beside the queue's keys, never among them: `<prefix>-service:<queue>:...`. With a hash tag in the prefix they share the
queue's slot. `send_ledger`, `gate` and `heartbeats` keep their state here.
"""

from dataclasses import dataclass

from redis.asyncio import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from examples.email_service.settings import Settings

# A reply that takes longer will not come. Mails in progress and requests wait for these commands.
REDIS_TIMEOUT_S = 5.0


def open_redis(settings: Settings) -> Redis:
    """A client for the shared state, answers str; connects at the first use and is closed by whoever opened it."""
    return Redis.from_url(
        settings.redis_url,
        decode_responses=True,
        socket_timeout=REDIS_TIMEOUT_S,
        socket_connect_timeout=REDIS_TIMEOUT_S,
        retry=Retry(NoBackoff(), 1),  # once: for a connection that was closed while it was idle
        client_name=None,
    )


@dataclass(frozen=True, slots=True)
class ServiceKeys:
    """Every key of the shared state."""

    base: str

    @classmethod
    def of(cls, settings: Settings) -> "ServiceKeys":
        """The keys of the service that these settings belong to."""
        return cls(f"{settings.queue_prefix}-service:{settings.queue_name}:")

    def sent(self, mail_key: str) -> str:
        """String: what is known of one mail (`send_ledger`)."""
        return f"{self.base}sent:{mail_key}"

    @property
    def instances(self) -> str:
        """Sorted set: instance id, scored by the time of its last heartbeat in ms (`heartbeats`)."""
        return f"{self.base}instances"

    def instance(self, instance_id: str) -> str:
        """String: the last heartbeat of an instance, as JSON."""
        return f"{self.base}instance:{instance_id}"

    @property
    def pause(self) -> str:
        """String with a TTL: why the mail server asked for a pause (`gate`)."""
        return f"{self.base}pause"

    @property
    def breaker(self) -> str:
        """Hash, there while the circuit is open (`gate`)."""
        return f"{self.base}breaker"

    @property
    def failures(self) -> str:
        """Counter with a TTL: failed connections since the last mail that was accepted (`gate`)."""
        return f"{self.base}breaker:failures"

    @property
    def cooldown(self) -> str:
        """String with a TTL: who probed last; nobody probes while it is there (`gate`)."""
        return f"{self.base}breaker:cooldown"

    @property
    def rate(self) -> str:
        """Prefix of the rate limiter's keys."""
        return f"{self.base}rate"
