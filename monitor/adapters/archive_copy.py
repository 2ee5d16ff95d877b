"""Topics copied into an archive.

One process writes to an archive at a time. Files are written first, the manifest last: a copy that
is killed leaves the archive as it was, and the next one overwrites what it had begun.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from monitor.adapters.archive_files import (
    GROUP_BYTES,
    GROUP_RECORDS,
    MANIFEST,
    FileEntry,
    Manifest,
    Row,
    Stretch,
    crc_of,
    day_of,
    end_of_day,
    read_manifest,
    write_rows,
)
from monitor.adapters.archive_folder import UNFINISHED, ArchiveError, Folder
from monitor.adapters.history import Source
from monitor.domain.events import Partition, Position, Record

FILE_RECORDS = 1_000_000
"""A file ends here, if not with the day."""

SAVE_EVERY_FILES = 16
"""After so many files a long copy saves how far it has come."""


@dataclass
class ArchiveWriter:
    """Brings an archive up to date, or begins one; used by one process at a time.

    ``topics`` is folder -> topic. ``now_ms`` is wall time, for the manifest. ``on_progress`` gets
    the records copied so far and those that may still come. With ``accept_gaps`` records that the
    log dropped before they were archived are entered as lost, instead of an ArchiveError.
    """

    folder: Folder
    topics: Mapping[str, str]
    now_ms: int
    accept_gaps: bool = False
    on_progress: Callable[[int, int], None] = lambda _done, _left: None
    file_records: int = FILE_RECORDS
    _manifest: Manifest = field(init=False)
    _digest: str = field(init=False)
    _copied: int = field(init=False, default=0)
    _left: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        """ArchiveError when the archive is of other topics."""
        found = read_manifest(self.folder)
        if found is None:
            fresh = Manifest(dict(self.topics), created_ms=self.now_ms, updated_ms=self.now_ms)
            found = fresh, ""
        self._manifest, self._digest = found
        for name, topic in self.topics.items():
            if self._manifest.topics.get(name, topic) != topic:
                raise ArchiveError(
                    f"{self.folder.place(MANIFEST)}: archives topic {self._manifest.topics[name]} "
                    f"under {name}, not {topic}; archive into another folder"
                )
        self._update(topics={**self._manifest.topics, **self.topics})
        self._begin(is_new=not self._digest)

    def _begin(self, *, is_new: bool) -> None:
        """The manifest of a new archive comes first: files without one are not ours to replace."""
        for name in self.topics:
            for path in self.folder.listed(name):
                if path.endswith(UNFINISHED):
                    self.folder.delete(path)
                elif is_new:
                    raise ArchiveError(
                        f"{self.folder.place(path)}: there is no {MANIFEST} that lists it; "
                        "restore the manifest, or archive into another folder"
                    )
        self.save()

    def copy(self, sources: Mapping[Partition, Source], until_ms: int | None = None) -> None:
        """Copy what the archive does not have, one partition after the other.

        In each partition it stops before the first record with log time ``until_ms`` or later.
        """
        self._left = sum(self._missing(partition, source) for partition, source in sources.items())
        for partition in sorted(sources):
            self._copy(partition, sources[partition], until_ms)
            self.save()

    def keep(self, documents: Mapping[str, str]) -> None:
        """Enter settings, digest -> document, beside those that are there."""
        self._update(documents={**self._manifest.documents, **documents})

    def save(self) -> tuple[Manifest, str]:
        """Write the manifest, if anything has changed; the archive as it now is.

        ArchiveError when another process has written it meanwhile.
        """
        found = read_manifest(self.folder)
        if (found[1] if found else "") != self._digest:
            raise ArchiveError(
                f"{self.folder.place(MANIFEST)}: was changed by another process; let one at a time "
                "write to an archive, and start again"
            )
        if found is None or self._manifest != found[0]:
            self._update(previous=self._digest, updated_ms=self.now_ms)
            packed = self._manifest.packed()
            self.folder.write(MANIFEST, packed)
            self._digest = self._manifest.digest
        return self._manifest, self._digest

    def _missing(self, partition: Partition, source: Source) -> int:
        stretch = self._manifest.stretch(partition)
        return max(0, (source.end or 0) - (stretch.past if stretch else source.begin))

    def _copy(self, partition: Partition, source: Source, until_ms: int | None) -> None:
        stretch = self._entered(partition, source)
        reading = _Reading(source, stretch.past, until_ms)
        name = self._manifest.folder_of(partition.topic)
        unsaved = 0
        while group := reading.peek():
            record = group[0].record
            folder = f"{name}/date={day_of(record.log_ms)}"
            path = f"{folder}/part-{partition.partition}-{record.offset}.parquet"
            groups = self._told(reading.groups_of(end_of_day(record.log_ms), self.file_records))
            entry = write_rows(self.folder, path, partition, groups)
            stretch = _longer(stretch, reading, entry.past)
            self._enter(stretch, entry)
            unsaved += 1
            if unsaved % SAVE_EVERY_FILES == 0:
                self.save()
        past = reading.past
        if past > stretch.past:
            holes = (*stretch.holes, (stretch.past, past))
            stretch = msgspec.structs.replace(stretch, holes=_merged(holes), past=past)
        self._enter(stretch)

    def _told(self, groups: Iterable[list[Row]]) -> Iterator[list[Row]]:
        for group in groups:
            yield group
            self._copied += len(group)
            self._left = max(0, self._left - len(group))
            self.on_progress(self._copied, self._left)

    def _entered(self, partition: Partition, source: Source) -> Stretch:
        """What is archived of a partition, with the source standing where that ends."""
        fresh = Stretch(partition.topic, partition.partition, source.begin, source.begin)
        stretch = self._manifest.stretch(partition) or fresh
        if source.end is not None and source.end < stretch.past:
            raise ArchiveError(
                f"{Position(*partition, stretch.past)}: the archive ends here, but the log ends at "
                f"offset {source.end}: it is not the one that was archived. Archive it into "
                "another folder"
            )
        if source.begin > stretch.past:
            stretch = self._with_gap(stretch, source.begin)
        source.seek(stretch.past)
        return stretch

    def _with_gap(self, stretch: Stretch, begin: int) -> Stretch:
        if not self.accept_gaps:
            raise ArchiveError(
                f"{stretch.of}@{stretch.past}-{begin - 1}: the log dropped them before they were "
                "archived. Copy with --accept-gaps to enter them as lost and go on; from now on "
                "copy more often than the log drops records"
            )
        lost = (*stretch.lost, (stretch.past, begin))
        return msgspec.structs.replace(stretch, lost=lost, past=begin)

    def _enter(self, stretch: Stretch, *entries: FileEntry) -> None:
        manifest = self._manifest
        others = [each for each in manifest.partitions if each.of != stretch.of]
        latest = max((entry.last_ms for entry in entries), default=0)
        self._update(
            files=tuple(sorted((*manifest.files, *entries), key=_place)),
            partitions=tuple(sorted((*others, stretch), key=lambda each: each.of)),
            archived_to_ms=max(manifest.archived_to_ms, latest),
        )

    def _update(self, **changes: object) -> None:
        self._manifest = msgspec.structs.replace(self._manifest, **changes)


class _Reading:
    """The records of one source from ``past`` on, in groups for the files to come."""

    def __init__(self, source: Source, past: int, until_ms: int | None) -> None:
        self._source, self._until_ms = source, until_ms
        self._waiting: list[Record] = []
        self._is_ended = False
        self.past = past
        self._end = past
        self.holes: list[tuple[int, int]] = []

    def peek(self) -> list[Row]:
        """The next records, which stay; [] at the end."""
        self._fill(1)
        return _rows(self._waiting[:1])

    def groups_of(self, before_ms: int, most: int) -> Iterator[list[Row]]:
        """Row groups of one file: up to a record that is not before, ``most`` records at most."""
        while most > 0:
            self._fill(min(most, GROUP_RECORDS))
            group = self._cut(before_ms, min(most, GROUP_RECORDS))
            if not group:
                return
            del self._waiting[: len(group)]
            self._note(group)
            most -= len(group)
            yield _rows(group)

    def _cut(self, before_ms: int, most: int) -> list[Record]:
        length = 0
        for number, record in enumerate(self._waiting[:most]):
            length += len(record.value or b"")
            is_full = number > 0 and length > GROUP_BYTES
            if is_full or record.log_ms >= before_ms:
                return self._waiting[:number]
        return self._waiting[:most]

    def _fill(self, count: int) -> None:
        while len(self._waiting) < count and not self._is_ended:
            chunk = self._source.read()
            late = None if self._until_ms is None else _first_at(chunk, self._until_ms)
            self._is_ended = not chunk or late is not None
            self._waiting += chunk if late is None else chunk[:late]
            if late is not None:
                self._end = chunk[late].offset
            elif not chunk:
                self._end = self._source.end or 0
        if not self._waiting and self._is_ended and self._end > self.past:
            self.past = self._end

    def _note(self, group: Sequence[Record]) -> None:
        expected = self.past
        if group[-1].offset + 1 - expected != len(group):
            for record in group:
                if record.offset > expected:
                    self.holes.append((expected, record.offset))
                expected = record.offset + 1
        self.past = group[-1].offset + 1


def _first_at(chunk: Sequence[Record], until_ms: int) -> int | None:
    return next((n for n, record in enumerate(chunk) if record.log_ms >= until_ms), None)


def _rows(records: Iterable[Record]) -> list[Row]:
    return [Row(record, crc_of(record), is_redacted=False) for record in records]


def _longer(stretch: Stretch, reading: _Reading, past: int) -> Stretch:
    """The stretch with a file added, and the holes in and before it."""
    holes, reading.holes = reading.holes, []
    return msgspec.structs.replace(stretch, past=past, holes=_merged((*stretch.holes, *holes)))


def _merged(holes: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """The same holes; those that touch become one."""
    merged: list[tuple[int, int]] = []
    for first, past in holes:
        if merged and merged[-1][1] == first:
            merged[-1] = (merged[-1][0], past)
        else:
            merged.append((first, past))
    return tuple(merged)


def _place(entry: FileEntry) -> tuple[Partition, int]:
    return entry.of, entry.first


def copy_topics(
    folder: Folder,
    topics: Mapping[str, str],
    sources: Mapping[Partition, Source],
    *,
    now_ms: int,
    until_ms: int | None = None,
    documents: Mapping[str, str] | None = None,
) -> tuple[Manifest, str]:
    """Bring an archive up to date from ``sources``; see ``ArchiveWriter``."""
    writer = ArchiveWriter(folder, topics, now_ms)
    writer.keep(documents or {})
    writer.copy(sources, until_ms)
    return writer.save()
