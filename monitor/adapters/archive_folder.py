"""The place of an archive: a folder anywhere that ``pyarrow.fs`` reaches."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from monitor.domain.errors import WorldError

UNFINISHED = ".unfinished"
"""Ends the name of a file that is being written."""

PIECE_BYTES = 2**20


class ArchiveError(WorldError):
    """An archive is missing, unreadable, not one, or does not go on where it should."""


@contextmanager
def translated(place: str) -> Iterator[None]:
    """Let nothing of the library out; ``place`` is what could not be read or written."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        said = str(error).partition("\n")[0]
        raise ArchiveError(
            f"{place}: {said}; check the path, its rights and the space left, and run "
            "`recallwatch archive verify`"
        ) from error


class Folder:
    """The place of an archive; ArchiveError names the file that could not be read or written."""

    def __init__(self, filesystem: fs.FileSystem, base: str, name: str) -> None:
        self._outer, self._base = filesystem, base
        self._files = fs.SubTreeFileSystem(base, filesystem)
        self.name = name

    @classmethod
    def at(cls, uri: str) -> "Folder":
        """From a URI that ``pyarrow.fs`` understands, or a local path."""
        with translated(uri):
            if "://" in uri:
                filesystem, base = fs.FileSystem.from_uri(uri)
                return cls(filesystem, base, uri)
            return cls(fs.LocalFileSystem(), uri, uri)

    def place(self, path: str) -> str:
        """A file as messages name it."""
        return f"{self.name.rstrip('/')}/{path}"

    def read(self, path: str) -> bytes | None:
        """All of a small file; None when it is not there."""
        if not self.holds(path):
            return None
        with translated(self.place(path)), self._files.open_input_stream(path) as stream:
            return bytes(stream.read())

    def holds(self, path: str) -> bool:
        """Whether there is such a file."""
        with translated(self.place(path)):
            return bool(self._files.get_file_info(path).type == fs.FileType.File)

    def write(self, path: str, content: bytes) -> None:
        """Write a file whole: it is there with all of ``content``, or as it was before."""
        with self.writing(path) as stream:
            stream.write(content)

    @contextmanager
    def writing(self, path: str) -> Iterator["Counted"]:
        """A stream under a temporary name, moved to ``path`` when the block ends well."""
        unfinished = path + UNFINISHED
        with translated(self.place(path)):
            below = path.rpartition("/")[0]
            if below:
                self._files.create_dir(below, recursive=True)
            else:
                self._outer.create_dir(self._base, recursive=True)
            stream = Counted(self._files.open_output_stream(unfinished))
            try:
                yield stream
            finally:
                stream.close()
            self._files.move(unfinished, path)

    def digest(self, path: str) -> tuple[str, int]:
        """SHA-256 and length of a file, read piece by piece."""
        sha, length = hashlib.sha256(), 0
        with translated(self.place(path)), self._files.open_input_stream(path) as stream:
            while piece := stream.read(PIECE_BYTES):
                sha.update(piece)
                length += len(piece)
        return sha.hexdigest(), length

    def parquet(self, path: str, *, is_checked: bool = True) -> pq.ParquetFile:
        """An open file of records; closed by who asked for it."""
        with translated(self.place(path)):
            source = self._files.open_input_file(path)
            return pq.ParquetFile(source, page_checksum_verification=is_checked)

    def delete(self, path: str) -> None:
        """Remove a file."""
        with translated(self.place(path)):
            self._files.delete_file(path)

    def listed(self, folder: str) -> list[str]:
        """All files below ``folder``, sorted; none when there is no such folder."""
        with translated(self.place(folder)):
            wanted = fs.FileSelector(folder, recursive=True, allow_not_found=True)
            found = self._files.get_file_info(wanted)
        return sorted(info.path for info in found if info.type == fs.FileType.File)


class Counted:
    """An output stream that knows the digest and the length of what went through it."""

    def __init__(self, stream: Any) -> None:  # noqa: ANN401 - pyarrow has no types
        self._stream = stream
        self._sha = hashlib.sha256()
        self.length = 0

    def write(self, content: bytes) -> int:
        """Write, and count it."""
        self._sha.update(content)
        self.length += len(content)
        self._stream.write(content)
        return len(content)

    def flush(self) -> None:
        """Hand on what waits."""
        self._stream.flush()

    def close(self) -> None:
        """Finish; harmless when repeated."""
        self._stream.close()

    @property
    def closed(self) -> bool:
        """Whether it is finished."""
        return bool(self._stream.closed)

    @property
    def digest(self) -> str:
        """SHA-256 of what was written so far."""
        return self._sha.hexdigest()
