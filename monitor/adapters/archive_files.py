"""What an archive consists of: Parquet files of records, and the manifest that lists them.

::

    predictions/date=2026-11-22/part-<partition>-<first offset>.parquet
    labels/date=.../...
    journal/date=.../...
    manifest.json

A file holds an unbroken stretch of one partition. Its date is the UTC day of its first record's log
time. All access goes through ``pyarrow.fs``, so that the folder may be anywhere that it reaches.
"""

import gc
import hashlib
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import repeat
from typing import NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from monitor.adapters.archive_folder import ArchiveError, Folder
from monitor.codec.snapshots import canonical
from monitor.domain.events import Partition, Record

MANIFEST = "manifest.json"
MANIFEST_VERSION = 1
JOURNAL = "journal"
"""The folder of the journal, beside those of the two logs."""

GROUP_RECORDS = 8_192
"""Records of a row group, which is what is read at once."""

GROUP_BYTES = 32 * 2**20
"""A row group ends here, too: a record may be as great as the log lets it be."""

DAY_MS = 24 * 3_600_000

_NUMBERS, _BYTES = ["offset", "timestamp"], ["key", "value"]
_COLUMNS = [*_NUMBERS, *_BYTES, "log_append_time"]
_SCHEMA = pa.schema(
    [
        pa.field("topic", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("timestamp", pa.int64(), nullable=False),
        pa.field("key", pa.binary()),
        pa.field("value", pa.binary()),
        pa.field("log_append_time", pa.bool_(), nullable=False),
        pa.field("crc", pa.uint32(), nullable=False),
        pa.field("redacted", pa.bool_(), nullable=False),
    ]
)
_OFFSET = _SCHEMA.get_field_index("offset")


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file: ``first`` and ``past`` are offsets, half-open; ``sha256`` is of the file's bytes.

    ``first_ms`` is the least log time in it, ``last_ms`` the greatest.
    """

    path: str
    topic: str
    partition: int
    first: int
    past: int
    rows: int
    first_ms: int
    last_ms: int
    bytes: int
    sha256: str

    @property
    def of(self) -> Partition:
        """The partition."""
        return Partition(self.topic, self.partition)


class Stretch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is archived of a partition: offsets from ``first`` up to, not including, ``past``.

    ``holes`` are offsets at which the log had no record: transactions and compaction leave them.
    ``lost`` are those that the log had dropped before they were archived. Both half-open, in order.
    """

    topic: str
    partition: int
    first: int
    past: int
    holes: tuple[tuple[int, int], ...] = ()
    lost: tuple[tuple[int, int], ...] = ()

    @property
    def of(self) -> Partition:
        """The partition."""
        return Partition(self.topic, self.partition)


class Redaction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Records of one file whose content was removed by request, at a wall time.

    ``replaced`` is the file that held the content: it may not be there any more.
    """

    file: str
    replaced: str
    topic: str
    partition: int
    offsets: tuple[int, ...]
    at_ms: int


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an archive holds.

    ``topics`` is folder -> topic, ``documents`` settings digest -> settings. ``created_ms`` and
    ``updated_ms`` are wall times, ``archived_to_ms`` is the greatest log time. ``previous`` is the
    digest of the manifest that this one replaced, "" for the first.
    """

    topics: dict[str, str]
    created_ms: int
    updated_ms: int
    archived_to_ms: int = 0
    files: tuple[FileEntry, ...] = ()
    partitions: tuple[Stretch, ...] = ()
    documents: dict[str, str] = msgspec.field(default_factory=dict)
    redactions: tuple[Redaction, ...] = ()
    previous: str = ""
    version: int = MANIFEST_VERSION

    def packed(self) -> bytes:
        """Canonical JSON."""
        return canonical(msgspec.to_builtins(self))

    @property
    def digest(self) -> str:
        """SHA-256 of the packed form; kept elsewhere, it seals the archive."""
        return hashlib.sha256(self.packed()).hexdigest()

    @property
    def records(self) -> int:
        """Records in all files."""
        return sum(entry.rows for entry in self.files)

    def stretch(self, partition: Partition) -> Stretch | None:
        """What is archived of a partition; None when nothing is."""
        return next((each for each in self.partitions if each.of == partition), None)

    def files_of(self, partition: Partition) -> list[FileEntry]:
        """The files of a partition, in offset order."""
        found = [entry for entry in self.files if entry.of == partition]
        return sorted(found, key=lambda entry: entry.first)

    def folder_of(self, topic: str) -> str:
        """The folder of a topic: predictions, labels or journal; ArchiveError for another one."""
        for folder, named in self.topics.items():
            if named == topic:
                return folder
        raise ArchiveError(
            f"{MANIFEST}: has partitions of topic {topic}, which is none of the topics that it "
            "names; restore it from a copy"
        )


class Row(NamedTuple):
    """One record as it is archived. ``crc`` is that of the value as the log had it."""

    record: Record
    crc: int
    is_redacted: bool


def crc_of(record: Record) -> int:
    """CRC-32 of the value, begun with the offset: a value at another offset has another one."""
    return zlib.crc32(record.value or b"", record.offset & 0xFFFFFFFF)


def day_of(log_ms: int) -> str:
    """The UTC day of a log time, as in the name of a folder; the last of year 9999 for later ones.

    >>> day_of(1_700_000_000_000)
    '2023-11-14'
    """
    instant = datetime.fromtimestamp(min(log_ms, _LAST_MS) / 1000, UTC)
    return instant.strftime("%Y-%m-%d")


def end_of_day(log_ms: int) -> int:
    """The first instant after the UTC day of a log time."""
    return (log_ms // DAY_MS + 1) * DAY_MS


_LAST_MS = 253_402_300_799_000


def read_manifest(folder: Folder) -> tuple[Manifest, str] | None:
    """The manifest and the digest of its bytes; None when there is none.

    ArchiveError for one that is damaged or of another release.
    """
    packed = folder.read(MANIFEST)
    if packed is None:
        return None
    try:
        manifest = msgspec.json.decode(packed, type=Manifest)
    except msgspec.MsgspecError as error:
        raise ArchiveError(
            f"{folder.place(MANIFEST)}: not the manifest of an archive ({error}); restore it from "
            "a copy, or archive anew into an empty folder"
        ) from None
    if manifest.version != MANIFEST_VERSION:
        raise ArchiveError(
            f"{folder.place(MANIFEST)}: has version {manifest.version}, this release reads "
            f"{MANIFEST_VERSION}; use the release that wrote it"
        )
    return manifest, hashlib.sha256(packed).hexdigest()


def write_rows(
    folder: Folder, path: str, of: Partition, groups: Iterable[Sequence[Row]]
) -> FileEntry:
    """Write a file of row groups, none of them empty, as a whole; its entry in the manifest."""
    rows = 0
    offsets: list[int] = []
    instants: list[int] = []
    with folder.writing(path) as stream:
        with pq.ParquetWriter(
            stream, _SCHEMA, compression="zstd", use_dictionary=["topic"], write_page_checksum=True
        ) as sink:
            for group in groups:
                sink.write_table(_table(group), row_group_size=len(group))
                rows += len(group)
                offsets += group[0].record.offset, group[-1].record.offset + 1
                instants += _least_and_greatest(group)
        digest, length = stream.digest, stream.length
    return FileEntry(
        path=path,
        topic=of.topic,
        partition=of.partition,
        first=offsets[0],
        past=offsets[-1],
        rows=rows,
        first_ms=min(instants),
        last_ms=max(instants),
        bytes=length,
        sha256=digest,
    )


def _least_and_greatest(group: Sequence[Row]) -> tuple[int, int]:
    instants = [row.record.log_ms for row in group]
    return min(instants), max(instants)


def _table(rows: Sequence[Row]) -> pa.Table:
    topics, numbers, offsets, instants, keys, values, appended = zip(
        *(row.record for row in rows), strict=True
    )
    columns = [
        pa.array(topics, pa.string()).dictionary_encode(),
        pa.array(numbers, pa.int32()),
        pa.array(offsets, pa.int64()),
        pa.array(instants, pa.int64()),
        pa.array(keys, pa.binary()),
        pa.array(values, pa.binary()),
        pa.array(appended, pa.bool_()),
        pa.array([row.crc for row in rows], pa.uint32()),
        pa.array([row.is_redacted for row in rows], pa.bool_()),
    ]
    return pa.Table.from_arrays(columns, schema=_SCHEMA)


def records_of(file: pq.ParquetFile, group: int, of: Partition) -> list[Record]:
    """The records of one row group."""
    table = file.read_row_group(group, columns=_COLUMNS, use_threads=False)
    with _no_collection():
        numbers = [table.column(name).to_numpy().tolist() for name in _NUMBERS]
        values = [table.column(name).to_pylist() for name in _BYTES]
        appended = table.column("log_append_time").to_numpy().tolist()
        place = repeat(of.topic), repeat(of.partition)
        fields = zip(*place, *numbers, *values, appended, strict=False)
        # Not by way of the constructor, which is Python code for each record.
        return list(map(tuple.__new__, repeat(Record), fields))


@contextmanager
def _no_collection() -> Iterator[None]:
    # Thousands of new tuples that hold no cycle would be searched for one a dozen times over,
    # together with all else that lives: that takes longer than making them.
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def rows_of(file: pq.ParquetFile, group: int, of: Partition) -> list[Row]:
    """The records of one row group with what the archive keeps beside them."""
    marks = file.read_row_group(group, columns=["crc", "redacted"], use_threads=False)
    crcs, redacted = (marks.column(name).to_pylist() for name in ("crc", "redacted"))
    return list(map(Row, records_of(file, group, of), crcs, redacted))


def offsets_of(file: pq.ParquetFile, group: int) -> tuple[int, int]:
    """Least and greatest offset of a row group, from the file's footer."""
    found = file.metadata.row_group(group).column(_OFFSET).statistics
    return found.min, found.max
