"""What a server's error reply means: a refusal with a remedy, or something else.

A refusal is an answer of a healthy connection to a server that cannot or will not do the work now (no memory, a
replica, no permission); so is a TLS handshake that fails over certificates. Scripts wrap such replies differently in
every server generation, so they are recognised inside the text, too. Everything else (connection errors, defects of a
script) passes as it is. Called by `commands`.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from typing import Final

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from pyqueue.errors import RedisRefused

#: Code of the refusal -> what the operator can do about it.
REMEDIES: Final[dict[str, str]] = {
    "OOM": "Redis has reached maxmemory: give it more memory or remove finished jobs (remove_on_complete, clean)",
    "READONLY": "this server is a replica: connect to the master, or through Sentinel or Cluster",
    "NOPERM": "the ACL user may not do this: grant the commands and the key pattern that docs/how-to/security.md lists",
    "NOAUTH": "the server wants a password: put it into the URL or the client",
    "WRONGPASS": "the server does not accept this user and password: correct the URL or the client",
    "DENIED": "the server is in protected mode: set a password or bind it to the address you use",
    "MISCONF": "Redis cannot write to disk and therefore refuses writes: look at its log and free disk space",
    "WRONGTYPE": "a key of the queue holds another type: something else writes under this prefix",
    "LOADING": "Redis is loading its data: it answers when that is done",
    "BUSY": "a script or function has blocked Redis for long: end it with SCRIPT KILL",
    "MASTERDOWN": "this replica has lost its master: wait for the failover or connect to the new master",
    "CLUSTERDOWN": "the cluster is not serving this slot: wait for the failover or repair the cluster",
    "TRYAGAIN": "the slot is being moved: it answers when that is done",
    "CROSSSLOT": "the keys of this queue are on different nodes: put a hash tag into the prefix, such as {bull}",
    "DBINDEX": "the server has no database of this number: give a lower one in the URL or client, or raise `databases` "
    "there; a cluster has only 0",
    "TLS": "one side does not trust the other: check authority (ssl_ca_certs), host name and client certificate",
    "NOREPLICAS": "fewer replicas are in reach than min-replicas-to-write asks for",
}

#: Refusals that end by themselves, so that a worker waits and tries again.
TRANSIENT: Final = frozenset(
    {"READONLY", "LOADING", "BUSY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS", "OOM", "MISCONF"}
)

#: Refusals of a server that has stopped being the right one: the next attempt looks for it again.
WRONG_SERVER: Final = frozenset({"READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "NOAUTH", "WRONGPASS"})

# redis-py cuts the code off the message where it knows the code; the subclass remains.
_BY_CLASS: Final[tuple[tuple[type[RedisError], str], ...]] = (
    (OutOfMemoryError, "OOM"),
    (ReadOnlyError, "READONLY"),
    (BusyLoadingError, "LOADING"),
    (MasterDownError, "MASTERDOWN"),
    (ClusterDownError, "CLUSTERDOWN"),
    (TryAgainError, "TRYAGAIN"),
    (NoPermissionError, "NOPERM"),
)
# Patterns are texts here: `re` compiles and remembers them at the first refusal, which most programs never see.
# "OOM command ..." | "-OOM ..." | "Error running script (call to f_...): @user_script:1: -OOM command ..."
_IN_TEXT: Final = rf"(?:^|: )-?({'|'.join(REMEDIES)}) "

# SSLError.reason where waiting does not help: the server's certificate does not verify, or ours is missing or does not
# please the server. Other breaks of a handshake are broken connections.
_TLS_REASON: Final = r"CERTIFICATE|UNKNOWN_CA"

# A script met a key of a slot that is on its way to another node.
_MOVING_IN_SCRIPT: Final = "attempted to access a non local key"

# What a client without a password hears when its command has more than ten parts, as calls of scripts have.
_UNAUTHENTICATED: Final = "Protocol error: unauthenticated"

# What SELECT answers, which has no code of its own: a number too high | a server in cluster mode.
_NO_DATABASE: Final = "DB index is out of range|SELECT is not allowed in cluster mode"

# A permission that a script lacks has no code of its own: Valkey and newer Redis | Redis 7.0.
_NO_PERMISSION_IN_SCRIPT: Final = r"ACL failure in script: |The user executing the script can't (?:run|access) "


def code_of(error: BaseException) -> str:
    """The refusal's code, or "" if the error is none."""
    if isinstance(error, AuthenticationError):
        return "NOAUTH" if "Authentication required" in str(error) else "WRONGPASS"
    for kind, code in _BY_CLASS:
        if isinstance(error, kind):
            return code
    if not isinstance(error, ResponseError):
        return "TLS" if any(re.search(_TLS_REASON, problem.reason or "") for problem in _tls_errors(error)) else ""
    text = str(error)
    if _UNAUTHENTICATED in text:
        return "NOAUTH"
    found = re.search(_IN_TEXT, text)
    if found:
        return found[1]
    if _MOVING_IN_SCRIPT in text:
        return "TRYAGAIN"
    if re.search(_NO_DATABASE, text):
        return "DBINDEX"
    return "NOPERM" if re.search(_NO_PERMISSION_IN_SCRIPT, text) else ""


def refusal_of(error: RedisError) -> RedisRefused | None:
    """The refusal that this error reply is, or None."""
    code = code_of(error)
    if not code:
        return None
    return RedisRefused(f"Redis refused: {error} ({code}): {REMEDIES[code]}", code=code)


def _tls_errors(error: BaseException | None) -> Iterator[ssl.SSLError]:
    """Errors of TLS that led to this one."""
    while error is not None:
        if isinstance(error, ssl.SSLError):
            yield error
        error = error.__cause__ or error.__context__
