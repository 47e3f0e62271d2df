"""A real Redis Cluster on 127.0.0.1: masters that share the slots, and replicas of the last one."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from redis.crc import key_slot

from tests.support.certificates import Certificates
from tests.support.server import RedisServer, free_port

SLOTS: Final = 16384
#: A replica is in step within a second, not after Redis's usual five.
SYNC_AT_ONCE: Final = ("--repl-diskless-sync-delay", "0")
_JOIN_TIMEOUT_S: Final = 15.0
_POLL_S: Final = 0.02


class Cluster:
    """Running nodes; the caller's stack ends them. With certificates they speak TLS with clients and each other."""

    def __init__(
        self,
        directory: Path,
        stack: ExitStack,
        *,
        masters: int = 3,
        replicas: int = 0,
        certificates: Certificates | None = None,
    ) -> None:
        self._certificates = certificates
        self._ports: dict[RedisServer, int] = {}
        self.nodes = [self._start(directory / f"node-{i}", stack) for i in range(masters + replicas)]
        self.masters, self.replicas = self.nodes[:masters], self.nodes[masters:]
        for epoch, node in enumerate(self.nodes, 1):
            # Nodes that begin with the same one settle that by gossip, and deny a replica votes until all have heard.
            self.on(node, "SET-CONFIG-EPOCH", epoch)
        for number, node in enumerate(self.masters):
            first, behind = SLOTS * number // masters, SLOTS * (number + 1) // masters
            self.on(node, "ADDSLOTSRANGE", first, behind - 1)
        for node in self.nodes[1:]:
            self.on(self.nodes[0], "MEET", "127.0.0.1", self._ports[node], int(node.options[-1]))
        self._wait(lambda: all(self._sees_all(node) for node in self.nodes))
        for replica in self.replicas:
            self.on(replica, "REPLICATE", self.id_of(self.masters[-1]))
        # A replica whose link is up gets what is written only after its first acknowledgement, up to a second later.
        self._wait(lambda: self._in_step(self.masters[-1]) == replicas)

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where the nodes are."""
        return [("127.0.0.1", port) for port in self._ports.values()]

    def on(self, node: RedisServer, *command: Any) -> Any:
        """A CLUSTER command on one node."""
        with node.client() as client:
            return client.execute_command("CLUSTER", *command)

    def id_of(self, node: RedisServer) -> str:
        """The node's id."""
        return str(self.on(node, "MYID"))

    def master_of(self, key: str) -> RedisServer:
        """The master that had the key's slot in the beginning."""
        return self.masters[key_slot(key.encode()) * len(self.masters) // SLOTS]

    def migrate(self, slot: int, source: RedisServer, target: RedisServer) -> None:
        """Announce that a slot is on its way: unknown keys are ASKed for at the target."""
        self.on(target, "SETSLOT", slot, "IMPORTING", self.id_of(source))
        self.on(source, "SETSLOT", slot, "MIGRATING", self.id_of(target))

    def move(self, slot: int, source: RedisServer, target: RedisServer) -> None:
        """Move a slot with its keys."""
        with source.client() as client:
            while keys := client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
                client.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        for node in (target, source):
            self.on(node, "SETSLOT", slot, "NODE", self.id_of(target))

    def flush(self) -> None:
        """Delete all keys."""
        for node in self.masters:
            node.flush()

    def _start(self, directory: Path, stack: ExitStack) -> RedisServer:
        directory.mkdir()
        options = [*SYNC_AT_ONCE, "--cluster-enabled", "yes", "--cluster-node-timeout", "2000"]
        tls_port = free_port()
        if self._certificates:
            options += ["--tls-cluster", "yes", "--tls-port", str(tls_port), *self._certificates.server_options()]
        options += ["--cluster-port", str(free_port())]  # the last one: MEET wants it
        node = stack.enter_context(RedisServer.started(directory, options))
        self._ports[node] = tls_port if self._certificates else node.port
        return node

    def _sees_all(self, node: RedisServer) -> bool:
        info = self.on(node, "INFO")
        return "cluster_state:ok" in info and f"cluster_known_nodes:{len(self.nodes)}" in info

    @staticmethod
    def _in_step(master: RedisServer) -> int:
        with master.client() as client:
            return int(client.wait(1, 1))

    @staticmethod
    def _wait(condition: Any) -> None:
        deadline = time.monotonic() + _JOIN_TIMEOUT_S
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"the cluster did not form within {_JOIN_TIMEOUT_S:g} s")
            time.sleep(_POLL_S)


def replication(server: RedisServer) -> dict[str, Any]:
    """INFO replication of a server."""
    with server.client() as client:
        found: Any = client.info("replication")
    return {"master_link_status": "down", **found}
