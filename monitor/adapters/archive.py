"""Archive: topics kept in files beyond the log's retention, proved to be whole, read as one log.

folder > files > source > copy, verify, redact > this
"""

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass

from monitor.adapters.archive_copy import ArchiveWriter, copy_topics
from monitor.adapters.archive_files import JOURNAL, MANIFEST, Manifest, read_manifest
from monitor.adapters.archive_folder import ArchiveError, Folder
from monitor.adapters.archive_redact import Kept, Redacted, redact
from monitor.adapters.archive_source import ArchiveSource, journal_records, rows_in, source_of
from monitor.adapters.archive_verify import ArchiveFault, Checks, Verification
from monitor.domain.events import Kind, Partition, Position

__all__ = [
    "JOURNAL",
    "Archive",
    "ArchiveError",
    "ArchiveFault",
    "ArchiveWriter",
    "Checks",
    "Folder",
    "Kept",
    "Redacted",
    "Verification",
    "copy_topics",
    "open_archive",
    "redact",
]


@dataclass(frozen=True)
class Archive:
    """An archive as its manifest has it; ``digest`` is that of the manifest's bytes."""

    folder: Folder
    manifest: Manifest
    digest: str

    def sources(self, topics: Mapping[Kind, str] | None = None) -> dict[Partition, ArchiveSource]:
        """The partitions of the two logs, each of which can be read in offset order.

        With ``topics`` the records are taken for those of these topics, whatever was archived.
        """
        named = {str(kind): topic for kind, topic in (topics or {}).items()}
        found: dict[Partition, ArchiveSource] = {}
        for stretch in self.manifest.partitions:
            folder = self.manifest.folder_of(stretch.topic)
            if folder != JOURNAL:
                of = Partition(named.get(folder, stretch.topic), stretch.partition)
                found[of] = source_of(self.folder, self.manifest, stretch, of)
        return found

    def journal_lines(self, namespace: str | None = None) -> Iterator[bytes]:
        """The journal's lines in the order in which they were found; those of one namespace."""
        key = None if namespace is None else namespace.encode()
        for record in journal_records(self.folder, self.manifest):
            if record.value is not None and key in (None, record.key):
                yield record.value

    def verify(self, options: Checks | None = None) -> Iterator[ArchiveFault]:
        """Everything that is wrong with the archive; nothing when it is whole."""
        return Verification(self.folder, self.manifest, self.digest, options or Checks()).faults()

    def redact(self, ids: Set[str], kept: Mapping[str, Kept], *, now_ms: int) -> Redacted:
        """Remove what was said by and about predictions; this object then is out of date."""
        return redact(self.folder, ids, kept, now_ms=now_ms)

    def redacted(self) -> dict[Position, int]:
        """Records whose content was removed by request, with the CRC of what stood there.

        The CRC is ``crc_of`` the record as the log had it.
        """
        wanted: dict[str, set[int]] = {}
        for redaction in self.manifest.redactions:
            wanted.setdefault(redaction.file, set()).update(redaction.offsets)
        found = {}
        for entry in self.manifest.files:
            if offsets := wanted.get(entry.path):
                for row in rows_in(self.folder, entry):
                    if row.record.offset in offsets:
                        found[row.record.position] = row.crc
        return found


def open_archive(place: str | Folder) -> Archive:
    """The archive in a local folder or at a URI; ArchiveError when there is none."""
    folder = place if isinstance(place, Folder) else Folder.at(place)
    found = read_manifest(folder)
    if found is None:
        raise ArchiveError(
            f"{folder.place(MANIFEST)}: is not there; name the folder of an archive, or make one "
            "with `recallwatch archive copy`"
        )
    return Archive(folder, *found)
