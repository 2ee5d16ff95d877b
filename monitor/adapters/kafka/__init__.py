"""Kafka: the two topics as one consumer reads them, a sink to write to, and care for topics.

    connection, bulk > log, sink, topics > journal
    confluent_client > confluent, the log of the extra ``fast``
    in_step: either log with its partitions in step

The only package that knows the client libraries. Four rules keep its traps away: records are taken
as bytes (a deserializer that raises hangs the client at its next poll), partitions are paused one
by one through ``KafkaLog`` alone (a resumed one can stay silent for ever), the client never chooses
a place to read on from by itself, and a consumer whose poll failed is closed. Whatever the client
raises leaves here as a BrokerError.
"""

from monitor.adapters.kafka.connection import KafkaConnection, broker_error
from monitor.adapters.kafka.in_step import InStepLog
from monitor.adapters.kafka.journal import read_journal
from monitor.adapters.kafka.log import Assignor, ConsumerGroup, KafkaLog
from monitor.adapters.kafka.sink import KafkaSink
from monitor.adapters.kafka.topics import KafkaTopics, TopicInfo

__all__ = [
    "Assignor",
    "ConsumerGroup",
    "InStepLog",
    "KafkaConnection",
    "KafkaLog",
    "KafkaSink",
    "KafkaTopics",
    "TopicInfo",
    "broker_error",
    "read_journal",
]
