"""Sources of history: the log as it is now, and an archive that the log continues."""

from collections import deque
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Protocol

from monitor.adapters.history import Source
from monitor.domain.errors import BrokerError
from monitor.domain.events import NextOffsets, Partition, Position, Record
from monitor.ports import RecordLog

CHUNK_RECORDS = 4_096
"""Records asked for at once."""

BUFFERED_RECORDS = 8_192
"""A partition that has this many waiting is paused until they are taken."""


class GapError(BrokerError):
    """Archive and log do not join: records between them are in neither."""


class PausableLog(RecordLog, Protocol):
    """A log that can be kept from reading some partitions for a while."""

    def pause(self, partitions: Iterable[Partition]) -> None:
        """Nothing comes of these until they are resumed; harmless when repeated."""

    def resume(self, partitions: Iterable[Partition]) -> None:
        """Go on where they stand; harmless when they are not paused."""


class LogSources:
    """All partitions of a log that one reader reads on its own, up to where they end now.

    Bounded memory: a partition whose records are not taken is paused. ``read`` waits as long as
    the log does for a broker that restarts.
    """

    def __init__(
        self,
        log: PausableLog,
        *,
        chunk_records: int = CHUNK_RECORDS,
        buffered_records: int = BUFFERED_RECORDS,
    ) -> None:
        self._log = log
        self._chunk, self._most = chunk_records, buffered_records
        partitions = log.partitions()
        self.begins: NextOffsets = dict(log.oldest(partitions))
        self.ends: NextOffsets = dict(log.newest(partitions))
        self._buffers: dict[Partition, deque[list[Record]]] = {p: deque() for p in partitions}
        self._waiting = dict.fromkeys(partitions, 0)
        self._paused: set[Partition] = set()
        self._generation = log.generation

    def sources(self) -> dict[Partition, Source]:
        """One for each partition; all of them read through the one log."""
        return {partition: _LogSource(self, partition) for partition in sorted(self._buffers)}

    def read(self, partition: Partition) -> list[Record]:
        """The next chunk of one partition; others' records are put aside meanwhile."""
        buffer = self._buffers[partition]
        while not buffer and not self._is_read(partition):
            self._resume(partition)
            self._put_aside(self._log.poll(self._chunk))
            self._check_place()
        if not buffer:
            self._pause(partition)
            return []
        chunk = buffer.popleft()
        self._waiting[partition] -= len(chunk)
        if self._waiting[partition] <= self._most // 2:
            self._resume(partition)
        return chunk

    def seek(self, partition: Partition, offset: int) -> None:
        """Read on from here."""
        self._buffers[partition].clear()
        self._waiting[partition] = 0
        self._log.seek({partition: offset})

    def close(self) -> None:
        """Close the log."""
        self._log.close()

    def _put_aside(self, records: Iterable[Record]) -> None:
        for (topic, number), found in groupby(records, key=lambda record: record[:2]):
            partition = Partition(topic, number)
            past = self.ends.get(partition, 0)
            chunk = list(found)
            if chunk[-1].offset >= past:
                chunk = [record for record in chunk if record.offset < past]
                self._pause(partition)
            if chunk:
                self._buffers[partition].append(chunk)
                self._waiting[partition] += len(chunk)
            if self._waiting.get(partition, 0) >= self._most:
                self._pause(partition)

    def _is_read(self, partition: Partition) -> bool:
        """Whether the log stands at the end; transactions leave offsets without a record there."""
        place = self._log.places().get(partition, self.begins[partition])
        return place >= self.ends[partition]

    def _check_place(self) -> None:
        """BrokerError when a record that was to be read next has been dropped.

        A partition that was added meanwhile holds nothing that is to be read.
        """
        if self._generation == self._log.generation:
            return
        self._generation = self._log.generation
        places = self._log.places()
        added = self._log.assigned() - self._buffers.keys()
        self._log.seek(self._log.newest(added - places.keys()))
        for partition in added:
            self._pause(partition)
        for partition, offset in self._log.oldest(self._buffers).items():
            place = places.get(partition, 0)
            if place < min(offset, self.ends[partition]):
                raise BrokerError(
                    f"{Position(*partition, place)}: was dropped by the log before it was read; "
                    f"it now begins at offset {offset}. Read an archive that has it, or from a "
                    "later place"
                )

    def _pause(self, partition: Partition) -> None:
        if partition not in self._paused:
            self._paused.add(partition)
            self._log.pause([partition])

    def _resume(self, partition: Partition) -> None:
        if partition in self._paused and not self._is_read(partition):
            self._paused.discard(partition)
            self._log.resume([partition])


class _LogSource:
    def __init__(self, shared: LogSources, partition: Partition) -> None:
        self._shared, self._partition = shared, partition

    @property
    def begin(self) -> int:
        return self._shared.begins[self._partition]

    @property
    def end(self) -> int:
        return self._shared.ends[self._partition]

    def read(self) -> list[Record]:
        return self._shared.read(self._partition)

    def seek(self, offset: int) -> None:
        self._shared.seek(self._partition, offset)

    def close(self) -> None:
        self._shared.close()


def joined(
    archived: Mapping[Partition, Source], live: Mapping[Partition, Source]
) -> dict[Partition, Source]:
    """Archive first, then the log from where the archive ends.

    GapError when a partition's log begins behind the end of its archive, or ends before it.
    """
    both = {p: _joined(p, archived[p], live[p]) for p in archived.keys() & live.keys()}
    for partition in live.keys() - archived.keys():
        if live[partition].begin > 0:
            raise _gap(partition, 0, live[partition].begin)
    return {**live, **archived, **both}


def _joined(partition: Partition, archived: Source, live: Source) -> Source:
    past = archived.end or 0
    if live.begin > past:
        raise _gap(partition, past, live.begin)
    if live.end is not None and live.end < past:
        raise GapError(
            f"{Position(*partition, past)}: the archive ends here, but the log ends at offset "
            f"{live.end}: it is not the one that was archived. Name the topics that were, or read "
            "the archive alone"
        )
    return _Joined(archived, live)


def _gap(partition: Partition, first: int, past: int) -> GapError:
    return GapError(
        f"{partition}@{first}-{past - 1}: neither in the archive nor in the log, which dropped "
        "them before they were archived. Read the archive alone, or the log alone; from now on "
        "archive more often than the log drops records"
    )


class _Joined:
    """The archive's records, then those of the log that come after."""

    def __init__(self, archived: Source, live: Source) -> None:
        self._archived, self._live = archived, live
        self._past = archived.end or 0
        self._is_live = False

    @property
    def begin(self) -> int:
        return self._archived.begin

    @property
    def end(self) -> int | None:
        return self._live.end

    def read(self) -> list[Record]:
        if not self._is_live:
            if chunk := self._archived.read():
                return chunk
            self._go_live(self._past)
        return self._live.read()

    def seek(self, offset: int) -> None:
        if offset >= self._past:
            self._go_live(offset)
        else:
            self._is_live = False
            self._archived.seek(offset)

    def close(self) -> None:
        self._archived.close()
        self._live.close()

    def _go_live(self, offset: int) -> None:
        self._is_live = True
        self._live.seek(offset)


class Later:
    """A source from a later place on: what lies before it is as if it had never been."""

    def __init__(self, source: Source, begin: int) -> None:
        self._source = source
        end = source.end
        self._begin = begin if end is None else min(begin, end)
        source.seek(self._begin)

    @property
    def begin(self) -> int:
        """Where it begins now."""
        return self._begin

    @property
    def end(self) -> int | None:
        """Where the source ends."""
        return self._source.end

    def read(self) -> list[Record]:
        """The next chunk."""
        return self._source.read()

    def seek(self, offset: int) -> None:
        """Read on from here."""
        self._source.seek(offset)

    def close(self) -> None:
        """Close the source."""
        self._source.close()
