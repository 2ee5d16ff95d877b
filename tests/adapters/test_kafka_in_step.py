"""Partitions in step, on a log that hands over one partition at a time, as clients do."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import count, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.adapters.kafka import InStepLog
from monitor.adapters.kafka import in_step as tested
from monitor.domain.errors import BrokerError
from monitor.domain.events import NextOffsets, Partition, Record


class ChunkedLog:
    """``times`` of each partition's records; one ``chunk`` of one partition comes at a time."""

    def __init__(self, times: Sequence[Sequence[int]], chunk: int = 5) -> None:
        self.runs = {
            Partition("t", number): [
                Record("t", number, offset, log_ms, None, b"") for offset, log_ms in enumerate(run)
            ]
            for number, run in enumerate(times)
        }
        self.at = dict.fromkeys(self.runs, 0)
        self.known = {partition: len(run) for partition, run in self.runs.items()}
        self.chunk, self.generation, self.waits = chunk, 0, list[int | None]()
        self.held: frozenset[Partition] = frozenset()
        self.dead: set[Partition] = set()
        self.is_closed, self.is_refusing = False, False
        self._turn = count()

    def poll(self, max_records: int, wait_ms: int | None = None, /) -> list[Record]:
        self.waits.append(wait_ms)
        open_ = [p for p in self.behind() if p not in self.held | self.dead]
        if not open_:
            return []
        partition = sorted(open_)[next(self._turn) % len(open_)]
        at = self.at[partition]
        found = self.runs[partition][at : min(self.known[partition], at + self.chunk)][:max_records]
        self.at[partition] += len(found)
        return found

    def behind(self) -> frozenset[Partition]:
        return frozenset(p for p, at in self.at.items() if at < self.known[p])

    def hold(self, partitions: Iterable[Partition]) -> None:
        self.held = frozenset(partitions)

    def assigned(self) -> frozenset[Partition]:
        return frozenset(self.runs)

    partitions = assigned

    def oldest(self, partitions: Iterable[Partition]) -> NextOffsets:
        return dict.fromkeys(partitions, 0)

    def newest(self, partitions: Iterable[Partition]) -> NextOffsets:
        return {p: len(self.runs[p]) for p in partitions}

    def places(self) -> NextOffsets:
        return dict(self.at)

    def seek(self, next_offsets: NextOffsets) -> None:
        if self.is_refusing:
            raise BrokerError("beyond the end")
        self.at.update(next_offsets)

    def at_end(self) -> frozenset[Partition]:
        return frozenset(p for p, run in self.runs.items() if self.at[p] == len(run))

    def lag(self) -> Mapping[Partition, int]:
        return {p: len(run) - self.at[p] for p, run in self.runs.items()}

    def commit(self, next_offsets: NextOffsets) -> None:
        """Nothing depends on it."""

    def close(self) -> None:
        self.is_closed = True


def batches(log: InStepLog, most: int) -> list[list[Record]]:
    found = []
    while batch := log.poll(most):
        assert len(batch) <= most
        found.append(batch)
    return found


def times(batch: Iterable[Record]) -> list[int]:
    return [record.log_ms for record in batch]


ORDERED = st.lists(st.lists(st.integers(0, 60), max_size=40).map(sorted), min_size=1, max_size=5)
ANYHOW = st.lists(st.lists(st.integers(0, 60), max_size=40), min_size=1, max_size=5)


@given(runs=ANYHOW, chunk=st.integers(1, 12), most=st.integers(1, 30))
def test_each_record_comes_once_and_each_partition_in_its_order(
    runs: list[list[int]], chunk: int, most: int
) -> None:
    source = ChunkedLog(runs, chunk)
    found = [record for batch in batches(InStepLog(source), most) for record in batch]
    for partition, run in source.runs.items():
        assert [record for record in found if record[:2] == partition] == run
    assert len(found) == sum(map(len, runs))


@given(runs=ORDERED, chunk=st.integers(1, 12), most=st.integers(1, 30))
def test_what_comes_later_is_not_from_an_earlier_time(
    runs: list[list[int]], chunk: int, most: int
) -> None:
    found = batches(InStepLog(ChunkedLog(runs, chunk)), most)
    assert all(max(times(one)) <= min(times(next_one)) for one, next_one in pairwise(found))


@given(runs=ANYHOW, chunk=st.integers(1, 12), polls=st.integers(0, 6))
def test_places_and_lag_are_those_of_the_reader(
    runs: list[list[int]], chunk: int, polls: int
) -> None:
    source = ChunkedLog(runs, chunk)
    log = InStepLog(source)
    taken = [record for _ in range(polls) for record in log.poll(7)]
    read = {p: sum(record[:2] == p for record in taken) for p in source.runs}
    assert log.places() == read
    assert log.lag() == {p: len(run) - read[p] for p, run in source.runs.items()}
    assert log.at_end() == {p for p, run in source.runs.items() if read[p] == len(run)}


@given(runs=ANYHOW, chunk=st.integers(1, 12), polls=st.integers(0, 6))
def test_what_was_in_hand_is_read_again_after_a_rebalance(
    runs: list[list[int]], chunk: int, polls: int
) -> None:
    source = ChunkedLog(runs, chunk)
    log = InStepLog(source)
    taken = [record for _ in range(polls) for record in log.poll(7)]
    source.generation += 1
    before = log.places()
    assert log.poll(7) == []
    assert (log.generation, source.held) == (1, frozenset())
    again = {p: at for p, at in log.places().items() if before[p] <= at}
    assert again.keys() == source.runs.keys()
    log.seek(before)
    rest = [record for batch in batches(log, 7) for record in batch]
    assert sorted(taken + rest) == sorted(r for run in source.runs.values() for r in run)


def test_a_busy_partition_is_not_slowed_down_by_many_quiet_ones() -> None:
    quiet = [[1_000]] * 20
    found = batches(InStepLog(ChunkedLog([list(range(1_000)), *quiet], chunk=1_000)), 200)
    assert len(found) < 12


def test_a_partition_that_stays_silent_is_waited_for_once() -> None:
    source = ChunkedLog([[1, 2, 3], [1, 2, 3]], chunk=1)
    source.dead = {Partition("t", 1)}
    log = InStepLog(source)
    assert times(log.poll(10)) == [1]
    waits = len(source.waits)
    assert [times(log.poll(10)) for _ in range(2)] == [[2], [3]]
    assert len(source.waits) - waits == 2
    source.dead.clear()
    assert [times(log.poll(10)) for _ in range(3)] == [[1], [2], [3]]


def test_what_is_there_is_handed_over_at_once_when_nothing_more_is_known() -> None:
    source = ChunkedLog([[1, 2, 3], [9]], chunk=10)
    source.known[Partition("t", 0)], source.known[Partition("t", 1)] = 2, 0
    log = InStepLog(source)
    assert times(log.poll(10)) == [1, 2]
    assert source.waits == [None]
    source.known = {partition: len(run) for partition, run in source.runs.items()}
    assert sorted(times(log.poll(10))) == [3, 9]


def test_partitions_that_have_much_in_hand_are_not_fetched_of() -> None:
    source = ChunkedLog([list(range(500)), list(range(0, 50_000, 100))], chunk=50)
    log, most = InStepLog(source), 0
    while batch := log.poll(20):
        ahead = source.at[Partition("t", 0)] - log.places()[Partition("t", 0)]
        most = max(most, ahead, len(batch))
    assert most <= 100


def test_a_log_that_cannot_choose_is_not_waited_for_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tested, "MOST_WAITING", 50)
    source = ChunkedLog([list(range(500)), list(range(500))], chunk=10)
    source.dead = {Partition("t", 1)}
    monkeypatch.setattr(source, "hold", lambda _: None)
    log = InStepLog(source)
    assert log.poll(20)
    assert source.at[Partition("t", 0)] <= 60


def test_nobody_is_waited_for_by_a_reader_who_has_something_else_to_do() -> None:
    source = ChunkedLog([[1, 2, 3], [1, 2, 3]], chunk=3)
    log = InStepLog(source)
    assert log.poll(10, 0) == []
    assert source.waits == [0]
    assert [record[1:3] for record in log.poll(10)] == [(n, at) for n in (0, 1) for at in range(3)]


def test_seeking_drops_what_is_in_hand() -> None:
    log = InStepLog(ChunkedLog([list(range(10)), list(range(10))]))
    log.poll(2)
    log.seek({Partition("t", 0): 7})
    found = [record for batch in batches(log, 4) for record in batch]
    assert [r.offset for r in found if r.partition == 0] == [7, 8, 9]
    assert [r.offset for r in found if r.partition == 1] == list(range(1, 10))


def test_what_cannot_be_given_back_ends_the_reading() -> None:
    source = ChunkedLog([list(range(10))])
    log = InStepLog(source)
    log.poll(2)
    source.generation, source.is_refusing = 1, True
    with pytest.raises(BrokerError):
        log.poll(2)
    assert source.is_closed
