"""Captured records into the topics: as they were, and as fast as they were captured if wanted."""

import secrets
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from monitor.adapters.files import CaptureError
from monitor.adapters.kafka import KafkaConnection, KafkaLog, KafkaTopics
from monitor.adapters.memory import MemoryLog
from monitor.app.feed import CHUNK, feed_files, outgoing, publish_all, publish_paced
from monitor.app.settings import Settings
from monitor.app.wiring import topics_of
from monitor.domain.errors import BrokerError
from monitor.domain.events import Partition, Record
from monitor.ports import OutRecord
from tests.app.captures import captured, captured_story
from tests.app.story import history
from tests.builders import T0, prediction_message, record

WALL_MS = 5_000_000


def out(log_ms: int, value: bytes = b"{}") -> OutRecord:
    return OutRecord("predictions", b"key", value, partition=0, log_ms=log_ms)


def ignore(_: object) -> None:
    """For what a test does not look at."""


class Pace(threading.Event):
    """A clock and the pause of who waits for it: time moves on while somebody pauses."""

    def __init__(self, end_ms: int | None = None) -> None:
        super().__init__()
        self.ms, self._end_ms = WALL_MS, end_ms

    def now_ms(self) -> int:
        return self.ms

    def wait(self, timeout: float | None = None) -> bool:
        self.ms += round((timeout or 0) * 1_000)
        if self._end_ms is not None and self.ms >= self._end_ms:
            self.set()
        return self.is_set()


class NotingSink:
    """Says at which wall time a record was written."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self.written: list[tuple[int, int | None]] = []

    def publish(self, records: Iterable[OutRecord]) -> None:
        self.written += [(self._pace.ms - WALL_MS, each.log_ms) for each in records]

    def close(self) -> None:
        """Nothing to leave."""


# Without a broker


def test_a_captured_record_keeps_key_value_partition_and_timestamp() -> None:
    taken = Record("predictions", 3, 17, T0, b"key", b"\xff")
    assert outgoing(taken, 6) == OutRecord("predictions", b"key", b"\xff", (), 3, T0)


@pytest.mark.parametrize(("partition", "expected"), [(0, 0), (1, 1), (2, 0), (5, 1)])
def test_a_partition_that_does_not_exist_folds_onto_one_that_does(
    partition: int, expected: int
) -> None:
    taken = record(prediction_message(), partition=partition)
    assert outgoing(taken, 2).partition == expected


def test_without_a_pace_everything_is_written_in_chunks() -> None:
    log, seen = MemoryLog({"predictions": 1}), list[int]()
    assert publish_all((out(n) for n in range(CHUNK + 3)), log, seen.append) == CHUNK + 3
    assert seen == [CHUNK, CHUNK + 3]
    assert log.lag() == {Partition("predictions", 0): CHUNK + 3}


def test_publishing_nothing_is_fine() -> None:
    assert publish_all([], MemoryLog({}), ignore) == 0
    assert publish_paced([], MemoryLog({}), Pace(), speed=1, stop=Pace()) == 0


@pytest.mark.parametrize("speed", [1.0, 60.0])
def test_a_record_is_written_when_its_time_has_come(speed: float) -> None:
    pace = Pace()
    sink = NotingSink(pace)
    records = [out(T0 + seconds * 1_000) for seconds in (0, 0, 60, 120, 121)]
    done = publish_paced(records, sink, pace, speed=speed, stop=pace)
    assert done == len(records)
    assert [log_ms for _, log_ms in sink.written] == [each.log_ms for each in records]
    for wall_ms, log_ms in sink.written:
        due_ms = ((log_ms or 0) - T0) / speed
        assert due_ms <= wall_ms <= due_ms + 100


def test_records_that_are_due_already_are_written_at_once() -> None:
    pace = Pace()
    sink = NotingSink(pace)
    began = WALL_MS, T0
    records = [out(T0 - 60_000), out(T0 - 1), out(T0)]
    assert publish_paced(records, sink, pace, speed=1, stop=pace, began=began) == 3
    assert [wall_ms for wall_ms, _ in sink.written] == [0, 0, 0]


def test_pacing_ends_when_it_is_told_to_and_says_how_much_was_written() -> None:
    pace = Pace(end_ms=WALL_MS + 30_000)
    sink = NotingSink(pace)
    records = (out(T0 + seconds * 10_000) for seconds in range(100))
    assert publish_paced(records, sink, pace, speed=1, stop=pace) == len(sink.written) == 3


def test_progress_of_a_paced_feed_counts_what_was_written() -> None:
    pace, seen = Pace(), list[int]()
    records = [out(T0 + seconds * 1_000) for seconds in range(4)]
    publish_paced(records, NotingSink(pace), pace, speed=1, stop=pace, on_progress=seen.append)
    assert seen == [1, 2, 3, 4]


def test_a_pace_that_is_never_slower_than_the_log_writes_in_chunks() -> None:
    pace, seen = Pace(), list[int]()
    records = (out(T0 - 1) for _ in range(CHUNK + 3))
    publish_paced(
        records, NotingSink(pace), pace, speed=1, began=(WALL_MS, T0), on_progress=seen.append
    )
    assert seen == [CHUNK, CHUNK + 3]


# Through a broker


@pytest.fixture
def settings(broker: KafkaConnection) -> Settings:
    name = secrets.token_hex(6)
    topics = {
        role: {"topic": f"{role}-{name}"}
        for role in ("predictions", "labels", "dead_letters", "journal")
    }
    return Settings.model_validate(
        {"kafka": {"bootstrap_servers": list(broker.bootstrap_servers), **topics}}
    )


def feed(folder: Path, settings: Settings, create: int | None = None) -> tuple[int, list[str]]:
    warnings: list[str] = []
    written = feed_files(
        folder,
        settings,
        speed=None,
        create_partitions=create,
        clock=Pace(),
        warn=warnings.append,
        on_progress=ignore,
    )
    return written, warnings


def everything(settings: Settings, broker: KafkaConnection, count: int) -> Iterator[Record]:
    log = KafkaLog(broker, topics_of(settings))
    log.seek(log.oldest(log.assigned()))
    try:
        read = 0
        while read < count:
            batch = log.poll(1_000)
            read += len(batch)
            yield from batch
    finally:
        log.close()


def test_what_is_fed_is_in_the_topics_as_it_was_captured(
    tmp_path: Path, settings: Settings, broker: KafkaConnection
) -> None:
    written, warnings = feed(captured_story(tmp_path), settings, create=2)
    assert (written, warnings) == (len(history()), [])
    names = {topic: str(kind) for kind, topic in topics_of(settings).items()}
    found = [
        (names[r.topic], r.partition, r.log_ms, r.key, r.value)
        for r in everything(settings, broker, written)
    ]
    expected = [(r.topic, r.partition, r.log_ms, r.key, r.value) for r in history()]
    assert sorted(found, key=repr) == sorted(expected, key=repr)


def test_topics_are_created_for_ever_with_the_records_own_timestamps(
    tmp_path: Path, settings: Settings, broker: KafkaConnection
) -> None:
    feed(captured(tmp_path, []), settings, create=3)
    names = [*topics_of(settings).values(), settings.kafka.dead_letters.topic]
    with KafkaTopics(broker) as topics:
        found = topics.describe(names)
    assert [found[name].partitions for name in names] == [3, 3, 1]
    for name in topics_of(settings).values():
        assert (found[name].timestamp_type, found[name].retention_ms) == ("CreateTime", -1)


def test_topics_that_exist_are_left_as_they_are(
    tmp_path: Path, settings: Settings, broker: KafkaConnection
) -> None:
    feed(captured(tmp_path, []), settings, create=1)
    feed(captured(tmp_path, []), settings, create=6)
    with KafkaTopics(broker) as topics:
        found = topics.describe(list(topics_of(settings).values()))
    assert {info.partitions for info in found.values()} == {1}


def test_missing_topics_are_named_with_the_ways_out(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(BrokerError) as caught:
        feed(captured_story(tmp_path), settings)
    said = str(caught.value)
    assert settings.kafka.predictions.topic in said
    assert settings.kafka.labels.topic in said
    assert "--create-topics 6" in said


def test_a_topic_that_replaces_timestamps_is_warned_of(
    tmp_path: Path, settings: Settings, broker: KafkaConnection
) -> None:
    with KafkaTopics(broker) as topics:
        topics.ensure(dict.fromkeys(topics_of(settings).values(), 1), log_append_time=True)
    _, warnings = feed(captured(tmp_path, []), settings)
    assert len(warnings) == 2
    assert "LogAppendTime" in warnings[0]


def test_nothing_is_created_for_a_folder_that_holds_no_captured_records(
    tmp_path: Path, settings: Settings, broker: KafkaConnection
) -> None:
    with pytest.raises(CaptureError):
        feed(tmp_path, settings, create=1)
    with KafkaTopics(broker) as topics:
        assert topics.describe(list(topics_of(settings).values())) == {}
