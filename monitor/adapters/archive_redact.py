"""Removal of what a person said from an archive, while what is counted stays.

A record of theirs keeps its place, its log time and the fields that counting reads; everything else
in it goes. Beside it stands the CRC of what the log had, and the mark that it was redacted.
"""

from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from monitor.adapters.archive_files import (
    JOURNAL,
    MANIFEST,
    FileEntry,
    Manifest,
    Redaction,
    Row,
    read_manifest,
    write_rows,
)
from monitor.adapters.archive_folder import ArchiveError, Folder
from monitor.adapters.archive_source import groups_in
from monitor.codec.mapping import dig
from monitor.domain.events import Position

_Tree = dict[str, "_Tree"]


@dataclass(frozen=True)
class Kept:
    """What stays of a record of one topic. Paths are dotted, as in ``codec.mapping``.

    ``id_path`` is where the prediction id stands, ``paths`` is all that is kept. A value longer
    than ``max_bytes`` stays longer, so that it is still rejected as too large.
    """

    id_path: str
    paths: frozenset[str]
    max_bytes: int
    _tree: _Tree = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Paths as a tree: one below another is kept with it."""
        for path in sorted({*self.paths, self.id_path}):
            branch = self._tree
            for name in path.split("."):
                branch = branch.setdefault(name, {})

    def id_of(self, value: bytes) -> str | None:
        """The prediction id in a value; None when there is none that can be read."""
        try:
            found = dig(msgspec.json.decode(value), self.id_path)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return None
        return found if isinstance(found, str) else None

    def of(self, value: bytes) -> bytes:
        """What is kept of a value that has an id; numbers and texts keep their very bytes."""
        kept = _pruned(value, self._tree)
        is_too_large = len(value) > self.max_bytes
        return kept.ljust(self.max_bytes + 1) if is_too_large else kept


class Redacted(NamedTuple):
    """What a redaction did. ``unreadable`` mention an id, but are no JSON: they are as before."""

    manifest: Manifest
    digest: str
    positions: tuple[Position, ...]
    unreadable: tuple[Position, ...]


def redact(
    folder: Folder,
    ids: Set[str],
    kept: Mapping[str, Kept],
    *,
    now_ms: int,
    on_progress: Callable[[int, int], None] = lambda _done, _left: None,
) -> Redacted:
    """Remove all but what is ``kept``, by topic, from the records of these prediction ids.

    A file that holds one is written anew under another name; the old one is deleted once the
    manifest lists the new one. Doing it again finishes what was broken off. Topics that are not in
    ``kept`` are left alone.
    """
    found = read_manifest(folder)
    if found is None:
        raise ArchiveError(f"{folder.place(MANIFEST)}: is not there; name the folder of an archive")
    manifest, digest = found
    run = _Run(folder, frozenset(ids), kept, now_ms, manifest)
    done = 0
    for entry in manifest.files:
        if entry.topic in kept and entry.topic != manifest.topics.get(JOURNAL):
            run.rewrite(entry)
        done += entry.rows
        on_progress(done, manifest.records - done)
    if run.manifest != manifest:
        changed = msgspec.structs.replace(run.manifest, updated_ms=now_ms, previous=digest)
        folder.write(MANIFEST, changed.packed())
        manifest, digest = changed, changed.digest
    for redaction in manifest.redactions:
        if folder.holds(redaction.replaced):
            folder.delete(redaction.replaced)
    return Redacted(manifest, digest, tuple(run.positions), tuple(run.unreadable))


class _Run:
    def __init__(
        self,
        folder: Folder,
        ids: frozenset[str],
        kept: Mapping[str, Kept],
        now_ms: int,
        manifest: Manifest,
    ) -> None:
        self.manifest = manifest
        self.positions: list[Position] = []
        self.unreadable: list[Position] = []
        self._folder, self._ids, self._kept, self._now_ms = folder, ids, kept, now_ms
        self._needles = tuple(each.encode() for each in sorted(ids))

    def rewrite(self, entry: FileEntry) -> None:
        """Write a file anew when it holds a record that is to be redacted."""
        of, kept = entry.of, self._kept[entry.topic]
        offsets = set(self._offsets_in(entry, kept))
        if not offsets:
            return
        path = self._next_path(entry.path)
        groups = (
            [_without(row, kept) if row.record.offset in offsets else row for row in group]
            for group in groups_in(self._folder, entry)
        )
        fresh = write_rows(self._folder, path, of, groups)
        self.positions += [Position(*of, offset) for offset in sorted(offsets)]
        self._enter(entry, fresh, tuple(sorted(offsets)))

    def _offsets_in(self, entry: FileEntry, kept: Kept) -> Iterator[int]:
        for group in groups_in(self._folder, entry):
            for record, _, is_redacted in group:
                if record.value is None or is_redacted:
                    continue
                found = kept.id_of(record.value)
                if found in self._ids:
                    yield record.offset
                elif found is None and any(needle in record.value for needle in self._needles):
                    self.unreadable.append(record.position)

    def _next_path(self, path: str) -> str:
        """A name that no file of the archive has, or had."""
        taken = {each.replaced for each in self.manifest.redactions} | {path}
        stem = path.removesuffix(".parquet").partition("-redacted-")[0]
        number = 1
        while (fresh := f"{stem}-redacted-{number}.parquet") in taken:
            number += 1
        return fresh

    def _enter(self, entry: FileEntry, fresh: FileEntry, offsets: tuple[int, ...]) -> None:
        manifest = self.manifest
        files = tuple(fresh if each == entry else each for each in manifest.files)
        # Earlier ones stand in the file that is now of another name.
        earlier = tuple(
            msgspec.structs.replace(each, file=fresh.path) if each.file == entry.path else each
            for each in manifest.redactions
        )
        added = Redaction(fresh.path, entry.path, *entry.of, offsets, self._now_ms)
        self.manifest = msgspec.structs.replace(manifest, files=files, redactions=(*earlier, added))


def _without(row: Row, kept: Kept) -> Row:
    """The row with what is kept; its key goes unless it is the prediction id."""
    value = row.record.value or b""
    key = row.record.key
    is_id = key == (kept.id_of(value) or "").encode()
    record = row.record._replace(value=kept.of(value), key=key if is_id else None)
    return Row(record, row.crc, is_redacted=True)


def _pruned(value: bytes | msgspec.Raw, tree: _Tree) -> bytes:
    """JSON with only what the tree names; an empty tree keeps all."""
    raw = bytes(value)
    if not tree:
        return raw
    start = raw.lstrip()[:1]
    if start == b"{":
        fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        kept = {n: msgspec.Raw(_pruned(fields[n], tree[n])) for n in fields if n in tree}
        return msgspec.json.encode(kept)
    if start == b"[":
        items = msgspec.json.decode(raw, type=list[msgspec.Raw])
        return msgspec.json.encode(
            [
                msgspec.Raw(_pruned(item, tree[str(n)]) if str(n) in tree else b"null")
                for n, item in enumerate(items)
            ]
        )
    # Below a number, true, false or null there is nothing to remove.
    return _pruned_text(raw, tree) if start == b'"' else raw


def _pruned_text(raw: bytes, tree: _Tree) -> bytes:
    """JSON within a text, as ``dig`` opens it; of a text that is none nothing is kept."""
    text = msgspec.json.decode(raw, type=str)
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return b'""'
    return msgspec.json.encode(_pruned(text.encode(), tree).decode())
