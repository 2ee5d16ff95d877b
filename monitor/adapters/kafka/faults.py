"""What is wrong with a topic, in the same words whichever client noticed it."""

from monitor.adapters.kafka.connection import KafkaConnection
from monitor.domain.errors import BrokerError
from monitor.domain.events import Kind, Partition, Position

START_AFRESH = "Start on a fresh redis.namespace, or name the topic that was read before"


def shortened(
    connection: KafkaConnection, partition: Partition, offset: int, what: str
) -> BrokerError:
    """What was to be read next is gone, and ``what`` says of the log why."""
    return BrokerError(
        f"{Position(*partition, offset)}: was to be read next, but the log {what} on broker "
        f"{connection}; the topic was created anew or lost records. {START_AFRESH}"
    )


def beyond_end(
    connection: KafkaConnection, partition: Partition, offset: int, end: int
) -> BrokerError:
    """What was to be read next lies behind the end."""
    return shortened(connection, partition, offset, f"ends at offset {end}")


def created_anew(connection: KafkaConnection, topic: str) -> BrokerError:
    """There is a topic of that name, but it is not the one that was read."""
    return BrokerError(
        f"topic {topic} was created anew on broker {connection} while it was read; {START_AFRESH}"
    )


def missing(connection: KafkaConnection, kind: Kind, topic: str) -> BrokerError:
    """There is no such topic."""
    return BrokerError(
        f"topic {topic} is not on broker {connection}, or this user may not see it; "
        f"create it, or set kafka.{kind}.topic to the right name"
    )
