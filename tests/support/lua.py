"""Scripts of a test's own, without a file."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha1

from pyqueue._redis.scripts import Script, load


def lua_script(text: str) -> Script:
    """A script from its text as it is, for `Commands.call` with plain keys and arguments."""
    sha = sha1(text.encode(), usedforsecurity=False).hexdigest()
    # Any script of the library lends its header, which `call` does not look at.
    return replace(load("extend_locks"), name="test", text=text, sha=sha)
