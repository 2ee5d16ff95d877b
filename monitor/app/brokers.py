"""From settings to the brokers that they describe: logs, topics, producers."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

from monitor.adapters.history_sources import PausableLog
from monitor.adapters.kafka import (
    ConsumerGroup,
    InStepLog,
    KafkaConnection,
    KafkaLog,
    KafkaSink,
    KafkaTopics,
    read_journal,
)
from monitor.app.settings import Settings, SettingsError
from monitor.app.wiring import in_ms, topics_of
from monitor.domain.events import NextOffsets
from monitor.ports import RecordLog, RecordSink

if TYPE_CHECKING:
    from monitor.adapters.kafka.confluent import ConfluentLog


def connection_of(settings: Settings) -> KafkaConnection:
    """Where the brokers are and how to log in."""
    kafka, security = settings.kafka, settings.kafka.security
    files = (security.ca_file, security.cert_file, security.key_file)
    ca_file, cert_file, key_file = (None if path is None else str(path) for path in files)
    return KafkaConnection(
        bootstrap_servers=kafka.bootstrap_servers,
        protocol=security.protocol,
        mechanism=security.mechanism,
        username=security.username,
        password=security.password.get_secret_value() if security.password else None,
        ca_file=ca_file,
        cert_file=cert_file,
        key_file=key_file,
    )


class OpenedLog(PausableLog, Protocol):
    """A log that also knows where an instant lies."""

    def offsets_at(self, instant_ms: int) -> NextOffsets:
        """For each partition the first offset with this log time or a later one; its end if none.

        With producers' clocks, records behind it may be earlier all the same.
        """


def open_log(settings: Settings) -> OpenedLog:
    """The two topics, all partitions on its own, as they come.

    SettingsError when the client that is set is not installed.
    """
    return _open(settings, None)


def open_in_step(settings: Settings, *, in_group: bool = True) -> RecordLog:
    """The two topics for a worker, partitions in step: as a member of the consumer group, or alone.

    SettingsError when the client that is set is not installed.
    """
    kafka = settings.kafka
    group = ConsumerGroup(
        kafka.group, kafka.instance_id, in_ms(kafka.session_timeout), kafka.assignor
    )
    return InStepLog(_open(settings, group if in_group else None))


def _open(settings: Settings, group: ConsumerGroup | None) -> "KafkaLog | ConfluentLog":
    make = _confluent_log() if settings.kafka.client == "confluent-kafka" else KafkaLog
    return make(
        connection_of(settings),
        topics_of(settings),
        group,
        isolation_level=settings.kafka.isolation_level,
        wait_ms=in_ms(settings.worker.poll_timeout),
    )


def _confluent_log() -> "type[ConfluentLog]":
    if find_spec("confluent_kafka") is None:
        raise SettingsError(
            "kafka.client: confluent-kafka is not installed; pip install 'recallwatch[fast]', or "
            "set it to kafka-python"
        )
    from monitor.adapters.kafka.confluent import ConfluentLog  # noqa: PLC0415 - an extra

    return ConfluentLog


def group_lag(settings: Settings) -> float:
    """Records that the consumer group has yet to read, asked for from outside the group."""
    with KafkaTopics(connection_of(settings)) as admin:
        return admin.lag(settings.kafka.group, topics_of(settings).values())


def open_sink(settings: Settings) -> RecordSink:
    """A producer."""
    return KafkaSink(connection_of(settings))


def open_dead_letters(settings: Settings) -> RecordSink:
    """A producer, once the dead-letter topic is there: it is created if it is missing."""
    return open_topic(settings, settings.kafka.dead_letters.topic)


def open_topic(settings: Settings, topic: str) -> RecordSink:
    """A producer, once ``topic`` is there: it is created if it is missing."""
    connection = connection_of(settings)
    with KafkaTopics(connection) as admin:
        admin.ensure({topic: 1}, log_append_time=True)
    return KafkaSink(connection)


def open_journal_sink(settings: Settings) -> RecordSink:
    """A producer, once the journal's topic is there: it is created if it is missing.

    With one partition, for its entries are a chain, and kept for ever.
    """
    connection = connection_of(settings)
    with KafkaTopics(connection) as admin:
        admin.ensure({settings.kafka.journal.topic: 1}, log_append_time=True, retention_ms=-1)
    return KafkaSink(connection)


def open_journal(settings: Settings) -> Iterator[bytes]:
    """The lines of the journal's topic up to its present end; see ``read_journal``."""
    topic, namespace = settings.kafka.journal.topic, settings.redis.namespace
    return read_journal(connection_of(settings), topic, namespace)
