"""Partitions to read as history, in memory."""

from collections.abc import Iterable, Mapping, Sequence

from monitor.adapters.history import Source
from monitor.domain.events import Partition, Record

LOG_MS = 1_700_000_000_000
PREDICTIONS = Partition("predictions", 0)
OTHERS = Partition("predictions", 1)
LABELS = Partition("labels", 0)


class ListSource:
    """Records in memory, in chunks; counts how many it has handed out."""

    def __init__(
        self,
        records: Sequence[Record],
        *,
        chunk: int = 3,
        begin: int | None = None,
        end: int | None = None,
        tells_end: bool = True,
    ) -> None:
        self._records, self._chunk, self._at = list(records), chunk, 0
        self.begin = begin if begin is not None else records[0].offset if records else 0
        last = records[-1].offset + 1 if records else self.begin
        self.end = (end if end is not None else last) if tells_end else None
        self.handed_out = 0
        self.is_closed = False

    def read(self) -> list[Record]:
        found = self._records[self._at : self._at + self._chunk]
        self._at += len(found)
        self.handed_out += len(found)
        return found

    def seek(self, offset: int) -> None:
        self._at = sum(record.offset < offset for record in self._records)

    def close(self) -> None:
        self.is_closed = True


def record(
    partition: Partition,
    offset: int,
    after_ms: int = 0,
    value: bytes | None = b"value",
    key: bytes | None = b"key",
) -> Record:
    return Record(*partition, offset, LOG_MS + after_ms, key, value)


def records(partition: Partition, after_ms: Iterable[int]) -> list[Record]:
    """Offsets from 0 on, at these milliseconds."""
    return [record(partition, offset, ms) for offset, ms in enumerate(after_ms)]


def sources(
    found: Mapping[Partition, Sequence[Record]], *, chunk: int = 3, tells_end: bool = True
) -> dict[Partition, Source]:
    return {
        partition: ListSource(its, chunk=chunk, tells_end=tells_end)
        for partition, its in found.items()
    }
