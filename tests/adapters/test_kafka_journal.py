"""The journal's topic is read from its beginning to its present end, and no further."""

import secrets
from collections.abc import Iterator
from contextlib import closing

import pytest

from monitor.adapters.kafka import (
    KafkaConnection,
    KafkaSink,
    KafkaTopics,
    connection,
    read_journal,
)
from monitor.adapters.kafka.journal import POLLED
from monitor.domain.errors import BrokerError
from monitor.ports import OutRecord


@pytest.fixture
def topic(broker: KafkaConnection) -> str:
    name = f"journal-{secrets.token_hex(6)}"
    with KafkaTopics(broker) as topics:
        topics.ensure({name: 1}, log_append_time=True, retention_ms=-1)
    return name


@pytest.fixture
def sink(broker: KafkaConnection) -> Iterator[KafkaSink]:
    with closing(KafkaSink(broker)) as sink:
        yield sink


def lines(count: int, start: int = 0) -> list[bytes]:
    return [b"line %d" % number for number in range(start, start + count)]


def write(sink: KafkaSink, topic: str, values: list[bytes], *, key: bytes | None = b"prod") -> None:
    sink.publish(OutRecord(topic, key, value) for value in values)


def test_all_entries_are_read_in_their_order(
    broker: KafkaConnection, sink: KafkaSink, topic: str
) -> None:
    written = lines(2 * POLLED + 7)
    write(sink, topic, written)
    assert list(read_journal(broker, topic, "prod")) == written
    assert list(read_journal(broker, topic, "prod")) == written


def test_entries_of_other_namespaces_are_passed_over(
    broker: KafkaConnection, sink: KafkaSink, topic: str
) -> None:
    for number in range(6):
        write(sink, topic, lines(1, number), key=[b"prod", b"test", None][number % 3])
    sink.publish([OutRecord(topic, b"prod", None)])
    assert list(read_journal(broker, topic, "prod")) == [b"line 0", b"line 3"]
    assert list(read_journal(broker, topic, "test")) == [b"line 1", b"line 4"]
    assert list(read_journal(broker, topic, "other")) == []


def test_a_topic_that_is_empty_or_missing_has_no_entries(
    broker: KafkaConnection, topic: str
) -> None:
    assert list(read_journal(broker, topic, "prod")) == []
    missing = f"missing-{topic}"
    assert list(read_journal(broker, missing, "prod")) == []
    with KafkaTopics(broker) as topics:
        assert topics.describe([missing]) == {}


def test_reading_ends_although_entries_are_added_meanwhile(
    broker: KafkaConnection, sink: KafkaSink, topic: str
) -> None:
    write(sink, topic, lines(3))
    read: list[bytes] = []
    for line in read_journal(broker, topic, "prod"):
        write(sink, topic, lines(1, 100 + len(read)))
        read.append(line)
        assert len(read) < 100
    assert read[:3] == lines(3)


def test_reading_may_be_left_off(broker: KafkaConnection, sink: KafkaSink, topic: str) -> None:
    write(sink, topic, lines(3))
    entries = read_journal(broker, topic, "prod")
    assert next(iter(entries)) == b"line 0"
    del entries


def test_an_unreachable_broker_is_told(
    unreachable_broker: KafkaConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT_MS", 200)
    with pytest.raises(BrokerError, match=r"check kafka\.bootstrap_servers"):
        list(read_journal(unreachable_broker, "journal", "prod"))
