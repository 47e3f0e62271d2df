"""The embedded server (`connection="embedded:///DIR"`): end it by hand.

A process that needs the server of a directory starts it or attaches to it, and the last one to close its connections
ends it; so this is for the rest: a server left behind by processes that were killed, or a directory that is to be moved
or deleted. What the server is and how it is started is in `pyqueue._redis.server_process`.
"""

from __future__ import annotations

import os
from pathlib import Path

from pyqueue._redis import server_process

__all__ = ["stop", "url"]


def url(directory: str | os.PathLike[str]) -> str:
    """The `unix://` URL of a directory's server, for other clients than pyqueue's; it does not start the server."""
    return f"unix://{server_process.socket_path(Path(directory).expanduser().resolve())}"


def stop(directory: str | os.PathLike[str], timeout: float = 10.0) -> bool:
    """End the server of a directory, whoever uses it, and wait for it.

    Its data is on the disk afterwards and is there again when the next process connects. `timeout` is in seconds.
    Returns False if no server ran. Raises redis.TimeoutError if it has not ended in time. Blocks; in asynchronous code
    call it in a thread.
    """
    return server_process.stop(Path(directory).expanduser().resolve(), timeout)
