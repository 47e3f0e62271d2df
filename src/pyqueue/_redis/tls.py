"""Build the TLS context of a source once for all its connections.

redis-py builds one per connection, and building one reads every authority that this machine knows: tens to hundreds of
milliseconds in which the event loop stands still, for each of a worker's connections and again at every reconnect.
Here a thread builds it, once, and again when a certificate file has been replaced. Called by `sources`.
"""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import suppress
from typing import Any, Final, TypeAlias

from redis.asyncio.connection import RedisSSLContext

Stamp: TypeAlias = tuple[int, ...]

_FILES: Final = ("ca_certs", "certfile", "keyfile")


class TlsContext:
    """What connections with the same settings share; may serve several event loops."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stamp: Stamp = ()
        self._built: RedisSSLContext | None = None

    async def share(self, wire: Any) -> None:
        """Give a connection that is not open yet the common context; no effect on one without TLS."""
        own = getattr(wire, "ssl_context", None)
        if not isinstance(own, RedisSSLContext):
            return
        built, stamp = self._built, _stamp(own)
        if built is None or stamp != self._stamp:
            built = await asyncio.to_thread(self._build, own, stamp)
        wire.ssl_context = built

    def _build(self, own: RedisSSLContext, stamp: Stamp) -> RedisSSLContext:
        with self._lock:
            if self._built is not None and stamp == self._stamp:  # another connection was faster
                return self._built
            with suppress(OSError):  # a file that is missing or no certificate: connecting says so
                own.get()
                self._built, self._stamp = own, stamp
            return own


def _stamp(context: RedisSSLContext) -> Stamp:
    """Changes when a file of the context is replaced."""
    stamps = []
    for name in _FILES:
        path = getattr(context, name)
        with suppress(OSError):
            stamps.append(os.stat(path).st_mtime_ns if path else 0)
    return tuple(stamps)
