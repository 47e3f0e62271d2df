"""A real Sentinel service on 127.0.0.1: a master, a replica, and Sentinels that watch them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from tests.support.certificates import Certificates
from tests.support.cluster import SYNC_AT_ONCE
from tests.support.server import RedisServer, free_port, server_binary

NAME: Final = "mymaster"
_READY_TIMEOUT_S: Final = 20.0
_POLL_S: Final = 0.05


class Service:
    """Running processes of one service; `started` makes them."""

    def __init__(
        self, master: RedisServer, replica: RedisServer, ports: Sequence[int], client_ports: Sequence[int]
    ) -> None:
        self.master = master
        self.replica = replica
        self.ports = list(ports)
        self._client_ports = list(client_ports)

    @classmethod
    @contextmanager
    def started(
        cls, directory: Path, sentinels: int = 3, certificates: Certificates | None = None
    ) -> Iterator[Service]:
        """A service that could fail over; ended afterwards. With certificates all of it speaks TLS."""
        with ExitStack() as stack:
            for name in ("master", "replica"):
                (directory / name).mkdir()
            tls_ports = [free_port() for _ in range(2 + sentinels)]
            options = [
                ["--tls-replication", "yes", "--tls-port", str(port), *certificates.server_options()]
                if certificates
                else []
                for port in tls_ports
            ]
            master = stack.enter_context(RedisServer.started(directory / "master", (*SYNC_AT_ONCE, *options[0])))
            master_port = tls_ports[0] if certificates else master.port
            following = ("--replicaof", f"127.0.0.1 {master_port}", *options[1])
            replica = stack.enter_context(RedisServer.started(directory / "replica", following))
            with master.client() as client:
                assert client.wait(1, 5000) == 1  # a Sentinel that finds the replica later looks again after 10 s
            ports = []
            for number, more in enumerate(options[2:]):
                place = directory / f"sentinel-{number}"
                ports.append(_start_sentinel(place, master_port, sentinels // 2 + 1, more, stack))
            service = cls(master, replica, ports, tls_ports[2:] if certificates else ports)
            service._wait_until_ready()
            yield service

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where the Sentinels are, for clients."""
        return [("127.0.0.1", port) for port in self._client_ports]

    def client(self, *first: tuple[str, int], **options: Any) -> Any:
        """A new asynchronous client of the master, whichever that is; `first` are addresses to ask before the others.

        Close it, and its `connection_pool.sentinel_manager.sentinels`, if it has been used.
        """
        new_sentinel: Any = Sentinel  # untyped in redis-py
        sentinel = new_sentinel([*first, *self.addresses], sentinel_kwargs={"retry": Retry(NoBackoff(), 0)})
        return sentinel.master_for(NAME, **options)

    def sentinel(self, *command: Any) -> Any:
        """A SENTINEL command on the first of them."""
        with redis.Redis(port=self.ports[0], decode_responses=True) as client:
            return client.execute_command("SENTINEL", *command)

    def master_port(self) -> int:
        """The port that the first Sentinel names."""
        return int(self.sentinel("GET-MASTER-ADDR-BY-NAME", NAME)[1])

    def fail_over(self) -> bool:
        """Whether the first Sentinel agreed to promote the replica; it may not trust it yet."""
        try:
            return bool(self.sentinel("FAILOVER", NAME))
        except redis.ResponseError:
            return False

    def _wait_until_ready(self) -> None:
        """Every Sentinel could promote the replica and knows the others."""
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while not all(self._is_ready(port) for port in self.ports):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the Sentinels did not find each other within {_READY_TIMEOUT_S:g} s")
            time.sleep(_POLL_S)

    def _is_ready(self, port: int) -> bool:
        with suppress(redis.RedisError), redis.Redis(port=port, decode_responses=True) as client:
            replicas: Any = client.sentinel_slaves(NAME)
            others: Any = client.sentinel_sentinels(NAME)
            in_step = any(replica["master-link-status"] == "ok" for replica in replicas)
            return in_step and len(others) == len(self.ports) - 1
        return False


def _start_sentinel(directory: Path, master_port: int, quorum: int, options: Sequence[str], stack: ExitStack) -> int:
    """Start one; its plain port."""
    directory.mkdir()
    port = free_port()
    configuration = directory / "sentinel.conf"
    configuration.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {directory}\nlogfile sentinel.log\n"
        f"sentinel monitor {NAME} 127.0.0.1 {master_port} {quorum}\n"
        f"sentinel down-after-milliseconds {NAME} 300\n"
        f"sentinel failover-timeout {NAME} 3000\n"
    )
    process = subprocess.Popen([server_binary(), str(configuration), "--sentinel", *options], stdout=subprocess.DEVNULL)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return port
