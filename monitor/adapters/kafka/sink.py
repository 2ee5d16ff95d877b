"""Records written to topics: at least once, in order, and those that are too large cut."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Protocol

from kafka import KafkaProducer
from kafka import errors as kafka_errors
from kafka.serializer import Serializer

from monitor.adapters.kafka.connection import (
    ANSWER_TIMEOUT_MS,
    CONNECT_TIMEOUT_MS,
    LEAVE_TIMEOUT_MS,
    KafkaConnection,
    broker_error,
    opened,
    translated,
)
from monitor.domain.errors import BrokerError
from monitor.ports import OutRecord

CHUNK_RECORDS = 5_000
"""Records sent before their acknowledgements are waited for."""

BATCH_BYTES = 128 * 1024
"""Bytes of one partition that travel together."""

REQUEST_BYTES = 64 * 1024 * 1024
"""Above every limit in use, so that it is the broker that says which record is too large."""

CUT_BYTES = 1_024
"""What is kept of the value of a record that is too large for the broker."""

TRUNCATED = "truncated"
"""Header of a record whose value was cut; holds the original size of the value in bytes."""

SEND_ATTEMPTS = 4
"""Producers tried for one chunk before giving up."""


class KafkaSink:
    """An idempotent producer that waits for all replicas.

    A record is written at least once: what a broken connection left unacknowledged is sent again,
    in order. A record too large for the broker is written with its value cut to ``CUT_BYTES`` and
    the header ``TRUNCATED``.
    """

    def __init__(self, connection: KafkaConnection) -> None:
        self._connection = connection
        self._producer = _producer(connection)
        self._known_topics: set[str] = set()

    def publish(self, records: Iterable[OutRecord]) -> None:
        """Write the records; BrokerError when some could not be written."""
        remaining = iter(records)
        while chunk := list(islice(remaining, CHUNK_RECORDS)):
            self._deliver(chunk)

    def close(self) -> None:
        """Leave; everything published has been acknowledged before."""
        with suppress(kafka_errors.KafkaError):
            self._producer.close(timeout=LEAVE_TIMEOUT_MS / 1_000)

    def _deliver(self, records: list[OutRecord]) -> None:
        for _ in range(SEND_ATTEMPTS):
            failed = self._send(records)
            if not failed:
                return
            records = [record for record, _ in failed]
            errors = [error for _, error in failed]
            # One refused record breaks the producer, and with it all records under way.
            self._renew()
            if any(isinstance(error, _TOO_LARGE) for error in errors):
                self._deliver_around_too_large(records)
                return
            if not any(isinstance(error, _BROKEN_SEQUENCE) for error in errors):
                break
        raise broker_error(errors[0], self._connection, f"writing to {records[0].topic}")

    def _deliver_around_too_large(self, records: list[OutRecord]) -> None:
        """Halve until the record that is too large stands alone, then cut it.

        The broker does not say which one it is: all that travelled with it fail in the same way.
        """
        if len(records) > 1:
            middle = len(records) // 2
            self._deliver(records[:middle])
            self._deliver(records[middle:])
            return
        record = records[0]
        if any(name == TRUNCATED for name, _ in record.headers):
            raise BrokerError(
                f"a record for topic {record.topic} is too large for broker {self._connection} "
                "even without its value; raise max.message.bytes of the topic"
            )
        self._deliver([cut(record)])

    def _send(self, records: Sequence[OutRecord]) -> list[tuple[OutRecord, Exception]]:
        """Send, wait, and return those that were not acknowledged, each with its error."""
        with translated(self._connection, "writing"):
            futures = [self._sent(record) for record in records]
            self._producer.flush(timeout=ANSWER_TIMEOUT_MS * 2 / 1_000)
        return [
            (record, future.exception)
            for record, future in zip(records, futures, strict=True)
            if not future.succeeded()
        ]

    def _sent(self, record: OutRecord) -> "_Acknowledgement":
        if record.topic not in self._known_topics:
            self._look_up(record.topic)
        sent: _Acknowledgement = self._producer.send(
            record.topic,
            key=record.key,
            value=_NULL if record.value is None else record.value,
            headers=list(record.headers),
            partition=record.partition,
            timestamp_ms=record.log_ms,
        )
        return sent

    def _look_up(self, topic: str) -> None:
        try:
            self._producer.partitions_for(topic)
        except kafka_errors.KafkaTimeoutError as error:
            raise BrokerError(
                f"topic {topic} is not on broker {self._connection}, or the broker went away; "
                "create the topic, or check its name under kafka"
            ) from error
        self._known_topics.add(topic)

    def _renew(self) -> None:
        self.close()
        self._producer = _producer(self._connection)


def cut(record: OutRecord) -> OutRecord:
    """The record with the first ``CUT_BYTES`` of its value and its original size as a header.

    >>> cut(OutRecord("t", b"key", b"x" * 5000)).headers
    (('truncated', b'5000'),)
    """
    value = record.value or b""
    return OutRecord(
        record.topic,
        record.key,
        value[:CUT_BYTES],
        (*record.headers, (TRUNCATED, str(len(value)).encode())),
        record.partition,
        record.log_ms,
    )


_NULL = object()
"""A value of None: the client refuses a record with neither key nor value, Kafka does not."""

_TOO_LARGE = (kafka_errors.MessageSizeTooLargeError, kafka_errors.RecordListTooLargeError)
_BROKEN_SEQUENCE = (
    kafka_errors.OutOfOrderSequenceNumberError,
    kafka_errors.UnknownProducerIdError,
    kafka_errors.InvalidProducerEpochError,
    kafka_errors.InvalidProducerIdMappingError,
)


class _Acknowledgement(Protocol):
    """What the client gives for a record on its way."""

    exception: Exception

    def succeeded(self) -> bool: ...


def _producer(connection: KafkaConnection) -> KafkaProducer:
    return opened(
        KafkaProducer,
        connection,
        acks="all",
        enable_idempotence=True,
        allow_auto_create_topics=False,
        value_serializer=_NullableValue(),
        batch_size=BATCH_BYTES,
        linger_ms=5,
        max_request_size=REQUEST_BYTES,
        max_block_ms=CONNECT_TIMEOUT_MS,
        delivery_timeout_ms=ANSWER_TIMEOUT_MS,
        request_timeout_ms=ANSWER_TIMEOUT_MS // 3,
    )


@Serializer.register
class _NullableValue:
    """Hands bytes on, and turns ``_NULL`` into no value."""

    def serialize(self, _topic: str, _headers: object, value: object) -> object:
        return None if value is _NULL else value

    def close(self) -> None:
        """Nothing to leave."""
