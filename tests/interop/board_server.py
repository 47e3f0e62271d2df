"""Bull Board's server, `board.mjs`, as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from tests.interop.node import HERE

_END_S: Final = 10.0


@contextmanager
def board_server(port: int, prefix: str, queues: Sequence[str]) -> Iterator[str]:
    """A running Bull Board for some queues; its URL, which ends with a slash."""
    process = subprocess.Popen(
        ["node", str(HERE / "board.mjs"), prefix, *queues],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "REDIS_PORT": str(port), "TZ": "UTC"},
    )
    assert process.stdout is not None
    try:
        url: str = json.loads(process.stdout.readline())["url"]
        yield url
    finally:
        process.kill()
        process.communicate(timeout=_END_S)
