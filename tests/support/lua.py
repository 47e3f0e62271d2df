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


def fast_path_alone(name: str) -> Script:
    """A script that answers "declined" where its general code would begin; an error of the fast path is its answer."""
    script, general = load(name), load(name, is_fast=False)
    before, guard, rest = script.text.partition("pcall(fast_path, KEYS, ARGV)")
    assert guard, f"{name} has no fast path"
    assert rest.endswith(general.text)
    text = f"{before}true, fast_path(KEYS, ARGV){rest.removesuffix(general.text)}\nreturn 'declined'"
    return replace(script, text=text, sha=sha1(text.encode(), usedforsecurity=False).hexdigest())
