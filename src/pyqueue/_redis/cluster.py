"""Commands on a Redis Cluster: which node has a key's slot, and what to do when it has moved.

All keys of a queue share one slot (the hash tag is in the prefix), so a lane uses one connection to one node. We keep
our own map of slots instead of redis-py's cluster client, because that repeats commands up to ten times by itself and
shapes replies; of a borrowed `RedisCluster` only its addresses and settings are taken. Called by `connection`.

A map is read at the first command, corrected by MOVED, and read again after a node was lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from redis.asyncio import RedisCluster
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pyqueue._redis.links import CLOSED, Carrier, Link, Links, mark_unsent
from pyqueue._redis.packing import pack
from pyqueue._redis.replies import text
from pyqueue._redis.sources import ServerSource
from pyqueue._redis.tls import TlsContext

Address = tuple[str, int]

#: Hops of one command. A slot on its way is one or two; more means that the nodes disagree.
_MAX_HOPS: Final = 6
#: Nodes are asked for the map one after another; one that hangs must not use up the deadline of the command that waits.
_ASK_TIMEOUT_S: Final = 2.0
_TRY_AGAIN_S: Final = 0.05
_CLUSTER_SLOTS: Final = pack(("CLUSTER", "SLOTS"))
_ASKING: Final = pack(("ASKING",))
#: After which the map is read again. All of redis-py's but the one that a deadline raises.
_NODE_LOST: Final = (RedisConnectionError, RedisTimeoutError, TimeoutError, ClusterDownError)


class ClusterSource:
    """Nodes of one cluster, and the settings to connect to any of them."""

    def __init__(self, client: RedisCluster) -> None:
        self._client = client
        settings: dict[str, Any] = dict(client.get_connection_kwargs())
        self._class: type[Any] = settings.pop("connection_class")
        for name in ("max_connections", "redis_connect_func", "response_callbacks", "host", "port"):
            settings.pop(name, None)
        self._settings = settings
        self._seeds = [(str(n.host), int(n.port)) for n in client.nodes_manager.startup_nodes.values()]
        self._remap: Callable[[Address], Address] | None = getattr(client.nodes_manager, "address_remap", None)
        self._slots: dict[int, Address] = {}
        self._ranges: list[tuple[int, int, Address]] = []
        self._reading = asyncio.Lock()
        self._tls = TlsContext()
        host, port = self._seeds[0]
        self.label = f"cluster {host}:{port}"
        self.node(self._seeds[0])  # a wrong option shows now

    def links(self, size: int, client_name: str | None) -> Carrier:
        return ClusterLinks(self, size, client_name)

    def for_another_loop(self) -> ClusterSource:
        return ClusterSource(self._client)

    async def aclose(self) -> None:
        """Reading the map keeps nothing open."""

    def node(self, address: Address) -> ServerSource:
        """How to connect to one node."""
        host, port = address
        settings = {**self._settings, "host": host, "port": port}
        return ServerSource(self._class, settings, f"cluster node {host}:{port}", self._tls)

    async def owner(self, slot: int) -> Address:
        """The node that serves a slot, as far as we know."""
        if not self._ranges:
            async with self._reading:
                if not self._ranges:
                    self._ranges = await self._read_map()
        known = self.known_owner(slot)
        if known is not None:
            return known
        self.forget()
        raise RedisConnectionError(f"{self.label}: no node serves slot {slot}")

    def known_owner(self, slot: int) -> Address | None:
        """The node that serves a slot according to the map that was read last."""
        if slot in self._slots:
            return self._slots[slot]
        return next((address for first, last, address in self._ranges if first <= slot <= last), None)

    def moved(self, slot: int, error: AskError, asked: Address) -> Address:
        """Where a redirection points; remembered if the slot has moved for good."""
        address = self._reachable(error.host or asked[0], error.port)
        if isinstance(error, MovedError):
            self._slots[slot] = address
        return address

    def forget(self) -> None:
        """Read the map again before the next command: a node was lost."""
        self._slots.clear()
        self._ranges = []

    async def _read_map(self) -> list[tuple[int, int, Address]]:
        problem: Exception | None = None
        for seed in list(self._seeds):
            link = Link(partial(self.node(seed).dial, None))
            try:
                async with asyncio.timeout(_ASK_TIMEOUT_S):
                    reply = await link.exchange(_CLUSTER_SLOTS, _ASK_TIMEOUT_S)
            except (RedisConnectionError, RedisTimeoutError, ClusterDownError, TimeoutError) as error:
                problem = error
                self._seeds.remove(seed)  # to the end: the others are asked before it next time
                self._seeds.append(seed)
                continue
            finally:
                await link.drop()
            ranges = [(int(r[0]), int(r[1]), self._reachable(text(r[2][0]) or seed[0], int(r[2][1]))) for r in reply]
            if ranges:
                # Nodes found once are asked, too, when those of the start have gone.
                self._seeds = list(dict.fromkeys([*self._seeds, *(address for _, _, address in ranges)]))
                return ranges
        why = str(problem or "") or "no reply"
        raise RedisConnectionError(f"{self.label}: no node tells the map of slots: {why}") from problem

    def _reachable(self, host: str, port: int) -> Address:
        return self._remap((host, port)) if self._remap else (host, port)


class ClusterLinks:
    """Links to the nodes that the keys of the commands need; `size` per node."""

    may_speak_resp3 = False

    def __init__(self, source: ClusterSource, size: int, client_name: str | None) -> None:
        self._source = source
        self._size = size
        self._client_name = client_name
        self._nodes: dict[Address, Links] = {}
        self._closed = False

    def idle(self, key: str) -> Link | None:
        """Of the node that is known to own the key; a redirection is an error like others, which `exchange` follows."""
        address = self._source.known_owner(key_slot(key.encode()))
        node = None if address is None else self._nodes.get(address)
        return None if node is None else node.idle(key)

    def _failed(self, error: Exception) -> None:
        if isinstance(error, _NODE_LOST):
            self._source.forget()

    async def exchange(self, packed: bytes, key: str | None, timeout_s: float) -> Any:
        async with asyncio.timeout(timeout_s):
            return await self._exchange(packed, key, timeout_s)

    async def _exchange(self, packed: bytes, key: str | None, timeout_s: float) -> Any:
        slot = key_slot(key.encode()) if key is not None else 0
        try:
            address = await self._source.owner(slot)
        except BaseException as error:
            mark_unsent(error)
            raise
        asking = False
        moving: TryAgainError | None = None
        for _ in range(_MAX_HOPS):
            try:
                if asking:
                    return await self._node(address).exchange(_ASKING + packed, key, timeout_s, replies=2)
                return await self._node(address).exchange(packed, key, timeout_s)
            except AskError as error:  # and its subclass MovedError
                asking = not isinstance(error, MovedError)
                address = self._source.moved(slot, error, address)
            except TryAgainError as error:
                moving = error
                await asyncio.sleep(_TRY_AGAIN_S)
            except (*_NODE_LOST, asyncio.CancelledError):
                self._source.forget()  # cancelled is also what the deadline does, and its node may be gone
                raise
        if moving is not None:
            raise moving
        raise RedisConnectionError(f"{self._source.label}: slot {slot} was redirected {_MAX_HOPS} times")

    async def aclose(self) -> None:
        self._closed = True
        for node in self._nodes.values():
            await node.aclose()

    def _node(self, address: Address) -> Links:
        node = self._nodes.get(address)
        if node is None:
            if self._closed:
                raise RedisConnectionError(CLOSED)
            dial = partial(self._source.node(address).dial, self._client_name)
            # A call that is redirected would be overtaken by one behind it.
            node = self._nodes[address] = Links(dial, size=self._size, is_followable=False, failed=self._failed)
        return node
