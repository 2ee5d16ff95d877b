"""Many partitions read as one log, aligned by log time: history for replay and audit.

Each partition has a ``Source``, which hands out its records in chunks. ``HistoryLog`` holds one
chunk of each and delivers what is at or before the instant up to which all of them are loaded. No
partition runs ahead of the others, and memory is one chunk for each, however long the history is.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from operator import attrgetter
from typing import Protocol

from monitor.domain.errors import BrokerError
from monitor.domain.events import NextOffsets, Partition, Position, Record

_log_ms = attrgetter("log_ms")
_offset = attrgetter("offset")


class Source(Protocol):
    """The records of one partition, in offset order."""

    @property
    def begin(self) -> int:
        """Offset at which it begins."""

    @property
    def end(self) -> int | None:
        """One past its last record, holes behind that included; None while unknown."""

    def read(self) -> list[Record]:
        """The next chunk, a few thousand records at most; [] at the end."""

    def seek(self, offset: int) -> None:
        """Read on from here; within ``begin`` and ``end``."""

    def close(self) -> None:
        """Let go of what it has opened; harmless when repeated."""


class Lane(Protocol):
    """One row of records in the order in which they are read, of which a chunk is loaded.

    ``reached`` holds for each record of the chunk the greatest log time up to it, ``last_ms`` is
    the last of these.
    """

    reached: list[int]
    last_ms: int

    def is_readable(self) -> bool:
        """Load the next chunk if need be; whether there is a record to be read."""

    def may_go_on(self) -> bool:
        """Whether what is to be read goes on behind the loaded chunk."""

    def next_ms(self) -> int:
        """The instant as of which the next record counts."""

    def count(self, upto_ms: int) -> int:
        """Loaded records up to this instant."""

    def take(self, upto_ms: int, max_records: int) -> list[Record]:
        """Deliver up to this instant, ``max_records`` at most."""


def aligned(lanes: Iterable[Lane], max_records: int, before_ms: int | None = None) -> list[Record]:
    """The next records of all lanes, none of which runs ahead; [] when there is nothing to read.

    Nothing that counts as of ``before_ms`` or later is delivered.
    """
    lanes = [lane for lane in lanes if lane.is_readable()]
    frontiers = [lane.reached[-1] for lane in lanes if lane.may_go_on()]
    upto_ms = min(frontiers, default=max((lane.last_ms for lane in lanes), default=0))
    if before_ms is not None:
        upto_ms = min(upto_ms, before_ms - 1)
    if sum(lane.count(upto_ms) for lane in lanes) > max_records:
        upto_ms = _latest(lanes, upto_ms, max_records)
    batch: list[Record] = []
    for lane in lanes:
        if len(batch) == max_records:
            break
        batch += lane.take(upto_ms, max_records - len(batch))
    return batch


class HistoryLog:
    """A ``RecordLog`` over sources, read once or again from any place, by one reader.

    A record's log time may lie before that of the record above it, as producers' clocks can bring
    about: it is then read as if it were of the greatest log time up to it.
    """

    def __init__(self, sources: Mapping[Partition, Source]) -> None:
        self._lanes = {
            partition: _Lane(partition, sources[partition]) for partition in sorted(sources)
        }
        self._before_ms: int | None = None

    def bound(self, next_offsets: NextOffsets, *, strict: bool = False) -> None:
        """Stop before these offsets, until told otherwise; a bound behind the place moves nothing.

        Partitions not named are read to their end; when ``strict``, they stand still.
        """
        for partition, lane in self._lanes.items():
            lane.bound = next_offsets.get(partition, lane.place if strict else None)

    def poll(self, max_records: int, _wait_ms: int | None = None) -> list[Record]:
        """The next records, aligned; [] at the bound or the end. Never waits for new ones."""
        polled: list[Record] = []
        while left := max_records - len(polled):
            batch = aligned(self._lanes.values(), left, self._before_ms)
            if not batch:
                break
            polled += batch
        return polled

    def bound_ms(self, instant_ms: int | None) -> None:
        """Read the records that count as before this instant alone; None: to the end."""
        self._before_ms = instant_ms

    def next_ms(self) -> int | None:
        """The instant as of which the next record counts; None at the bound or the end."""
        return min(
            (lane.next_ms() for lane in self._lanes.values() if lane.is_readable()), default=None
        )

    def cut_off_ms(self) -> int | None:
        """The latest first log time of partitions that do not begin at 0; None without one.

        Ask before anything is read.
        """
        late = [lane for lane in self._lanes.values() if lane.source.begin > 0]
        return max((lane.next_ms() for lane in late if lane.is_readable()), default=None)

    @property
    def generation(self) -> int:
        """Always 0: there is one reader, and history does not move."""
        return 0

    def assigned(self) -> frozenset[Partition]:
        """All partitions."""
        return frozenset(self._lanes)

    def partitions(self) -> frozenset[Partition]:
        """All partitions that have a source."""
        return frozenset(self._lanes)

    def oldest(self, partitions: Iterable[Partition]) -> NextOffsets:
        """Where each source begins; 0 without one."""
        return {p: self._lanes[p].source.begin if p in self._lanes else 0 for p in partitions}

    def newest(self, partitions: Iterable[Partition]) -> NextOffsets:
        """Where each source ends, or as far as it was read; 0 without one."""
        return {p: self._lanes[p].newest() if p in self._lanes else 0 for p in partitions}

    def places(self) -> NextOffsets:
        """The offset to be read next; at a bound, the bound."""
        return {partition: lane.place for partition, lane in self._lanes.items()}

    def seek(self, next_offsets: NextOffsets) -> None:
        """Read on from these offsets. BrokerError for one outside of what its source holds."""
        for partition, offset in next_offsets.items():
            if partition in self._lanes:
                self._lanes[partition].seek(offset)

    def at_end(self) -> frozenset[Partition]:
        """Partitions that have ended, or stand at their bound."""
        return frozenset(p for p, lane in self._lanes.items() if lane.is_at_end())

    def lag(self) -> Mapping[Partition, int]:
        """Offsets up to the bound or the end, where one of them is known."""
        left = {partition: lane.left() for partition, lane in self._lanes.items()}
        return {partition: count for partition, count in left.items() if count is not None}

    def commit(self, next_offsets: NextOffsets) -> None:
        """History keeps no place."""

    def close(self) -> None:
        """Close the sources."""
        for lane in self._lanes.values():
            lane.source.close()


class _Lane:
    """One partition: the chunk that is loaded, and how far it has been delivered.

    ``reached`` holds for each record of the chunk the greatest log time up to it.
    """

    def __init__(self, partition: Partition, source: Source) -> None:
        self.partition, self.source = partition, source
        self.place = source.begin
        self.bound: int | None = None
        self.reached: list[int] = []
        self.last_ms = 0
        self._chunk: list[Record] = []
        self._at = 0
        self._is_ended = False

    def is_readable(self) -> bool:
        """Load the next chunk if need be; whether a record lies before the bound."""
        if self.is_at_end():
            return False
        if self._at == len(self._chunk):
            self._load()
        if not self._is_within_bound():
            self.place = max(self.place, self.bound or 0)
            return False
        return not self._is_ended

    def may_go_on(self) -> bool:
        """Whether what is to be read goes on behind the loaded chunk."""
        loaded = self._chunk[-1].offset + 1
        ends = [end for end in (self.bound, self.source.end) if end is not None]
        return not ends or loaded < min(ends)

    def count(self, upto_ms: int) -> int:
        """Loaded records up to this instant that may be delivered."""
        return self._past(upto_ms) - self._at

    def next_ms(self) -> int:
        """The instant as of which the next record counts."""
        return self.reached[self._at]

    def take(self, upto_ms: int, max_records: int) -> list[Record]:
        """Deliver up to this instant, ``max_records`` at most."""
        past = min(self._past(upto_ms), self._at + max_records)
        taken = self._chunk[self._at : past]
        if taken:
            self._at = past
            self.place = taken[-1].offset + 1
        return taken

    def seek(self, offset: int) -> None:
        """Within the chunk when it is there; BrokerError outside of what the source holds."""
        self._check_within(offset)
        chunk = self._chunk
        if chunk and chunk[0].offset <= offset <= chunk[-1].offset:
            self._at = bisect_left(chunk, offset, key=_offset)
        else:
            self.source.seek(offset)
            self._chunk, self.reached, self._at, self.last_ms = [], [], 0, 0
        self.place, self._is_ended = offset, False

    def is_at_end(self) -> bool:
        ends = [end for end in (self.bound, self.source.end) if end is not None]
        return self._is_ended or any(self.place >= end for end in ends)

    def newest(self) -> int:
        if self.bound is not None and self.place >= self.bound:
            return self.place
        return self.place if self.source.end is None else self.source.end

    def left(self) -> int | None:
        ends = [end for end in (self.bound, self.source.end) if end is not None]
        return max(0, min(ends) - self.place) if ends else None

    def _is_within_bound(self) -> bool:
        if self._is_ended or self.bound is None:
            return True
        return self._chunk[self._at].offset < self.bound

    def _past(self, upto_ms: int) -> int:
        past = bisect_right(self.reached, upto_ms, lo=self._at)
        if self.bound is not None:
            past = bisect_left(self._chunk, self.bound, lo=self._at, hi=past, key=_offset)
        return past

    def _load(self) -> None:
        self._chunk, self._at = self.source.read(), 0
        if not self._chunk:
            self.reached, self._is_ended = [], True
            self.place = self.newest()
            return
        reached = list(map(_log_ms, self._chunk))
        # Most often they are in order already, which is cheaper to see than to bring about.
        if reached[0] < self.last_ms or reached != sorted(reached):
            reached = list(accumulate(reached, max, initial=self.last_ms))[1:]
        self.reached, self.last_ms = reached, reached[-1]

    def _check_within(self, offset: int) -> None:
        begin, end = self.source.begin, self.source.end
        if offset < begin:
            what = f"begins at offset {begin}"
        elif end is not None and offset > end:
            what = f"ends at offset {end}"
        else:
            return
        raise BrokerError(
            f"{Position(*self.partition, offset)}: was to be read next, but the log {what}; this "
            "is not the history that was read before: name the one that is"
        )


def _latest(lanes: Sequence[Lane], upto_ms: int, max_records: int) -> int:
    """The latest instant up to which no more than ``max_records`` come.

    The next record's own instant when more than that are of it: they come in several batches.
    """
    low = min(lane.next_ms() for lane in lanes)
    high = upto_ms
    while low < high:
        middle = (low + high + 1) // 2
        if sum(lane.count(middle) for lane in lanes) <= max_records:
            low = middle
        else:
            high = middle - 1
    return low
