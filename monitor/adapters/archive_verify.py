"""Is an archive what was archived? Every file, every record, every offset, and the journal."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from monitor.adapters.archive_files import (
    JOURNAL,
    MANIFEST,
    FileEntry,
    Manifest,
    Row,
    Stretch,
    crc_of,
)
from monitor.adapters.archive_folder import ArchiveError, Folder
from monitor.adapters.archive_source import groups_in, journal_records, source_of
from monitor.adapters.history import Source
from monitor.codec.journal import chain_of_lines
from monitor.domain.errors import JournalError
from monitor.domain.events import Partition, Position, Record


class Flaw(StrEnum):
    """What can be wrong with an archive."""

    MANIFEST = "manifest"
    FILE_MISSING = "file_missing"
    FILE_ALTERED = "file_altered"
    UNREADABLE = "unreadable"
    ROWS = "rows"
    RECORD_MISSING = "record_missing"
    RECORD_TWICE = "record_twice"
    RECORD_ALTERED = "record_altered"
    REDACTION = "redaction"
    JOURNAL = "journal"
    NOT_THE_LOG = "not_the_log"


class ArchiveFault(NamedTuple):
    """One thing that is wrong: where, what should be there, and what is."""

    flaw: Flaw
    where: str
    expected: str
    found: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.where}: {self.flaw}: expected {self.expected}, found {self.found}"


@dataclass(frozen=True)
class Checks:
    """How far to look.

    ``is_deep`` reads the records, too. ``digest`` is that of the manifest, as it was kept
    elsewhere. ``live`` are the partitions of the log, as far as it still holds them.
    """

    is_deep: bool = True
    digest: str | None = None
    live: Mapping[Partition, Source] = field(default_factory=dict)


@dataclass
class Verification:
    """One look at an archive. ``records``, ``redacted`` and ``compared`` count what was looked at.

    ``on_progress`` gets the records looked at so far, and those to come.
    """

    folder: Folder
    manifest: Manifest
    digest: str
    checks: Checks
    on_progress: Callable[[int, int], None] = lambda _done, _left: None
    records: int = 0
    redacted: int = 0
    compared: int = 0
    journal_entries: int = 0

    def faults(self) -> Iterator[ArchiveFault]:
        """Everything that is wrong, files before the journal before the log."""
        yield from self._manifest_faults()
        damaged = set()
        for entry in self.manifest.files:
            for fault in self._file_faults(entry):
                damaged.add(entry.of)
                yield fault
        if not self.checks.is_deep:
            return
        if all(each.topic != self.manifest.topics.get(JOURNAL) for each in damaged):
            yield from self._journal_faults()
        for partition, source in sorted(self.checks.live.items()):
            stretch = self.manifest.stretch(partition)
            if stretch is not None and partition not in damaged:
                yield from self._log_faults(stretch, source)

    def _manifest_faults(self) -> Iterator[ArchiveFault]:
        place = self.folder.place(MANIFEST)
        kept = self.checks.digest
        if kept is not None and kept != self.digest:
            yield ArchiveFault(Flaw.MANIFEST, place, f"digest {kept}", f"digest {self.digest}")
        if self.manifest.digest != self.digest:
            yield ArchiveFault(
                Flaw.MANIFEST, place, "canonical JSON", "other bytes: it was edited by hand"
            )
        listed = {entry.of for entry in self.manifest.files}
        for partition in sorted(listed - {each.of for each in self.manifest.partitions}):
            yield ArchiveFault(Flaw.MANIFEST, place, f"a range for {partition}", "none")
        for stretch in self.manifest.partitions:
            yield from _uncovered(stretch, self.manifest.files_of(stretch.of))

    def _file_faults(self, entry: FileEntry) -> Iterator[ArchiveFault]:
        place = self.folder.place(entry.path)
        if not self.folder.holds(entry.path):
            lost = f"no file; {entry.of}@{entry.first}-{entry.past - 1} stood in it"
            yield ArchiveFault(Flaw.FILE_MISSING, place, f"{entry.rows} records", lost)
            return
        digest, length = self.folder.digest(entry.path)
        if (digest, length) != (entry.sha256, entry.bytes):
            expected = f"{entry.bytes} bytes, sha256 {entry.sha256}"
            found = f"{length} bytes, sha256 {digest}"
            yield ArchiveFault(Flaw.FILE_ALTERED, place, expected, found)
        if self.checks.is_deep:
            yield from self._record_faults(entry)

    def _record_faults(self, entry: FileEntry) -> Iterator[ArchiveFault]:
        stretch = self.manifest.stretch(entry.of)
        offsets = _Offsets(entry, () if stretch is None else (*stretch.holes, *stretch.lost))
        removed = self._removed(entry)
        rows = 0
        try:
            # Without the checksums of pages: they name a page, and the records' own name a record.
            for group in groups_in(self.folder, entry, is_checked=False):
                rows += len(group)
                self.records += len(group)
                yield from offsets.faults(row.record.offset for row in group)
                yield from self._content_faults(group, removed)
                self.on_progress(self.records, max(0, self.manifest.records - self.records))
        except ArchiveError as error:
            rest = f"{entry.of}@{offsets.expected}-{entry.past - 1} can be read"
            yield ArchiveFault(Flaw.UNREADABLE, self.folder.place(entry.path), rest, str(error))
            return
        yield from offsets.rest()
        if rows != entry.rows:
            place = self.folder.place(entry.path)
            yield ArchiveFault(Flaw.ROWS, place, f"{entry.rows} records", f"{rows}")

    def _removed(self, entry: FileEntry) -> set[int]:
        listed = (each.offsets for each in self.manifest.redactions if each.file == entry.path)
        return {offset for offsets in listed for offset in offsets}

    def _content_faults(self, group: Iterable[Row], removed: set[int]) -> Iterator[ArchiveFault]:
        for record, crc, is_redacted in group:
            if is_redacted != (record.offset in removed):
                said = "redacted" if is_redacted else "not redacted"
                listed = "not redacted" if is_redacted else "redacted"
                where = str(record.position)
                yield ArchiveFault(Flaw.REDACTION, where, f"{listed}, by the manifest", said)
            elif is_redacted:
                self.redacted += 1
            elif (found := crc_of(record)) != crc:
                where = str(record.position)
                yield ArchiveFault(Flaw.RECORD_ALTERED, where, f"crc {crc:08x}", f"crc {found:08x}")

    def _journal_faults(self) -> Iterator[ArchiveFault]:
        lines: dict[bytes | None, list[bytes]] = {}
        for record in journal_records(self.folder, self.manifest):
            if record.value is not None:
                lines.setdefault(record.key, []).append(record.value)
        for key, of_namespace in lines.items():
            where = f"journal of namespace {(key or b'').decode(errors='replace')}"
            try:
                chain = chain_of_lines(of_namespace)
            except JournalError as error:
                yield ArchiveFault(Flaw.JOURNAL, where, "journal entries", str(error))
                continue
            self.journal_entries += len(chain.entries)
            for fault, _, text in chain.breaks:
                yield ArchiveFault(Flaw.JOURNAL, where, "an unbroken chain", f"{fault}: {text}")

    def _log_faults(self, stretch: Stretch, live: Source) -> Iterator[ArchiveFault]:
        """Where archive and log both have an offset, they have the same record."""
        if live.end is not None and live.end < stretch.past:
            where = _span(stretch.of, live.end, stretch.past)
            yield ArchiveFault(Flaw.NOT_THE_LOG, where, f"a log that ends at {live.end}", "records")
        first = max(stretch.first, live.begin)
        past = min(stretch.past, stretch.past if live.end is None else live.end)
        if first >= past:
            return
        archived = source_of(self.folder, self.manifest, stretch)
        archived.seek(first)
        live.seek(first)
        redacted = {
            offset
            for each in self.manifest.redactions
            if Partition(each.topic, each.partition) == stretch.of
            for offset in each.offsets
        }
        try:
            for kept, there in _side_by_side(_records(archived, past), _records(live, past)):
                self.compared += 1
                one = kept or there
                if one is None or one.offset in redacted:
                    continue
                if kept != there:
                    where = str(one.position)
                    yield ArchiveFault(Flaw.NOT_THE_LOG, where, _said(there), _said(kept))
        finally:
            archived.close()


class _Offsets:
    """Follows the offsets of one file; those that stand in ``holes`` may be missing."""

    def __init__(self, entry: FileEntry, holes: Iterable[tuple[int, int]]) -> None:
        self._entry = entry
        self._past_of = dict(holes)
        self.expected = entry.first

    def faults(self, offsets: Iterable[int]) -> Iterator[ArchiveFault]:
        for offset in offsets:
            if offset != self.expected:
                yield from self._faults_before(offset)
            self.expected = offset + 1

    def rest(self) -> Iterator[ArchiveFault]:
        """What is missing at the end of the file."""
        if self.expected < self._entry.past:
            yield from self._faults_before(self._entry.past)

    def _faults_before(self, offset: int) -> Iterator[ArchiveFault]:
        self.expected = _over(self._past_of, self.expected)
        of = self._entry.of
        if offset < self.expected:
            where = str(Position(*of, offset))
            yield ArchiveFault(
                Flaw.RECORD_TWICE, where, f"offset {self.expected} next", f"offset {offset}"
            )
        elif offset > self.expected:
            where = _span(of, self.expected, offset)
            yield ArchiveFault(
                Flaw.RECORD_MISSING, where, "a record", f"none in {self._entry.path}"
            )


def _over(past_of: Mapping[int, int], offset: int) -> int:
    """Where the holes that begin at an offset end."""
    while offset in past_of:
        offset = past_of[offset]
    return offset


def _span(of: Partition, first: int, past: int) -> str:
    return f"{of}@{first}" if past - first == 1 else f"{of}@{first}-{past - 1}"


def _uncovered(stretch: Stretch, files: Iterable[FileEntry]) -> Iterator[ArchiveFault]:
    """Offsets of a partition that are in no file and in no hole, or in two files."""
    past_of = dict((*stretch.holes, *stretch.lost))
    reached = stretch.first
    ends = [(entry.first, entry.past, entry.path) for entry in files]
    for first, past, path in (*ends, (stretch.past, stretch.past, "the end")):
        reached = _over(past_of, reached)
        if first > reached:
            where = _span(stretch.of, reached, first)
            yield ArchiveFault(Flaw.RECORD_MISSING, where, "a file that holds it", "none listed")
        elif first < reached:
            where = _span(stretch.of, first, reached)
            yield ArchiveFault(Flaw.RECORD_TWICE, where, "one file that holds it", f"also {path}")
        reached = max(reached, past)


def _records(source: Source, past: int) -> Iterator[Record]:
    while chunk := source.read():
        for record in chunk:
            if record.offset >= past:
                return
            yield record


def _side_by_side(
    archived: Iterator[Record], live: Iterator[Record]
) -> Iterator[tuple[Record | None, Record | None]]:
    """Records of one offset, None where one side has none."""
    ours, theirs = next(archived, None), next(live, None)
    while ours or theirs:
        if ours is None or (theirs is not None and theirs.offset < ours.offset):
            yield None, theirs
            theirs = next(live, None)
        elif theirs is None or ours.offset < theirs.offset:
            yield ours, None
            ours = next(archived, None)
        else:
            yield ours, theirs
            ours, theirs = next(archived, None), next(live, None)


def _said(record: Record | None) -> str:
    """A record in a message, which never quotes content."""
    if record is None:
        return "no record"
    length = "no value" if record.value is None else f"{len(record.value)} bytes"
    key = "no key" if record.key is None else f"key of {len(record.key)} bytes"
    return f"{length}, crc {crc_of(record):08x}, {key}, log time {record.log_ms}"
