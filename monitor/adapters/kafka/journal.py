"""The journal's topic, read from its beginning."""

from collections.abc import Iterator
from contextlib import closing

from monitor.adapters.kafka.connection import KafkaConnection
from monitor.adapters.kafka.log import KafkaLog
from monitor.adapters.kafka.topics import KafkaTopics
from monitor.domain.events import Kind

POLLED = 1_000


def read_journal(connection: KafkaConnection, topic: str, namespace: str) -> Iterator[bytes]:
    """The journal entries of a namespace, from the topic's beginning to its present end, in order.

    Nothing when the topic is missing. Some may come twice: they were written at least once.
    BrokerError when no broker answers, also between two entries.
    """
    with KafkaTopics(connection) as admin:
        if not admin.describe([topic]):
            return
    # The log wants to know what the topic is for, and says so only of one that is missing.
    with closing(KafkaLog(connection, {Kind.LABELS: topic})) as log:
        yield from _entries(log, namespace.encode())


def _entries(log: KafkaLog, key: bytes) -> Iterator[bytes]:
    ends, generation = log.newest(log.assigned()), log.generation
    while any(log.places().get(partition, 0) < end for partition, end in ends.items()):
        for record in log.poll(POLLED):
            if record.key == key and record.value is not None:
                yield record.value
        if log.generation != generation:
            generation = log.generation
            places = log.places()
            # What was to be read next has been dropped: go on with the oldest that is left.
            oldest = log.oldest(log.assigned()).items()
            log.seek({p: max(first, places.get(p, 0)) for p, first in oldest})
