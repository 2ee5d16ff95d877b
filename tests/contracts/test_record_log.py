"""The record log and sink contracts, run on memory, on files and on a broker."""

import base64
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, TopicPartition

from monitor.adapters.files import FilesLog
from monitor.adapters.kafka import ConsumerGroup, InStepLog, KafkaConnection, KafkaLog, KafkaSink
from monitor.adapters.kafka.confluent import ConfluentLog
from monitor.adapters.memory import MemoryLog
from monitor.domain.events import Kind, Partition
from monitor.ports import OutRecord, RecordLog
from tests.contracts.record_log import (
    EMPTY_POLLS,
    KeptWorld,
    LogWorld,
    ReadingContract,
    RecordLogContract,
    RecordSinkContract,
    SinkWorld,
)

TOPICS: Mapping[Kind, str] = {Kind.PREDICTIONS: "predictions", Kind.LABELS: "labels"}


class MemoryWorld:
    topics = TOPICS

    def __init__(self) -> None:
        self.sink = MemoryLog({"predictions": 2, "labels": 1})

    def write(self, records: Iterable[OutRecord]) -> None:
        self.sink.publish(records)

    def drop(self, partition: Partition, before: int) -> None:
        self.sink.drop(partition, before)

    def open(self) -> RecordLog:
        return self.sink


class FilesWorld:
    topics = TOPICS

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack

    def write(self, records: Iterable[OutRecord]) -> None:
        ends: Counter[Partition] = Counter()
        lines: dict[str, list[str]] = {topic: [] for topic in self.topics.values()}
        for record in records:
            partition = Partition(record.topic, record.partition or 0)
            lines[record.topic].append(_captured(record, ends[partition]))
            ends[partition] += 1
        for kind, topic in self.topics.items():
            path = self._folder / f"{kind}.jsonl"
            path.write_text("".join(f"{line}\n" for line in lines[topic]), encoding="utf-8")

    def open(self) -> RecordLog:
        return self._stack.enter_context(closing(FilesLog(self._folder, self.topics)))


def _captured(record: OutRecord, offset: int) -> str:
    value = record.value
    fields: dict[str, object] = {
        "topic": record.topic,
        "partition": record.partition or 0,
        "offset": offset,
        "timestamp": record.log_ms or 0,
        "key": None if record.key is None else record.key.decode(),
    }
    try:
        fields["value"] = None if value is None else value.decode()
    except UnicodeDecodeError:
        fields["value_b64"] = base64.b64encode(value or b"").decode()
    return json.dumps(fields)


class KafkaWorld:
    def __init__(
        self,
        broker: KafkaConnection,
        topics: Mapping[Kind, str],
        stack: ExitStack,
        group: ConsumerGroup | None = None,
        client: type[KafkaLog | ConfluentLog] = KafkaLog,
        *,
        is_in_step: bool = False,
    ) -> None:
        self.topics, self._client = topics, client
        self.sink = stack.enter_context(closing(KafkaSink(broker)))
        self._broker, self._group, self._stack = broker, group, stack
        self._is_in_step = is_in_step

    def write(self, records: Iterable[OutRecord]) -> None:
        self.sink.publish(records)

    def drop(self, partition: Partition, before: int) -> None:
        with closing(KafkaAdminClient(**self._broker.options())) as admin:
            admin.delete_records({TopicPartition(*partition): before})

    def open(self) -> RecordLog:
        opened = self._client(self._broker, self.topics, self._group, wait_ms=100)
        log: RecordLog = InStepLog(opened) if self._is_in_step else opened
        self._stack.enter_context(closing(log))
        for _ in range(EMPTY_POLLS):
            if log.assigned():
                break
            assert log.poll(100) == []
        # On its own the log begins at the oldest records by itself.
        if self._group:
            log.seek(log.oldest(log.assigned()))
        return log


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


class TestMemoryLog(RecordLogContract):
    @pytest.fixture
    def world(self) -> KeptWorld:
        return MemoryWorld()


class TestFilesLog(ReadingContract):
    @pytest.fixture
    def world(self, tmp_path: Path, stack: ExitStack) -> LogWorld:
        return FilesWorld(tmp_path, stack)


class TestKafkaLogInAGroup(RecordLogContract):
    @pytest.fixture
    def world(
        self, broker: KafkaConnection, topics: dict[Kind, str], stack: ExitStack
    ) -> KeptWorld:
        group = ConsumerGroup(f"readers-of-{topics[Kind.LABELS]}")
        return KafkaWorld(broker, topics, stack, group)


class TestKafkaLogOnItsOwn(RecordLogContract):
    @pytest.fixture
    def world(
        self, broker: KafkaConnection, topics: dict[Kind, str], stack: ExitStack
    ) -> KeptWorld:
        return KafkaWorld(broker, topics, stack)


class TestLogInStep(RecordLogContract):
    @pytest.fixture(params=[KafkaLog, ConfluentLog], ids=["kafka-python", "confluent-kafka"])
    def world(
        self,
        broker: KafkaConnection,
        topics: dict[Kind, str],
        stack: ExitStack,
        request: pytest.FixtureRequest,
    ) -> KeptWorld:
        group = ConsumerGroup(f"readers-of-{topics[Kind.LABELS]}")
        return KafkaWorld(broker, topics, stack, group, request.param, is_in_step=True)


class TestConfluentLogInAGroup(RecordLogContract):
    @pytest.fixture(params=["range", "cooperative-sticky"])
    def world(
        self,
        broker: KafkaConnection,
        topics: dict[Kind, str],
        stack: ExitStack,
        request: pytest.FixtureRequest,
    ) -> KeptWorld:
        group = ConsumerGroup(f"readers-of-{topics[Kind.LABELS]}", assignor=request.param)
        return KafkaWorld(broker, topics, stack, group, ConfluentLog)


class TestConfluentLogOnItsOwn(RecordLogContract):
    @pytest.fixture
    def world(
        self, broker: KafkaConnection, topics: dict[Kind, str], stack: ExitStack
    ) -> KeptWorld:
        return KafkaWorld(broker, topics, stack, client=ConfluentLog)


class TestMemorySink(RecordSinkContract):
    @pytest.fixture
    def world(self) -> SinkWorld:
        return MemoryWorld()


class TestKafkaSink(RecordSinkContract):
    @pytest.fixture
    def world(
        self, broker: KafkaConnection, topics: dict[Kind, str], stack: ExitStack
    ) -> SinkWorld:
        return KafkaWorld(broker, topics, stack)
