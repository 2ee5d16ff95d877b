"""Many partitions as one log: aligned by log time, up to bounds, from several sources."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.adapters.history import HistoryLog
from monitor.adapters.history_sources import GapError, LogSources, joined
from monitor.adapters.kafka import KafkaConnection, KafkaLog, KafkaSink
from monitor.domain.errors import BrokerError
from monitor.domain.events import Kind, Partition, Record
from monitor.ports import OutRecord, RecordLog
from tests.adapters.histories import (
    LABELS,
    LOG_MS,
    OTHERS,
    PREDICTIONS,
    ListSource,
    record,
    records,
    sources,
)
from tests.contracts.record_log import LogWorld, ReadingContract, by_partition, offsets
from tests.contracts.test_record_log import TOPICS
from tests.fixtures.broker import fresh_topics

ALL = (PREDICTIONS, OTHERS, LABELS)


def drained(log: RecordLog, max_records: int = 100) -> list[Record]:
    """Everything up to the bounds or the end."""
    found: list[Record] = []
    while batch := log.poll(max_records):
        assert len(batch) <= max_records
        found += batch
    assert log.at_end() == log.assigned()
    return found


class HistoryWorld:
    topics = TOPICS

    def __init__(self, *, tells_end: bool) -> None:
        self._found: dict[Partition, list[Record]] = {partition: [] for partition in ALL}
        self._tells_end = tells_end

    def write(self, written: Iterable[OutRecord]) -> None:
        for out in written:
            place = Partition(out.topic, out.partition or 0)
            its = self._found[place]
            its.append(Record(*place, len(its), out.log_ms or 0, out.key, out.value))

    def open(self) -> RecordLog:
        return HistoryLog(sources(self._found, tells_end=self._tells_end))


class TestHistoryOfKnownEnd(ReadingContract):
    @pytest.fixture
    def world(self) -> LogWorld:
        return HistoryWorld(tells_end=True)


class TestHistoryOfUnknownEnd(ReadingContract):
    @pytest.fixture
    def world(self) -> LogWorld:
        return HistoryWorld(tells_end=False)

    def test_all_partitions_are_at_their_end_once_everything_is_read(self, world: LogWorld) -> None:
        world.write(self.some_records(world))
        log = world.open()
        assert len(drained(log)) == 12


# Alignment


def test_what_lies_at_or_before_the_instant_up_to_which_all_are_loaded_comes() -> None:
    #  predictions   0 10 20 | 30        labels   5 6 7 | 8 9
    log = HistoryLog(
        sources(
            {
                PREDICTIONS: records(PREDICTIONS, [0, 10, 20, 30]),
                LABELS: records(LABELS, [5, 6, 7, 8, 9]),
            }
        )
    )
    first = by_partition(log.poll(4))
    assert {p: offsets(found) for p, found in first.items()} == {
        PREDICTIONS: [0],
        LABELS: [0, 1, 2],
    }
    assert len(drained(log)) == 5


histories = st.fixed_dictionaries(
    {p: st.lists(st.integers(0, 60), max_size=40).map(lambda ms, p=p: records(p, ms)) for p in ALL}  # type: ignore[misc] # binds the loop's value
)


@settings(deadline=None)
@given(histories, st.integers(1, 7), st.integers(1, 50), st.booleans())
def test_every_record_comes_once_and_each_partition_in_offset_order(
    found: dict[Partition, list[Record]], chunk: int, max_records: int, tells_end: bool
) -> None:
    log = HistoryLog(sources(found, chunk=chunk, tells_end=tells_end))
    polled = by_partition(drained(log, max_records))
    assert polled == {partition: its for partition, its in found.items() if its}
    assert log.places() == {partition: len(its) for partition, its in found.items()}


@settings(deadline=None)
@given(histories, st.integers(1, 7), st.integers(1, 50))
def test_no_partition_runs_ahead_of_another_by_more_than_a_chunk(
    found: dict[Partition, list[Record]], chunk: int, max_records: int
) -> None:
    made = {p: ListSource(its, chunk=chunk) for p, its in found.items()}
    log = HistoryLog(dict(made))
    read = dict.fromkeys(found, 0)
    while batch := log.poll(max_records):
        for polled in batch:
            read[Partition(polled.topic, polled.partition)] += 1
        assert all(made[p].handed_out - read[p] <= chunk for p in found)


@settings(deadline=None)
@given(histories, st.integers(1, 7))
def test_batches_follow_each_other_in_log_time_when_clocks_are_monotone(
    found: dict[Partition, list[Record]], max_records: int
) -> None:
    ordered = {
        p: records(p, sorted(each.log_ms - LOG_MS for each in its)) for p, its in found.items()
    }
    log = HistoryLog(sources(ordered))
    newest = 0
    while batch := log.poll(max_records):
        assert min(each.log_ms for each in batch) >= newest
        newest = max(each.log_ms for each in batch)


def test_a_clock_that_goes_back_does_not_hold_its_partition_back() -> None:
    log = HistoryLog(
        sources(
            {PREDICTIONS: records(PREDICTIONS, [50, 0, 60]), LABELS: records(LABELS, [10, 55, 70])}
        )
    )
    assert [(r.topic, r.offset) for r in log.poll(3)] == [
        ("labels", 0),
        ("predictions", 0),
        ("predictions", 1),
    ]


# Bounds


@settings(deadline=None)
@given(histories, st.lists(st.integers(0, 45), max_size=8), st.integers(1, 30))
def test_reading_stops_at_each_bound_in_turn(
    found: dict[Partition, list[Record]], bounds: list[int], max_records: int
) -> None:
    log = HistoryLog(sources(found))
    read = dict.fromkeys(found, 0)
    for bound in sorted(bounds):
        log.bound(dict.fromkeys(ALL, bound))
        for polled in drained(log, max_records):
            assert polled.offset < bound
            read[Partition(polled.topic, polled.partition)] += 1
        assert read == {p: min(bound, len(its)) for p, its in found.items()}
        assert log.lag() == dict.fromkeys(ALL, 0)


def test_a_partition_that_has_no_bound_is_read_to_its_end() -> None:
    log = HistoryLog(sources({p: records(p, range(5)) for p in ALL}))
    log.bound({LABELS: 2})
    assert {p: len(its) for p, its in by_partition(drained(log)).items()} == {
        PREDICTIONS: 5,
        OTHERS: 5,
        LABELS: 2,
    }


def test_a_partition_that_has_no_bound_stands_still_when_bounds_are_strict() -> None:
    log = HistoryLog(sources({p: records(p, range(5)) for p in ALL}))
    log.bound({LABELS: 2}, strict=True)
    assert offsets(drained(log)) == [0, 1]
    log.bound({})
    assert len(drained(log)) == 13


def test_a_partition_at_its_bound_holds_nobody_back() -> None:
    log = HistoryLog(
        sources(
            {PREDICTIONS: records(PREDICTIONS, range(9)), LABELS: records(LABELS, range(100, 109))}
        )
    )
    log.bound({PREDICTIONS: 1})
    assert len(drained(log)) == 10


def test_a_bound_in_a_hole_is_reached_and_is_then_the_place() -> None:
    #  offsets   0 1 . . . 5      bound 3
    found = [record(LABELS, 0), record(LABELS, 1), record(LABELS, 5)]
    log = HistoryLog({LABELS: ListSource(found)})
    log.bound({LABELS: 3})
    assert offsets(drained(log)) == [0, 1]
    assert log.places() == {LABELS: 3}
    log.bound({LABELS: 6})
    assert offsets(drained(log)) == [5]


def test_a_bound_behind_the_place_moves_nothing() -> None:
    log = HistoryLog(sources({LABELS: records(LABELS, range(5))}))
    assert len(log.poll(4)) in (3, 4)
    place = log.places()
    log.bound({LABELS: 1})
    assert log.poll(10) == []
    assert log.places() == place


# Places


@settings(deadline=None)
@given(st.integers(0, 20), st.integers(0, 20), st.booleans())
def test_reading_goes_on_wherever_it_was_sought(first: int, then: int, tells_end: bool) -> None:
    log = HistoryLog(sources({LABELS: records(LABELS, range(20))}, tells_end=tells_end))
    log.seek({LABELS: first})
    log.poll(4)
    log.seek({LABELS: then})
    assert offsets(drained(log)) == list(range(then, 20))


@pytest.mark.parametrize(
    ("offset", "says"),
    [
        (3, "labels[0]@3: was to be read next, but the log begins at offset 4"),
        (9, "labels[0]@9: was to be read next, but the log ends at offset 8"),
    ],
)
def test_a_seek_outside_of_what_a_source_holds_is_refused(offset: int, says: str) -> None:
    found = records(LABELS, range(8))[4:]
    log = HistoryLog({LABELS: ListSource(found)})
    with pytest.raises(BrokerError, match="was to be read next") as caught:
        log.seek({LABELS: offset})
    assert says in str(caught.value)


def test_offsets_are_told_where_sources_know_them() -> None:
    log = HistoryLog({LABELS: ListSource(records(LABELS, range(8))[4:])})
    assert log.oldest([LABELS, OTHERS]) == {LABELS: 4, OTHERS: 0}
    assert log.newest([LABELS, OTHERS]) == {LABELS: 8, OTHERS: 0}
    assert log.lag() == {LABELS: 4}
    assert (log.generation, log.partitions()) == (0, frozenset({LABELS}))


def test_closing_closes_every_source() -> None:
    made = {p: ListSource([]) for p in ALL}
    HistoryLog(dict(made)).close()
    assert all(source.is_closed for source in made.values())


# An archive that the log continues


@settings(deadline=None)
@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20))
def test_archive_and_log_read_as_the_log_alone(begin: int, past: int, place: int) -> None:
    whole = records(LABELS, range(20))
    begin = min(begin, past)
    archived = ListSource([r._replace(value=b"archived") for r in whole[:past]], begin=0)
    live = ListSource(whole[begin:], begin=begin)
    log = HistoryLog(joined({LABELS: archived}, {LABELS: live}))
    log.seek({LABELS: place})
    polled = drained(log)
    assert offsets(polled) == list(range(place, 20))
    # Where both have a record, the archive's is taken.
    assert sum(r.value == b"archived" for r in polled) == max(0, past - place)


def test_a_gap_between_archive_and_log_is_refused_by_name() -> None:
    archived = ListSource(records(LABELS, range(4)))
    live = ListSource(records(LABELS, range(9))[6:])
    with pytest.raises(GapError, match=r"labels\[0\]@4-5: neither in the archive nor in the log"):
        joined({LABELS: archived}, {LABELS: live})


def test_a_partition_that_the_archive_lacks_and_the_log_has_no_beginning_of_is_refused() -> None:
    live = ListSource(records(LABELS, range(9))[6:])
    with pytest.raises(GapError, match=r"labels\[0\]@0-5: neither in the archive nor in the log"):
        joined({}, {LABELS: live})


def test_a_log_that_ends_before_its_archive_is_another_log() -> None:
    archived = ListSource(records(LABELS, range(4)))
    with pytest.raises(GapError, match=r"labels\[0\]@4: the archive ends here, but the log ends"):
        joined({LABELS: archived}, {LABELS: ListSource(records(LABELS, range(3)))})


def test_partitions_of_one_side_alone_are_read_from_there() -> None:
    both = joined(
        {PREDICTIONS: ListSource(records(PREDICTIONS, range(2)))},
        {LABELS: ListSource(records(LABELS, range(3)))},
    )
    assert len(drained(HistoryLog(both))) == 5


# A log on a broker


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


Opened = Callable[[], LogSources]


@pytest.fixture
def opened(
    embedded_broker: KafkaConnection, embedded_topics: dict[Kind, str], stack: ExitStack
) -> Opened:
    def opened() -> LogSources:
        log = KafkaLog(embedded_broker, embedded_topics, wait_ms=50)
        shared = LogSources(log, chunk_records=50, buffered_records=100)
        stack.callback(shared.close)
        return shared

    return opened


@pytest.fixture
def embedded_topics(embedded_broker: KafkaConnection) -> dict[Kind, str]:
    return fresh_topics(embedded_broker)


def written(topics: dict[Kind, str], connection: KafkaConnection) -> dict[Partition, list[bytes]]:
    """Two thousand predictions, all of them before the labels, and one empty partition."""
    predictions, labels = (Partition(topics[kind], 0) for kind in Kind)
    values = {predictions: 2_000, labels: 700}
    with closing(KafkaSink(connection)) as sink:
        sink.publish(
            OutRecord(p.topic, b"key", b"%d" % n, partition=0, log_ms=LOG_MS + n * 1_000 // count)
            for p, count in values.items()
            for n in range(count)
        )
    return {p: [b"%d" % n for n in range(count)] for p, count in values.items()}


def test_a_log_is_read_aligned_and_to_its_present_end(
    opened: Opened, embedded_topics: dict[Kind, str], embedded_broker: KafkaConnection
) -> None:
    wanted = written(embedded_topics, embedded_broker)
    log = HistoryLog(opened().sources())
    late = OutRecord(embedded_topics[Kind.LABELS], b"key", b"late", partition=0, log_ms=LOG_MS)
    with closing(KafkaSink(embedded_broker)) as sink:
        sink.publish([late])
    polled = by_partition(drained(log, 120))
    assert {p: [r.value for r in its] for p, its in polled.items()} == wanted


def test_a_partition_that_waits_is_paused_and_read_on_when_it_is_wanted(
    opened: Opened, embedded_topics: dict[Kind, str], embedded_broker: KafkaConnection
) -> None:
    wanted = written(embedded_topics, embedded_broker)
    read = opened().sources()
    for partition in sorted(wanted, reverse=True):
        chunks = iter(read[partition].read, [])
        assert [r.value for r in chain.from_iterable(chunks)] == wanted[partition]


def test_a_log_can_be_read_again_from_any_place(
    opened: Opened, embedded_topics: dict[Kind, str], embedded_broker: KafkaConnection
) -> None:
    wanted = written(embedded_topics, embedded_broker)
    log = HistoryLog(opened().sources())
    log.poll(500)
    places = {partition: len(values) - 250 for partition, values in wanted.items()}
    log.seek(places)
    polled = by_partition(drained(log, 120))
    assert {p: its[0].offset for p, its in polled.items()} == places
    assert all(len(its) == 250 for its in polled.values())
