"""What every RecordLog and RecordSink keeps, whatever is behind it.

A subclass names a ``world``: two topics, predictions with two partitions and labels with one, that
can be written to and read. Where nothing comes for a while a log may answer [] (a group that is
still forming, a slow broker), so the tests poll until they have what they expect.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from typing import Protocol

import pytest

from monitor.domain.errors import BrokerError
from monitor.domain.events import Kind, Partition, Record
from monitor.ports import OutRecord, RecordLog, RecordSink

EMPTY_POLLS = 300
"""Empty polls in a row after which the expected records will not come any more."""

LOG_MS = 1_700_000_000_000


class LogWorld(Protocol):
    """Topics of one test. ``write`` comes before ``open``, as a log may be read only once.

    ``open`` gives a log that has its partitions, so that it can be told where to read on.
    """

    @property
    def topics(self) -> Mapping[Kind, str]: ...

    def write(self, records: Iterable[OutRecord]) -> None: ...

    def open(self) -> RecordLog: ...


class KeptWorld(LogWorld, Protocol):
    """Topics of one test, from which old records can be dropped, as retention does."""

    def drop(self, partition: Partition, before: int) -> None: ...


class SinkWorld(LogWorld, Protocol):
    """Topics of one test, and a sink that writes to them."""

    @property
    def sink(self) -> RecordSink: ...


def poll_until(
    log: RecordLog, is_enough: Callable[[list[Record]], bool], max_records: int = 100
) -> list[Record]:
    """Everything polled until ``is_enough`` of it; fails when nothing more comes."""
    polled: list[Record] = []
    empty = 0
    while not is_enough(polled):
        batch = log.poll(max_records)
        assert len(batch) <= max_records
        polled += batch
        empty = 0 if batch else empty + 1
        assert empty < EMPTY_POLLS, f"no more than {len(polled)} records came"
    return polled


def read(log: RecordLog, count: int, max_records: int = 100) -> list[Record]:
    polled = poll_until(log, lambda so_far: len(so_far) >= count, max_records)
    assert len(polled) == count
    return polled


def read_to_end(log: RecordLog, world: LogWorld) -> list[Record]:
    return poll_until(log, lambda _: log.at_end() == everything(world))


def everything(world: LogWorld) -> frozenset[Partition]:
    predictions, labels = world.topics[Kind.PREDICTIONS], world.topics[Kind.LABELS]
    return frozenset({Partition(predictions, 0), Partition(predictions, 1), Partition(labels, 0)})


def partition_of(record: Record) -> Partition:
    return Partition(record.topic, record.partition)


def by_partition(records: Iterable[Record]) -> dict[Partition, list[Record]]:
    ordered = sorted(records, key=partition_of)
    return {partition: list(group) for partition, group in groupby(ordered, key=partition_of)}


def offsets(records: Iterable[Record]) -> list[int]:
    return [record.offset for record in records]


def values(records: Iterable[Record]) -> list[bytes | None]:
    return [record.value for record in records]


def next_offsets(records: Iterable[Record]) -> dict[Partition, int]:
    return {partition: found[-1].offset + 1 for partition, found in by_partition(records).items()}


class ReadingContract:
    """What holds for every log, also for one that is read once from the start."""

    @pytest.fixture
    def world(self) -> LogWorld:
        raise NotImplementedError

    def some_records(self, world: LogWorld, count: int = 12) -> list[OutRecord]:
        """Records for all three partitions in turn, one millisecond apart."""
        predictions, labels = world.topics[Kind.PREDICTIONS], world.topics[Kind.LABELS]
        places = [(predictions, 0), (predictions, 1), (labels, 0)]
        return [
            OutRecord(
                topic,
                key=f"key-{number}".encode(),
                value=f"value-{number}".encode(),
                partition=partition,
                log_ms=LOG_MS + number,
            )
            for number in range(count)
            for topic, partition in [places[number % len(places)]]
        ]

    def test_each_partition_comes_in_offset_order_whatever_the_batch_size(
        self, world: LogWorld
    ) -> None:
        world.write(self.some_records(world))
        polled = read(world.open(), count=12, max_records=5)
        assert {p: offsets(found) for p, found in by_partition(polled).items()} == {
            Partition(world.topics[Kind.PREDICTIONS], 0): [0, 1, 2, 3],
            Partition(world.topics[Kind.PREDICTIONS], 1): [0, 1, 2, 3],
            Partition(world.topics[Kind.LABELS], 0): [0, 1, 2, 3],
        }

    def test_a_record_comes_as_it_was_written(self, world: LogWorld) -> None:
        topic = world.topics[Kind.PREDICTIONS]
        world.write([OutRecord(topic, b"key", b'{"a": 1}', partition=1, log_ms=LOG_MS)])
        assert read(world.open(), count=1) == [Record(topic, 1, 0, LOG_MS, b"key", b'{"a": 1}')]

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            pytest.param(None, b"value", id="no key"),
            pytest.param(b"key", None, id="a tombstone"),
            pytest.param(b"key", b"", id="an empty value"),
            pytest.param(None, None, id="neither key nor value"),
            pytest.param(b"key", b'\xff\xfe not text, {"nor": JSON', id="no text"),
        ],
    )
    def test_bytes_are_handed_on_without_being_understood(
        self, world: LogWorld, key: bytes | None, value: bytes | None
    ) -> None:
        topic = world.topics[Kind.LABELS]
        after = OutRecord(topic, b"key", b"after", partition=0, log_ms=LOG_MS + 1)
        world.write([OutRecord(topic, key, value, partition=0, log_ms=LOG_MS), after])
        polled = read(world.open(), count=2)
        assert [(r.key, r.value) for r in polled] == [(key, value), (b"key", b"after")]

    def test_a_log_without_records_answers_with_an_empty_list(self, world: LogWorld) -> None:
        world.write([])
        assert world.open().poll(100) == []

    def test_no_partition_is_at_its_end_before_its_last_record_is_polled(
        self, world: LogWorld
    ) -> None:
        written = self.some_records(world)
        world.write(written)
        log = world.open()
        unread = Counter(Partition(out.topic, out.partition or 0) for out in written)
        for _ in range(EMPTY_POLLS):
            assert not log.at_end() & {partition for partition, left in unread.items() if left}
            unread.subtract(partition_of(record) for record in log.poll(1))
            if not unread.total():
                break
        assert not unread.total()

    def test_all_partitions_are_at_their_end_once_everything_is_read(self, world: LogWorld) -> None:
        world.write(self.some_records(world))
        log = world.open()
        assert len(read_to_end(log, world)) == 12
        assert log.at_end() == everything(world)
        assert log.poll(100) == []

    def test_reading_goes_on_at_the_next_offsets_that_were_sought(self, world: LogWorld) -> None:
        world.write(self.some_records(world))
        predictions = Partition(world.topics[Kind.PREDICTIONS], 0)
        labels = Partition(world.topics[Kind.LABELS], 0)
        log = world.open()
        log.seek({predictions: 4, labels: 3})
        polled = by_partition(read(log, count=5))
        assert predictions not in polled
        assert offsets(polled[labels]) == [3]
        assert offsets(polled[Partition(predictions.topic, 1)]) == [0, 1, 2, 3]

    def test_a_log_can_be_told_how_far_we_are(self, world: LogWorld) -> None:
        world.write(self.some_records(world))
        log = world.open()
        log.commit(next_offsets(read(log, count=12)))
        assert log.poll(100) == []

    def test_nothing_is_missing_from_a_log_of_which_nothing_was_dropped(
        self, world: LogWorld
    ) -> None:
        world.write(self.some_records(world, count=4))
        log = world.open()
        assert log.oldest(everything(world)) == dict.fromkeys(everything(world), 0)
        assert log.oldest([]) == {}

    def test_closing_twice_is_harmless(self, world: LogWorld) -> None:
        world.write([])
        log = world.open()
        log.close()
        log.close()


class RecordLogContract(ReadingContract):
    """What holds for a log that others write to while it is read, and that drops old records."""

    @pytest.fixture
    def world(self) -> KeptWorld:
        raise NotImplementedError

    def test_a_lone_reader_reads_all_partitions_of_both_topics(self, world: LogWorld) -> None:
        log = world.open()
        assert log.assigned() == everything(world)
        assert log.partitions() == everything(world)

    def test_the_generation_stays_while_no_other_reader_comes(self, world: LogWorld) -> None:
        world.write(self.some_records(world))
        log = world.open()
        generation = log.generation
        read_to_end(log, world)
        assert log.generation == generation

    def test_empty_partitions_are_at_their_end(self, world: LogWorld) -> None:
        log = world.open()
        assert log.at_end() == log.assigned()
        assert log.lag() == dict.fromkeys(log.assigned(), 0)

    def test_records_written_later_are_read_and_move_the_end(self, world: LogWorld) -> None:
        labels = Partition(world.topics[Kind.LABELS], 0)
        world.write(self.some_records(world))
        log = world.open()
        read_to_end(log, world)
        world.write([OutRecord(labels.topic, b"key", b"later", partition=0, log_ms=LOG_MS)])
        assert log.at_end() == log.assigned() - {labels}
        assert values(read_to_end(log, world)) == [b"later"]
        assert log.at_end() == log.assigned()

    def test_lag_is_what_has_not_been_polled(self, world: LogWorld) -> None:
        world.write(self.some_records(world))
        log = world.open()
        assert set(log.lag().values()) == {4}
        polled = read(log, count=5, max_records=1)
        assert log.lag() == {p: 4 - next_offsets(polled).get(p, 0) for p in log.assigned()}
        read_to_end(log, world)
        assert set(log.lag().values()) == {0}

    def test_a_seek_backward_reads_again_and_leaves_other_partitions_alone(
        self, world: LogWorld
    ) -> None:
        world.write(self.some_records(world))
        log = world.open()
        read_to_end(log, world)
        again = Partition(world.topics[Kind.PREDICTIONS], 1)
        log.seek({again: 1})
        assert log.lag() == {p: 3 if p == again else 0 for p in log.assigned()}
        polled = by_partition(read_to_end(log, world))
        assert {p: offsets(found) for p, found in polled.items()} == {again: [1, 2, 3]}

    def test_a_seek_in_the_middle_of_a_batch_takes_effect_at_once(self, world: LogWorld) -> None:
        world.write(self.some_records(world, count=300))
        log = world.open()
        poll_until(log, lambda polled: len(polled) >= 150, max_records=50)
        log.seek(dict.fromkeys(log.assigned(), 99))
        assert offsets(read_to_end(log, world)) == [99, 99, 99]

    def test_seeking_a_partition_that_is_not_read_is_passed_over(self, world: LogWorld) -> None:
        world.write(self.some_records(world))
        log = world.open()
        log.seek({Partition("elsewhere", 0): 7})
        assert len(read_to_end(log, world)) == 12

    def test_a_seek_beyond_the_end_is_refused_since_that_is_another_log(
        self, world: KeptWorld
    ) -> None:
        world.write(self.some_records(world))
        labels = Partition(world.topics[Kind.LABELS], 0)
        log = world.open()
        log.seek({labels: 4})
        with pytest.raises(BrokerError) as caught:
            log.seek({labels: 5})
        assert f"{labels}@5: was to be read next, but the log ends at offset 4" in str(caught.value)

    def test_the_oldest_offset_follows_what_is_dropped_up_to_the_end(
        self, world: KeptWorld
    ) -> None:
        #  offsets   0 1 2 3 | end 4      dropped before 3, then before 4
        world.write(self.some_records(world))
        labels = Partition(world.topics[Kind.LABELS], 0)
        log = world.open()
        world.drop(labels, 3)
        assert log.oldest(everything(world)) == {p: 3 * (p == labels) for p in everything(world)}
        world.drop(labels, 4)
        assert log.oldest([labels]) == {labels: 4}

    def test_records_dropped_before_they_were_read_are_never_passed_over_in_silence(
        self, world: KeptWorld
    ) -> None:
        #  offsets   0 1 2 3 4 5 6 7 8 9 | end 10
        #  read      - -
        #  dropped   - - - - - -
        world.write(self.some_records(world, count=30))
        labels = Partition(world.topics[Kind.LABELS], 0)
        log = world.open()
        log.seek({p: 2 if p == labels else 10 for p in log.assigned()})
        world.drop(labels, 6)
        self._poll_until_a_place_is_lost(log)
        assert labels not in log.at_end()
        assert log.lag()[labels] == 8
        log.seek(log.oldest([labels]))
        assert offsets(read(log, count=4)) == [6, 7, 8, 9]

    def test_a_seek_to_a_dropped_record_does_not_move_forward_by_itself(
        self, world: KeptWorld
    ) -> None:
        world.write(self.some_records(world, count=30))
        labels = Partition(world.topics[Kind.LABELS], 0)
        world.drop(labels, 6)
        log = world.open()
        log.seek({p: 2 if p == labels else 10 for p in log.assigned()})
        self._poll_until_a_place_is_lost(log)
        # Again and again, until the reader has chosen another place.
        self._poll_until_a_place_is_lost(log)
        log.seek({labels: 8})
        assert offsets(read(log, count=2)) == [8, 9]

    def test_a_partition_of_which_all_unread_records_were_dropped_is_not_at_its_end(
        self, world: KeptWorld
    ) -> None:
        world.write(self.some_records(world))
        labels = Partition(world.topics[Kind.LABELS], 0)
        log = world.open()
        log.seek({p: 1 if p == labels else 4 for p in log.assigned()})
        world.drop(labels, 4)
        self._poll_until_a_place_is_lost(log)
        assert log.at_end() == log.assigned() - {labels}
        log.seek(log.oldest([labels]))
        assert log.at_end() == log.assigned()

    def test_dropping_records_that_were_read_changes_nothing_for_the_reader(
        self, world: KeptWorld
    ) -> None:
        world.write(self.some_records(world))
        log = world.open()
        read_to_end(log, world)
        for partition in log.assigned():
            world.drop(partition, 4)
        world.write(self.some_records(world))
        again = by_partition(read_to_end(log, world))
        assert set(again) == everything(world)
        # Had it lost its place, nothing would have come; a group may rebalance at any time.
        assert all(offsets(found) == [4, 5, 6, 7] for found in again.values())

    def _poll_until_a_place_is_lost(self, log: RecordLog) -> None:
        generation = log.generation
        for _ in range(EMPTY_POLLS):
            assert log.poll(100) == []
            if log.generation > generation:
                return
        raise AssertionError("the log did not say that a record was dropped")


class RecordSinkContract:
    """What holds wherever records are written."""

    @pytest.fixture
    def world(self) -> SinkWorld:
        raise NotImplementedError

    def test_records_arrive_as_they_were_published(self, world: SinkWorld) -> None:
        topic = world.topics[Kind.PREDICTIONS]
        out = [
            OutRecord(topic, b"key", b"value", partition=1, log_ms=LOG_MS),
            OutRecord(topic, None, None, partition=1, log_ms=LOG_MS - 1),
            OutRecord(topic, b"", b"", partition=1, log_ms=0),
        ]
        world.sink.publish(out)
        assert read(world.open(), count=3) == [
            Record(topic, 1, offset, record.log_ms or 0, record.key, record.value)
            for offset, record in enumerate(out)
        ]

    def test_records_of_a_partition_keep_their_order(self, world: SinkWorld) -> None:
        topic = world.topics[Kind.LABELS]
        numbers = [str(number).encode() for number in range(1_000)]
        world.sink.publish(OutRecord(topic, b"key", n, partition=0) for n in numbers)
        assert values(read(world.open(), count=1_000, max_records=1_000)) == numbers

    def test_the_log_chooses_a_partition_where_none_is_given(self, world: SinkWorld) -> None:
        topic = world.topics[Kind.PREDICTIONS]
        world.sink.publish([OutRecord(topic, b"key", b"value")])
        assert read(world.open(), count=1)[0].partition in (0, 1)

    def test_what_is_published_can_be_read_at_once(self, world: SinkWorld) -> None:
        log = world.open()
        for number in range(3):
            world.sink.publish([OutRecord(world.topics[Kind.LABELS], b"key", b"%d" % number)])
            assert sum(log.lag().values()) == number + 1

    def test_publishing_nothing_and_closing_twice_are_harmless(self, world: SinkWorld) -> None:
        world.sink.publish([])
        world.sink.close()
        world.sink.close()
