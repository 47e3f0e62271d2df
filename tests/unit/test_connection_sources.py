"""URLs and clients become settings of our own; what cannot be used is refused at once, and nothing shows a password."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import Connection as TcpConnection
from redis.asyncio.connection import ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.sentinel import Sentinel

from pyqueue._redis.connection import Connection
from pyqueue._redis.sources import ServerSource, our_settings, source_of_client, source_of_url
from pyqueue.errors import ConfigurationError

PASSWORD = "s3cret-Pässword"


def wire(source: ServerSource) -> Any:
    return source._make()


@pytest.mark.parametrize(
    ("url", "label"),
    [
        ("redis://localhost", "redis://localhost:6379/0"),
        ("redis://user:s3cret@db.example:6380/2", "redis://db.example:6380/2"),
        ("redis://:s3cret@[::1]:6380", "redis://[::1]:6380/0"),
        ("rediss://:s3cret@db.example?ssl_ca_certs=/etc/ca.pem", "rediss://db.example:6379/0"),
        ("unix:///run/redis.sock?db=1&password=s3cret", "unix:///run/redis.sock"),
        ("redis://db.example/0?password=s3cret", "redis://db.example:6379/0"),
    ],
)
def test_a_label_says_where_without_saying_who(url: str, label: str) -> None:
    connection = Connection.open(url)

    assert connection.url_safe == label
    assert "s3cret" not in repr(connection)


def test_every_connection_of_ours_waits_without_a_timeout_of_redis_py() -> None:
    """redis-py 8 would cut a blocking pop after 5 s and repeat commands up to ten times."""
    made = wire(
        source_of_url("redis://localhost?socket_timeout=3&protocol=3&health_check_interval=9&retry_on_timeout=yes")
    )

    assert made.socket_timeout is None
    assert made.protocol == 2
    assert made.health_check_interval == 0
    assert made.retry._retries == 0
    assert made.socket_keepalive is True


def test_a_borrowed_clients_habits_are_not_copied_but_its_address_and_credentials_are() -> None:
    client = Redis(
        host="db.example", port=6380, db=3, username="u", password=PASSWORD, decode_responses=True, encoding="latin-1"
    )

    made = wire(source_of_client(client))

    assert (made.host, made.port, made.db, made.username, made.password) == ("db.example", 6380, 3, "u", PASSWORD)
    assert (made.encoder.decode_responses, made.encoder.encoding) == (False, "utf-8")
    assert made.socket_timeout is None
    assert made.retry._retries == 0


def test_tls_checks_the_host_name_unless_told_otherwise() -> None:
    checked = wire(source_of_url("rediss://localhost"))
    unchecked = wire(source_of_url("rediss://localhost?ssl_check_hostname=false"))
    unverified = wire(source_of_url("rediss://localhost?ssl_cert_reqs=none"))

    assert isinstance(checked, SSLConnection)
    assert checked.check_hostname is True
    assert unchecked.check_hostname is False
    assert unverified.check_hostname is False


def test_unix_sockets_get_no_tcp_options() -> None:
    assert "socket_keepalive" not in our_settings(UnixDomainSocketConnection, {"path": "/run/redis.sock"})
    assert our_settings(TcpConnection, {})["socket_keepalive"] is True


@pytest.mark.parametrize(
    "url",
    ["http://localhost", "localhost:6379", "", "redis:/localhost", "embedded://", "redis://localhost?colour=blue"],
)
def test_an_unusable_url_is_refused_at_once(url: str) -> None:
    with pytest.raises(ConfigurationError):
        Connection.open(url)


@pytest.mark.parametrize("end", [":port", ":6379/one", "/1x", "/-1", "/1/2", "?db=-1", "/%2d1"])
def test_a_port_or_database_that_is_no_number_is_told_with_the_form_of_a_url(end: str) -> None:
    with pytest.raises(ConfigurationError, match="user:password@host:6379/0, where port and database are numbers"):
        Connection.open(f"redis://localhost{end}")


@pytest.mark.parametrize(("end", "database"), [("", 0), ("/", 0), ("/2", 2), ("/2/", 2), ("?db=3", 3), ("/4?db=5", 5)])
def test_the_database_is_the_path_or_an_option(end: str, database: int) -> None:
    assert Connection.open(f"redis://localhost{end}").url_safe.endswith(f"/{database}")


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{PASSWORD}@localhost:port",
        f"redis://:a/{PASSWORD}@localhost:1",
        f"redis://:a#{PASSWORD}@localhost:1",
        f"redis://:{PASSWORD}@localhost?socket_timeout=soon",
        f"redis://:{PASSWORD}@localhost?colour=blue",
        f"redis://u:{PASSWORD}@[localhost",
    ],
)
def test_no_refusal_shows_a_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Connection.open(url)

    assert PASSWORD not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    "source", [42, object(), ConnectionPool(), b"redis://localhost"], ids=lambda s: type(s).__name__
)
def test_something_else_is_refused(source: Any) -> None:
    with pytest.raises(ConfigurationError, match="is expected"):
        Connection.open(source)


def test_a_sentinel_client_for_replicas_is_refused() -> None:
    new_sentinel: Any = Sentinel  # untyped in redis-py
    sentinel = new_sentinel([("localhost", 26379)])

    with pytest.raises(ConfigurationError, match="master_for"):
        Connection.open(sentinel.slave_for("mymaster"))


def test_a_cluster_needs_a_hash_tag_in_the_prefix() -> None:
    connection = Connection.open(RedisCluster(host="127.0.0.1", port=7000))

    assert connection.is_cluster
    connection.check_prefix("{bull}")
    with pytest.raises(ConfigurationError, match=r"prefix='\{bull\}'"):
        connection.check_prefix("bull")


@pytest.mark.parametrize("prefix", ["{}", "{a", "a}", "}{"])
def test_an_empty_or_broken_hash_tag_is_none(prefix: str) -> None:
    with pytest.raises(ConfigurationError):
        Connection.open(RedisCluster(host="127.0.0.1", port=7000)).check_prefix(prefix)


def test_a_single_server_needs_no_hash_tag() -> None:
    connection = Connection.open("redis://localhost")

    assert not connection.is_cluster
    connection.check_prefix("bull")


def test_a_client_whose_settings_cannot_be_told_is_shared_and_this_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class OwnConnection(TcpConnection):
        """A user's own class, made by the pool in a way of its own."""

        def __init__(self, secret: object, **settings: Any) -> None:
            super().__init__(**settings)

    caplog.set_level(logging.WARNING)
    client = Redis(connection_pool=ConnectionPool(connection_class=OwnConnection))

    connection = Connection.open(client)
    connection.lane()
    connection.lane()

    assert not connection.can_derive
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    with pytest.raises(RuntimeError):
        connection.derive_for_thread()


def test_opening_does_not_connect() -> None:
    connection = Connection.open("redis://203.0.113.1:1")  # an address nobody has

    connection.lane(client_name="x")
    assert connection.derive_for_thread().url_safe == connection.url_safe
