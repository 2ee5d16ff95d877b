"""confluent-kafka: how its clients are opened, and what their errors mean.

The library is an extra: only ``confluent`` imports this module, and ``monitor.app`` that one, when
it is chosen.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from confluent_kafka import (
    OFFSET_INVALID,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined] # OffsetSpec is not in its __all__
    AdminClient,
    OffsetSpec,
)
from kafka import errors as kafka_errors

from monitor.adapters.kafka.connection import (
    ANSWER_TIMEOUT_MS,
    LONGEST_PAUSE_MS,
    KafkaConnection,
    translated,
)
from monitor.domain.events import Partition

Spec = OffsetSpec
# Its methods have no types.
_spec: Any = Spec
EARLIEST: Spec = _spec.earliest()
LATEST: Spec = _spec.latest()

LOGGER = logging.getLogger("confluent_kafka")

_OPTIONS: Mapping[str, str] = {
    "client_id": "client.id",
    "security_protocol": "security.protocol",
    "sasl_mechanism": "sasl.mechanism",
    "sasl_plain_username": "sasl.username",
    "sasl_plain_password": "sasl.password",
    "ssl_cafile": "ssl.ca.location",
    "ssl_certfile": "ssl.certificate.location",
    "ssl_keyfile": "ssl.key.location",
}

_LOCAL: Mapping[int, type[Exception]] = {
    KafkaError._AUTHENTICATION: kafka_errors.SaslAuthenticationFailedError,
    KafkaError._SSL: kafka_errors.KafkaConnectionError,
    KafkaError._TRANSPORT: kafka_errors.KafkaConnectionError,
    KafkaError._RESOLVE: kafka_errors.KafkaConnectionError,
    KafkaError._ALL_BROKERS_DOWN: kafka_errors.KafkaConnectionError,
    KafkaError._TIMED_OUT: kafka_errors.KafkaTimeoutError,
    KafkaError._TIMED_OUT_QUEUE: kafka_errors.KafkaTimeoutError,
    # No leader was found.
    KafkaError._NOENT: kafka_errors.KafkaTimeoutError,
    KafkaError._UNKNOWN_TOPIC: kafka_errors.UnknownTopicOrPartitionError,
    KafkaError._UNKNOWN_PARTITION: kafka_errors.UnknownTopicOrPartitionError,
    KafkaError._BAD_MSG: kafka_errors.CorruptRecordError,
    KafkaError._BAD_COMPRESSION: kafka_errors.CorruptRecordError,
    KafkaError._NOT_IMPLEMENTED: kafka_errors.UnsupportedCodecError,
    KafkaError._INVALID_ARG: kafka_errors.KafkaConfigurationError,
}


class Notes:
    """What the client tells beside the records: kept until the log looks at it."""

    def __init__(self) -> None:
        self.fatal: KafkaError | None = None
        self.refused: KafkaError | None = None
        self.is_due = False

    def error(self, error: KafkaError) -> None:
        """Brokers that are away are no news: whoever asks them finds out."""
        if error.fatal():
            self.fatal = error
        elif error.code() == KafkaError._AUTHENTICATION:
            self.refused = error

    def tick(self, _statistics: str) -> None:
        """The client's own clock says that it is time to look around."""
        self.is_due = True

    def committed(self, error: KafkaError | None, _offsets: object) -> None:
        """Of all that may befall a commit only the loss of our place in the group matters."""
        if error is not None and error.code() == KafkaError.FENCED_INSTANCE_ID:
            self.fatal = error


def options_of(connection: KafkaConnection, notes: Notes) -> dict[str, Any]:
    """What all clients of this connection have in common; holds the password."""
    given = {_OPTIONS[n]: v for n, v in connection.options().items() if n in _OPTIONS}
    return {
        **given,
        "bootstrap.servers": ",".join(connection.bootstrap_servers),
        "reconnect.backoff.max.ms": LONGEST_PAUSE_MS,
        "socket.timeout.ms": ANSWER_TIMEOUT_MS,
        "allow.auto.create.topics": False,
        "error_cb": notes.error,
        # Only what ends the client: of a broker that is away each attempt would be an error.
        "log_level": 2,
        "logger": LOGGER,
    }


def same_error(error: KafkaError) -> Exception:
    """The default client's exception for this error: one table says what to do about each."""
    code = error.code()
    if code == KafkaError._FATAL and "instance.id" in error.str():
        kind = kafka_errors.FencedInstanceIdError
    else:
        kind = _LOCAL.get(code) or (kafka_errors.for_code(code) if code > 0 else None)
    made: Exception = (kind or kafka_errors.KafkaError)(error.str())
    return made


def is_passing(error: KafkaError) -> bool:
    """Whether it is over by itself: a broker that is away, or does not know of a change yet."""
    code = error.code()
    if code > 0:
        is_retriable = issubclass(kafka_errors.for_code(code), kafka_errors.RetriableError)
        return is_retriable or code in _STALE
    return error.retriable() or issubclass(
        _LOCAL.get(code, Exception),
        kafka_errors.KafkaConnectionError | kafka_errors.KafkaTimeoutError,
    )


@contextmanager
def understood(connection: KafkaConnection, doing: str) -> Iterator[None]:
    """Let nothing of the client library out."""
    with translated(connection, doing):
        try:
            yield
        except KafkaException as error:
            raise same_error(error.args[0]) from error


def first_at(instant_ms: int) -> Spec:
    """Asks for the first record with this log time or a later one."""
    spec: Spec = _spec.for_timestamp(instant_ms)
    return spec


class Questions:
    """What a reader asks the broker, over connections of their own.

    On those of the reader an answer would wait behind the records that it has asked for.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._admin = AdminClient(dict(options))

    def look(self, topics: list[str], timeout_ms: int) -> dict[str, tuple[int, str]]:
        """Partitions and id of each topic that there is. KafkaException when nobody answers."""
        found = {}
        asked = self._admin.describe_topics(
            TopicCollection(topics), request_timeout=timeout_ms / 1_000
        )
        for topic, told in asked.items():
            try:
                answer = told.result()
            except KafkaException as error:
                if error.args[0].code() not in _UNKNOWN:
                    raise
            else:
                found[topic] = (len(answer.partitions), str(answer.topic_id))
        return found

    def offsets(
        self,
        specs: Mapping[Partition, Spec],
        isolation_level: IsolationLevel,
        timeout_ms: int,
    ) -> dict[Partition, int]:
        """Where each of these is; -1 for nowhere. KafkaException when one of them is not told."""
        asked = self._admin.list_offsets(
            {TopicPartition(*partition): spec for partition, spec in specs.items()},
            isolation_level=isolation_level,
            request_timeout=timeout_ms / 1_000,
        )
        told = {Partition(tp.topic, tp.partition): a.result().offset for tp, a in asked.items()}
        if OFFSET_INVALID in told.values():
            # So the client says that the leader did not answer.
            raise KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE))
        return told

    def refresh(self) -> None:
        """Find out who leads which partition now; by itself the client goes by what it knows."""
        with suppress(KafkaException):
            self._admin.list_topics(timeout=1)

    def listen(self) -> None:
        """Take in what the client has to tell."""
        self._admin.poll(0)


_STALE = frozenset({KafkaError.FENCED_LEADER_EPOCH, KafkaError.UNKNOWN_LEADER_EPOCH})
_UNKNOWN = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
    }
)
