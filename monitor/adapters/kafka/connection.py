"""Where the brokers are, how clients are opened, and what their errors mean."""

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from kafka import errors as kafka_errors

from monitor.domain.errors import BrokerError

CONNECT_TIMEOUT_MS = 8_000
"""A broker that has not answered by then is reported as unreachable."""

ANSWER_TIMEOUT_MS = 30_000
"""How long a connected broker may take for one answer; a restart fits in."""

LONGEST_PAUSE_MS = 1_000
"""Between two attempts to reach a broker that went away: so soon it is found again."""

PROBE_TIMEOUT_S = 1.0
"""How long an address is given to accept a connection, only to say what is wrong."""

LEAVE_TIMEOUT_MS = 5_000
"""How long leaving may take; the broker finds out by itself, too."""


@dataclass(frozen=True, slots=True)
class KafkaConnection:
    """Where the brokers are and how to log in. None leaves a choice to the client library."""

    bootstrap_servers: tuple[str, ...] = ("localhost:9092",)
    client_id: str = "recallwatch"
    protocol: str = "PLAINTEXT"
    mechanism: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None

    def __str__(self) -> str:
        """The brokers' addresses, as in every message."""
        return ",".join(self.bootstrap_servers)

    def options(self) -> dict[str, object]:
        """The same in the client library's words; holds the password."""
        given: dict[str, object | None] = {
            "bootstrap_servers": list(self.bootstrap_servers),
            "client_id": self.client_id,
            "security_protocol": self.protocol,
            "sasl_mechanism": self.mechanism,
            "sasl_plain_username": self.username,
            "sasl_plain_password": self.password,
            "ssl_cafile": self.ca_file,
            "ssl_certfile": self.cert_file,
            "ssl_keyfile": self.key_file,
        }
        return {name: value for name, value in given.items() if value is not None}


def broker_error(error: Exception, connection: KafkaConnection, doing: str) -> BrokerError:
    """What an exception of the client library means: what, where, and what to do next."""
    said = "; ".join(str(part) for part in error.args if part)[:_SAID_CHARS]
    detail = f"{type(error).__name__}: {said}" if said else type(error).__name__
    for kinds, what, remedy in _CAUSES:
        if isinstance(error, kinds):
            return BrokerError(f"broker {connection} {what} while {doing} ({detail}); {remedy}")
    return BrokerError(
        f"broker {connection} failed while {doing} ({detail}); "
        "look at the broker's log, and start again"
    )


_SAID_CHARS = 200
_CAUSES: tuple[tuple[tuple[type[Exception], ...], str, str], ...] = (
    (
        (
            kafka_errors.SaslAuthenticationFailedError,
            kafka_errors.UnsupportedSaslMechanismError,
            kafka_errors.IllegalSaslStateError,
        ),
        "refused the login",
        "check kafka.security",
    ),
    (
        (kafka_errors.AuthorizationError,),
        "does not allow this user what is needed",
        "give the user read and describe rights on the topics and the group, and write rights on "
        "the dead-letter topic",
    ),
    (
        (kafka_errors.InconsistentGroupProtocolError,),
        "did not let us into the consumer group",
        "give all workers of a group the same kafka.assignor; to change it, stop all of them first",
    ),
    (
        (kafka_errors.FencedInstanceIdError,),
        "gave our place to another worker",
        "give each worker a kafka.instance_id of its own",
    ),
    (
        (kafka_errors.UnknownTopicOrPartitionError, kafka_errors.UnknownTopicIdError),
        "does not have the topic",
        "create it, or check the topic names under kafka",
    ),
    (
        (kafka_errors.InvalidReplicationFactorError, kafka_errors.PolicyViolationError),
        "refused to create the topic",
        "create it by hand as the cluster's rules demand",
    ),
    (
        (kafka_errors.KafkaConfigurationError,),
        "cannot be asked with these settings",
        "check the settings under kafka",
    ),
    (
        (kafka_errors.CorruptRecordError, kafka_errors.UnsupportedCodecError),
        "sent a record that cannot be unpacked",
        "check the producer's compression (gzip needs nothing more; lz4, snappy and zstd need "
        "their package) and the broker's disk",
    ),
    (
        (ValueError,),
        "cannot do what was asked",
        "check the names of the topics and the numbers of their partitions",
    ),
    (
        (kafka_errors.KafkaTimeoutError, kafka_errors.KafkaConnectionError, OSError),
        "is unreachable",
        "check kafka.bootstrap_servers and kafka.security, and that the broker is running",
    ),
)


@contextmanager
def translated(connection: KafkaConnection, doing: str) -> Iterator[None]:
    """Let nothing of the client library out.

    Every exception counts, since for what a broker does the client also raises RuntimeError,
    ValueError and KeyError, and those of the compression libraries.
    """
    try:
        yield
    except BrokerError:
        raise
    except Exception as error:
        raise broker_error(error, connection, doing) from error


class _Cluster(Protocol):
    config: dict[str, object]


class _NetClient(Protocol):
    cluster: _Cluster

    def close(self) -> None: ...


ClientT_co = TypeVar("ClientT_co", covariant=True)


class _ClientType(Protocol[ClientT_co]):
    """What consumer, producer and admin client have in common."""

    DEFAULT_CONFIG: Mapping[str, Callable[..., _NetClient]]

    def __call__(self, **options: object) -> ClientT_co: ...


def opened(
    make: _ClientType[ClientT_co], connection: KafkaConnection, **options: object
) -> ClientT_co:
    """A client that has reached a broker; BrokerError, with nothing left behind, when none is."""
    started: list[_NetClient] = []

    def started_client(**config: object) -> _NetClient:
        client = make.DEFAULT_CONFIG["kafka_client"](**config)
        # The option allow_auto_create_topics gets no further than the constructor.
        client.cluster.config["allow_auto_create_topics"] = False
        started.append(client)
        return client

    try:
        with translated(connection, "connecting"):
            return make(
                **connection.options(),
                **options,
                bootstrap_timeout_ms=CONNECT_TIMEOUT_MS,
                reconnect_backoff_max_ms=LONGEST_PAUSE_MS,
                kafka_client=started_client,
            )
    except BrokerError as error:
        # The constructor leaves its network thread and sockets behind when it raises.
        for client in started:
            client.close()
        check_let_in(connection, error)
        raise


def check_let_in(connection: KafkaConnection, error: BrokerError) -> None:
    """BrokerError that says it better, where somebody listens but did not answer in time."""
    if isinstance(error.__cause__, kafka_errors.KafkaTimeoutError) and _listens(connection):
        raise BrokerError(
            f"broker {connection} accepted the connection, but did not let us in: it refused "
            f"the login, speaks another protocol than {connection.protocol}, or hangs; check "
            "kafka.security"
        ) from error


def _listens(connection: KafkaConnection) -> bool:
    """Whether somebody does at one of the addresses.

    The client itself does not say why it was not let in: it tries again until the time is up.
    """
    for server in connection.bootstrap_servers:
        host, _, port = server.rpartition(":")
        with suppress(OSError, ValueError):
            socket.create_connection((host.strip("[]"), int(port)), PROBE_TIMEOUT_S).close()
            return True
    return False
