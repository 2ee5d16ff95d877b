"""The topics of a broker: created, described, and how far a group has come in them."""

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from kafka import KafkaAdminClient, TopicPartition
from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, ConfigResourceType, OffsetSpec

from monitor.adapters.kafka.connection import (
    ANSWER_TIMEOUT_MS,
    KafkaConnection,
    opened,
    translated,
)


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """What there is of a topic; None where the broker keeps it to itself.

    ``retention_ms`` -1 is for ever; ``timestamp_type`` is CreateTime or LogAppendTime.
    """

    partitions: int
    timestamp_type: str | None
    retention_ms: int | None
    cleanup_policy: str | None


class KafkaTopics:
    """The topics of a broker. Close it, or use it in a ``with``."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._connection = connection
        self._admin = opened(KafkaAdminClient, connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ensure(
        self, topics: Mapping[str, int], *, log_append_time: bool, retention_ms: int | None = None
    ) -> list[str]:
        """Create what is missing of ``topics`` (name to partitions); the names created, sorted.

        Topics that exist are left as they are. ``retention_ms`` -1 keeps records for ever, None
        leaves it to the broker, as is the number of replicas.
        """
        configs = {"message.timestamp.type": "LogAppendTime" if log_append_time else "CreateTime"}
        if retention_ms is not None:
            configs["retention.ms"] = str(retention_ms)
        with translated(self._connection, "creating topics"):
            missing = sorted(set(topics) - set(self._admin.list_topics()))
            if missing:
                wanted = {
                    name: {"num_partitions": topics[name], "configs": configs} for name in missing
                }
                answer = self._admin.create_topics(wanted, raise_errors=False)
                self._check_created(answer["topics"])
                self._admin.wait_for_topics(missing, timeout_ms=ANSWER_TIMEOUT_MS)
        return missing

    def describe(self, names: Collection[str]) -> dict[str, TopicInfo]:
        """What there is of each topic; a missing one is absent."""
        with translated(self._connection, "describing topics"):
            there = set(self._admin.list_topics())
            known = [name for name in sorted(names) if name in there]
            if not known:
                return {}
            counts = {t["name"]: len(t["partitions"]) for t in self._admin.describe_topics(known)}
            resources = [ConfigResource(ConfigResourceType.TOPIC, n, None) for n in known]
            answer = self._admin.describe_configs(resources, config_filter="all")
        configs = answer.get("topic", {})
        return {name: _topic_info(counts[name], configs.get(name, {})) for name in known}

    def lag(self, group: str, topics: Iterable[str]) -> int:
        """Offsets between what ``group`` has committed and the ends of ``topics``, added up.

        A partition without a commit counts from its oldest record. Asked from outside the group,
        so that it holds, too, while no worker reads. BrokerError when a topic is missing.
        """
        with translated(self._connection, f"looking up the lag of group {group}"):
            partitions = self._partitions(topics)
            oldest = self._offsets(partitions, OffsetSpec.EARLIEST)
            ends = self._offsets(partitions, OffsetSpec.LATEST)
            committed = self._admin.list_group_offsets({group: partitions})[group]
        return sum(
            max(0, ends[tp] - max(oldest[tp], committed[tp].offset if tp in committed else 0))
            for tp in partitions
        )

    def close(self) -> None:
        """Leave; harmless when repeated."""
        with suppress(kafka_errors.KafkaError):
            self._admin.close()

    def _partitions(self, topics: Iterable[str]) -> list[TopicPartition]:
        found = []
        for topic in self._admin.describe_topics(sorted(topics)):
            _check(topic["error_code"], f"topic {topic['name']}")
            found += [
                TopicPartition(topic["name"], p["partition_index"]) for p in topic["partitions"]
            ]
        return found

    def _offsets(
        self, partitions: Iterable[TopicPartition], spec: OffsetSpec
    ) -> dict[TopicPartition, int]:
        found = self._admin.list_partition_offsets(dict.fromkeys(partitions, spec))
        return {tp: place.offset for tp, place in found.items()}

    @staticmethod
    def _check_created(answers: Iterable[Mapping[str, Any]]) -> None:
        for answer in answers:
            # Somebody else was faster: as good as created.
            if answer["error_code"] != kafka_errors.TopicAlreadyExistsError.errno:
                _check(answer["error_code"], f"topic {answer['name']}: {answer['error_message']}")


def _check(error_code: int, what: str) -> None:
    kind = kafka_errors.for_code(error_code)
    if kind is not kafka_errors.NoError:
        raise kind(what)


def _topic_info(partitions: int, configs: Mapping[str, Mapping[str, str | None]]) -> TopicInfo:
    def value(name: str) -> str | None:
        return configs.get(name, {}).get("value")

    retention = value("retention.ms")
    return TopicInfo(
        partitions=partitions,
        timestamp_type=value("message.timestamp.type"),
        retention_ms=None if retention is None else int(retention),
        cleanup_policy=value("cleanup.policy"),
    )
