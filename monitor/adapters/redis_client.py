"""Connections to Redis, alone or as a cluster, and what a failure of one means to an operator.

A writer knows what the store holds from its last answer on. A server that was restarted, or a
replica that took its place, may have lost the last writes that it acknowledged, and the client
would go on with it as if nothing had happened: it replaces a broken connection without a word. So
a writer's connections are sealed once it is open: none is made anew, every command fails from then
on, and whoever opens the store again reads the cut before anything else.
"""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    TryAgainError,
)
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from monitor.domain.errors import StoreError
from monitor.ports import ServerVitals

FAILURES = (redis.RedisError, RedisClusterException)
"""Bases of all that the client raises; the second is no RedisError."""

LACKING = ("ACL failure in script", "user executing the script")
"""How a script is told that its user lacks a right, by newer servers and by Redis 7.0."""

CLOSED = (
    "Redis closed the connection; check that the server runs, that redis.url starts with rediss:// "
    "if it expects TLS, and that redis.cert_file and redis.key_file are set if it asks for them"
)
KEEPS_ALL = "noeviction"
"""The ``maxmemory-policy`` under which a server without memory left refuses writes."""


@dataclass(frozen=True, slots=True)
class RedisConnection:
    """Where the server is, and how to prove ourselves to it; its text has no password.

    ``cluster``: the address is that of any node. The files are PEM, and used with ``rediss``:
    ``ca_file`` None trusts the certificates of the system.
    """

    url: str = field(repr=False)
    cluster: bool = False
    timeout_s: float = 5.0
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None

    def __str__(self) -> str:
        """Scheme, host, port and database."""
        parts = urlsplit(self.url)
        place = parts.hostname or parts.path
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{place}{port}{parts.path if parts.hostname else ''}"

    @property
    def is_tls(self) -> bool:
        """Whether bytes are encrypted on their way."""
        return self.url.startswith("rediss:")

    @property
    def secret(self) -> str:
        """The password; "" when there is none."""
        parts = urlsplit(self.url)
        asked = parse_qs(parts.query).get("password", [""])
        return unquote(parts.password or "") or asked[0]


class ConnectionLost(redis.ConnectionError):
    """A sealed client would have to connect again."""


class RedisClient:
    """A client that sends every command once, and can be sealed against connecting again."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self._is_sealed = False
        with self.reaching():
            self.commands = self._opened()

    def __str__(self) -> str:
        """Where it is connected to."""
        return str(self._connection)

    def servers(self) -> list[redis.Redis]:
        """The server, or every primary of the cluster."""
        client: object = self.commands
        if isinstance(client, redis.RedisCluster):
            primaries = client.nodes_manager.get_nodes_by_server_type("primary")
            return [client.get_redis_connection(node) for node in primaries]
        return [self.commands]

    def eviction_policy(self) -> str | None:
        """``maxmemory-policy``: what differs from noeviction, if any server does; None if unknown.

        Asks every server, so a connection to each of them is open afterwards.
        """
        with self.reaching():
            policies = {_eviction_policy(server) for server in self.servers()}
        others = {policy for policy in policies if policy not in (None, KEEPS_ALL)}
        if others:
            return min(map(str, others))
        return None if None in policies else KEEPS_ALL

    def vitals(self) -> ServerVitals:
        """What every server tells of itself; INFO may be forbidden, and is then unknown."""
        with self.reaching():
            servers = self.servers()
            told = [info for info in map(_info, servers) if info]
        if len(told) < len(servers):
            return ServerVitals(servers=len(servers))
        fullest = [int(info["used_memory"]) / limit for info in told if (limit := _limit(info))]
        policies = sorted({str(info.get("maxmemory_policy", "")) for info in told})
        return ServerVitals(
            servers=len(servers),
            used_bytes=sum(int(info["used_memory"]) for info in told),
            limit_bytes=sum(map(_limit, told)),
            fullest=max(fullest, default=None),
            evicted=sum(int(info["evicted_keys"]) for info in told),
            policy=", ".join(policies) or None,
            up_s=min(int(info["uptime_in_seconds"]) for info in told),
        )

    def hash_at(self, key: str) -> dict[bytes, bytes]:
        """The whole hash; empty when there is none."""
        return cast(dict[bytes, bytes], self.commands.hgetall(key))

    def seal(self) -> None:
        """From now on a connection that breaks is not replaced: commands raise StoreError."""
        self._is_sealed = True

    def close(self) -> None:
        """Close the connections."""
        self.commands.close()

    @contextmanager
    def reaching(self) -> Iterator[None]:
        """Every failure of the client as a StoreError that says what to do."""
        try:
            yield
        except FAILURES as error:
            raise StoreError(explain(error, self._connection)) from error

    def _opened(self) -> redis.Redis:
        """The cluster's client has the same commands, so it passes for the other one."""
        connection = self._connection
        options: dict[str, Any] = {
            "socket_timeout": connection.timeout_s,
            "socket_connect_timeout": connection.timeout_s,
            # Its name and version would take a right of their own, and two more round trips.
            "driver_info": None,
            "maint_notifications_config": MaintNotificationsConfig(enabled=False),
            "retry": Retry(NoBackoff(), 0),
        }
        if connection.is_tls:
            options |= {
                "ssl_ca_certs": connection.ca_file,
                "ssl_certfile": connection.cert_file,
                "ssl_keyfile": connection.key_file,
            }
        if not connection.cluster:
            return redis.Redis.from_url(
                connection.url, redis_connect_func=self._on_connect, **options
            )
        cluster = redis.RedisCluster.from_url(
            connection.url,
            redis_connect_func=self._refuse_when_sealed,
            # A slot that has moved is noted without connecting to all nodes again.
            reinitialize_steps=0,
            **options,
        )
        return cast(redis.Redis, cluster)

    def _on_connect(self, connection: AbstractConnection) -> None:
        self._refuse_when_sealed(connection)
        connection.on_connect_check_health()

    def _refuse_when_sealed(self, _: AbstractConnection) -> None:
        if self._is_sealed:
            raise ConnectionLost("the connection was lost")


def _info(server: redis.Redis) -> dict[str, Any]:
    """INFO; {} where it is forbidden."""
    try:
        return server.info()
    except redis.ResponseError:
        return {}


def _limit(info: dict[str, Any]) -> int:
    return int(info.get("maxmemory", 0))


def _eviction_policy(server: redis.Redis) -> str | None:
    """CONFIG may be forbidden or renamed, as managed services do; INFO, too."""
    try:
        return str(server.config_get("maxmemory-policy")["maxmemory-policy"])
    except (redis.ResponseError, KeyError):
        pass
    try:
        told = server.info("memory").get("maxmemory_policy")
    except redis.ResponseError:
        return None
    return None if told is None else str(told)


def explain(error: Exception, connection: RedisConnection) -> str:
    """What a failure of the client means to an operator, without the password.

    A server that does not know a command quotes its arguments, those of AUTH included.
    """
    secret = connection.secret
    error = _underlying(error)
    said = str(error).replace(secret, "***") if secret else str(error)
    remedy = (
        (_about_tls(error) if connection.is_tls else None)
        or _about_cluster(error, said)
        or _about_connection(error, said)
        or _about_answer(error, said)
    )
    return f"{connection}: {remedy}"


def _underlying(error: Exception) -> Exception:
    """What a cluster's client met at the last node that it asked for the others."""
    below = error.__cause__ or error.__context__
    if isinstance(error, RedisClusterException) and isinstance(below, FAILURES):
        return _underlying(below)
    return error


def _about_connection(error: Exception, said: str) -> str | None:
    if isinstance(error, AuthenticationError):
        return "Redis refuses the password or user; check redis.url"
    if isinstance(error, ConnectionLost):
        return "Redis broke the connection; its state is read anew before anything is written"
    if isinstance(error, redis.TimeoutError):
        return "Redis does not answer in time; check its load, or raise redis.timeout"
    if isinstance(error, BusyLoadingError):
        return "Redis is still loading its data; try again in a moment"
    if "closed by server" in said or "reset by peer" in said:
        return CLOSED
    if isinstance(error, redis.ConnectionError):
        return "Redis is unreachable; check redis.url and that the server runs"
    return None


def _about_answer(error: Exception, said: str) -> str:
    if isinstance(error, OutOfMemoryError):
        return (
            "Redis is out of memory and takes no more; raise its maxmemory, or shorten "
            "windows.keep. Nothing is lost: records wait in Kafka until there is room"
        )
    if isinstance(error, NoPermissionError) or any(words in said for words in LACKING):
        return f"Redis gives the user of redis.url too few rights; see docs/redis.md ({said})"
    if isinstance(error, ReadOnlyError):
        return "Redis is a replica and takes no writes; name its primary in redis.url"
    return f"Redis refused a command: {said}"


def _about_cluster(error: Exception, said: str) -> str | None:
    if isinstance(error, MovedError):
        return "Redis is a node of a cluster; set redis.cluster: true"
    if "cluster support disabled" in said:
        return "Redis is no cluster; set redis.cluster: false"
    if isinstance(error, RedisClusterException | ClusterError | TryAgainError):
        return f"Redis Cluster moves slots or misses nodes ({said}); if it lasts, look at its nodes"
    return None


def _about_tls(error: BaseException) -> str | None:
    """What was wrong below the client, which keeps it as context only."""
    if isinstance(error, redis.TimeoutError) and "connecting" in str(error):
        return (
            "Redis does not answer the TLS handshake; set redis.url to its TLS port, or to "
            "redis:// if it has none"
        )
    below: BaseException | None = error
    while below is not None and not isinstance(below, ssl.SSLError | FileNotFoundError):
        below = below.__cause__ or below.__context__
    if below is None:
        return None
    if isinstance(below, FileNotFoundError):
        return "Redis was not asked: a file of redis.ca_file, cert_file or key_file is missing"
    assert isinstance(below, ssl.SSLError)
    reason = below.reason or str(below)
    if isinstance(below, ssl.SSLCertVerificationError):
        return (
            f"Redis shows a certificate that is not trusted ({below.verify_message}); set "
            "redis.ca_file to the CA that signed it, and redis.url to a name that stands in it"
        )
    if reason == "WRONG_VERSION_NUMBER":
        return "Redis does not speak TLS on this port; set redis.url to redis:// or the TLS port"
    if "CERTIFICATE_REQUIRED" in reason:
        return "Redis asks for a certificate; set redis.cert_file and redis.key_file"
    if isinstance(below, ssl.SSLEOFError):
        return CLOSED
    return (
        f"Redis and the worker do not agree on TLS ({reason}); "
        "check redis.ca_file, redis.cert_file and redis.key_file"
    )
