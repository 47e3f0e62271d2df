"""Error replies of every server generation, and which of them are refusals."""

from __future__ import annotations

import pytest
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pyqueue._redis.refusals import REMEDIES, TRANSIENT, WRONG_SERVER, code_of, refusal_of

# What redis-py 8 makes of the replies; the texts are from Redis 6.2, 7.0 and 7.4 and Valkey 8.
REFUSALS: list[tuple[RedisError, str]] = [
    (OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), "OOM"),
    (OutOfMemoryError("command not allowed when used memory > 'maxmemory'. script: 5e1, on @user_script:1."), "OOM"),
    (
        ResponseError(
            "Error running script (call to f_5e1): @user_script:1: @user_script: 1: "
            "-OOM command not allowed when used memory > 'maxmemory'."
        ),
        "OOM",
    ),
    (ReadOnlyError("You can't write against a read only replica."), "READONLY"),
    (
        ResponseError(
            "Error running script (call to f_5e1): @user_script:1: @user_script: 1: "
            "-READONLY You can't write against a read only replica."
        ),
        "READONLY",
    ),
    (ResponseError("DB index is out of range"), "DBINDEX"),
    (ResponseError("SELECT is not allowed in cluster mode"), "DBINDEX"),
    (TryAgainError("Multiple keys request during rehashing of slot"), "TRYAGAIN"),
    (ResponseError("Script attempted to access a non local key in a cluster node"), "TRYAGAIN"),
    (
        ResponseError("Script attempted to access a non local key in a cluster node script: 5e1, on @user_script:78."),
        "TRYAGAIN",
    ),
    (NoPermissionError("this user has no permissions to run the 'set' command"), "NOPERM"),
    (NoPermissionError("User app has no permissions to access one of the keys used as arguments"), "NOPERM"),
    (ResponseError("ACL failure in script: User app has no permissions to run the 'set' command"), "NOPERM"),
    (
        ResponseError(
            "Error running script (call to f_5e1): @user_script:1: @user_script: 1: "
            "-NOPERM The user executing the script can't run this command or subcommand"
        ),
        "NOPERM",
    ),
    (
        ResponseError(
            "The user executing the script can't run this command or subcommand script: 5e1, on @user_script:1."
        ),
        "NOPERM",
    ),
    (
        ResponseError(
            "The user executing the script can't access at least one of the keys mentioned in the command arguments "
            "script: 5e1, on @user_script:1."
        ),
        "NOPERM",
    ),
    (ResponseError("ACL failure in script: No permissions to access a key script: on @user_script:1."), "NOPERM"),
    (AuthenticationError("Authentication required."), "NOAUTH"),
    (ResponseError("NOAUTH Authentication required."), "NOAUTH"),
    (ResponseError("Protocol error: unauthenticated multibulk length"), "NOAUTH"),
    (AuthenticationError("invalid username-password pair or user is disabled."), "WRONGPASS"),
    (
        AuthenticationError(
            "AUTH <password> called without any password configured for the default user. "
            "Are you sure your configuration is correct?"
        ),
        "WRONGPASS",
    ),
    (
        ResponseError("MISCONF Redis is configured to save RDB snapshots, but it's unable to persist to disk."),
        "MISCONF",
    ),
    (ResponseError("MISCONF Errors writing to the AOF file: No space left on device"), "MISCONF"),
    (ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"), "WRONGTYPE"),
    (
        ResponseError(
            "WRONGTYPE Operation against a key holding the wrong kind of value script: 5e1, on @user_script:1."
        ),
        "WRONGTYPE",
    ),
    (
        ResponseError(
            "Error running script (call to f_5e1): @user_script:1: "
            "WRONGTYPE Operation against a key holding the wrong kind of value"
        ),
        "WRONGTYPE",
    ),
    (BusyLoadingError("Redis is loading the dataset in memory"), "LOADING"),
    (ResponseError("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."), "BUSY"),
    (ResponseError("BUSY Valkey is busy running a script. You can only call SCRIPT KILL."), "BUSY"),
    (MasterDownError("Link with MASTER is down and replica-serve-stale-data is set to 'no'."), "MASTERDOWN"),
    (ClusterDownError("The cluster is down"), "CLUSTERDOWN"),
    (ResponseError("CROSSSLOT Keys in request don't hash to the same slot"), "CROSSSLOT"),
    (ResponseError("NOREPLICAS Not enough good replicas to write."), "NOREPLICAS"),
    (ResponseError("DENIED Redis is running in protected mode because protected mode is enabled"), "DENIED"),
]


@pytest.mark.parametrize(("error", "code"), REFUSALS, ids=lambda value: str(value)[:60])
def test_a_refusal_has_its_code_and_names_the_remedy(error: RedisError, code: str) -> None:
    refused = refusal_of(error)

    assert refused is not None
    assert refused.code == code
    assert REMEDIES[code] in str(refused)
    assert str(error) in str(refused)


@pytest.mark.parametrize(
    "error",
    [
        RedisConnectionError("Connection closed by server."),
        RedisTimeoutError("no reply within 10 s"),
        NoScriptError("No matching script. Please use EVAL."),
        ResponseError("unknown command 'FOO', with args beginning with: "),
        ResponseError("user_script:3: attempt to index a nil value script: 5e1, on @user_script:3."),
        ResponseError("wrong number of arguments for 'get' command"),
        ResponseError("the job's data mentions OOM and READONLY somewhere"),
    ],
    ids=lambda error: str(error)[:40],
)
def test_everything_else_passes(error: RedisError) -> None:
    assert code_of(error) == ""
    assert refusal_of(error) is None


def test_a_refusal_that_needs_another_server_or_password_is_distinguished_from_one_that_needs_time() -> None:
    assert {"READONLY", "LOADING", "MASTERDOWN"} <= TRANSIENT & WRONG_SERVER
    assert not {"NOAUTH", "WRONGPASS", "NOPERM", "WRONGTYPE", "CROSSSLOT"} & TRANSIENT
    assert REMEDIES.keys() >= TRANSIENT | WRONG_SERVER
