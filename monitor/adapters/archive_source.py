"""One partition of an archive, read in offset order."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from operator import attrgetter

import pyarrow.parquet as pq

from monitor.adapters.archive_files import (
    JOURNAL,
    FileEntry,
    Manifest,
    Row,
    Stretch,
    offsets_of,
    records_of,
    rows_of,
)
from monitor.adapters.archive_folder import Folder, translated
from monitor.domain.events import Partition, Record

_first = attrgetter("first")
_offset = attrgetter("offset")


class ArchiveSource:
    """A ``Source``; a chunk is a row group. One file is open at a time.

    Records are taken for those of ``of``. ArchiveError when a file is missing or damaged.
    """

    def __init__(
        self, folder: Folder, stretch: Stretch, files: list[FileEntry], of: Partition
    ) -> None:
        self._folder, self._stretch, self._files, self._of = folder, stretch, files, of
        self._number, self._group = 0, 0
        self._from = stretch.first
        self._open: pq.ParquetFile | None = None

    @property
    def begin(self) -> int:
        """The first offset archived."""
        return self._stretch.first

    @property
    def end(self) -> int:
        """One past the last offset archived."""
        return self._stretch.past

    def read(self) -> list[Record]:
        """The next row group; [] at the end."""
        while self._number < len(self._files):
            entry = self._files[self._number]
            with translated(self._folder.place(entry.path)):
                file = self._file()
                if self._group == file.num_row_groups:
                    self._turn_to(self._number + 1)
                    continue
                chunk = records_of(file, self._group, self._of)
            self._group += 1
            if chunk[0].offset < self._from:
                chunk = chunk[bisect_left(chunk, self._from, key=_offset) :]
            if chunk:
                return chunk
        return []

    def seek(self, offset: int) -> None:
        """Read on from here, or from the first record behind it."""
        self._turn_to(max(0, bisect_right(self._files, offset, key=_first) - 1))
        self._from = offset
        if self._number == len(self._files):
            return
        with translated(self._folder.place(self._files[self._number].path)):
            file = self._file()
            while self._group < file.num_row_groups and offsets_of(file, self._group)[1] < offset:
                self._group += 1

    def offset_at(self, instant_ms: int) -> int:
        """The first offset with this log time or a later one; the end if there is none.

        The place moves: seek before reading on.
        """
        for entry in self._files:
            if entry.last_ms >= instant_ms:
                self.seek(entry.first)
                while chunk := self.read():
                    for record in chunk:
                        if record.log_ms >= instant_ms:
                            return record.offset
        return self.end

    def close(self) -> None:
        """Close the file that is open."""
        if self._open is not None:
            self._open.close(force=True)
            self._open = None

    def _file(self) -> pq.ParquetFile:
        if self._open is None:
            self._open = self._folder.parquet(self._files[self._number].path)
        return self._open

    def _turn_to(self, number: int) -> None:
        if number != self._number:
            self.close()
        self._number, self._group = number, 0


def rows_in(folder: Folder, entry: FileEntry, *, is_checked: bool = True) -> Iterator[Row]:
    """All records of a file; ArchiveError when it cannot be read."""
    for group in groups_in(folder, entry, is_checked=is_checked):
        yield from group


def groups_in(folder: Folder, entry: FileEntry, *, is_checked: bool = True) -> Iterator[list[Row]]:
    """The row groups of a file; ArchiveError when it cannot be read."""
    with translated(folder.place(entry.path)):
        file = folder.parquet(entry.path, is_checked=is_checked)
        try:
            for number in range(file.num_row_groups):
                yield rows_of(file, number, entry.of)
        finally:
            file.close(force=True)


def source_of(
    folder: Folder, manifest: Manifest, stretch: Stretch, of: Partition | None = None
) -> ArchiveSource:
    """One partition of an archive; its records are taken for those of ``of``, if it is given."""
    return ArchiveSource(folder, stretch, manifest.files_of(stretch.of), of or stretch.of)


def journal_records(folder: Folder, manifest: Manifest) -> Iterator[Record]:
    """The records of the journal, partition by partition."""
    for stretch in manifest.partitions:
        if stretch.topic == manifest.topics.get(JOURNAL):
            source = source_of(folder, manifest, stretch)
            try:
                while chunk := source.read():
                    yield from chunk
            finally:
                source.close()
